//! The way of almost every packet: a zone, a plain header, one address. It says
//! what [`super::decide`] says, or nothing; tests hold them to each other.

use super::{
    NO_SLOT, Tables, Verdict, Zones, class_verdict, contains, is_tunnel, rules::is_isatap,
    zone_asn_slot, zone_word,
};
use crate::{
    layout::{
        Action, GROUP_BITS, GROUP_MASK, Judged, VERDICT_ACTION_SHIFT, VERDICT_INDEX,
        VERDICT_SPOOFED, VERDICT_STEPS, ZONE_SOURCES_LISTED, ZONE_SOURCES_UNCHECKED, Zone,
    },
    packet::{self, Address, Frame, Tags, View},
};

/// Which zone a frame belongs to, where that is plain to see.
#[derive(Clone, Copy, Debug)]
pub enum Selected<'a> {
    /// None, and it passes uncounted.
    Unpoliced,
    /// This one.
    Zone(&'a Zone, Tags),
    /// [`decide`] must be asked.
    Unclear,
}

/// Chooses the zone of a frame that lies in one piece, or of the first piece.
#[inline(always)]
pub fn select<'a, F: Frame + ?Sized, Z: Zones>(frame: &F, port: u32, zones: &'a Z) -> Selected<'a> {
    let Some(port) = zones.port(port) else {
        return Selected::Unclear;
    };
    let tags = packet::tags(frame);
    if tags.ninth || tags.truncated {
        return Selected::Unclear;
    }
    let word = zone_word(zones, port.vid_table, &tags);
    if word == 0 {
        return if port.drop_unknown == 0 {
            Selected::Unpoliced
        } else {
            Selected::Unclear
        };
    }
    match zones.zone(word - 1) {
        Some(zone) if tags.counting <= 2 => Selected::Zone(zone, tags),
        _ => Selected::Unclear,
    }
}

/// The verdict on a frame of a zone that has nothing special about it and lies in
/// one piece, or `None`: then [`decide`] must be asked. Wherever this says
/// something, `decide` says the same.
#[inline(always)]
pub fn shortcut<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    zone: &Zone,
    tags: &Tags,
    tables: &T,
) -> Option<Verdict> {
    let limit = frame.len();
    let (src, dst) = match tags.ethertype {
        0x0800 => {
            let header = frame.view::<20>(tags.at)?;
            let total = header.u16(2) as u32;
            let proto = header.u8(9) as u16;
            let dst = Address::v4(header.u32(16));
            if header.u8(0) != 0x45
                || header.u16(6) & 0x3fff != 0
                || total < 20
                || tags.at + total > limit
                || proto == 51
                || proto == 2
                || dst.lo == 0xffff_ffff
                || is_tunnel(proto)
                || dst.is_martian()
            {
                return None;
            }
            (Address::v4(header.u32(12)), dst)
        }
        0x86dd => {
            let header = frame.view::<40>(tags.at)?;
            let proto = header.u8(6) as u16;
            let dst = Address::v6(header.u64(24), header.u64(32));
            // 2000::/3 without 2001:0::/32 (Teredo), 2002::/16 (6to4) and ISATAP:
            // everything else may be special.
            if header.u8(0) >> 4 != 6
                || tags.at + 40 + header.u16(4) as u32 > limit
                || (proto != 6 && proto != 17)
                || !is_plain_v6(dst)
                || tables.nat64_len() != 0
            {
                return None;
            }
            (Address::v6(header.u64(8), header.u64(16)), dst)
        }
        _ => return None,
    };
    if src.is_unspecified() {
        return None;
    }
    if zone.flags & (ZONE_SOURCES_UNCHECKED | ZONE_SOURCES_LISTED) == 0 {
        if src.v6 && !is_plain_v6(src) {
            return None;
        }
        if class_verdict(tables, zone, tables.class(src)) & VERDICT_SPOOFED != 0 {
            return None;
        }
    } else if zone.flags & ZONE_SOURCES_LISTED != 0 {
        // Most zones have one prefix; the first is looked at here.
        let (first, count) = if src.v6 {
            (zone.sources_v6, zone.sources_v6_len)
        } else {
            (zone.sources_v4, zone.sources_v4_len)
        };
        if count == 0 || !contains(tables.source(first as u32)?, src) {
            return None;
        }
    }
    by_rules(tables, zone, dst)
}

/// The verdict on a packet of which only the destination can be special.
#[inline(always)]
pub(super) fn by_class<T: Tables>(tables: &T, zone: &Zone, dst: Address) -> Option<Verdict> {
    let special = if dst.v6 {
        !is_plain_v6(dst) || tables.nat64_len() != 0
    } else {
        dst.lo == 0xffff_ffff || dst.is_martian()
    };
    if special {
        return None;
    }
    by_rules(tables, zone, dst)
}

/// What the rules say of an address that stands for itself, where they look at
/// nothing else.
#[inline(always)]
fn by_rules<T: Tables>(tables: &T, zone: &Zone, dst: Address) -> Option<Verdict> {
    let class = tables.class(dst);
    let class_word = tables.class_word(class)?;
    let word = tables.verdict(zone.verdict_base + (class_word & GROUP_MASK))?;
    if word & VERDICT_STEPS != 0 {
        return None;
    }
    let action = Action::from_bits(word >> VERDICT_ACTION_SHIFT & 3);
    let mut verdict = Verdict {
        action,
        slot: word & VERDICT_INDEX,
        asn_slot: NO_SLOT,
        class,
        judged: Judged::Destination,
        noted: 0,
        slot_base: zone.slot_base,
    };
    if action as u8 != Action::Pass as u8 {
        verdict.asn_slot = zone_asn_slot(tables, zone, class_word >> GROUP_BITS, action);
    }
    Some(verdict)
}

/// Global unicast that stands for itself alone.
#[inline(always)]
fn is_plain_v6(address: Address) -> bool {
    address.hi >> 61 == 1
        && address.hi >> 48 != 0x2002
        && address.hi >> 32 != 0x2001_0000
        && !is_isatap(address.lo)
}
