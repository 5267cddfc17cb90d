//! The books: what of each counter and each network came out of the ring. They are sums in pinned memory, which
//! survive a `kill -9`: a record is booked exactly once. The head is a journal of one entry: before a sum changes, it
//! says which record that is for and what the sums will be; only then the ring is told that the record was read.
//! Whoever finds the head writes the sums once more, and leaves out the record if that is still in the ring.

use kordon_ebpf::layout::{COUNTER_SLOTS_BEFORE, Counter, FLOW_SLOT, Record};

use super::{Key, networks::Networks};
use crate::datapath::{DatapathError, memory::Mapped, pins::Pins};

/// First word of the books.
const MAGIC: u64 = u64::from_le_bytes(*b"kordonb2");
/// Words of the head: what it is, the last record (line and sequence, when it left), its counter and
/// that counter's sums, the row of its network and 1, and that row's sums.
const HEAD: usize = 9;
/// When the record left: comes last, for half a head is none.
const WHEN: usize = 2;
/// Bytes before the sums.
const SUMS: usize = 128;
/// Bytes of all.
pub(super) const SIZE: usize = SUMS + size_of::<Counter>() * COUNTER_SLOTS_BEFORE as usize;

/// See the module.
pub(super) struct Books {
    sums: Mapped,
    networks: Networks,
    /// The record that was booked last, which may still be in the ring.
    last: Option<[u64; 2]>,
}

impl Books {
    /// Finishes what a controller that was killed had begun.
    ///
    /// # Errors
    /// When there is no room for networks.
    pub(super) fn open(mut sums: Mapped, pins: &Pins) -> Result<Self, DatapathError> {
        let mut networks = Networks::open(pins)?;
        let [magic, line, at, slot, packets, bytes, row, by @ ..] =
            std::array::from_fn::<_, HEAD, _>(|word| sums.word(8 * word));
        let mut last = None;
        if magic == MAGIC && at != 0 && slot < u64::from(COUNTER_SLOTS_BEFORE) {
            sums.set_word(sum_of(slot), packets);
            sums.set_word(sum_of(slot) + 8, bytes);
            if let Some(row) = row.checked_sub(1) {
                networks.set(row as u32, by);
            }
            last = Some([line, at]);
        }
        Ok(Self {
            sums,
            networks,
            last,
        })
    }

    /// Books a record, if that has not been done. `network`: under which key, besides its counter.
    pub(super) fn book(&mut self, record: &Record, network: Option<Key>) {
        let name = [
            u64::from(record.line) << 32 | u64::from(record.held.sequence),
            u64::from(record.at) << 32 | 1,
        ];
        if self.last.take() == Some(name) {
            return;
        }
        let held = &record.held;
        let amount = Counter {
            packets: held.packets.into(),
            bytes: held.bytes.into(),
        };
        let slot = (held.flow.identity & FLOW_SLOT).min(u64::from(COUNTER_SLOTS_BEFORE) - 1);
        let mut sum = self.of(slot);
        sum += amount;
        let networks = &mut self.networks;
        let row = network.and_then(|key| {
            // Where rows run out there is one for all others.
            let others = networks.row(key.others);
            networks.row(key.network).or(others)
        });
        let mut by = row.map(|row| networks.sums(row)).unwrap_or_default();
        by += amount;
        self.sums.set_word(8 * WHEN, 0);
        for (word, value) in [
            (0, MAGIC),
            (1, name[0]),
            (3, slot),
            (4, sum.packets),
            (5, sum.bytes),
            (6, row.map_or(0, |row| u64::from(row) + 1)),
            (7, by.packets),
            (8, by.bytes),
            (WHEN, name[1]),
        ] {
            self.sums.set_word(8 * word, value);
        }
        self.sums.set_word(sum_of(slot), sum.packets);
        self.sums.set_word(sum_of(slot) + 8, sum.bytes);
        if let Some(row) = row {
            self.networks.set(row, [by.packets, by.bytes]);
        }
    }

    /// What of a counter has come out of the ring, since the pins were made.
    pub(super) fn of(&self, slot: u64) -> Counter {
        let at = sum_of(slot.min(u64::from(COUNTER_SLOTS_BEFORE) - 1));
        Counter {
            packets: self.sums.word(at),
            bytes: self.sums.word(at + 8),
        }
    }

    /// Likewise of all networks, by their keys.
    pub(super) fn networks(&self) -> impl Iterator<Item = (u64, Counter)> {
        self.networks.all()
    }
}

/// Where the sums of a counter are.
fn sum_of(slot: u64) -> usize {
    SUMS + size_of::<Counter>() * slot as usize
}
