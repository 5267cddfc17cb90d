//! [`Places`] for new planes: one part behind the other until the tier is full; the rest asks.

use std::collections::HashMap;

use kordon_ebpf::layout::{PLANE_TREES, PlaneLine};

use super::{FlatPlanes, Places, Room};

/// Planes that are being built.
pub(super) struct Fresh<'a> {
    pub(super) planes: &'a mut FlatPlanes,
    /// IPv4 blocks that are there.
    pub(super) shared: &'a mut HashMap<[u8; 64], u16>,
    pub(super) room: Room,
}

impl Places for Fresh<'_> {
    fn block_v4(&mut self, packed: &[u8; 64]) -> Option<u16> {
        if let Some(block) = self.shared.get(packed) {
            return Some(*block);
        }
        if self.planes.blocks_v4.len() == self.room.blocks_v4 {
            return None;
        }
        let block = self.planes.blocks_v4.len() as u16;
        self.planes.blocks_v4.push(*packed);
        self.shared.insert(*packed, block);
        Some(block)
    }

    fn block_v6(&mut self, block: &[u16; 4096]) -> Option<u16> {
        if self.planes.blocks_v6.len() == self.room.blocks_v6 {
            return None;
        }
        self.planes.blocks_v6.push(*block);
        Some(self.planes.blocks_v6.len() as u16 - 1)
    }

    fn lines(&mut self, lines: &[PlaneLine]) -> Option<u16> {
        let at = self.planes.lines.len();
        if at + lines.len() > self.room.lines.min(PLANE_TREES as usize) {
            return None;
        }
        self.planes.lines.extend_from_slice(lines);
        Some(at as u16)
    }
}
