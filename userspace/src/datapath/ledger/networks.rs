//! Packets and bytes by network: rows of a key and its two sums, appended and never taken back. A key is a counter
//! slot and a network; that is not known here, `ledger/network.rs` and `daemon/named.rs` give it a meaning. Only
//! controllers write rows, so they are no counters of programs: they lie in pinned arrays, of which another one is
//! made when the last is full.

use std::collections::HashMap;

use aya_obj::generated::bpf_map_type;
use kordon_ebpf::layout::Counter;

use crate::datapath::{
    DatapathError,
    memory::{MMAPABLE, Mapped},
    pins::Pins,
    shared::open,
};

/// Rows of one array.
const ROWS: u32 = 1 << 16;
/// Arrays at most: for 64 zones with 90,000 networks each.
const MOST: usize = 96;
/// Words of a row: its key, which is not 0, packets and bytes.
const ROW: usize = 3;

/// What arrays are pinned as, before their number.
pub(super) const NAME: &str = "networks";

/// See the module.
pub(super) struct Networks {
    pins: Pins,
    arrays: Vec<Mapped>,
    /// Rows of all arrays, by key.
    rows: HashMap<u64, u32>,
}

impl Networks {
    /// What an earlier controller left, or an empty one.
    ///
    /// # Errors
    /// When there is none, and none can be made.
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let mut networks = Self {
            pins: pins.clone(),
            arrays: Vec::new(),
            rows: HashMap::new(),
        };
        networks.more()?;
        // Another one is used when the last is full.
        while networks.word(ROWS * networks.arrays.len() as u32 - 1, 0) != 0
            && pins.shared(&pin_of(networks.arrays.len())).exists()
        {
            networks.more()?;
        }
        let all = ROWS * networks.arrays.len() as u32;
        for row in 0..all {
            match networks.word(row, 0) {
                0 => break,
                key => networks.rows.insert(key, row),
            };
        }
        Ok(networks)
    }

    /// Opens or makes another array.
    fn more(&mut self) -> Result<(), DatapathError> {
        let pin = pin_of(self.arrays.len());
        let path = self.pins.shared(&pin);
        if path.is_dir() {
            super::clear(&path);
        }
        let array = open(
            &self.pins,
            &pin,
            bpf_map_type::BPF_MAP_TYPE_ARRAY,
            (4, 8),
            ROWS * ROW as u32,
            MMAPABLE,
        )?;
        self.arrays.push(Mapped::entries(array)?);
        Ok(())
    }

    /// The row of a key, which is new if need be. `None`: there is no room for another one.
    pub(super) fn row(&mut self, key: u64) -> Option<u32> {
        if let Some(&row) = self.rows.get(&key) {
            return Some(row);
        }
        let row = self.rows.len() as u32;
        if row as usize / ROWS as usize >= self.arrays.len()
            && (self.arrays.len() >= MOST || self.more().is_err())
        {
            return None;
        }
        self.set_word(row, 0, key);
        self.rows.insert(key, row);
        Some(row)
    }

    /// The sums of a row that there is.
    pub(super) fn sums(&self, row: u32) -> Counter {
        Counter {
            packets: self.word(row, 1),
            bytes: self.word(row, 2),
        }
    }

    /// Writes them, if there is such a row.
    pub(super) fn set(&mut self, row: u32, sums: [u64; 2]) {
        if (row as usize) < self.rows.len() {
            self.set_word(row, 1, sums[0]);
            self.set_word(row, 2, sums[1]);
        }
    }

    /// All keys and their sums.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, Counter)> {
        self.rows.iter().map(|(key, row)| (*key, self.sums(*row)))
    }

    fn word(&self, row: u32, word: usize) -> u64 {
        let (array, at) = place(row, word);
        self.arrays[array].word(at)
    }

    fn set_word(&mut self, row: u32, word: usize, value: u64) {
        let (array, at) = place(row, word);
        self.arrays[array].set_word(at, value);
    }
}

/// Which array, and the offset in it.
fn place(row: u32, word: usize) -> (usize, usize) {
    let at = (row % ROWS) as usize * ROW + word;
    ((row / ROWS) as usize, at * size_of::<u64>())
}

/// What an array is pinned as.
pub(super) fn pin_of(number: usize) -> String {
    super::pin(&format!("{NAME}{number}"))
}
