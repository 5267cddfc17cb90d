//! The one thread that owns the core. Jobs wait for it in a queue of bounded length, one
//! after the other; what time and links bring waits at most once. After each job readers get
//! a new [`View`], before whoever asked for it has an answer: nobody who only asks waits, and
//! nobody reads what was before his own change.
//!
//! A job that panics is answered with an error. What was live stays in force, and `status`
//! says so until a change has been proven again.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use super::{
    core::Core,
    links::{SETTLING, router::Look},
    refusal::Refusal,
    status::{Busy, View},
    trouble::Cause,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

/// Jobs that wait; whoever brings more waits before that.
pub(super) const WAITING: usize = 64;

/// What a job leaves to be done once readers have the new view: its answer.
type Deliver = Box<dyn FnOnce() + Send>;

pub(super) struct Job {
    what: String,
    /// It belongs to the end of the daemon.
    is_last: bool,
    work: Box<dyn FnOnce(&mut Core) -> Deliver + Send>,
}

/// What is shared with the thread.
struct Shown {
    /// The daemon ends: of what waits only that is still done.
    ends: AtomicBool,
    view: Mutex<Arc<View>>,
    busy: Mutex<Option<Busy>>,
}

/// See the module. All clones are of one thread, which ends with the last of them.
#[derive(Clone)]
pub(super) struct Owner {
    pub(super) jobs: mpsc::Sender<Job>,
    shown: Arc<Shown>,
    tick: Arc<AtomicBool>,
    tend: Arc<AtomicBool>,
    look: Arc<Mutex<Option<Look>>>,
}

impl Owner {
    /// Gives the core to a thread, which returns it when all owners are gone.
    pub(super) fn of(core: Core) -> std::io::Result<(Self, JoinHandle<Core>)> {
        let (jobs, queue) = mpsc::channel(WAITING);
        let shown = Arc::new(Shown {
            ends: AtomicBool::new(false),
            view: Mutex::new(Arc::new(core.view())),
            busy: Mutex::default(),
        });
        let shared = Arc::clone(&shown);
        let thread = thread::Builder::new()
            .name("core".to_owned())
            .spawn(move || work(core, queue, &shared))?;
        let owner = Self {
            jobs,
            shown,
            tick: Arc::default(),
            tend: Arc::default(),
            look: Arc::default(),
        };
        Ok((owner, thread))
    }

    /// What is known since the last job was done.
    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(&lock(&self.shown.view))
    }

    /// What is under way.
    pub(super) fn busy(&self) -> Option<Busy> {
        lock(&self.shown.busy).clone()
    }

    /// Has it done, and waits for that; not for threads of the event loop. `what`: for people.
    ///
    /// # Errors
    /// When it panics.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (job, answer) = job(what, work);
        self.jobs.blocking_send(job).map_err(|_| failed())?;
        answer.blocking_recv().map_err(|_| failed())
    }

    /// As [`Self::ask`], for the event loop.
    ///
    /// # Errors
    /// When it panics.
    pub(super) async fn request<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (job, answer) = job(what, work);
        self.jobs.send(job).await.map_err(|_| failed())?;
        answer.await.map_err(|_| failed())
    }

    /// As [`Self::request`], for the end of the daemon: after the job that is under way. Those
    /// that wait are not begun any more, and whoever asked for them hears that.
    ///
    /// # Errors
    /// When it panics.
    pub(super) async fn last<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        self.shown.ends.store(true, SeqCst);
        let (job, answer) = job("the end", work);
        let job = Job {
            is_last: true,
            ..job
        };
        self.jobs.send(job).await.map_err(|_| failed())?;
        answer.await.map_err(|_| failed())
    }

    /// What time brings. What is counted [`SETTLING`] ahead leaves the core free until then.
    pub(super) async fn tick(self) {
        if self.tick.swap(true, SeqCst) {
            return;
        }
        let _ = self.request("a look ahead", Core::look_ahead).await;
        sleep(SETTLING).await;
        self.once("the tick", &self.tick, Core::tick).await;
    }

    /// Interfaces came or went.
    pub(super) async fn tend(self) {
        if !self.tend.swap(true, SeqCst) {
            let what = "a look at interfaces";
            self.once(what, &self.tend, Core::tend_interfaces).await;
        }
    }

    /// Has done what waits at most once.
    async fn once(&self, what: &str, waiting: &Arc<AtomicBool>, job: fn(&mut Core)) {
        let begins = Arc::clone(waiting);
        let work = move |core: &mut Core| {
            // What is asked for from now on may be about what comes after.
            begins.store(false, SeqCst);
            job(core);
        };
        // One that panicked has been reported.
        let _ = self.request(what, work).await;
    }

    /// The router is this now; what waits from before is out of date.
    pub(super) async fn network_seen(self, look: Look) {
        if lock(&self.look).replace(look).is_some() {
            return;
        }
        let newest = Arc::clone(&self.look);
        let work = move |core: &mut Core| {
            let look = lock(&newest).take();
            if let Some(look) = look {
                core.network_seen(look);
            }
        };
        let _ = self.request("a change of addresses", work).await;
    }
}

fn job<T: Send + 'static>(
    what: &str,
    work: impl FnOnce(&mut Core) -> T + Send + 'static,
) -> (Job, oneshot::Receiver<T>) {
    let (sender, answer) = oneshot::channel();
    let work = move |core: &mut Core| -> Deliver {
        let result = work(core);
        Box::new(move || {
            // Whoever asked may have gone.
            let _ = sender.send(result);
        })
    };
    let job = Job {
        what: what.to_owned(),
        is_last: false,
        work: Box::new(work),
    };
    (job, answer)
}

/// Does the jobs, until nobody can bring any.
fn work(mut core: Core, mut queue: mpsc::Receiver<Job>, shown: &Shown) -> Core {
    while let Some(Job {
        what,
        is_last,
        work,
    }) = queue.blocking_recv()
    {
        if shown.ends.load(SeqCst) && !is_last {
            continue;
        }
        *lock(&shown.busy) = Some(Busy {
            what: what.clone(),
            since: Instant::now(),
        });
        // Changes are made beside what is live, and what is half made goes with the panic.
        let done = catch_unwind(AssertUnwindSafe(|| work(&mut core)));
        if done.is_err() {
            let words = format!(
                "{what} failed inside the daemon (its log says more); what was live is in force, and \
                 the next change that is proven ends this"
            );
            core.troubles.set(Cause::Panic, words);
        }
        // Else readers keep the one that they have, and it gets old.
        let view = catch_unwind(AssertUnwindSafe(|| {
            core.judge_cover();
            core.name_flows();
            core.view()
        }));
        if let Ok(view) = view {
            *lock(&shown.view) = Arc::new(view);
        }
        *lock(&shown.busy) = None;
        if let Ok(deliver) = done {
            deliver();
        }
    }
    core
}

fn failed() -> Refusal {
    Refusal::new(
        "the operation failed inside the daemon, or the daemon ends",
        "its log says which; `kordon status` says what is live",
    )
}

/// Nothing panics while one of these is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
