//! The metrics: a page for each scrape, made from what is known then.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{net::TcpListener, task::spawn_blocking, time::sleep};

use crate::{
    daemon::{log::Repeated, owner::Owner},
    metrics,
};

/// An address that is not there yet is waited for: enforcement does not depend on
/// who can watch it. Which ASNs are shown is kept at `path`.
pub(in crate::daemon) async fn serve(
    address: SocketAddr,
    max_asns: usize,
    path: PathBuf,
    owner: Owner,
) {
    let mut said = false;
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(e) if said => tracing::debug!("metrics on {address}: {e}"),
            Err(e) => {
                tracing::error!(
                    "cannot serve metrics on {address}: {e}; trying again until it works, or \
                     change `listen` in `[metrics]`"
                );
                said = true;
            }
        }
        sleep(Duration::from_secs(2)).await;
    };
    let file = path.clone();
    let loaded = spawn_blocking(move || metrics::Shown::load(&file)).await;
    let shown = loaded
        .unwrap_or_else(|e| Err(e.into()))
        .unwrap_or_else(|e| {
            tracing::warn!(
                "which ASNs have metrics is chosen anew, {} cannot be used: {e}",
                path.display()
            );
            metrics::Shown::default()
        });
    let (shown, failed) = (Mutex::new(shown), Mutex::new(Repeated::default()));
    let page = move || {
        let snapshot = owner.view().snapshot(owner.busy().as_ref());
        let mut snapshot = snapshot.map_err(|e| e.to_string())?;
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        let before = shown.clone();
        snapshot.counters = shown.fold(snapshot.counters, max_asns);
        // Kept before it is shown.
        if *shown != before && shown.matters() {
            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
            match shown.save(&path).map_err(|e| e.to_string()) {
                Ok(()) => failed.end(),
                Err(e) if failed.is_news(&e) => {
                    tracing::warn!("cannot keep which ASNs have metrics: {e}");
                }
                Err(_) => {}
            }
        }
        metrics::render(&snapshot).map_err(|e| e.to_string())
    };
    metrics::serve(listener, Arc::new(page)).await;
}
