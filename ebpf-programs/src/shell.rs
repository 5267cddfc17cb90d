//! The shell around the decision: how the kernel's frames and maps are read.
//!
//! Architecture invariant: no decision is taken here. One macro makes the
//! program of each size tier, because the size of a map's value is part of the
//! program.

use aya_ebpf::{
    bindings::xdp_action,
    helpers::generated::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    programs::XdpContext,
};

use crate::{
    layout::{PROBE_BATCH, Probe},
    opaque::opaque,
    packet::{Frame, View},
    seen::Kind,
};

/// A frame that lies in one piece: everything is read in place.
#[derive(Clone, Copy)]
pub struct Linear {
    /// First byte.
    pub data: usize,
    /// Behind the last byte.
    pub end: usize,
}

/// Any frame: windows are copied by the kernel.
#[derive(Clone, Copy)]
pub struct Pieces<'a> {
    /// The program's context.
    pub ctx: &'a XdpContext,
    /// Length of the frame, in all its pieces.
    pub len: u32,
}

/// Length of the frame, in all its pieces: what is counted, whatever way it took. The
/// first piece alone does not say whether there are others.
#[inline(always)]
pub fn length(ctx: &XdpContext) -> u64 {
    // SAFETY: the helper reads the context it is given, nothing else.
    unsafe { bpf_xdp_get_buff_len(ctx.ctx) }
}

/// The longest standard frame, with one tag and without its check sequence.
const STANDARD: u64 = 1518;

/// As [`length`], of a frame whose IP packet ends with its first piece, `reach` long: only
/// octets behind the packet can be elsewhere, which no router forwards. Behind a first piece
/// that a standard frame fits in they are not counted: asking the kernel costs as much as all
/// else that a hot packet needs.
#[inline(always)]
pub fn length_past(ctx: &XdpContext, reach: u64) -> u64 {
    if reach > STANDARD { length(ctx) } else { reach }
}

/// The tags of a frame, as the guard will see them.
#[inline(always)]
pub fn kind(ctx: &XdpContext) -> Kind {
    let frame = Linear {
        data: ctx.data(),
        end: ctx.data_end(),
    };
    match frame.view::<18>(0) {
        Some(head) => Kind::of(head.u16(12), head.u16(16)),
        None => kind_in_pieces(ctx),
    }
}

/// As [`kind`], of a frame whose first piece is short: some drivers leave it empty.
#[inline(never)]
fn kind_in_pieces(ctx: &XdpContext) -> Kind {
    match (Pieces { ctx, len: 0 }).view::<18>(0) {
        Some(head) => Kind::of(head.u16(12), head.u16(16)),
        // No tag and an ethertype behind it fit in; a tag without one goes no further.
        None => Kind::Untagged,
    }
}

/// A window in the packet, checked against its end.
#[derive(Clone, Copy)]
pub struct InPlace(*const u8);

impl Frame for Linear {
    type View<const N: usize> = InPlace;

    #[inline(always)]
    fn len(&self) -> u32 {
        (self.end - self.data) as u32
    }

    #[inline(always)]
    fn reach(&self) -> u64 {
        // No cut to 32 bits, which would be two instructions.
        (self.end - self.data) as u64
    }

    #[inline(always)]
    fn view<const N: usize>(&self, at: u32) -> Option<InPlace> {
        // The verifier wants the offset of a packet pointer below 64 Ki; no
        // frame here is that long in one piece.
        if at > 0x7fff {
            return None;
        }
        // Opaque, else the checked pointer may be computed a second way.
        let start = opaque(self.data + at as usize);
        if start + N > self.end {
            return None;
        }
        Some(InPlace(start as *const u8))
    }
}

impl View for InPlace {
    #[inline(always)]
    fn u8(&self, at: usize) -> u8 {
        // SAFETY: `view` checked the window against the packet's end, and the
        // verifier refuses an offset outside of it.
        unsafe { *self.0.add(at) }
    }
    #[inline(always)]
    fn u16(&self, at: usize) -> u16 {
        u16::from_be(self.raw_u16(at))
    }
    #[inline(always)]
    fn u32(&self, at: usize) -> u32 {
        u32::from_be(self.raw_u32(at))
    }
    #[inline(always)]
    fn u64(&self, at: usize) -> u64 {
        u64::from_be(self.raw_u64(at))
    }
    #[inline(always)]
    fn raw_u16(&self, at: usize) -> u16 {
        // SAFETY: as in `u8`; BPF loads need no alignment where the kernel says so.
        unsafe { *self.0.add(at).cast() }
    }
    #[inline(always)]
    fn raw_u32(&self, at: usize) -> u32 {
        // SAFETY: as in `raw_u16`.
        unsafe { *self.0.add(at).cast() }
    }
    #[inline(always)]
    fn raw_u64(&self, at: usize) -> u64 {
        // SAFETY: as in `raw_u16`.
        unsafe { *self.0.add(at).cast() }
    }
}

/// A window that was copied, aligned so that each field is one load.
#[derive(Clone, Copy)]
#[repr(align(8))]
pub struct Window<const N: usize>([u8; N]);

impl<const N: usize> View for Window<N> {
    #[inline(always)]
    fn u8(&self, at: usize) -> u8 {
        InPlace(self.0.as_ptr()).u8(at)
    }
    #[inline(always)]
    fn u16(&self, at: usize) -> u16 {
        InPlace(self.0.as_ptr()).u16(at)
    }
    #[inline(always)]
    fn u32(&self, at: usize) -> u32 {
        InPlace(self.0.as_ptr()).u32(at)
    }
    #[inline(always)]
    fn u64(&self, at: usize) -> u64 {
        InPlace(self.0.as_ptr()).u64(at)
    }
}

impl Frame for Pieces<'_> {
    type View<const N: usize> = Window<N>;

    #[inline(always)]
    fn len(&self) -> u32 {
        self.len
    }

    #[inline(always)]
    fn view<const N: usize>(&self, at: u32) -> Option<Window<N>> {
        let mut window = Window([0; N]);
        // SAFETY: the window is as long as said.
        let result =
            unsafe { bpf_xdp_load_bytes(self.ctx.ctx, at, window.0.as_mut_ptr().cast(), N as u32) };
        (result == 0).then_some(window)
    }
}

/// Writes the next destination of a probe into the packet: `BPF_PROG_TEST_RUN` runs
/// a program many times, but always on the same packet. Fields are written whole,
/// as [`InPlace`] reads them: bytes would have to be gathered by the processor
/// before they can be loaded, and benchmarks would measure that.
#[inline(always)]
pub fn rewrite(ctx: &XdpContext, probe: &Probe) {
    let family = probe.control.family;
    if family == 0 {
        return;
    }
    let input = &raw const probe.inputs[probe.control.next as usize % PROBE_BATCH];
    let at = (probe.control.destination & 0xff) as usize;
    let start = opaque(ctx.data() + at);
    if family == 4 {
        if start + 4 <= ctx.data_end() {
            // SAFETY: checked against the packet's end; inputs are aligned.
            unsafe { *(start as *mut u32) = *input.cast::<u32>() };
        }
    } else if start + 16 <= ctx.data_end() {
        // SAFETY: as above.
        unsafe {
            *(start as *mut u64) = *input.cast::<u64>();
            *((start + 8) as *mut u64) = *input.cast::<u64>().add(1);
        }
    }
}

/// The end of a packet that cannot be judged because there is no generation.
pub const NO_GENERATION: u32 = xdp_action::XDP_ABORTED;

/// No action of XDP: a longer way must be taken.
pub const UNCLEAR: u32 = u32::MAX;

/// Defines the maps and the program of one tier.
#[macro_export]
macro_rules! kordon_program {
    ($generation:ty, $table:ty, $planes:ty) => {
        use aya_ebpf::{
            Global,
            bindings::{BPF_F_MMAPABLE, xdp_action, xdp_md},
            btf_maps::{Array, ArrayOfMaps, PerCpuArray},
            macros::{btf_map, xdp},
            programs::XdpContext,
        };
        use $crate::{
            layout::{
                Action, COUNTER_PAGE, COUNTER_PAGES, Counter, PROBE_BATCH, PlaneOutput, Probe,
                Reason, TABLE_SLOTS, UNPARSABLE_REASONS, mode, trace,
            },
            opaque::opaque,
            packet::Frame,
            seen::{self, By},
            shell::{Linear, NO_GENERATION, Pieces, UNCLEAR, kind, length, length_past, rewrite},
            verdict::{
                Express, Known, Live, NO_SLOT, Selected, Verdict, Work, decide, express, known,
                select, shortcut,
            },
        };

        /// The live generation, at 0.
        ///
        /// An array of one, as the next: Linux before 6.2 compares of a map that is put in
        /// here where its value has a timer. In a structure without one that is "nowhere in
        /// it" (-ENOENT), in a value that is no structure, and in maps that are made without
        /// types as the controller's are, "cannot be" (-EINVAL), and the two are not equal.
        #[btf_map]
        static GENERATIONS: ArrayOfMaps<
            Array<[$generation; 1], 1, { BPF_F_MMAPABLE as usize }>,
            1,
        > = ArrayOfMaps::new();
        /// Tables; a generation names its slot.
        #[btf_map]
        static TABLES: ArrayOfMaps<
            Array<[$table; 1], 1, { BPF_F_MMAPABLE as usize }>,
            { TABLE_SLOTS as usize },
        > = ArrayOfMaps::new();
        /// The short way, derived from the live generation; see [`express`].
        #[btf_map]
        static PLANES: Array<$planes, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
        /// Counters, outside generations.
        #[btf_map]
        static COUNTERS: PerCpuArray<[Counter; COUNTER_PAGE as usize], { COUNTER_PAGES as usize }> =
            PerCpuArray::new();
        /// Input and output of probe runs; never touched by a live instance.
        #[btf_map]
        static PROBE: Array<Probe, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

        /// What [`decide`] works on and says.
        #[repr(C)]
        struct Memory {
            work: Work,
            verdict: Verdict,
        }

        /// One for each CPU.
        #[btf_map]
        static WORK: PerCpuArray<Memory, 1> = PerCpuArray::new();

        /// One of [`mode`].
        #[unsafe(no_mangle)]
        static MODE: Global<u32> = Global::new(mode::LIVE);
        /// Whether verdicts are logged: one of [`trace`]. A constant for the verifier,
        /// which removes what is not asked for.
        #[unsafe(no_mangle)]
        static TRACE: Global<u32> = Global::new(trace::OFF);
        /// Which port this instance is attached to.
        #[unsafe(no_mangle)]
        static PORT: Global<u32> = Global::new($crate::layout::NO_PORT);

        /// Judges one frame: the short way here, so that no register is kept for the
        /// longer ones, which are functions of their own.
        #[xdp(frags)]
        fn kordon(ctx: XdpContext) -> u32 {
            let mode = MODE.load();
            if mode == mode::PROBE {
                // Both ways are taken and compared.
                probe_short(ctx.ctx);
            } else {
                if mode == mode::BENCH {
                    prepare_bench(&ctx);
                }
                if let Some(planes) = PLANES.get(0) {
                    let frame = Linear {
                        data: ctx.data(),
                        end: ctx.data_end(),
                    };
                    match express(&frame, PORT.load(), planes) {
                        Express::Unpoliced { seen } => {
                            see(seen);
                            return xdp_action::XDP_PASS;
                        }
                        Express::Pass { slot, seen } if TRACE.load() != trace::ON => {
                            count(slot, length_past(&ctx, frame.reach()));
                            see(seen);
                            return xdp_action::XDP_PASS;
                        }
                        Express::Counted {
                            action,
                            slot,
                            asn_slot,
                            seen,
                        } if TRACE.load() != trace::ON => {
                            let len = length_past(&ctx, frame.reach());
                            count(slot, len);
                            count(asn_slot, len);
                            if let Action::Drop = action {
                                return xdp_action::XDP_DROP;
                            }
                            see(seen);
                            return xdp_action::XDP_PASS;
                        }
                        Express::Known(said) => {
                            let action =
                                by_class(ctx.ctx, said.zone, said.at, said.v6, planes.number);
                            if action != UNCLEAR {
                                return action;
                            }
                        }
                        _ => {}
                    }
                }
            }
            let action = plain(ctx.ctx);
            if action != UNCLEAR {
                return action;
            }
            whole(ctx.ctx)
        }

        /// The rest of the short way, for a packet of which the class is missing;
        /// [`UNCLEAR`] where it says nothing. `number`: generation of the planes.
        #[inline(never)]
        fn by_class(ctx: *mut xdp_md, zone: u32, at: u32, v6: bool, number: u64) -> u32 {
            let ctx = XdpContext::new(ctx);
            let Some(generation) = live() else {
                return NO_GENERATION;
            };
            let probing = MODE.load() == mode::PROBE;
            // Another generation went live meanwhile: it judges the packet, whole.
            if generation.number != number && !probing {
                return UNCLEAR;
            }
            let Some([table]) = TABLES.get_value(generation.table_slot, &0) else {
                return NO_GENERATION;
            };
            let frame = Linear {
                data: ctx.data(),
                end: ctx.data_end(),
            };
            match known(&frame, Known { zone, at, v6 }, &Live { generation, table }) {
                Some(verdict) if probing => {
                    probe_said((&verdict).into());
                    UNCLEAR
                }
                Some(verdict) => {
                    finish(&ctx, generation, &verdict, length_past(&ctx, frame.reach()))
                }
                None => UNCLEAR,
            }
        }

        /// The way of a frame that lies in one piece and has nothing special, through
        /// the class plane; [`UNCLEAR`] of any other.
        #[inline(never)]
        fn plain(ctx: *mut xdp_md) -> u32 {
            let ctx = XdpContext::new(ctx);
            let Some(generation) = live() else {
                return NO_GENERATION;
            };
            let frame = Linear {
                data: ctx.data(),
                end: ctx.data_end(),
            };
            let (zone, tags) = match select(&frame, port(), generation) {
                // Traffic of no zone pays for nothing that follows.
                Selected::Unpoliced if MODE.load() != mode::PROBE => {
                    passed(&ctx, generation, By::NoZone);
                    return xdp_action::XDP_PASS;
                }
                Selected::Zone(zone, tags) => (zone, tags),
                _ => return UNCLEAR,
            };
            let Some([table]) = TABLES.get_value(generation.table_slot, &0) else {
                return NO_GENERATION;
            };
            let len = length(&ctx);
            if frame.reach() != len {
                return UNCLEAR;
            }
            match shortcut(&frame, zone, &tags, &Live { generation, table }) {
                Some(verdict) => finish(&ctx, generation, &verdict, len),
                None => UNCLEAR,
            }
        }

        /// The decision in full.
        #[inline(never)]
        fn whole(ctx: *mut xdp_md) -> u32 {
            let ctx = XdpContext::new(ctx);
            let Some(generation) = live() else {
                return NO_GENERATION;
            };
            let Some([table]) = TABLES.get_value(generation.table_slot, &0) else {
                return NO_GENERATION;
            };
            let Some(work) = WORK.get_ptr_mut(0) else {
                return NO_GENERATION;
            };
            // SAFETY: the memory is this CPU's, and nothing else runs on it before
            // this program ends.
            let work = unsafe { &mut *work };
            let len = length(&ctx);
            let frame = Pieces {
                ctx: &ctx,
                len: len as u32,
            };
            let live = Live { generation, table };
            work.verdict = decide(&frame, port(), &live, &mut work.work, &mut ());
            finish(&ctx, generation, &work.verdict, len)
        }

        /// The live generation, if it is of this layout.
        #[inline(always)]
        fn live() -> Option<&'static $generation> {
            let [generation] = GENERATIONS.get_value(0, &0)?;
            (generation.version == $crate::layout::LAYOUT_VERSION).then_some(generation)
        }

        /// Counts what a verdict says, and does it.
        #[inline(always)]
        fn finish(ctx: &XdpContext, generation: &$generation, verdict: &Verdict, len: u64) -> u32 {
            if verdict.slot != NO_SLOT {
                count(verdict.slot, len);
                if verdict.asn_slot != NO_SLOT {
                    count(verdict.asn_slot, len);
                }
                if verdict.noted != 0 {
                    for reason in 0..UNPARSABLE_REASONS as u32 {
                        if verdict.noted >> reason & 1 != 0 {
                            count(
                                verdict.slot_base + Reason::noted_slot(reason, verdict.action),
                                len,
                            );
                        }
                    }
                }
            }
            if MODE.load() == mode::PROBE {
                finish_probe(verdict);
            }
            if TRACE.load() == trace::ON {
                tell(ctx, verdict.slot, verdict.action as u32, verdict.class, len);
            }
            if let Action::Drop = verdict.action {
                return xdp_action::XDP_DROP;
            }
            let by = if verdict.slot == NO_SLOT {
                By::NoZone
            } else {
                By::Zone
            };
            passed(ctx, generation, by);
            xdp_action::XDP_PASS
        }

        /// Counts what goes on to the stack, for the interface. The guard counts the same.
        #[inline(always)]
        fn passed(ctx: &XdpContext, generation: &$generation, by: By) {
            if let Some(port) = generation.ports.get(opaque(port() as usize)) {
                see(port.slot_base + seen::slot(by, kind(ctx)));
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
        fn count(slot: u32, len: u64) {
            if let Some(page) = COUNTERS.get_ptr_mut(slot / COUNTER_PAGE) {
                // SAFETY: the page belongs to this CPU, and nothing else runs
                // on it between load and store.
                unsafe {
                    let counter = &mut (*page)[(slot % COUNTER_PAGE) as usize];
                    counter.packets += 1;
                    counter.bytes += len;
                }
            }
        }

        /// Counts a frame that goes on, but not its length, which nobody asks for: this is
        /// paid by every packet of the interface.
        #[inline(always)]
        fn see(slot: u32) {
            if let Some(page) = COUNTERS.get_ptr_mut(slot / COUNTER_PAGE) {
                // SAFETY: as in `count`.
                unsafe { (*page)[(slot % COUNTER_PAGE) as usize].packets += 1 };
            }
        }

        /// Which port the frame arrived on, or is to be judged as having.
        #[inline(always)]
        fn port() -> u32 {
            if MODE.load() == mode::PROBE {
                return match PROBE.get_ptr_mut(0) {
                    // SAFETY: one probe runs at a time, and userspace waits for it.
                    Some(probe) => unsafe { (*probe).control.port },
                    None => 0,
                };
            }
            PORT.load()
        }

        /// Writes the next destination into the packet and moves on.
        #[inline(always)]
        fn prepare_bench(ctx: &XdpContext) {
            if let Some(probe) = PROBE.get_ptr_mut(0) {
                // SAFETY: as in `port`.
                let probe = unsafe { &mut *probe };
                rewrite(ctx, probe);
                probe.control.next = probe.control.next.wrapping_add(1);
            }
        }

        /// Writes the next destination into the packet, and what the short way says.
        #[inline(never)]
        fn probe_short(ctx: *mut xdp_md) -> u32 {
            let ctx = XdpContext::new(ctx);
            if let Some(probe) = PROBE.get_ptr_mut(0) {
                // SAFETY: as in `port`.
                rewrite(&ctx, unsafe { &*probe });
            }
            let frame = Linear {
                data: ctx.data(),
                end: ctx.data_end(),
            };
            let said = match PLANES.get(0) {
                Some(planes) => express(&frame, port(), planes),
                None => Express::Ask,
            };
            probe_said(said.into());
            if let Express::Known(said) = said {
                by_class(ctx.ctx, said.zone, said.at, said.v6, 0);
            }
            0
        }

        #[inline(always)]
        fn probe_said(said: PlaneOutput) {
            if let Some(probe) = PROBE.get_ptr_mut(0) {
                // SAFETY: as in `port`.
                let probe = unsafe { &mut *probe };
                probe.planes[probe.control.next as usize % PROBE_BATCH] = said;
            }
        }

        /// Writes the result of a probe and moves on to the next.
        #[inline(always)]
        fn finish_probe(verdict: &Verdict) {
            if let Some(probe) = PROBE.get_ptr_mut(0) {
                // SAFETY: as in `port`.
                let probe = unsafe { &mut *probe };
                let next = probe.control.next;
                probe.outputs[next as usize % PROBE_BATCH] = verdict.into();
                probe.control.next = next.wrapping_add(1);
            }
        }

        $crate::bare_program!();
    };
}
