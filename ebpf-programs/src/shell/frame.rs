//! How a program reads the frame that it is given.
//!
//! A driver may spread a long frame over several pieces of memory. [`Linear`] reads its first
//! piece in place, as fast as can be; [`Pieces`] lets the kernel copy each window, wherever it
//! lies.

use aya_ebpf::{
    helpers::generated::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    programs::XdpContext,
};

use crate::{
    opaque,
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
    match Linear::of(ctx).view::<18>(0) {
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

impl Linear {
    /// The first piece of the frame that a program was called for.
    #[must_use]
    #[inline(always)]
    pub fn of(ctx: &XdpContext) -> Self {
        Self {
            data: ctx.data(),
            end: ctx.data_end(),
        }
    }
}

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
        let start = opaque::pointer(self.data + at as usize);
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
pub struct Window<const N: usize>(pub(super) [u8; N]);

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
