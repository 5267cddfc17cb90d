//! What of each line of the ledger is in the log already, so that a record says only what is new, and nothing is said
//! twice. Kept beside the log now and then; what was written since is read from the log itself, so that a `kill -9`
//! at any moment leaves nothing out and nothing twice.
//!
//! ```text
//! magic (16 bytes), ledger (8), records of the log by then, lines; of each line: packets, bytes, sequence and 1
//! ```

use kordon_ebpf::layout::Counter;
use serde_json::Value;

/// First bytes of the file.
const MAGIC: &[u8; 16] = b"kordon-accounts1";

/// What was said of a line last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Said {
    packets: u32,
    bytes: u32,
    /// Of the flow that had the line, and 1; 0: nothing was said.
    sequence: u32,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accounts {
    ledger: [u8; 8],
    said: Vec<Said>,
}

impl Accounts {
    /// Of a ledger with so many lines, of which nothing was said. `ledger`: what tells it from others, of other boots,
    /// too.
    #[must_use]
    pub fn new(ledger: [u8; 8], lines: usize) -> Self {
        Self {
            ledger,
            said: vec![Said::default(); lines],
        }
    }

    /// What was kept, and how many records the log had by then; `None`: it is nothing. Where it was of another ledger,
    /// nothing of this one was said by then.
    #[must_use]
    pub fn read(&self, bytes: &[u8]) -> Option<(Self, u64)> {
        let (magic, rest) = bytes.split_at_checked(16)?;
        let (ledger, rest) = rest.split_at_checked(8)?;
        let (records, rest) = rest.split_first_chunk()?;
        let (lines, rest) = rest.split_first_chunk()?;
        let lines = usize::try_from(u64::from_le_bytes(*lines)).ok()?;
        if magic != MAGIC || rest.len() != lines.checked_mul(12)? {
            return None;
        }
        let records = u64::from_le_bytes(*records);
        if ledger != self.ledger || lines != self.said.len() {
            return Some((Self::new(self.ledger, self.said.len()), records));
        }
        let word = |at: &[u8]| at.first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
        let said = rest.chunks_exact(12).map(|line| Said {
            packets: word(line),
            bytes: word(&line[4..]),
            sequence: word(&line[8..]),
        });
        let kept = Self {
            ledger: self.ledger,
            said: said.collect(),
        };
        Some((kept, records))
    }

    /// To be kept, when the log has so many records.
    #[must_use]
    pub fn to_bytes(&self, records: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(40 + 12 * self.said.len());
        bytes.extend(MAGIC);
        bytes.extend(self.ledger);
        bytes.extend(records.to_le_bytes());
        bytes.extend((self.said.len() as u64).to_le_bytes());
        for said in &self.said {
            bytes.extend(said.packets.to_le_bytes());
            bytes.extend(said.bytes.to_le_bytes());
            bytes.extend(said.sequence.to_le_bytes());
        }
        bytes
    }

    /// Whether nothing was said of what has a line.
    #[must_use]
    pub fn is_unsaid(&self, line: u32, sequence: u16) -> bool {
        self.of(line, sequence) == Counter::ZERO
    }

    fn of(&self, line: u32, sequence: u16) -> Counter {
        let said = self.said.get(line as usize).copied().unwrap_or_default();
        if said.sequence != u32::from(sequence) + 1 {
            return Counter::ZERO;
        }
        Counter {
            packets: said.packets.into(),
            bytes: said.bytes.into(),
        }
    }

    /// What is new of a line; `None`: nothing.
    #[must_use]
    pub fn due(&self, line: u32, sequence: u16, total: Counter) -> Option<Counter> {
        let said = self.of(line, sequence);
        let due = Counter {
            packets: total.packets.saturating_sub(said.packets),
            bytes: total.bytes.saturating_sub(said.bytes),
        };
        (due.packets > 0).then_some(due)
    }

    /// It is in the log. A line has 32 bits for each.
    pub fn say(&mut self, line: u32, sequence: u16, total: Counter) {
        if let Some(said) = self.said.get_mut(line as usize) {
            *said = Said {
                packets: total.packets as u32,
                bytes: total.bytes as u32,
                sequence: u32::from(sequence) + 1,
            };
        }
    }

    /// What a record of the log says of a line of this ledger: see [`Self::place`].
    pub fn replay(&mut self, record: &str) {
        if !record.contains(&hex::encode(self.ledger)) {
            return;
        }
        let Ok(record) = serde_json::from_str::<Value>(record) else {
            return;
        };
        let of = &record["kordon"];
        let place = of["line"].as_str().and_then(|place| {
            let mut parts = place.split('-');
            let is_here = parts.next()? == hex::encode(self.ledger);
            let line = parts.next()?.parse().ok()?;
            let sequence = parts.next()?.parse().ok()?;
            is_here.then_some((line, sequence))
        });
        let total = |name: &str| of["total"][name].as_u64();
        if let (Some((line, sequence)), Some(packets), Some(bytes)) =
            (place, total("packets"), total("bytes"))
        {
            // What is written late is of a flow that had the line before.
            let known = self
                .said
                .get(line as usize)
                .and_then(|said| said.sequence.checked_sub(1));
            let is_late =
                known.is_some_and(|known| (known as u16).wrapping_sub(sequence) as i16 > 0);
            if !is_late {
                self.say(line, sequence, Counter { packets, bytes });
            }
        }
    }

    /// How records name a line, e.g. `…-17-2`: the ledger, the line, and how many flows had it before.
    #[must_use]
    pub fn place(&self, line: u32, sequence: u16) -> String {
        format!("{}-{line}-{sequence}", hex::encode(self.ledger))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(packets: u64) -> Counter {
        Counter {
            packets,
            bytes: 100 * packets,
        }
    }

    #[test]
    fn each_packet_is_said_once() {
        let empty = Accounts::new([7; 8], 4);
        let mut accounts = empty.clone();
        assert_eq!(accounts.due(1, 0, counter(0)), None);
        assert_eq!(accounts.due(1, 0, counter(3)), Some(counter(3)));
        accounts.say(1, 0, counter(3));
        assert_eq!(accounts.due(1, 0, counter(3)), None);
        assert_eq!(accounts.due(1, 0, counter(5)), Some(counter(2)));
        // Another flow has the line, and a place that is none holds nothing.
        assert_eq!(accounts.due(1, 1, counter(5)), Some(counter(5)));
        accounts.say(9, 0, counter(1));
        assert!(accounts.is_unsaid(9, 0) && !accounts.is_unsaid(1, 0));
        let bytes = accounts.to_bytes(42);
        assert_eq!(empty.read(&bytes), Some((accounts.clone(), 42)));
        for cut in 0..bytes.len() {
            assert_eq!(empty.read(&bytes[..cut]), None, "{cut}");
        }
        let others = [Accounts::new([8; 8], 4), Accounts::new([7; 8], 5)];
        for other in others {
            assert_eq!(other.read(&bytes), Some((other, 42)), "another boot");
        }
    }

    #[test]
    fn the_log_says_what_was_written_since() {
        let mut accounts = Accounts::new([7; 8], 4);
        let record = |place: &str| {
            let kordon = serde_json::json!({
                "line": place, "total": { "packets": 3, "bytes": 300 },
            });
            serde_json::json!({ "kordon": kordon }).to_string()
        };
        accounts.replay(&record(&accounts.place(2, 65_535)));
        assert_eq!(accounts.due(2, 65_535, counter(4)), Some(counter(1)));
        let before = accounts.clone();
        accounts.replay(&record(&accounts.place(2, 65_000)));
        assert_eq!(accounts, before, "of a flow that had the line before");
        accounts.replay(&record(&Accounts::new([8; 8], 4).place(2, 1)));
        for other in ["", "-", "07-1", "{}"] {
            accounts.replay(&record(other));
            accounts.replay(other);
        }
        assert_eq!(accounts, before);
    }
}
