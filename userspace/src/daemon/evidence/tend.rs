//! What time brings to the log: each second what was dropped for the first time, and what was changed; each
//! interval what goes on; heartbeats, so that silence means something; checkpoints.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    Evidence,
    moment::Moment,
    outside::{tell_outside, witness},
    record,
    recorder::Recorder,
    troubles::{Part, lock},
};
use crate::{config, daemon::status::View};

/// What is dropped for the first time is in the log by then.
pub(in crate::daemon) const TICK: Duration = Duration::from_secs(1);
/// How often the log says that it goes on.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How old what is known of enforcement may be to be written.
const FRESH: Duration = Duration::from_secs(2);
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
    // What is enforced is said of now: not of a time before the disk was waited for.
    let begun = Instant::now();
    let is_fresh = || begun.elapsed() < FRESH;
    let all = done.lines.elapsed() >= config.interval;
    if all {
        done.lines = Instant::now();
    }
    tell(evidence, view, all);
    let live = view.live.as_ref().map(|live| live.hash);
    if done.live != Some(live) && is_fresh() {
        // What else there is of it is looked at with each heartbeat.
        done.live = Some(live);
        note_state(evidence, view);
    }
    if done
        .heartbeat
        .is_none_or(|last| last.elapsed() >= HEARTBEAT)
    {
        done.heartbeat = Some(Instant::now());
        if is_fresh() {
            note_state(evidence, view);
        }
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
    evidence.note();
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
