//! What time brings to the log: each second what was dropped for the first time, and what was changed; each
//! interval what goes on; heartbeats, so that silence means something; checkpoints, and whoever is told of them.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::json;

use super::{
    Evidence,
    moment::Moment,
    record,
    recorder::Recorder,
    troubles::{Part, lock},
};
use crate::{config, daemon::status::View};

/// What is dropped for the first time is in the log by then.
pub(in crate::daemon) const TICK: Duration = Duration::from_secs(1);
/// How often the log says that it goes on.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long whoever is told of checkpoints may take.
const TOLD: Duration = Duration::from_secs(10);

/// How often what the log has of the ledger is kept, whatever is signed.
const KEPT: Duration = Duration::from_secs(60);

/// When what was done last.
pub(in crate::daemon) struct Done {
    lines: Instant,
    heartbeat: Option<Instant>,
    checkpoint: Instant,
    kept: Instant,
    /// The policy that was live.
    live: Option<Option<[u8; 32]>>,
}

impl Default for Done {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            lines: now,
            heartbeat: None,
            checkpoint: now,
            kept: now,
            live: None,
        }
    }
}

/// Everything that is known is in the log, and the log is signed: the daemon ends.
pub(in crate::daemon) fn end(evidence: &Evidence, config: &config::Evidence, view: &Arc<View>) {
    tell(evidence, view, true);
    note_state(evidence, view);
    beat(evidence, view);
    if let Ok(mut ledger) = view.ledger() {
        ledger.rest();
    }
    let signed = {
        let mut recorder = evidence.recorder();
        recorder.write(record::event("event", "process", "stop", json!({})));
        recorder.ends = true;
        sign(&mut recorder)
    };
    // Sends the last ones on, as far as that is done within a second.
    let forwarder = lock(&evidence.forwarder).take();
    drop(forwarder);
    if let Some(checkpoint) = signed {
        witness(evidence, config, &checkpoint);
    }
}

/// To be called each [`TICK`].
pub(in crate::daemon) fn tick(
    evidence: &Evidence,
    config: &config::Evidence,
    view: &Arc<View>,
    done: &mut Done,
) {
    let all = done.lines.elapsed() >= config.interval;
    if all {
        done.lines = Instant::now();
    }
    tell(evidence, view, all);
    let live = view.live.as_ref().map(|live| live.hash);
    if done.live != Some(live) {
        // What else there is of it is looked at with each heartbeat.
        done.live = Some(live);
        note_state(evidence, view);
    }
    if done
        .heartbeat
        .is_none_or(|last| last.elapsed() >= HEARTBEAT)
    {
        done.heartbeat = Some(Instant::now());
        note_state(evidence, view);
        beat(evidence, view);
    }
    if done.kept.elapsed() >= KEPT {
        done.kept = Instant::now();
        evidence.recorder().keep_accounts();
    }
    if done.checkpoint.elapsed() >= config.checkpoint {
        done.checkpoint = Instant::now();
        // The disk is waited for while flows are written on; errors come again below.
        let file = evidence.recorder().log.file();
        let _ = file.and_then(|file| file.sync_data());
        // Nobody waits for what is left of that: records stay in the ring.
        evidence.signing.store(true, Ordering::Relaxed);
        let signed = {
            let mut recorder = evidence.recorder();
            recorder.forget(u64::from(config.max_size) << 20);
            sign(&mut recorder)
        };
        evidence.signing.store(false, Ordering::Relaxed);
        if let Some(checkpoint) = signed {
            tell_outside(evidence, config, checkpoint);
        }
    }
}

/// What is enforced, and where.
fn note_state(evidence: &Evidence, view: &View) {
    let (reasons, attached) = (view.reasons(None), view.attachments().collect());
    let is_full = evidence.recorder().is_full;
    // Before the log says what it is called.
    let in_force = lock(&evidence.archive).keep(view, is_full, &evidence.troubles);
    let mut recorder = evidence.recorder();
    recorder.note_attached(attached);
    recorder.note_state(&reasons, in_force.as_ref());
}

/// Beside everything else. Where the last one is still being told, the next checkpoint is the one that goes.
fn tell_outside(evidence: &Evidence, config: &config::Evidence, checkpoint: String) {
    if evidence.telling.swap(true, Ordering::Relaxed) {
        return;
    }
    let (told, config) = (evidence.clone(), config.clone());
    let work = move || {
        witness(&told, &config, &checkpoint);
        told.telling.store(false, Ordering::Relaxed);
    };
    if thread::Builder::new().spawn(work).is_err() {
        evidence.telling.store(false, Ordering::Relaxed);
    }
}

/// What the ledger has, as far as it is to be written now.
fn tell(evidence: &Evidence, view: &Arc<View>, all: bool) {
    evidence.recorder().look(Arc::clone(view));
    let Ok(mut ledger) = view.ledger() else {
        return;
    };
    if let Err(e) = ledger.tell(all) {
        tracing::warn!("flows are written to the log of evidence later: {e}");
    }
}

/// Says that it goes on, what was counted by now, and what of it the log lacks.
fn beat(evidence: &Evidence, view: &View) {
    // Held until it is written, so that no flow comes between.
    let moment = Moment::read(view).ok();
    let mut recorder = evidence.recorder();
    let missed = recorder.missed;
    let mut fields = json!({ "counted": null });
    if let Some(moment) = &moment {
        fields = moment.books(view, &recorder);
    }
    fields["missed"] = json!({ "packets": missed.packets, "bytes": missed.bytes });
    fields["uptime"] = json!(recorder.began.elapsed().as_secs());
    let beat = record::event("metric", "host", "heartbeat", fields);
    if recorder.write(beat) && moment.is_some() {
        recorder.opening = None;
    }
}

/// Signs how long the log is; `None`: it could not, or nothing came since.
fn sign(recorder: &mut Recorder) -> Option<String> {
    let size = recorder.log.size();
    // Where it was moved away, nothing is made in its place.
    let is_signed = recorder
        .log
        .signed()
        .is_some_and(|signed| signed.size == size);
    if is_signed || !recorder.log.is_in_place() {
        return None;
    }
    match recorder.log.checkpoint() {
        Ok(signed) => {
            recorder.troubles.is_over(Part::Signing);
            Some(signed.text)
        }
        Err(e) => {
            let words = format!("the log of evidence is written, and not signed: {e}");
            recorder.troubles.is(Part::Signing, words);
            None
        }
    }
}

/// Gives a checkpoint to the program that brings it away from this machine.
fn witness(evidence: &Evidence, config: &config::Evidence, checkpoint: &str) {
    let Some((program, arguments)) = config.witness.split_first() else {
        return;
    };
    match told(Path::new(program), arguments, checkpoint) {
        Ok(()) => evidence.troubles.is_over(Part::Telling),
        Err(why) => {
            let words = format!(
                "nobody outside has the newest checkpoint of the log of evidence: {program}: {why}"
            );
            evidence.troubles.is(Part::Telling, words);
        }
    }
}

fn told(program: &Path, arguments: &[String], checkpoint: &str) -> Result<(), String> {
    let words = |e: std::io::Error| e.to_string();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .process_group(0)
        .spawn()
        .map_err(words)?;
    if let Some(mut input) = child.stdin.take() {
        // One that reads nothing says by its status how it went.
        let _ = input.write_all(checkpoint.as_bytes());
    }
    let begun = Instant::now();
    loop {
        match child.try_wait().map_err(words)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(status.to_string()),
            None if begun.elapsed() > TOLD => {
                // With all that it has started.
                if let Ok(group) = i32::try_from(child.id()) {
                    let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
                }
                let _ = child.wait();
                return Err(format!("it took longer than {} s", TOLD.as_secs()));
            }
            None => thread::sleep(Duration::from_millis(20)),
        }
    }
}
