//! Constants that the controller writes into a program before it is loaded (port, mode, lines of the ledger), and the
//! input and output of a test run.

/// Values of the program's `TRACE`.
pub mod trace {
    // As in `mode`: no map key is like these.
    /// Nothing is logged.
    pub const OFF: u32 = 0x6b6f_7210;
    /// Every verdict on a frame of a zone is.
    pub const ON: u32 = 0x6b6f_7211;
}

/// What the program does besides judging; a constant of each loaded instance.
///
/// The values are such as no other constant has: the compiler merges equal
/// constants, and a map key that shares its place with one of these would change
/// when the loader writes it.
pub mod mode {
    /// Judge packets of an interface.
    pub const LIVE: u32 = 0x6b6f_7201;
    /// Judge packets of `BPF_PROG_TEST_RUN` and write a trace.
    pub const PROBE: u32 = 0x6b6f_7202;
    /// Judge packets of `BPF_PROG_TEST_RUN` and count them, as on an interface, but
    /// write the next of the probe's destinations into each first.
    pub const BENCH: u32 = 0x6b6f_7203;
}

/// The port of an instance that the loader gave none. See [`mode`] for the value.
pub const NO_PORT: u32 = 0x6b6f_72ff;

/// Lines that a source may take, of an instance that gives it any number. See [`mode`] for the value.
pub const NO_BUDGET: u32 = 0x6b6f_7221;
/// Lines of the ledger for each CPU, of an instance that has none. See [`mode`] for the value.
pub const NO_LINES: u32 = 0x6b6f_7220;

/// Addresses that one probe run can judge.
pub const PROBE_BATCH: usize = 1 << 13;

/// What a probe run is to do. Written by userspace before each run.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ProbeControl {
    /// The port as which the packet is judged.
    pub port: u32,
    /// 0: judge the packet as it is. 4 or 6: write [`Probe::inputs`]`[next]`
    /// over the destination first (the frame needs an IPv4 or IPv6 header there).
    pub family: u32,
    /// Offset of the destination address in the frame, bytes.
    pub destination: u32,
    /// Next entry of inputs and outputs, modulo [`PROBE_BATCH`]; the program raises it.
    pub next: u32,
}

/// What the program says about one packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ProbeOutput {
    /// Counter slot: says zone, reason or rule, and action. `u32::MAX`: none.
    pub slot: u32,
    /// Class of the judged address, or [`NO_CLASS`](super::NO_CLASS).
    pub class: u32,
    /// [`Judged`], [`Action`], and a bit for each reason that was ignored, from
    /// [`Reason::FIRST_UNPARSABLE`].
    pub judged: u8,
    /// [`Action`].
    pub action: u8,
    /// Bit r: reason `FIRST_UNPARSABLE + r` was met and ignored.
    pub noted: u16,
}

/// What the fast path says about one packet, beside [`ProbeOutput`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct FastOutput {
    /// 0: nothing, the slow path is taken. 1: no zone, passed. 2: passed and
    /// counted in `slot`. 3 and more: [`Action`] + 3, by the class of the destination.
    pub said: u32,
    /// Counter slot.
    pub slot: u32,
    /// Class of the destination, or [`NO_CLASS`](super::NO_CLASS).
    pub class: u32,
}

/// Input and output of probe runs.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Probe {
    /// What to do.
    pub control: ProbeControl,
    /// Addresses in network byte order; IPv4 in the first four bytes.
    pub inputs: [[u8; 16]; PROBE_BATCH],
    /// Results.
    pub outputs: [ProbeOutput; PROBE_BATCH],
    /// What the fast path says of the same.
    pub fast: [FastOutput; PROBE_BATCH],
}
