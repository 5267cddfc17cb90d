//! Where the parts of new planes are put: behind each other, as long as there is room for them in
//! the tier.

use std::collections::HashMap;

use kordon_ebpf::layout::PLANE_TREES;

use super::{FlatPlanes, Leaves, Places, Room, line_word};
use crate::compile::table::Runs;

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

    fn lines(&mut self, lines: &[Leaves]) -> Option<u16> {
        let at = self.planes.lines.len();
        if at + lines.len() > self.room.lines.min(PLANE_TREES as usize) {
            return None;
        }
        for leaves in lines {
            let origin = line_word(&leaves.origins, |ordinals| self.origins(ordinals));
            self.planes.lines.push(leaves.line);
            self.planes.line_origins.push(origin);
        }
        Some(at as u16)
    }

    fn origin_node(&mut self, runs: &Runs) -> Option<u16> {
        let index = self.planes.nodes.len();
        if index == self.room.nodes {
            return None;
        }
        let ordinals: Vec<u16> = runs.words().iter().map(|word| *word as u16).collect();
        let first = self.origins(&ordinals)?;
        self.planes.nodes.push(runs.node(first));
        Some(index as u16)
    }
}

impl Fresh<'_> {
    fn origins(&mut self, ordinals: &[u16]) -> Option<u32> {
        let at = self.planes.origins.len();
        if at + ordinals.len() > self.room.origins {
            return None;
        }
        self.planes.origins.extend_from_slice(ordinals);
        Some(at as u32)
    }
}
