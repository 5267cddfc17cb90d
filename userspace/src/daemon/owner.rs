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
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

use super::{
    core::Core, network::Facts, refusal::Refusal, trouble::Cause, view::View, watch::SETTLING,
};

/// Jobs that wait; whoever brings more waits before that.
const WAITING: usize = 64;

/// What a job leaves to be done once readers have the new view: its answer.
type Deliver = Box<dyn FnOnce() + Send>;

struct Job {
    what: String,
    /// It belongs to the end of the daemon.
    is_last: bool,
    work: Box<dyn FnOnce(&mut Core) -> Deliver + Send>,
}

/// What keeps the core.
#[derive(Clone, Debug)]
pub(super) struct Busy {
    what: String,
    since: Instant,
}

impl Busy {
    /// For how long.
    pub(super) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// `what`, and for how long.
    pub(super) fn words(&self) -> String {
        let seconds = self.since.elapsed().as_secs();
        format!("{} has been under way for {seconds} s", self.what)
    }
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
    jobs: mpsc::Sender<Job>,
    shown: Arc<Shown>,
    tick: Arc<AtomicBool>,
    tend: Arc<AtomicBool>,
    facts: Arc<Mutex<Option<Facts>>>,
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
            facts: Arc::default(),
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
    pub(super) async fn network_changed(self, facts: Facts) {
        if lock(&self.facts).replace(facts).is_some() {
            return;
        }
        let newest = Arc::clone(&self.facts);
        let work = move |core: &mut Core| {
            let facts = lock(&newest).take();
            if let Some(facts) = facts {
                core.network_changed(facts);
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
        if let Ok(view) = catch_unwind(AssertUnwindSafe(|| core.view())) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::{
        answer, end,
        faults::{House, by},
        serve_metrics,
        turns::Turns,
    };
    use crate::{
        control::{
            peer::Peer,
            protocol::{Answer, Request},
            server::Call,
        },
        policy::Bundle,
    };
    use std::{io, sync::mpsc as std_mpsc};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        runtime,
        sync::Notify,
    };

    const HELD: Duration = Duration::from_secs(40);
    const LONGEST: Duration = Duration::from_millis(100);

    /// What a client gets who is not root.
    async fn asked(owner: &Owner, turns: &Arc<Turns>, request: Request) -> serde_json::Value {
        let call = Call {
            request,
            peer: Peer {
                uid: 4_000_000_001,
                gid: 0,
                pid: None,
                name: "somebody".into(),
                login: None,
            },
            files: Vec::new(),
        };
        let done = Arc::new(Notify::new());
        match answer(owner.clone(), done, Arc::clone(turns), call).await {
            Answer::Ok(value) => value,
            other => panic!("{other:?}"),
        }
    }

    async fn scraped(port: u16) -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await?;
        Ok(page)
    }

    #[test]
    fn nobody_who_asks_waits_for_the_core() {
        let house = House::new();
        let metrics = house.folder().join("metrics.json");
        let (mut house, ()) = house.shared(|owner| {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(held(owner, metrics));
        });
        house.core.tick();
        assert_eq!(house.reasons(), Vec::<String>::new());
    }

    async fn held(owner: &Owner, metrics: std::path::PathBuf) {
        const PORT: u16 = 19_410;
        let page = serve_metrics(([127, 0, 0, 1], PORT).into(), 10, metrics, owner.clone());
        let page = tokio::spawn(page);
        sleep(Duration::from_millis(300)).await;
        owner.request("the tick", Core::tick).await.unwrap();
        let (begun, begins) = std_mpsc::channel();
        let keeper = owner.clone();
        let kept = tokio::spawn(async move {
            let work = move |_: &mut Core| {
                begun.send(()).unwrap();
                thread::sleep(HELD);
            };
            keeper.request("`apply` of root", work).await
        });
        while begins.try_recv().is_err() {
            sleep(Duration::from_millis(1)).await;
        }
        let turns = Arc::new(Turns::new());
        let start = Instant::now();
        let (mut took, mut said) = (Vec::new(), Vec::new());
        while start.elapsed() < HELD - Duration::from_secs(1) {
            // What the event loop has every second.
            tokio::spawn(owner.clone().tick());
            tokio::spawn(owner.clone().tend());
            let mut status = serde_json::Value::Null;
            let lookup = Request::Lookup {
                query: "AS64500".into(),
                limit: None,
            };
            for request in [lookup, Request::History, Request::Status] {
                let asking = Instant::now();
                status = asked(owner, &turns, request).await;
                took.push(asking.elapsed());
            }
            let asking = Instant::now();
            let page = scraped(PORT).await.unwrap();
            took.push(asking.elapsed());
            let old = (
                status["notices"]
                    .to_string()
                    .contains("`apply` of root has been under way"),
                status["enforcing"] == false,
            );
            assert_eq!(page.contains("kordon_enforcing 0"), old.1, "{status}");
            if said.last().is_none_or(|(_, last)| *last != old) {
                said.push((start.elapsed().as_secs(), old));
            }
            sleep(Duration::from_millis(200)).await;
        }
        let ending = Instant::now();
        assert_eq!(end(owner).await, None);
        let ending = ending.elapsed();
        took.sort_unstable();
        let (answers, longest) = (took.len(), took[took.len() - 1]);
        // Of other tests that run meanwhile one may be in the way.
        let most = took[answers * 99 / 100];
        println!(
            "{answers} answers, 99 of 100 in {most:?}, all in {longest:?}, end {ending:?}, {said:?}"
        );
        assert!(most < LONGEST && longest < LONGEST * 10 && ending < LONGEST * 2);
        // The age is that of the last tick, before this began.
        let [
            (_, (false, false)),
            (notice, (true, false)),
            (reason, (false, true)),
        ] = said[..]
        else {
            panic!("{said:?}");
        };
        assert!(notice <= 5 && (23..=27).contains(&(reason - notice)));
        // All that the event loop wanted meanwhile is one tick and one look.
        assert!(owner.jobs.capacity() >= WAITING - 4);
        kept.await.unwrap().unwrap();
        page.abort();
        let _ = page.await;
    }

    #[test]
    fn a_panic_is_an_answer_and_a_reason() {
        let (house, ()) = House::new().shared(|owner| {
            let live = owner.view().generation;
            let reasons = |owner: &Owner| owner.view().reasons(None);
            for _ in 0..2 {
                let refusal = owner.ask("`apply` of root", |_| panic!("on purpose"));
                let refusal: Result<(), Refusal> = refusal;
                assert!(refusal.unwrap_err().message.contains("failed inside"));
                // The answer may come a moment before the new view.
                owner.ask("nothing", |_| ()).unwrap();
                assert!(
                    reasons(owner)[0].contains("`apply` of root failed inside the daemon"),
                    "{:?}",
                    reasons(owner)
                );
                assert_eq!(owner.view().generation, live);
            }
            // The next tick proves what is live again.
            owner.ask("the tick", Core::tick).unwrap();
            assert_eq!(reasons(owner), Vec::<String>::new());
            assert!(owner.view().generation > live);
            owner
                .ask("a change", |core| {
                    core.apply(
                        Bundle::from_text("policy.toml", super::super::faults::POLICY),
                        None,
                        &by(),
                    )
                    .map(drop)
                })
                .unwrap()
                .unwrap();
        });
        assert_eq!(house.reasons(), Vec::<String>::new());
    }
}
