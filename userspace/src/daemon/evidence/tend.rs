//! What time brings to the log: each second what was dropped for the first time, and what was changed; each
//! interval what goes on; heartbeats, so that silence means something; checkpoints, and whoever is told of them.

use std::{
    collections::BTreeMap,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use kordon_ebpf::layout::{Action, Counter};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::{Evidence, Part, Recorder, record};
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
}

impl Default for Done {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            lines: now,
            heartbeat: None,
            checkpoint: now,
            kept: now,
        }
    }
}

/// Everything that is known is in the log, and the log is signed: the daemon ends.
pub(in crate::daemon) fn end(evidence: &Evidence, config: &config::Evidence, view: &Arc<View>) {
    tell(evidence, view, true);
    if let Ok(mut ledger) = view.ledger() {
        ledger.rest();
    }
    let signed = {
        let mut recorder = evidence.recorder();
        let beat = heartbeat(view, &recorder);
        recorder.write(beat);
        recorder.write(record::event("event", "process", "stop", json!({})));
        recorder.ends = true;
        sign(&mut recorder)
    };
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
    if done
        .heartbeat
        .is_none_or(|last| last.elapsed() >= HEARTBEAT)
    {
        done.heartbeat = Some(Instant::now());
        let reasons = view.reasons(None);
        let mut recorder = evidence.recorder();
        recorder.note_state(&reasons);
        let beat = heartbeat(view, &recorder);
        recorder.write(beat);
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

/// What was counted by zone and action since the boot, and what of it the log lacks for sure.
fn heartbeat(view: &View, recorder: &Recorder) -> Value {
    let missed = recorder.missed;
    let fields = json!({
        "counted": counted(view),
        "missed": { "packets": missed.packets, "bytes": missed.bytes },
        "uptime": recorder.began.elapsed().as_secs(),
    });
    record::event("metric", "host", "heartbeat", fields)
}

/// `None`: the kernel does not say.
fn counted(view: &View) -> Option<Vec<Value>> {
    let mut sums: BTreeMap<(String, Action), Counter> = BTreeMap::new();
    for (slot, counter) in (0..).zip(view.reader.counters().ok()?) {
        let identity = view.reader.identity(slot);
        if let Some((zone, action)) = identity.as_ref().and_then(|identity| identity.of_zone()) {
            *sums.entry((zone.to_owned(), action)).or_default() += counter;
        }
    }
    let sums = sums.into_iter().map(|((zone, action), sum)| {
        let (packets, bytes) = (sum.packets, sum.bytes);
        json!({ "zone": zone, "action": action.as_str(), "packets": packets, "bytes": bytes })
    });
    Some(sums.collect())
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
