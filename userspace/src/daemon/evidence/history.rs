//! Keeps the history of flows up with the log: an index, made beside everything else. Nobody waits for it, and what it does
//! not have yet is read from the log.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    Evidence,
    troubles::{Part, lock},
};
use crate::{
    config,
    history::{
        fill::Filler,
        store::{self, HistoryError, Store},
    },
};

/// How often it is brought up to what is signed: what a loss of power takes of the log was never in it.
pub(in crate::daemon) const STEP: Duration = Duration::from_secs(5);
/// How often it is looked whether something is too old.
const OLD: Duration = Duration::from_secs(3600);
/// What SQLite has beside the file.
const BESIDE: [&str; 3] = ["", "-wal", "-shm"];

/// What is open, from one step to the next.
#[derive(Default)]
pub(in crate::daemon) struct Keeping {
    open: Option<(Store, Filler)>,
    retained: Option<Instant>,
}

/// Takes what was signed since the last step. To be called each [`STEP`].
pub(in crate::daemon) fn keep(
    evidence: &Evidence,
    config: &config::Evidence,
    keeping: &mut Keeping,
) {
    let (signed, folder, is_left) = {
        let recorder = evidence.recorder();
        let signed = recorder.log.signed().map_or(0, |signed| signed.size);
        let is_left = recorder.is_full || recorder.is_gone;
        (signed, recorder.folder.clone(), is_left)
    };
    if is_left {
        return;
    }
    let kept = step(evidence, (&folder, signed), config, keeping);
    let e = match kept {
        Ok(()) => {
            evidence.troubles.is_over(Part::Keeping);
            return;
        }
        Err(e) => e,
    };
    // What was half done is done again, over what is there.
    keeping.open = None;
    let mut cure = "the log has all of it, and it is tried again";
    if e.is_damage() {
        set_aside(&folder);
        cure = "it was set aside (`history.db.damaged`), and is made anew of what the log has";
    }
    let words = format!("the history of flows is not up to date: {e}; {cure}");
    evidence.troubles.is(Part::Keeping, words);
}

fn step(
    evidence: &Evidence,
    (folder, signed): (&Path, u64),
    config: &config::Evidence,
    keeping: &mut Keeping,
) -> Result<(), HistoryError> {
    // Somebody may have removed it, so that another one is made.
    if !folder.join(store::NAME).exists() {
        keeping.open = None;
    }
    let (store, filler) = match &mut keeping.open {
        Some(open) => open,
        None => {
            let key = crate::regular::read_text(&folder.join("key.pub")).unwrap_or_default();
            let store = Store::open(folder, key.trim())?;
            let filler = Filler::new(&store)?;
            keeping.open.insert((store, filler))
        }
    };
    if signed > 0 {
        store.is_within(signed)?;
    }
    loop {
        let is_more = filler.fill(store, folder, signed)?;
        lock(&evidence.figures).history = Some(store.next()?);
        if !is_more {
            break;
        }
    }
    let is_due = (keeping.retained).is_none_or(|last| last.elapsed() >= OLD);
    if is_due {
        store.is_sound()?;
        let now = Timestamp::now().as_second().div_euclid(3600);
        let is_old = store.forget_before(now - 24 * i64::from(config.history_days))?;
        if store.shrink(u64::from(config.history_max_size) << 20)? || is_old {
            // Numbers of flows that were known may be nobody's by now.
            *filler = Filler::new(store)?;
        }
        keeping.retained = Some(Instant::now());
    }
    Ok(())
}

/// Under another name: it may have hours whose records the log has no longer. One that was set aside before has more of
/// them, and stays.
fn set_aside(folder: &Path) {
    let is_first = !folder.join(format!("{}.damaged", store::NAME)).exists();
    for beside in BESIDE {
        let name = format!("{}{beside}", store::NAME);
        let _ = match is_first {
            true => fs::rename(folder.join(&name), folder.join(format!("{name}.damaged"))),
            false => fs::remove_file(folder.join(&name)),
        };
    }
}
