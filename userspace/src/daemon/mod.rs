//! The controller: ties policy, database, kernel and control socket together.
//!
//! [`core`] is everything that can change, and blocks; [`owner`] is the one thread that has it,
//! and gives readers a [`view`] after each of its jobs. This module is the event loop beside
//! it, which never blocks: signals, a second's tick, the control socket and the metrics.
//!
//! - [`start`], [`restore`]: from nothing to enforcing, and what time brings.
//! - [`operations`]: what can be asked for; [`meant`]: and is asked about.
//! - [`interfaces`], [`network`]: programs on interfaces; links and addresses. [`watch`],
//!   [`silence`]: what programs do not see; zones that fall silent.
//! - [`state`], [`database`]: what is on disk; [`updates`]: another database;
//!   [`fetched`]: files from the network; [`received`]: files from clients.
//! - [`bgp`]: live BGP, from the router's sessions to the kernel's table.
//! - [`status`], [`questions`]: answers; [`turns`]: how many at once; [`reasons`], [`trouble`]:
//!   why less is enforced than was asked for; [`keep`], [`journal`]: what is live on disk, and who
//!   changed what.
//! - [`log`], [`notify`]: for people and for the service manager.
//! - [`trace`]: what the programs log when they are asked to.
//!
//! Architecture invariant: ending the daemon, however, changes nothing in the
//! kernel. Only [`operations`]' `detach` does.

mod bgp;
mod core;
mod database;
mod downloads;
#[cfg(test)]
mod faults;
mod fetched;
mod follow;
mod held;
mod interfaces;
mod journal;
mod keep;
mod log;
#[cfg(test)]
mod lost;
mod meant;
mod network;
mod notify;
mod operations;
mod owner;
mod questions;
mod reasons;
mod received;
mod refusal;
mod restore;
mod silence;
mod start;
mod state;
mod status;
mod trace;
mod trouble;
mod turns;
mod unattended;
mod updates;
mod view;
mod watch;
#[cfg(test)]
mod zones;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use rustix::thread::{CapabilitySet, capabilities};
use sd_notify::NotifyState;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::Notify,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use self::{
    core::Core, network::Network, notify::notify, owner::Owner, refusal::Refusal, start::Later,
    turns::Turns,
};
pub(crate) use self::{
    start::{holder, lock_pins},
    state::{StateDir, recorded, snapshot_path},
    unattended::{concerns, update},
};
use crate::{
    config::{self, Config},
    control::{
        client,
        protocol::{Answer, Request},
        server::{Call, Server, ServerError},
    },
    metrics,
};

/// How `kordon run` was called.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `kordon.toml`.
    pub config: PathBuf,
    /// Instead of the configured control socket.
    pub socket: Option<PathBuf>,
    /// Instead of the configured place of pins.
    pub bpffs: Option<PathBuf>,
    /// Instead of the configured place of state.
    pub state_dir: Option<PathBuf>,
    /// Show what the programs log.
    pub debug_log: bool,
}

/// How long a change may take that the end waits for, and how long it waits for one that takes
/// longer: that is cut short, as where the controller is killed.
const LONGEST_CHANGE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_millis(80));
/// How long what the end keeps itself may take.
const LONGEST_END: Duration = Duration::from_secs(5);

/// How long the start may take the system to say who is in a group.
const LONGEST_BIND: Duration = Duration::from_secs(5);

/// Runs until a signal or `kordon detach` ends it.
///
/// # Errors
/// When it cannot start: bad configuration, another daemon, no policy, no BPF.
pub fn run(options: Options) -> anyhow::Result<()> {
    log::start(options.debug_log);
    // Else all that fails for want of them is said, one thing after the other.
    let held = capabilities(None).context("cannot read this process's capabilities")?;
    let may = |any: CapabilitySet| held.effective.intersects(any);
    anyhow::ensure!(
        may(CapabilitySet::BPF | CapabilitySet::SYS_ADMIN) && may(CapabilitySet::NET_ADMIN),
        "the daemon needs CAP_BPF and CAP_NET_ADMIN, which this process does not have; \
         `systemctl start kordon` starts it with them, root has them"
    );
    let config = configuration(&options)?;
    // Whoever started this may have blocked signals for itself, and a blocked SIGTERM
    // ends nothing.
    nix::sys::signal::SigSet::all()
        .thread_unblock()
        .context("cannot unblock signals")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let result = runtime.block_on(daemon(config, options.debug_log));
    // An import that is under way is not waited for.
    runtime.shutdown_background();
    result
}

fn configuration(options: &Options) -> anyhow::Result<Config> {
    // `status` names files to people who are in another folder.
    let path = std::path::absolute(&options.config).context("cannot find the configuration")?;
    let (config, found) = config::load(&path);
    let text = crate::regular::read_text(&path).unwrap_or_default();
    let Some(mut config) = config else {
        anyhow::bail!(
            "the configuration cannot be used:\n{}",
            found.render(|_| Some(&text), false)
        );
    };
    for warning in &found.warnings {
        tracing::warn!("{}", refusal::in_words(warning));
    }
    if let Some(socket) = &options.socket {
        config.socket.clone_from(socket);
    }
    if let Some(bpffs) = &options.bpffs {
        config.bpffs.clone_from(bpffs);
    }
    if let Some(state_dir) = &options.state_dir {
        config.state_dir.clone_from(state_dir);
    }
    Ok(config)
}

async fn daemon(config: Config, debug_log: bool) -> anyhow::Result<()> {
    // Before anything that takes time: a signal during the start counts.
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;

    let state = StateDir::open(&config.state_dir)?;
    let mut pins = lock_pins(&config.bpffs)?;
    let bpffs = config.bpffs.clone();
    // One with other pins would be at the same interfaces.
    let socket = config.socket.clone();
    let taken = spawn_blocking(move || client::answers(&socket));
    if let Ok(Ok(true)) = timeout(Duration::from_secs(2), taken).await {
        return Err(ServerError::Taken(config.socket.display().to_string()).into());
    }
    let mut network = Network::connect()
        .inspect_err(|e| tracing::error!("cannot watch links and addresses: {e}"))
        .ok();
    let facts = match &mut network {
        Some(network) => network
            .facts()
            .await
            .inspect_err(|e| tracing::error!("cannot read links and addresses: {e}"))
            .ok(),
        None => None,
    };
    let sockets = Sockets {
        path: config.socket.clone(),
        group: config.group.clone(),
        read_group: config.read_group.clone(),
    };
    let (address, max_asns) = (config.metrics, config.max_asns);
    let (core, later) = spawn_blocking(move || Core::start(config, state, facts, debug_log))
        .await
        .context("the start failed")??;
    let reasons = core.view().reasons(None);
    if reasons.is_empty() {
        tracing::info!("enforcing");
    } else {
        tracing::warn!("not enforcing: {}", reasons.join("; "));
    }
    let (bgp, bgp_path, metrics_path) = (core.bgp.clone(), core.state.bgp(), core.state.metrics());
    let (owner, _) = Owner::of(core).context("cannot start the thread of the core")?;
    let done = Arc::new(Notify::new());
    tokio::spawn(after_start(owner.clone(), later));
    tokio::spawn(fetch_in_time(owner.clone()));
    tokio::spawn(network::follow(owner.clone(), network));
    if let Some(bgp) = bgp {
        tokio::spawn(bgp::serve(owner.clone(), bgp, bgp_path));
    }
    if let Some(address) = address {
        let owner = owner.clone();
        tokio::spawn(serve_metrics(address, max_asns, metrics_path, owner));
    }

    let handler = {
        let (owner, done) = (owner.clone(), Arc::clone(&done));
        let turns = Arc::new(Turns::new());
        move |call| answer(owner.clone(), Arc::clone(&done), Arc::clone(&turns), call)
    };
    let tried = Notify::new();
    let mut serving = std::pin::pin!(serve_commands(sockets, &tried, handler));
    // Whoever waits for the start wants to ask; but it does not take for ever.
    tokio::select! {
        () = &mut serving => {}
        () = tried.notified() => {}
        () = sleep(LONGEST_BIND) => {
            tracing::warn!("the groups of the control socket are still looked up: no commands yet");
        }
    }
    notify(&[NotifyState::Ready]);
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watchdog = sd_notify::watchdog_enabled().map(|every| interval(every / 2));
    let mut reload = None;
    loop {
        tokio::select! {
            () = &mut serving => {}
            _ = tick.tick() => {
                start::lock_again(&mut pins, &bpffs);
                tokio::spawn(owner.clone().tick());
            }
            () = due(watchdog.as_mut()) => notify(&[NotifyState::Watchdog]),
            _ = hangup.recv() => {
                if let Ok(now) = NotifyState::monotonic_usec_now() {
                    notify(&[NotifyState::Reloading, now]);
                }
                let owner = owner.clone();
                reload = Some(tokio::spawn(async move {
                    let _ = owner.request("a reload", Core::reload).await;
                }));
            }
            () = finished(reload.as_mut()) => {
                reload = None;
                notify(&[NotifyState::Ready]);
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = done.notified() => break,
        }
    }
    notify(&[NotifyState::Stopping]);
    match end(&owner).await {
        Some(true) => tracing::warn!("the controller ends, and nothing is enforced"),
        Some(false) => tracing::info!("the controller ends; what is in the kernel stays"),
        None => tracing::warn!(
            "the controller ends in the middle of a change; what is in the kernel stays, and the \
             next start goes on from there"
        ),
    }
    Ok(())
}

/// Keeps what the next start is to have. Whether programs were detached; `None`: the core did
/// not get to it.
async fn end(owner: &Owner) -> Option<bool> {
    let (longest, least) = LONGEST_CHANGE;
    let elapsed = owner.busy().map_or(Duration::ZERO, |busy| busy.elapsed());
    let wait = longest.saturating_sub(elapsed).max(least);
    timeout(wait, owner.last(|_| ())).await.ok()?.ok()?;
    let kept = owner.last(|core| {
        core.keep_bgp();
        core.detached
    });
    timeout(LONGEST_END, kept).await.ok()?.ok()
}

/// The control sockets, and whose they are.
#[derive(Clone)]
struct Sockets {
    path: PathBuf,
    group: String,
    read_group: String,
}

/// Binds the control sockets and answers there; `tried` hears of the first attempt. What is in
/// the way is waited for: enforcement does not depend on who can ask.
async fn serve_commands<H, F>(sockets: Sockets, tried: &Notify, handler: H)
where
    H: Fn(Call) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let mut said = String::new();
    loop {
        let Sockets {
            path,
            group,
            read_group,
        } = sockets.clone();
        let bound = spawn_blocking(move || Server::bind(&path, &group, &read_group)).await;
        tried.notify_one();
        let words = match bound {
            Ok(Ok(server)) => {
                if !said.is_empty() {
                    tracing::info!("commands are answered");
                }
                return server.serve(handler).await;
            }
            Ok(Err(e)) => e.to_string(),
            Err(e) => format!("the control socket failed inside the daemon: {e}"),
        };
        if words != said {
            tracing::error!(
                "{words}; no command is answered until then, enforcement goes on, and it is tried \
                 again"
            );
            said = words;
        }
        sleep(Duration::from_secs(2)).await;
    }
}

/// An address that is not there yet is waited for: enforcement does not depend on
/// who can watch it. Which ASNs are shown is kept at `path`.
async fn serve_metrics(address: SocketAddr, max_asns: usize, path: PathBuf, owner: Owner) {
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
    let (shown, failed) = (Mutex::new(shown), Mutex::new(log::Repeated::default()));
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

async fn due(timer: Option<&mut tokio::time::Interval>) {
    match timer {
        Some(timer) => {
            timer.tick().await;
        }
        None => std::future::pending().await,
    }
}

async fn finished(job: Option<&mut tokio::task::JoinHandle<()>>) {
    match job {
        Some(job) => {
            let _ = job.await;
        }
        None => std::future::pending().await,
    }
}

/// What the start did not wait for.
async fn after_start(owner: Owner, later: Later) {
    let job = spawn_blocking(move || {
        if later.save {
            // With the core: another database that comes meanwhile is kept after this one.
            let save = |core: &mut Core| {
                if let Err(e) = crate::asn::save(&core.database.db, &core.state.snapshot())
                    && !core.state.is_said()
                {
                    tracing::error!("{e} ({})", e.help);
                }
            };
            let _ = owner.ask("the snapshot", save);
        }
        // One that panicked has been reported.
        let _ = owner.ask("what is loaded ahead", Core::warm_up);
        if later.import {
            updates::renew(&owner, "asndb update, at the start");
        }
    });
    let _ = job.await;
}

/// Fetches sources when they are due.
async fn fetch_in_time(owner: Owner) {
    loop {
        let asked = owner.clone();
        let due = spawn_blocking(move || updates::next_due(&asked)).await;
        let Some(wait) = due.ok().flatten() else {
            return;
        };
        sleep(wait).await;
        let owner = owner.clone();
        if let Err(e) = spawn_blocking(move || updates::fetch_due(&owner)).await {
            tracing::error!("an update of the ASN database failed inside the daemon: {e}");
        }
    }
}

async fn answer(owner: Owner, done: Arc<Notify>, turns: Arc<Turns>, call: Call) -> Answer {
    let detach = matches!(call.request, Request::Detach { .. });
    let asked = format!("`{}` of {}", call.request.command(), call.peer);
    let turn = turns.of(&call.request, &call.peer).await;
    let job = spawn_blocking(move || {
        let _turn = turn;
        questions::perform(&owner, call)
    });
    let result = job.await;
    let result = result.unwrap_or_else(|e| {
        Err(Refusal::new(
            format!("the operation failed inside the daemon: {e}"),
            "its log says more; restarting it changes nothing that is enforced",
        ))
    });
    match result {
        Ok(value) => {
            if detach {
                tokio::spawn(async move {
                    // The answer first.
                    sleep(Duration::from_millis(100)).await;
                    done.notify_one();
                });
            }
            Answer::Ok(value)
        }
        Err(refusal) => {
            tracing::warn!("{asked} is refused: {}", refusal.in_words());
            refusal.answer()
        }
    }
}
