//! The maps of one size tier. A BPF program needs fixed sizes of its maps' values, so each tier is a binary of its own:
//! `kordon_program!(generation, table, planes)` declares its maps and its four programs.

/// Declares the maps of one tier, and the programs over them.
#[macro_export]
macro_rules! kordon_program {
    ($generation:ty, $table:ty, $planes:ty) => {
        use aya_ebpf::{
            Global,
            bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_NOEXIST, xdp_md},
            btf_maps::{Array, ArrayOfMaps, HashMap, PerCpuArray, ProgramArray, RingBuf},
            macros::{btf_map, classifier, xdp},
            maps::ring_buf::RingBufEntry,
            programs::{TcContext, XdpContext},
        };
        use $crate::{
            layout::{
                COUNTER_PAGE, COUNTER_PAGES, Counter, FLOW_BEYOND, FLOW_LOST, Flow, FlowLine,
                NO_BUDGET, NO_LINES, NO_PORT, Probe, Record, TABLE_SLOTS, mode, trace,
            },
            shell::{
                guard, known, ledger,
                program::{self, Memory, Tier},
            },
            verdict::InMaps,
        };

        const MMAPABLE: usize = BPF_F_MMAPABLE as usize;

        /// The live generation, at 0.
        ///
        /// An array of one, as the next: Linux before 6.2 compares of a map that is put in
        /// here where its value has a timer. In a structure without one that is "nowhere in
        /// it" (-ENOENT), in a value that is no structure, and in maps that are made without
        /// types as the controller's are, "cannot be" (-EINVAL), and the two are not equal.
        #[btf_map]
        static GENERATIONS: ArrayOfMaps<Array<[$generation; 1], 1, MMAPABLE>, 1> =
            ArrayOfMaps::new();
        /// Tables; a generation names its slot.
        #[btf_map]
        static TABLES: ArrayOfMaps<Array<[$table; 1], 1, MMAPABLE>, { TABLE_SLOTS as usize }> =
            ArrayOfMaps::new();
        /// What the fast path reads.
        #[btf_map]
        static PLANES: Array<$planes, 1, MMAPABLE> = Array::new();
        /// Counters, outside generations.
        #[btf_map]
        static COUNTERS: PerCpuArray<[Counter; COUNTER_PAGE as usize], { COUNTER_PAGES as usize }> =
            PerCpuArray::new();
        /// Lines of the ledger, of all CPUs; the controller makes it, and all to [`LOST`], as large as
        /// they are to be.
        #[btf_map]
        static FLOWS: Array<FlowLine, 1, MMAPABLE> = Array::new();
        /// What the controller has said of each of them.
        #[btf_map]
        static MARKS: Array<u64, 1, MMAPABLE> = Array::new();
        /// What each source may take of them, of all CPUs.
        #[btf_map]
        static BUDGETS: Array<u64, 1> = Array::new();
        /// Lines that their flows have left.
        #[btf_map]
        static RECORDS: RingBuf<Record, 4096> = RingBuf::new();
        /// What found no room there, by slot.
        #[btf_map]
        static LOST: HashMap<u32, Counter, { FLOW_LOST as usize }> = HashMap::new();
        /// What was for some network, and no record says so.
        #[btf_map]
        static BEYOND: HashMap<
            u64,
            Counter,
            { FLOW_BEYOND as usize },
            { BPF_F_NO_PREALLOC as usize },
        > = HashMap::new();
        /// Input and output of test runs; never touched by a live instance.
        #[btf_map]
        static PROBE: Array<Probe, 1, MMAPABLE> = Array::new();
        /// Memory of the slow path.
        #[btf_map]
        static WORK: PerCpuArray<Memory, 1> = PerCpuArray::new();
        /// The slow path, at 0.
        #[btf_map]
        static SLOW: ProgramArray<1> = ProgramArray::new();

        /// Of the guards: their fast path at 0, their slow path at 1.
        #[btf_map]
        static PATHS: ProgramArray<2> = ProgramArray::new();

        #[unsafe(no_mangle)]
        static MODE: Global<u32> = Global::new(mode::LIVE);
        #[unsafe(no_mangle)]
        static TRACE: Global<u32> = Global::new(trace::OFF);
        #[unsafe(no_mangle)]
        static LINES: Global<u32> = Global::new(NO_LINES);
        #[unsafe(no_mangle)]
        static BUDGET: Global<u32> = Global::new(NO_BUDGET);
        #[unsafe(no_mangle)]
        static PORT: Global<u32> = Global::new(NO_PORT);

        /// Not on the stack, of which calls have little.
        static ZERO: Counter = Counter::ZERO;

        struct Maps;

        /// See [`Tier::other`]. Global functions return a number.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn ledger_other(
            flow: *mut Flow,
            class: u32,
            index: u32,
            now: u32,
            amount: u64,
        ) -> u32 {
            // SAFETY: a flow, or nothing, which the verifier has to be told.
            if let Some(flow) = unsafe { flow.as_mut() } {
                ledger::other::<Maps>(flow, class, index, now, amount);
            }
            0
        }

        /// See [`Tier::add`].
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn ledger_add(ctx: *mut xdp_md, done: u64, asked: u64) -> u32 {
            known::add::<Maps>(ctx, done, asked);
            0
        }

        /// See [`Tier::known_apart`].
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn known_v4(ctx: *mut xdp_md, headers: u32, now: u64, settled: u64) -> u64 {
            known::known_apart::<Maps, false>(ctx, headers, now, settled)
        }

        /// See [`Tier::known_apart`].
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn known_v6(ctx: *mut xdp_md, headers: u32, now: u64, settled: u64) -> u64 {
            known::known_apart::<Maps, true>(ctx, headers, now, settled)
        }

        impl Tier for Maps {
            type Tables = InMaps<'static, $generation, $table>;
            type Planes = $planes;

            #[inline(always)]
            fn tables() -> Option<Self::Tables> {
                let [generation] = GENERATIONS.get_value(0, &0)?;
                let slot = generation.slot()?;
                let [table] = TABLES.get_value(slot, &0)?;
                Some(InMaps { generation, table })
            }
            #[inline(always)]
            fn planes() -> Option<&'static Self::Planes> {
                PLANES.get(0)
            }
            #[inline(always)]
            fn counters(page: u32) -> Option<*mut [Counter; COUNTER_PAGE as usize]> {
                COUNTERS.get_ptr_mut(page)
            }
            #[inline(always)]
            fn memory() -> Option<*mut Memory> {
                WORK.get_ptr_mut(0)
            }
            #[inline(always)]
            fn probe() -> Option<*mut Probe> {
                PROBE.get_ptr_mut(0)
            }
            #[inline(always)]
            fn lines() -> u32 {
                LINES.load()
            }
            #[inline(always)]
            fn most() -> u32 {
                BUDGET.load()
            }
            #[inline(always)]
            fn line(index: u32) -> Option<*mut FlowLine> {
                FLOWS.get_ptr_mut(index)
            }
            #[inline(always)]
            fn mark(index: u32) -> u64 {
                MARKS.get(index).copied().unwrap_or(0)
            }
            #[inline(always)]
            fn budget(index: u32) -> Option<*mut u64> {
                BUDGETS.get_ptr_mut(index)
            }
            #[inline(always)]
            fn record() -> Option<RingBufEntry<Record>> {
                RECORDS.reserve(0)
            }
            #[inline(always)]
            fn other(flow: &mut Flow, class: u32, index: u32, now: u32, amount: u64) {
                ledger_other(flow, class, index, now, amount);
            }
            #[inline(always)]
            fn add(ctx: *mut xdp_md, done: u64, asked: u64) {
                ledger_add(ctx, done, asked);
            }
            #[inline(always)]
            fn known_apart<const V6: bool>(
                ctx: *mut xdp_md,
                headers: u32,
                now: u64,
                settled: u64,
            ) -> u64 {
                if V6 {
                    known_v6(ctx, headers, now, settled)
                } else {
                    known_v4(ctx, headers, now, settled)
                }
            }
            #[inline(always)]
            fn lost(slot: u32) -> Option<*mut Counter> {
                if let Some(lost) = LOST.get_ptr_mut(&slot) {
                    return Some(lost);
                }
                // Fails where another CPU was faster, which is as good.
                let _ = LOST.insert(&slot, &ZERO, u64::from(BPF_NOEXIST));
                LOST.get_ptr_mut(&slot)
            }
            #[inline(always)]
            fn beyond(key: u64) -> Option<*mut Counter> {
                if let Some(sum) = BEYOND.get_ptr_mut(&key) {
                    return Some(sum);
                }
                // As in `lost`.
                let _ = BEYOND.insert(&key, &ZERO, u64::from(BPF_NOEXIST));
                BEYOND.get_ptr_mut(&key)
            }
            #[inline(always)]
            fn slow(ctx: &XdpContext) {
                // SAFETY: nothing here waits for being dropped.
                unsafe { SLOW.tail_call(ctx, 0) };
            }
            #[inline(always)]
            fn guard_slow(ctx: &TcContext) {
                // SAFETY: as in `slow`.
                unsafe { PATHS.tail_call(ctx, 1) };
            }
            #[inline(always)]
            fn mode() -> u32 {
                MODE.load()
            }
            #[inline(always)]
            fn trace() -> u32 {
                TRACE.load()
            }
            #[inline(always)]
            fn port() -> u32 {
                PORT.load()
            }
        }

        /// An interface's own.
        #[xdp(frags)]
        fn kordon(ctx: XdpContext) -> u32 {
            program::fast::<Maps>(ctx)
        }

        /// The same for all interfaces.
        #[xdp(frags)]
        fn slow(ctx: XdpContext) -> u32 {
            program::slow::<Maps>(ctx)
        }

        /// The same for the guards of all interfaces.
        #[classifier]
        fn guard_fast(ctx: TcContext) -> i32 {
            guard::fast::<Maps>(ctx)
        }

        /// What it calls.
        #[classifier]
        fn guard_slow(ctx: TcContext) -> i32 {
            guard::slow::<Maps>(ctx)
        }

        $crate::bare_program!();
    };
}
