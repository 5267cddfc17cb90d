//! What goes on beside everything else: what the start did not wait for, and sources that are
//! fetched when they are due.

use tokio::{task::spawn_blocking, time::sleep};

use crate::daemon::{
    core::{Core, Later},
    owner::Owner,
    requests::update,
};

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
