//! The metrics: a page for each scrape, made from what is known then. Which ASNs have series of
//! their own is kept on disk, so that a restart moves no counter; those of cameras begin with the daemon.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch, task::spawn_blocking, time::sleep};

use crate::{
    daemon::{log::Repeated, owner::Owner, state::Prepared},
    metrics,
};

/// Before what failed is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// An address that is not there yet is waited for: enforcement does not depend on
/// who can watch it. Which ASNs are shown is kept at `path`. Of a zone so many ASNs and
/// cameras have series.
pub(in crate::daemon) async fn serve(
    address: SocketAddr,
    (max_asns, max_cameras): (usize, usize),
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
        sleep(AGAIN).await;
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
    let (keep, kept) = watch::channel(shown.clone());
    tokio::spawn(keep_shown(kept, path));
    let shown = Mutex::new((shown, metrics::Shown::default()));
    let page = move || {
        let view = owner.view();
        let mut counts = view.counts().map_err(|e| e.to_string())?;
        let mut both = shown.lock().unwrap_or_else(PoisonError::into_inner);
        let (shown, cameras) = &mut *both;
        counts.counters = shown.fold(counts.counters, max_asns);
        counts.cameras = cameras.choose(counts.cameras, max_cameras);
        keep.send_if_modified(|kept| {
            let is_news = *kept != *shown && shown.matters();
            if is_news {
                kept.clone_from(shown);
            }
            is_news
        });
        drop(both);
        let snapshot = view.snapshot(owner.busy().as_ref(), counts);
        metrics::render(&snapshot).map_err(|e| e.to_string())
    };
    metrics::serve(listener, Arc::new(page)).await;
}

/// Keeps what is shown beside the scrapes, none of which waits for a disk. A daemon that is killed
/// before the last of it is kept may show an ASN again as one of `other`.
async fn keep_shown(mut shown: watch::Receiver<metrics::Shown<u32>>, path: PathBuf) {
    let mut failed = Repeated::default();
    while shown.changed().await.is_ok() {
        let (bytes, path) = (shown.borrow_and_update().to_bytes(), path.clone());
        let save = move || Prepared::write(&path, &bytes).and_then(Prepared::commit);
        let saved = spawn_blocking(save).await.map_err(|e| e.to_string());
        match saved.and_then(|saved| saved.map_err(|e| e.to_string())) {
            Ok(()) => failed.end(),
            Err(e) => {
                if failed.is_news(&e) {
                    tracing::warn!("cannot keep which ASNs have metrics: {e}");
                }
                sleep(AGAIN).await;
                shown.mark_changed();
            }
        }
    }
}
