//! What the fast path accepts: IPv4 without options or fragments, with TCP, UDP or ICMP; IPv6 to 2000::/3 with TCP or
//! UDP directly behind the header; a source that the zone may have. Then the leaf of the destination.

use super::{
    ReadFast,
    fast::{PADDED, is_pass},
};
use crate::{
    layout::{FAST_PLANE, FAST_SOURCES_BY_RULES, FastZone},
    packet::{Frame, View},
    plane::{ReadPlanes, leaf_v4, leaf_v6},
};

/// Whether header and source are in order, as far as the source is not looked up.
#[inline(always)]
pub(super) fn is_plain_v4<const AT: usize, F: Frame + ?Sized, V: View>(
    frame: &F,
    head: &V,
    fast: &FastZone,
) -> bool {
    let proto = head.u8(AT + 9);
    let src = head.raw_u32(AT + 12);
    // Version, length of the header, fragmentation.
    if head.raw_u64(AT) & 0xff00_0000_0000_3fff_u64.to_be() != 0x4500_0000_0000_0000_u64.to_be()
        || !(proto == 6 || proto == 17 || proto == 1)
        || src == 0
        || (src as u64 ^ fast.net4) & fast.mask4 != 0
    {
        return false;
    }
    // Where the two are equal there is room for a header, because it was read.
    let (len, end) = (frame.reach(), AT as u64 + head.u16(AT + 2) as u64);
    end == len || (end <= len && len <= PADDED && end >= AT as u64 + 20)
}

/// The leaf code of the destination.
#[inline(always)]
pub(super) fn v4<const AT: usize, V: View, P: ReadFast>(
    head: &V,
    fast: &FastZone,
    planes: &P,
) -> Option<u32> {
    let src = head.raw_u32(AT + 12);
    if fast.plane & FAST_SOURCES_BY_RULES != 0 && !passes_v4(planes, fast, u32::from_be(src)) {
        return None;
    }
    let dst = head.u32(AT + 16);
    Some(leaf_v4(planes, fast.plane & FAST_PLANE, dst))
}

/// As [`is_plain_v4`]; the destination is global unicast.
#[inline(always)]
pub(super) fn is_plain_v6_packet<const AT: usize, F: Frame + ?Sized>(
    frame: &F,
    fast: &FastZone,
) -> bool {
    let Some(header) = frame.view::<40>(AT as u32) else {
        return false;
    };
    let proto = header.u8(6);
    let src = header.raw_u64(8);
    let dst = header.u64(24);
    if header.u8(0) >> 4 != 6
        || !(proto == 6 || proto == 17)
        || dst >> 61 != 1
        || src == 0
        || (src ^ fast.net6) & fast.mask6 != 0
        || is_raw_isatap(header.raw_u32(32))
    {
        return false;
    }
    let (len, end) = (frame.reach(), AT as u64 + 40 + header.u16(4) as u64);
    end == len || (end <= len && len <= PADDED)
}

/// As [`v4`].
#[inline(always)]
pub(super) fn v6<const AT: usize, F: Frame + ?Sized, P: ReadFast>(
    frame: &F,
    fast: &FastZone,
    planes: &P,
) -> Option<u32> {
    let header = frame.view::<40>(AT as u32)?;
    let (src, dst) = (header.raw_u64(8), header.u64(24));
    if fast.plane & FAST_SOURCES_BY_RULES != 0
        && (is_raw_isatap(header.raw_u32(16)) || !passes_v6(planes, fast, u64::from_be(src)))
    {
        return None;
    }
    Some(leaf_v6(planes, fast.plane & FAST_PLANE, dst))
}

/// Whether an address in which this stands before the last four bytes is one of ISATAP:
/// it is in the half of the address that the planes do not know.
#[inline(always)]
const fn is_raw_isatap(word: u32) -> bool {
    word & !0x0200_0000u32.to_be() == 0x5efeu32.to_be()
}

/// Whether the rules let pass what goes to this address. A function of its own, as
/// the next: zones with a list of sources need no registers for it.
#[inline(never)]
fn passes_v4<P: ReadPlanes>(planes: &P, fast: &FastZone, address: u32) -> bool {
    is_pass(fast.words[leaf_v4(planes, fast.plane & FAST_PLANE, address) as usize & 3])
}

#[inline(never)]
fn passes_v6<P: ReadPlanes>(planes: &P, fast: &FastZone, address: u64) -> bool {
    address >> 61 == 1
        && is_pass(fast.words[leaf_v6(planes, fast.plane & FAST_PLANE, address) as usize & 3])
}
