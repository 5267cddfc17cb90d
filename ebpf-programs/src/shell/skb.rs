//! Packets as tc has them. The outermost tag is not in the frame: the kernel has taken it out, or
//! hardware had, and keeps it beside ([`Frame::beside`]).

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes, programs::TcContext};

use super::frame::{Linear, Window};
use crate::{packet::Frame, seen::Kind};

/// What the router sends to a group and has looped back to itself, of `linux/if_packet.h`.
const PACKET_LOOPBACK: u32 = 5;

/// What the guard of an interface tells the paths, which are the same for all: in the words of the
/// packet that the kernel leaves to tc programs.
pub struct Told {
    /// The interface's port.
    pub port: u32,
    /// The counter of what is dropped behind the XDP program.
    pub stopped: u32,
    /// The counter of what is of no zone, where no XDP program counts that.
    pub unpoliced: u32,
    /// 1: there is no XDP program before the guard, so all is counted here.
    pub alone: u32,
}

impl Told {
    /// Writes it.
    #[inline(always)]
    pub fn tell(self, ctx: &mut TcContext) {
        let words = ctx.cb_mut();
        words[0] = self.port;
        words[1] = self.stopped;
        words[2] = self.unpoliced;
        words[3] = self.alone;
    }

    /// Reads it.
    #[must_use]
    #[inline(always)]
    pub fn of(ctx: &TcContext) -> Self {
        let words = ctx.cb();
        Self {
            port: words[0],
            stopped: words[1],
            unpoliced: words[2],
            alone: words[3],
        }
    }
}

#[inline(always)]
fn skb(ctx: &TcContext) -> *mut __sk_buff {
    ctx.skb.skb
}

/// Whether the router sent it itself.
#[must_use]
#[inline(always)]
pub fn is_loopback(ctx: &TcContext) -> bool {
    // SAFETY: the context of a running program; the kernel rewrites the access.
    unsafe { (*skb(ctx)).pkt_type == PACKET_LOOPBACK }
}

/// How many packets of the wire an aggregate was made of.
#[must_use]
#[inline(always)]
pub fn segments(ctx: &TcContext) -> u64 {
    // SAFETY: as in `is_loopback`.
    u64::from(unsafe { (*skb(ctx)).gso_segs }.max(1))
}

/// The tags.
#[must_use]
#[inline(always)]
pub fn kind(ctx: &TcContext) -> Kind {
    // SAFETY: as in `is_loopback`.
    let protocol = u16::from_be(unsafe { (*skb(ctx)).protocol } as u16);
    // SAFETY: as in `is_loopback`.
    let (present, tpid) = unsafe { ((*skb(ctx)).vlan_present, (*skb(ctx)).vlan_proto as u16) };
    if present == 0 {
        // One tag at most is beside a packet, and none of those that Linux knows is left in
        // a frame that has none there.
        Kind::of(protocol, 0)
    } else {
        Kind::of(u16::from_be(tpid), protocol)
    }
}

/// The VID of the tag beside a packet.
#[must_use]
#[inline(always)]
pub fn beside(ctx: &TcContext) -> Option<u16> {
    // SAFETY: as in `is_loopback`.
    unsafe { ((*skb(ctx)).vlan_present != 0).then(|| (*skb(ctx)).vlan_tci as u16 & 0xfff) }
}

/// Length of the frame as it was on the wire; of an aggregate its own.
#[must_use]
#[inline(always)]
pub fn length(ctx: &TcContext) -> u64 {
    u64::from(ctx.len()) + if beside(ctx).is_some() { 4 } else { 0 }
}

/// The first piece of a packet, read in place.
#[must_use]
#[inline(always)]
pub fn first_piece(ctx: &TcContext) -> Linear {
    Linear {
        data: ctx.data(),
        end: ctx.data_end(),
    }
}

/// Any packet: windows are copied by the kernel.
pub struct Copied<'a>(pub &'a TcContext);

impl Frame for Copied<'_> {
    type View<const N: usize> = Window<N>;

    #[inline(always)]
    fn len(&self) -> u32 {
        self.0.len()
    }

    #[inline(always)]
    fn beside(&self) -> Option<u16> {
        beside(self.0)
    }

    #[inline(always)]
    fn view<const N: usize>(&self, at: u32) -> Option<Window<N>> {
        let mut window = Window([0; N]);
        let to = window.0.as_mut_ptr().cast();
        // SAFETY: the window is as long as said.
        let result = unsafe { bpf_skb_load_bytes(skb(self.0).cast(), at, to, N as u32) };
        (result == 0).then_some(window)
    }
}
