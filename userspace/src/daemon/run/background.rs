//! What goes on beside everything else: what the start did not wait for (`after_start`), the ledger's
//! ring, which is kept empty (`drain_ledger`), the log of evidence (`write_evidence`) and its index (`keep_history`), and sources that are fetched when they are due
//! (`fetch_in_time`).

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::{task::spawn_blocking, time::sleep};

use crate::{
    config,
    daemon::{
        core::{Core, Later},
        evidence::{self, Evidence},
        log::Repeated,
        owner::Owner,
        requests::update,
        status::Ledger,
    },
};

/// How long records wait for somebody to read them.
const DRAIN: Duration = Duration::from_millis(200);

/// What the start did not wait for.
pub(super) async fn after_start(owner: Owner, later: Later) {
    let save = async {
        if later.save {
            // One that panicked has been reported.
            let _ = owner.request("the snapshot", save).await;
        }
    };
    // Tags that are hidden are seen from the second reading on, so the first one comes before
    // what takes long; the snapshot comes before what anybody asks for.
    tokio::join!(owner.clone().tick(), save);
    let job = spawn_blocking(move || {
        let _ = owner.ask("what is loaded ahead", |core: &mut Core| {
            core.enforced.warm_up(&core.updates.database);
        });
        if later.import {
            update::renew(&owner, "asndb update, at the start");
        }
    });
    let _ = job.await;
}

/// With the core: another database that comes meanwhile is kept after this one.
fn save(core: &mut Core) {
    let state = &core.kept.state;
    if let Err(e) = crate::asn::save(&core.updates.database.db, &state.snapshot()) {
        state.tell(&format!("{e} ({})", e.help));
    }
}

/// Keeps the ledger's ring empty. It has room for some seconds at full speed.
pub(super) async fn drain_ledger(ledger: Ledger) {
    let Ok(ledger) = ledger else { return };
    let mut failed = Repeated::default();
    loop {
        sleep(DRAIN).await;
        let ledger = Arc::clone(&ledger);
        let drained = spawn_blocking(move || {
            let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.drain()
        });
        match drained.await.map_err(|e| e.to_string()) {
            Ok(Ok(())) => failed.end(),
            Ok(Err(e)) if failed.is_news(&e.to_string()) => tracing::error!("{e}"),
            Ok(Err(_)) => {}
            Err(e) => tracing::error!("reading the ledger failed inside the daemon: {e}"),
        }
    }
}

/// Writes the log of evidence.
pub(super) async fn write_evidence(evidence: Evidence, config: config::Evidence, owner: Owner) {
    let mut done = evidence::Done::default();
    loop {
        let (log, config, owner) = (evidence.clone(), config.clone(), owner.clone());
        let work = move || {
            evidence::tick(&log, &config, &owner.view(), &mut done);
            done
        };
        match spawn_blocking(work).await {
            Ok(next) => done = next,
            Err(e) => {
                evidence.broke(false, &e);
                done = evidence::Done::default();
            }
        }
        sleep(evidence::TICK).await;
    }
}

/// Keeps the history of flows up with the log.
pub(super) async fn keep_history(evidence: Evidence, config: config::Evidence) {
    let mut keeping = evidence::Keeping::default();
    loop {
        sleep(evidence::STEP).await;
        let (log, config) = (evidence.clone(), config.clone());
        let work = move || {
            evidence::keep(&log, &config, &mut keeping);
            keeping
        };
        keeping = spawn_blocking(work).await.unwrap_or_else(|e| {
            evidence.broke(true, &e);
            evidence::Keeping::default()
        });
    }
}

/// Fetches sources when they are due.
pub(super) async fn fetch_in_time(owner: Owner) {
    loop {
        let asked = owner.clone();
        let due = spawn_blocking(move || update::next_due(&asked)).await;
        let Some(wait) = due.ok().flatten() else {
            return;
        };
        sleep(wait).await;
        let owner = owner.clone();
        if let Err(e) = spawn_blocking(move || update::fetch_due(&owner)).await {
            tracing::error!("an update of the ASN database failed inside the daemon: {e}");
        }
    }
}
