//! VLAN tags, up to eight, of any of three TPIDs. A tag with VID 0 is a priority and does not
//! count.

use super::{Frame, View};
use crate::layout::MAX_TAGS;

/// Tags of a frame, up to its real ethertype.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tags {
    /// First counting VID, 0: none.
    pub outer: u16,
    /// Second counting VID, 0: none.
    pub inner: u16,
    /// Counting tags.
    pub counting: u32,
    /// What follows the tags.
    pub ethertype: u16,
    /// Where what follows begins.
    pub at: u32,
    /// Nothing more could be read.
    pub truncated: bool,
    /// There is a ninth tag.
    pub ninth: bool,
}

/// Whether a tag follows.
#[must_use]
#[inline(always)]
pub const fn is_tpid(ethertype: u16) -> bool {
    ethertype == 0x8100 || ethertype == 0x88a8 || ethertype == 0x9100
}

/// Reads the Ethernet header and up to eight tags. VID 0 does not count.
#[inline(never)]
pub fn tags_into<F: Frame + ?Sized>(frame: &F, into: &mut Tags) {
    *into = tags(frame);
}

#[inline(always)]
fn tags<F: Frame + ?Sized>(frame: &F) -> Tags {
    let mut tags = Tags::default();
    let Some(header) = frame.view::<14>(0) else {
        tags.truncated = true;
        return tags;
    };
    tags.at = 14;
    tags.ethertype = header.u16(12);
    let mut left = MAX_TAGS;
    let beside = frame.beside();
    if let Some(vid) = beside {
        tags.count(vid);
    }
    while is_tpid(tags.ethertype) {
        // Two conditions, not one of how many may be left: the compiler lays out that loop so
        // that it does not end with a jump, which Linux 6.1 refuses.
        if left == 0 || left == 1 && beside.is_some() {
            tags.ninth = true;
            return tags;
        }
        left -= 1;
        let Some(tag) = frame.view::<4>(tags.at) else {
            tags.count(last_vid(frame, tags.at));
            tags.truncated = true;
            return tags;
        };
        tags.count(tag.u16(0) & 0xfff);
        tags.ethertype = tag.u16(2);
        tags.at += 4;
    }
    tags
}

/// The VID of a tag that the frame ends behind; 0: it ends inside the tag.
#[inline(never)]
fn last_vid<F: Frame + ?Sized>(frame: &F, at: u32) -> u16 {
    match frame.view::<2>(at) {
        Some(tag) => tag.u16(0) & 0xfff,
        None => 0,
    }
}

impl Tags {
    #[inline(always)]
    fn count(&mut self, vid: u16) {
        if vid != 0 {
            match self.counting {
                0 => self.outer = vid,
                1 => self.inner = vid,
                _ => {}
            }
            self.counting += 1;
        }
    }
}
