//! What the verifier takes long for at a start, loaded beside the rest of it: what a generation is proven with, the
//! slow path, and the program of each interface. As many threads as there are processors take them in that order, in
//! which they are needed, so that a router with sixteen interfaces does not wait for them one after the other.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, sync_channel},
    },
    thread,
};

use aya::Ebpf;

use super::{loaded::Source, probe::Prober};
use crate::compile::table::Tier;

/// What is to be loaded and nobody has begun.
type Queue = VecDeque<Box<dyn FnOnce() + Send>>;

/// What is being loaded for one tier. What failed is loaded again where it is
/// needed, and then says why.
pub(super) struct Preload {
    tier: Tier,
    queue: Arc<Mutex<Queue>>,
    prober: Option<Receiver<Option<Prober>>>,
    slow: Option<Receiver<Option<Ebpf>>>,
    fast: BTreeMap<u32, Receiver<Option<Ebpf>>>,
}

impl Preload {
    /// Starts loading. The maps of the source exist. `prober`: whether one is needed; `ports`: of interfaces
    /// that are going to be attached, in this order.
    pub(super) fn start(source: Source<'_>, prober: bool, ports: &[u32]) -> Self {
        let tier = source.tier;
        let mut queue = Queue::new();
        let prober = prober.then(|| put(&mut queue, move || Prober::load(tier).ok()));
        let slow = source.later(|source| source.slow().ok());
        let slow = Some(put(&mut queue, slow));
        let of_port = |port: &u32| {
            let port = *port;
            let load = source.later(move |source| source.fast(port).ok());
            (port, put(&mut queue, load))
        };
        let fast = ports.iter().map(of_port).collect();
        let most = thread::available_parallelism().map_or(1, usize::from);
        let threads = most.min(queue.len());
        let queue = Arc::new(Mutex::new(queue));
        let work = |queue: Arc<Mutex<Queue>>| {
            move || {
                while let Some(load) = locked(&queue, VecDeque::pop_front) {
                    // Whoever waits for it is told by its channel, those of others must not wait for ever.
                    let _ = catch_unwind(AssertUnwindSafe(load));
                }
            }
        };
        let started = (0..threads).filter(|_| {
            let thread = thread::Builder::new().spawn(work(Arc::clone(&queue)));
            thread.is_ok()
        });
        if started.count() == 0 {
            // Nobody would do it: it is loaded where it is needed.
            locked(&queue, VecDeque::clear);
        }
        Self {
            tier,
            queue,
            prober,
            slow,
            fast,
        }
    }

    /// Whether it is for this tier.
    pub(super) fn is_for(&self, tier: Tier) -> bool {
        self.tier == tier
    }

    /// The prober, once; `None`: there is none of that tier.
    pub(super) fn prober(&mut self, tier: Tier) -> Option<Prober> {
        self.prober.take_if(|_| self.tier == tier)?.recv().ok()?
    }

    /// The slow path, likewise.
    pub(super) fn slow(&mut self, tier: Tier) -> Option<Ebpf> {
        self.slow.take_if(|_| self.tier == tier)?.recv().ok()?
    }

    /// The program of a port, likewise.
    pub(super) fn fast(&mut self, tier: Tier, port: u32) -> Option<Ebpf> {
        if self.tier != tier {
            return None;
        }
        self.fast.remove(&port)?.recv().ok()?
    }
}

impl Drop for Preload {
    fn drop(&mut self) {
        // What nobody needs is not begun.
        locked(&self.queue, VecDeque::clear);
    }
}

/// Puts something at the end of the queue; what it loads comes out of the channel.
fn put<T: Send + 'static>(
    queue: &mut Queue,
    load: impl FnOnce() -> T + Send + 'static,
) -> Receiver<T> {
    let (to, from) = sync_channel(1);
    queue.push_back(Box::new(move || {
        let _ = to.send(load());
    }));
    from
}

fn locked<T>(queue: &Mutex<Queue>, with: impl FnOnce(&mut Queue) -> T) -> T {
    with(&mut queue.lock().unwrap_or_else(PoisonError::into_inner))
}
