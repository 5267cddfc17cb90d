//! The event loop: signals, a second's tick, the watchdog of the service manager, the control
//! socket and the metrics. It waits for nothing: what takes time is a job for the core's thread
//! ([`owner`](super::owner)) or for one beside it.
//!
//! - [`commands`]: the control socket; [`page`]: the metrics.
//! - [`follow`]: the router's links and addresses, and what live BGP says, told to the core.
//! - [`background`]: what the start did not wait for, and updates by the clock.
//! - [`notify`]: what the service manager is told.

mod background;
pub(super) mod commands;
mod follow;
mod notify;
pub(super) mod page;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures_util::FutureExt as _;
use rustix::thread::{CapabilitySet, capabilities};
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use self::{commands::Sockets, notify::notify};
use super::{
    bgp,
    core::Core,
    evidence,
    links::router::Network,
    log,
    owner::Owner,
    refusal,
    requests::turns::Turns,
    state::{StateDir, lock_pins, lock_pins_again},
};
use crate::{
    config::{self, Config},
    control::{client, server::ServerError},
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
    let look = match &mut network {
        Some(network) => network
            .look()
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
    let (address, most) = (config.metrics, (config.max_asns, config.max_cameras));
    let (core, later) = spawn_blocking(move || Core::start(config, state, look, debug_log))
        .await
        .context("the start failed")??;
    let reasons = core.view().reasons(None);
    if reasons.is_empty() {
        tracing::info!("enforcing");
    } else {
        tracing::warn!("not enforcing: {}", reasons.join("; "));
    }
    let (bgp, bgp_path, metrics_path) = (
        core.bgp.clone(),
        core.kept.state.bgp(),
        core.kept.state.metrics(),
    );
    let ledger = core.ledger.clone();
    let evidence = core.evidence.clone().and_then(Result::ok);
    let evidence = evidence.zip(core.config.evidence.clone());
    let (owner, _) = Owner::of(core).context("cannot start the thread of the core")?;
    let done = Arc::new(Notify::new());
    tokio::spawn(background::after_start(owner.clone(), later));
    tokio::spawn(background::fetch_in_time(owner.clone()));
    tokio::spawn(background::drain_ledger(ledger));
    if let Some((evidence, config)) = evidence.clone() {
        tokio::spawn(background::keep_history(evidence.clone(), config.clone()));
        tokio::spawn(background::write_evidence(evidence, config, owner.clone()));
    }
    tokio::spawn(follow::follow(owner.clone(), network));
    if let Some(bgp) = bgp {
        tokio::spawn(follow::follow_bgp(owner.clone(), bgp.clone()));
        tokio::spawn(bgp::serve(bgp, bgp_path));
    }
    if let Some(address) = address {
        let owner = owner.clone();
        tokio::spawn(page::serve(address, most, metrics_path, owner));
    }

    let handler = {
        let (owner, done) = (owner.clone(), Arc::clone(&done));
        let turns = Arc::new(Turns::new());
        Arc::new(move |call| {
            commands::answer(owner.clone(), Arc::clone(&done), Arc::clone(&turns), call).boxed()
        })
    };
    let tried = Notify::new();
    let mut serving = std::pin::pin!(commands::serve(sockets, &tried, handler));
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
                lock_pins_again(&mut pins, &bpffs);
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
    let ended = end(&owner).await;
    if let Some((evidence, config)) = evidence {
        let view = owner.view();
        let work = spawn_blocking(move || evidence::end(&evidence, &config, &view));
        if timeout(LONGEST_END, work).await.is_err() {
            tracing::warn!(
                "the end may not be in the log of evidence, or its checkpoint with nobody outside: that took too long"
            );
        }
    }
    match ended {
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
pub(super) async fn end(owner: &Owner) -> Option<bool> {
    let (longest, least) = LONGEST_CHANGE;
    let elapsed = owner
        .busy()
        .map_or(Duration::ZERO, |busy| busy.since.elapsed());
    let wait = longest.saturating_sub(elapsed).max(least);
    timeout(wait, owner.last(|_| ())).await.ok()?.ok()?;
    let kept = owner.last(|core| {
        core.keep_bgp();
        core.detached
    });
    timeout(LONGEST_END, kept).await.ok()?.ok()
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
