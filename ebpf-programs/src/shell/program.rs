//! The two XDP programs, over the maps of one size tier: [`fast`], an instance for each interface, and [`slow`], one
//! for all, which gets by a tail call what [`fast`] leaves.

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    maps::ring_buf::RingBufEntry,
    programs::{TcContext, XdpContext},
};

use super::{
    frame::{Linear, Pieces, kind, length, length_past},
    known::{Done, Held, done, record},
    ledger, probe,
};
use crate::{
    flow::Headers,
    layout::{
        Action, COUNTER_PAGE, Counter, Flow, FlowLine, NO_LINES, Probe, Reason, Record,
        UNPARSABLE_REASONS, mode, trace,
    },
    opaque,
    packet::Frame,
    seen::{self, By},
    verdict::{
        Destination, FastPath, NO_SLOT, ReadFast, Tables, Verdict, Work, by_class, decide,
        fast_path, stacked,
    },
};

/// What the programs of a size tier read and write: its maps, and the constants that the
/// controller gives each instance when it loads it.
pub trait Tier {
    /// The live generation and its table.
    type Tables: Tables;
    /// What the fast path reads.
    type Planes: ReadFast + 'static;

    /// `None`: there is no generation of this layout.
    fn tables() -> Option<Self::Tables>;
    /// Derived from the live generation.
    fn planes() -> Option<&'static Self::Planes>;
    /// One page of this CPU's counters.
    fn counters(page: u32) -> Option<*mut [Counter; COUNTER_PAGE as usize]>;
    /// This CPU's memory for the slow path.
    fn memory() -> Option<*mut Memory>;
    /// Input and output of test runs.
    fn probe() -> Option<*mut Probe>;
    /// Lines of each CPU, a power of two, or `NO_LINES`. A constant for the verifier.
    fn lines() -> u32;
    /// Lines that a source may take in the time of a budget, or `NO_BUDGET`. A constant likewise.
    fn most() -> u32;
    /// A line, of all CPUs.
    fn line(index: u32) -> Option<*mut FlowLine>;
    /// What the controller has said of a line; 0: nothing.
    fn mark(index: u32) -> u64;
    /// A budget, of all CPUs: how many lines were taken, from bit 32 on when, and by whom.
    fn budget(index: u32) -> Option<*mut u64>;
    /// Room in the ring.
    fn record() -> Option<RingBufEntry<Record>>;
    /// [`other`](super::ledger::other), as a global function: the verifier follows it once and for any
    /// arguments, instead of once for each state that a packet comes to it in.
    fn other(flow: &mut Flow, class: u32, index: u32, now: u32, amount: u64);
    /// [`add`](super::known::add), as a global function likewise.
    fn add(ctx: *mut xdp_md, done: u64, asked: u64);
    /// [`known_apart`](super::known::known_apart), likewise.
    fn known_apart<const V6: bool>(
        ctx: *mut xdp_md,
        headers: Headers,
        now: u64,
        settled: u64,
    ) -> u64;
    /// What was lost of a slot, shared by all CPUs.
    fn lost(slot: u32) -> Option<*mut Counter>;
    /// What no record has, of a network, shared likewise.
    fn beyond(key: u64) -> Option<*mut Counter>;
    /// Goes on with [`slow`]; comes back only where that is not there.
    fn slow(ctx: &XdpContext);
    /// Goes on with the guard's slow path; comes back only where that is not there.
    fn guard_slow(ctx: &TcContext);
    /// One of [`mode`].
    fn mode() -> u32;
    /// Whether verdicts are logged: one of [`trace`]. A constant for the verifier, which
    /// removes what is not asked for.
    fn trace() -> u32;
    /// Which port an instance of [`fast`] is attached to.
    fn port() -> u32;
}

/// What the slow path works on and says.
#[repr(C)]
pub struct Memory {
    /// Written by the fast path: the slow one is the same for all interfaces. First, where the
    /// programs of every build of one layout version have it; whatever else has another size makes
    /// another map.
    port: u32,
    pub(super) work: Work,
    pub(super) verdict: Verdict,
    /// What is recorded: however it was read, what follows is seen once, and calls have little stack.
    pub(super) flow: Flow,
}

/// What becomes of a packet that cannot be judged, because there is no generation.
const NO_GENERATION: u32 = xdp_action::XDP_ABORTED;

/// No action of XDP: the slow path must be taken.
const UNCLEAR: u8 = u8::MAX;

/// Judges one frame by the fast path, if it can. What it needs is all here, so that no
/// register is kept for anything else.
#[inline(always)]
pub fn fast<T: Tier>(ctx: XdpContext) -> u32 {
    let mode = T::mode();
    if mode == mode::PROBE {
        // Both paths are taken, and compared.
        probed::<T>(ctx.ctx);
    } else {
        if mode == mode::BENCH {
            probe::prepare::<T>(&ctx);
        }
        if let Some(planes) = T::planes() {
            let lines = Held::<T>::of(ctx.ctx);
            let said = fast_path(&Linear::of(&ctx), T::port(), planes, &lines);
            let done = act::<T, false>(&ctx, said, planes.number(), &lines);
            if done as u8 != UNCLEAR {
                record(done, &lines);
                return done as u8 as u32;
            }
        }
    }
    go_on::<T>(&ctx)
}

/// Does what the fast path says; [`UNCLEAR`] where it says nothing. `number`: generation of the
/// planes. `TWICE`: of a frame with two tags.
#[inline(always)]
fn act<T: Tier, const TWICE: bool>(
    ctx: &XdpContext,
    said: FastPath,
    number: u64,
    lines: &Held<T>,
) -> Done {
    let frame = Linear::of(ctx);
    match said {
        FastPath::Unpoliced { seen } => {
            see::<T>(seen);
            done(xdp_action::XDP_PASS, 0, 0)
        }
        FastPath::Pass {
            slot,
            seen,
            headers,
        } if T::trace() != trace::ON => {
            count::<T>(slot, 1, length_past(ctx, frame.reach()));
            see::<T>(seen);
            done(xdp_action::XDP_PASS, slot, headers)
        }
        FastPath::Counted {
            action,
            slot,
            seen,
            headers,
        } if T::trace() != trace::ON => {
            count::<T>(slot, 1, length_past(ctx, frame.reach()));
            if let Action::Drop = action {
                return done(xdp_action::XDP_DROP, slot, headers);
            }
            see::<T>(seen);
            done(xdp_action::XDP_PASS, slot, headers)
        }
        FastPath::Stacked if !TWICE => {
            if T::lines() != NO_LINES {
                lines.asked.set(ledger::now());
            }
            tagged_twice::<T>(ctx.ctx, lines.asked.get())
        }
        FastPath::Destination(destination) => looked_up::<T>(ctx.ctx, destination, number),
        _ => UNCLEAR as Done,
    }
}

/// The fast path of a frame with two tags, as [`act`]. A function of its own: others need no
/// registers for it.
#[inline(never)]
fn tagged_twice<T: Tier>(ctx: *mut xdp_md, now: u64) -> Done {
    let ctx = XdpContext::new(ctx);
    let (Some(planes), Some(tables)) = (T::planes(), T::tables()) else {
        return UNCLEAR as Done;
    };
    let number = planes.number();
    // Another generation went live meanwhile: it judges the packet, whole.
    if number == 0 || tables.number() != number {
        return UNCLEAR as Done;
    }
    let lines = Held::<T>::of(ctx.ctx);
    lines.asked.set(now);
    let said = stacked(&Linear::of(&ctx), T::port(), planes, &tables, &lines);
    act::<T, true>(&ctx, said, number, &lines)
}

/// What the fast path says in a test run, which is written and not done.
#[inline(never)]
fn probed<T: Tier>(ctx: *mut xdp_md) -> u32 {
    let ctx = XdpContext::new(ctx);
    probe::rewrite_next::<T>(&ctx);
    let (Some(planes), Some(tables)) = (T::planes(), T::tables()) else {
        return 0;
    };
    let (frame, port) = (Linear::of(&ctx), probe::port::<T>());
    let mut said = fast_path(&frame, port, planes, &());
    if let FastPath::Stacked = said {
        said = stacked(&frame, port, planes, &tables, &());
    }
    probe::note_fast::<T>(match said {
        FastPath::Destination(destination) => match by_class(&frame, destination, &tables) {
            Some(verdict) => (&verdict).into(),
            None => FastPath::Ask.into(),
        },
        said => said.into(),
    });
    0
}

/// Leaves a frame to the slow path.
#[inline(always)]
fn go_on<T: Tier>(ctx: &XdpContext) -> u32 {
    if let Some(memory) = T::memory() {
        let port = if T::mode() == mode::PROBE {
            probe::port::<T>()
        } else {
            T::port()
        };
        // SAFETY: the memory is this CPU's, and nothing else runs on it before the slow path
        // has ended.
        unsafe { (*memory).port = port };
        T::slow(ctx);
    }
    // Without a slow path nothing can be said of it.
    NO_GENERATION
}

/// The rest of the fast path, for a packet of which only the destination's class is missing;
/// as [`act`].
#[inline(never)]
fn looked_up<T: Tier>(ctx: *mut xdp_md, destination: Destination, number: u64) -> Done {
    let ctx = XdpContext::new(ctx);
    let Some(tables) = T::tables() else {
        return NO_GENERATION as Done;
    };
    if tables.number() != number {
        return UNCLEAR as Done;
    }
    let frame = Linear::of(&ctx);
    let Some(verdict) = by_class(&frame, destination, &tables) else {
        return UNCLEAR as Done;
    };
    let len = length_past(&ctx, frame.reach());
    let headers = if verdict.is_recorded(&tables, destination.zone) {
        destination.headers()
    } else {
        0
    };
    let action = finish::<T>(&ctx, &tables, T::port(), &verdict, len);
    done(action, verdict.slot, headers)
}

/// The decision in full.
#[inline(always)]
pub fn slow<T: Tier>(ctx: XdpContext) -> u32 {
    let (Some(tables), Some(memory)) = (T::tables(), T::memory()) else {
        return NO_GENERATION;
    };
    // SAFETY: as in `go_on`.
    let Memory {
        port,
        work,
        verdict,
        flow,
    } = unsafe { &mut *memory };
    let len = length(&ctx);
    let frame = Pieces {
        ctx: &ctx,
        len: len as u32,
    };
    *verdict = decide(&frame, *port, &tables, work, &mut ());
    // However it came about, what follows is seen once.
    let verdict = opaque::in_memory(verdict);
    let work = opaque::in_memory(work);
    let is_kept = T::mode() != mode::PROBE && T::lines() != NO_LINES;
    if is_kept && verdict.is_recorded(&tables, work.zone()) {
        *flow = Flow::read(&frame, work.packets(), verdict, *port);
        let flow = opaque::in_memory(flow);
        ledger::add::<T>(flow, verdict.class, ledger::now(), (1, len as u32));
    }
    finish::<T>(&ctx, &tables, *port, verdict, len)
}

/// Counts what a verdict says, and does it.
#[inline(always)]
fn finish<T: Tier>(
    ctx: &XdpContext,
    tables: &T::Tables,
    port: u32,
    verdict: &Verdict,
    len: u64,
) -> u32 {
    count_verdict::<T>(verdict, 1, len);
    if T::mode() == mode::PROBE {
        probe::note::<T>(verdict.into());
    }
    if T::trace() == trace::ON {
        tell(ctx, verdict.slot, verdict.action as u32, verdict.class, len);
    }
    if let Action::Drop = verdict.action {
        return xdp_action::XDP_DROP;
    }
    // What goes on to the stack is counted for the interface. The guard counts the same.
    if let Some(port) = tables.port(port) {
        let by = if verdict.slot == NO_SLOT {
            By::NoZone
        } else {
            By::Zone
        };
        see::<T>(port.slot_base + seen::slot(by, kind(ctx)));
    }
    xdp_action::XDP_PASS
}

/// Counts what a verdict says.
#[inline(always)]
pub(super) fn count_verdict<T: Tier>(verdict: &Verdict, packets: u64, bytes: u64) {
    if verdict.slot == NO_SLOT {
        return;
    }
    count::<T>(verdict.slot, packets, bytes);
    if verdict.noted != 0 {
        for reason in 0..UNPARSABLE_REASONS as u32 {
            if verdict.noted >> reason & 1 != 0 {
                let noted = Reason::noted_slot(reason, verdict.action);
                count::<T>(verdict.slot_base + noted, packets, bytes);
            }
        }
    }
}

/// Logs a verdict on a frame of a zone, for `kordon run --debug-log`.
#[inline(never)]
fn tell(ctx: &XdpContext, slot: u32, action: u32, class: u32, len: u64) {
    aya_log_ebpf::info!(
        ctx,
        "counter {} action {} class {} bytes {}",
        slot,
        action,
        class,
        len
    );
}

#[inline(always)]
pub(super) fn count<T: Tier>(slot: u32, packets: u64, bytes: u64) {
    if let Some(page) = T::counters(slot / COUNTER_PAGE) {
        // SAFETY: the page belongs to this CPU, and nothing else runs on it between load and
        // store.
        unsafe {
            let counter = &mut (*page)[(slot % COUNTER_PAGE) as usize];
            counter.packets += packets;
            counter.bytes += bytes;
        }
    }
}

/// Counts a frame that goes on, but not its length, which nobody asks for: this is paid by
/// every packet of the interface.
#[inline(always)]
fn see<T: Tier>(slot: u32) {
    if let Some(page) = T::counters(slot / COUNTER_PAGE) {
        // SAFETY: as in `count`.
        unsafe { (*page)[(slot % COUNTER_PAGE) as usize].packets += 1 };
    }
}
