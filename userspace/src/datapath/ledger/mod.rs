//! The ledger's maps: lines that programs write, the ring that lines go out by, what found no room
//! there, and what controllers make of them: [`books`], sums by counter and by network
//! ([`networks`]), and marks that say what a line's network was when it was first asked for. All of
//! them are pinned, and outlive controllers: the next one goes on where this one was, also in the
//! middle of a record.

mod books;
mod networks;

use std::{fs, path::Path};

use aya::maps::{HashMap, Map, MapData, MapError, RingBuf};
use aya_obj::generated::{BPF_F_NO_PREALLOC, BPF_NOEXIST, bpf_map_type};
use kordon_ebpf::layout::{
    BEYOND_MARK, BEYOND_SHIFT, Counter, FLOW_BEYOND, FLOW_BUDGET, FLOW_BUDGETS, FLOW_LINES,
    FLOW_LINES_USUAL, FLOW_LOST, FLOW_RING, FLOW_SAID, FLOW_SLOT, FlowLine, LEDGER_VERSION,
    MARK_SHIFT, Record,
};

use self::{books::Books, networks::Networks};
use super::{
    DatapathError, chain,
    clock::Clock,
    memory::{MMAPABLE, Mapped},
    pins::Pins,
    shared::{entries, open},
};

/// What a record is booked under besides its counter: no key is 0.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its network.
    pub network: u64,
    /// Where rows for networks run out.
    pub others: u64,
}

/// Whom packets were for that no record has.
#[derive(Clone, Copy, Debug)]
pub enum Beyond {
    /// By the ordinal of its class.
    Ordinal(u32),
    /// By the mark of the line that they were in.
    Mark(u64),
}

/// The maps, as programs open them.
pub(super) struct LedgerMaps {
    /// For each CPU.
    pub(super) lines: u32,
    flows: MapData,
    budgets: MapData,
    records: MapData,
    lost: MapData,
    beyond: MapData,
    marks: MapData,
    books: MapData,
    networks: Vec<MapData>,
}

/// Their pins, and what programs call them.
pub(super) const NAMES: [(&str, &str); 6] = [
    ("flows", "FLOWS"),
    ("budgets", "BUDGETS"),
    ("records", "RECORDS"),
    ("lost", "LOST"),
    ("beyond", "BEYOND"),
    ("marks", "MARKS"),
];
/// The pin that only controllers open.
const BOOKS: &str = "books";

/// All pins, but those of networks.
fn names() -> impl Iterator<Item = &'static str> {
    let written = NAMES.into_iter().map(|(name, _)| name);
    written.chain([BOOKS])
}

/// What a map of the ledger is pinned as.
pub(super) fn pin(name: &str) -> String {
    format!("{name}-{LEDGER_VERSION}")
}

/// Removes a pin. Somebody may have put a folder there, and something in it, which is moved away.
fn clear(pin: &Path) {
    // No name there has a dot.
    let mut aside = pin.as_os_str().to_owned();
    aside.push("-aside");
    let _ = fs::remove_file(pin)
        .or_else(|_| fs::remove_dir(pin))
        .or_else(|_| fs::rename(pin, aside));
}

/// Whether kordon of some version would pin a map of the ledger so.
pub(super) fn is_pin(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    name.split_once('-').is_some_and(|(name, version)| {
        let is_known = names().any(|known| known == name)
            || name.strip_prefix(networks::NAME).is_some_and(is_number);
        is_known && is_number(version)
    })
}

/// How the words end that say that nothing is left of what was recorded.
pub const ANEW: &str = "the ledger begins anew";

/// Lines that a source may take in the time of a budget.
pub(super) const BUDGET: u32 = FLOW_BUDGET;

/// Parts of what has one for each CPU. Programs find theirs by the number of their CPU, and numbers have
/// holes on some machines: the highest one that is possible, and 1.
fn parts() -> Result<u32, DatapathError> {
    const POSSIBLE: &str = "/sys/devices/system/cpu/possible";
    let what = || format!("read {POSSIBLE}");
    let text = fs::read_to_string(POSSIBLE).map_err(|e| DatapathError::new(what(), e))?;
    highest(&text)
        .and_then(|highest| highest.checked_add(1))
        .ok_or_else(|| DatapathError::new(what(), format!("{text:?} is no list of CPUs")))
}

/// Lines of each CPU where nobody wants another number. All of them together are a million at most: more CPUs
/// share the same flows.
fn usual_lines(parts: u32) -> u32 {
    let share = (1 << 20) / parts.max(1);
    let power = 1 << share.max(1).ilog2();
    FLOW_LINES_USUAL.min(power).max(*FLOW_LINES.start())
}

/// The last number of a list such as `0-3,8-11`.
fn highest(list: &str) -> Option<u32> {
    list.trim().rsplit([',', '-']).next()?.parse().ok()
}

impl LedgerMaps {
    /// What an earlier controller left, with as many lines as it has, or new ones with so many for each
    /// CPU (`None`: as is usual). What cannot be used is made anew, and `damaged` says so; programs that are on interfaces go
    /// on with theirs until they are replaced.
    ///
    /// # Errors
    /// When they cannot be made.
    pub(super) fn open(
        pins: &Pins,
        lines: Option<u32>,
        damaged: &mut Vec<String>,
    ) -> Result<Self, DatapathError> {
        let all = names().map(pin).chain([networks::pin_of(0)]);
        let (there, missing): (Vec<_>, Vec<_>) = all.partition(|pin| pins.shared(pin).exists());
        let found = match missing.first() {
            Some(pin) if !there.is_empty() => Err(DatapathError::new(
                "go on with the ledger",
                format!("the pin `{pin}` is missing"),
            )),
            _ => Self::of(pins, lines),
        };
        let maps = match found {
            Ok(maps) => maps,
            Err(e) => {
                Self::forget(pins, |_| true);
                let maps = Self::of(pins, lines).map_err(|e| {
                    let cure = match e.to_string().contains("os error 12") {
                        true => "; fewer `lines` in `[ledger]` of kordon.toml take less memory",
                        false => "",
                    };
                    DatapathError::new("make the ledger", format!("{e}{cure}"))
                })?;
                damaged.push(format!("{e}: {ANEW}"));
                maps
            }
        };
        // Programs of before go on with theirs until they are replaced.
        let now = pin("");
        Self::forget(pins, |pin| !pin.ends_with(&now));
        Ok(maps)
    }

    /// Lets go of what is there.
    pub(super) fn forget(pins: &Pins, what: impl Fn(&str) -> bool) {
        pins.named(|name| is_pin(name) && what(name))
            .iter()
            .for_each(|pin| clear(pin));
    }

    fn of(pins: &Pins, lines: Option<u32>) -> Result<Self, DatapathError> {
        let parts = parts()?;
        // Their number is a constant of the programs that write them.
        let there = entries(pins, &pin("flows")).map(|all| all / parts);
        let is_possible = |of_each: &u32| FLOW_LINES.contains(of_each) && of_each.is_power_of_two();
        let of_each = there.filter(is_possible).or(lines);
        let of_each = of_each.unwrap_or_else(|| usual_lines(parts));
        let (array, hash) = (
            bpf_map_type::BPF_MAP_TYPE_ARRAY,
            bpf_map_type::BPF_MAP_TYPE_HASH,
        );
        let ring = bpf_map_type::BPF_MAP_TYPE_RINGBUF;
        let named =
            |name, kind, sizes, entries, flags| open(pins, &pin(name), kind, sizes, entries, flags);
        let lines = of_each.saturating_mul(parts);
        let budgets = FLOW_BUDGETS.saturating_mul(parts);
        let counter = size_of::<Counter>();
        let mut maps = Self {
            lines: of_each,
            flows: named("flows", array, (4, size_of::<FlowLine>()), lines, MMAPABLE)?,
            budgets: named("budgets", array, (4, 8), budgets, 0)?,
            records: named("records", ring, (0, 0), FLOW_RING, 0)?,
            lost: named("lost", hash, (4, counter), FLOW_LOST, 0)?,
            beyond: named("beyond", hash, (8, counter), FLOW_BEYOND, BPF_F_NO_PREALLOC)?,
            marks: named("marks", array, (4, 8), lines, MMAPABLE)?,
            books: named(BOOKS, array, (4, books::SIZE), 1, MMAPABLE)?,
            networks: Vec::new(),
        };
        Networks::open(pins)?;
        maps.look(pins);
        Ok(maps)
    }

    /// Those that programs open.
    pub(super) fn written(&self) -> [&MapData; 6] {
        let (flows, budgets) = (&self.flows, &self.budgets);
        let (lost, beyond) = (&self.lost, &self.beyond);
        [flows, budgets, &self.records, lost, beyond, &self.marks]
    }

    /// All, by their pins.
    pub(super) fn pinned(&self) -> impl Iterator<Item = (String, &MapData)> {
        let maps = self.written().into_iter().chain([&self.books]);
        let networks = self.networks.iter().enumerate();
        let networks = networks.map(|(number, map)| (networks::pin_of(number), map));
        names().map(pin).zip(maps).chain(networks)
    }

    /// Arrays of networks come while programs run.
    pub(super) fn look(&mut self, pins: &Pins) {
        while let Ok(map) = MapData::from_pin(pins.shared(&networks::pin_of(self.networks.len()))) {
            self.networks.push(map);
        }
    }
}

/// Reads the ledger, books what comes out of it. There is one in each controller.
pub struct Ledger {
    flows: Mapped,
    records: RingBuf<MapData>,
    lost: HashMap<MapData, u32, [u64; 2]>,
    beyond: HashMap<MapData, u64, [u64; 2]>,
    books: Books,
    marks: Mapped,
    clock: Clock,
}

impl Ledger {
    /// Opens what is pinned.
    ///
    /// # Errors
    /// When something is missing, or not what it is called.
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let what = |name: &str| format!("open the ledger's `{name}`");
        let open = |name: &str| {
            MapData::from_pin(pins.shared(&pin(name)))
                .map_err(|e| DatapathError::new(what(name), chain(&e)))
        };
        let records = RingBuf::try_from(Map::RingBuf(open("records")?));
        let lost = HashMap::try_from(Map::HashMap(open("lost")?));
        let beyond = HashMap::try_from(Map::HashMap(open("beyond")?));
        let mut lost = lost.map_err(|e| DatapathError::new(what("lost"), e))?;
        let mut beyond = beyond.map_err(|e| DatapathError::new(what("beyond"), e))?;
        // What has no room is counted there, so it has to have some. It may be there.
        let _ = lost.insert(0, [0; 2], BPF_NOEXIST.into());
        let _ = beyond.insert(0, [0; 2], BPF_NOEXIST.into());
        Ok(Self {
            flows: Mapped::entries(open("flows")?)?,
            records: records.map_err(|e| DatapathError::new(what("records"), e))?,
            lost,
            beyond,
            books: Books::open(Mapped::of(open(BOOKS)?)?, pins)?,
            marks: Mapped::entries(open("marks")?)?,
            clock: Clock::load()?,
        })
    }

    /// Jiffies, the low half, now.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn now(&mut self) -> Result<u32, DatapathError> {
        Ok(self.clock.now()? as u32)
    }

    /// The kernel's number of the map with the lines.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.flows.map.info().ok().map(|info| info.id())
    }

    /// How many lines there are, of all CPUs.
    #[must_use]
    pub fn size(&self) -> usize {
        self.flows.size() / size_of::<FlowLine>()
    }

    /// Every line that is in use, with its index. A packet that is counted at this moment may be in it
    /// or not.
    pub fn lines(&self) -> impl Iterator<Item = (u32, FlowLine)> {
        let lines = u32::try_from(self.size()).unwrap_or(u32::MAX);
        (0..lines).filter_map(|index| Some((index, self.flows.line(index as usize)?)))
    }

    /// Takes what has left its line since, at most so many, gives it to `take` with the mark of its
    /// line, and books it under what that says. Returns how many records there were.
    pub fn drain(
        &mut self,
        most: u64,
        mut take: impl FnMut(&Record, Option<u64>) -> Option<Key>,
    ) -> u64 {
        let mut count = 0;
        while count < most {
            let Some(item) = self.records.next() else {
                break;
            };
            let Some(bytes) = item.first_chunk::<{ size_of::<Record>() }>() else {
                continue;
            };
            let mut record: Record = bytemuck::pod_read_unaligned(bytes);
            record.held.flow.identity &= FLOW_SAID;
            let mark = mark_of(&self.marks, record.line, record.held.sequence);
            let key = take(&record, mark);
            self.books.book(&record, key);
            // The ring forgets it here.
            drop(item);
            count += 1;
        }
        count
    }

    /// The mark of a line, while it is of this sequence.
    #[must_use]
    pub fn mark(&self, line: u32, sequence: u16) -> Option<u64> {
        mark_of(&self.marks, line, sequence)
    }

    /// Marks a line; a mark has 40 bits.
    pub fn set_mark(&mut self, line: u32, sequence: u16, mark: u64) {
        let word = (mark + 1) << MARK_SHIFT | u64::from(sequence);
        if (line as usize) < self.marks.size() / 8 {
            self.marks.set_word(8 * line as usize, word);
        }
    }

    /// What of a counter has come out of the ring, since the pins were made.
    #[must_use]
    pub fn booked(&self, slot: u32) -> Counter {
        self.books.of(slot.into())
    }

    /// Likewise of all networks, by their keys.
    pub fn networks(&self) -> impl Iterator<Item = (u64, Counter)> {
        self.books.networks()
    }

    /// What found no room in the ring, by counter; of counter 0 what had no room here, either.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn lost(&self) -> Result<Vec<(u32, Counter)>, DatapathError> {
        sums(&self.lost).map_err(|e| DatapathError::new("read what the ledger lost", e))
    }

    /// What was for some network and is in no record that says so, by counter; of 0 what had no room
    /// here, either.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn beyond(&self) -> Result<Vec<(u32, Beyond, Counter)>, DatapathError> {
        let sums = sums(&self.beyond)
            .map_err(|e| DatapathError::new("read what records do not have", e))?;
        let of = |(key, sum): (u64, Counter)| {
            let rest = (key & !BEYOND_MARK) >> BEYOND_SHIFT;
            let beyond = match key & BEYOND_MARK {
                0 => Beyond::Ordinal(rest as u32),
                _ => Beyond::Mark(rest.saturating_sub(1)),
            };
            ((key & FLOW_SLOT) as u32, beyond, sum)
        };
        Ok(sums.into_iter().map(of).collect())
    }
}

fn sums<K: aya::Pod>(map: &HashMap<MapData, K, [u64; 2]>) -> Result<Vec<(K, Counter)>, MapError> {
    let all = map.iter().map(|entry| {
        let (key, [packets, bytes]) = entry?;
        Ok((key, Counter { packets, bytes }))
    });
    all.filter(|entry| !matches!(entry, Ok((_, Counter::ZERO))))
        .collect()
}

/// See [`Ledger::mark`].
fn mark_of(marks: &Mapped, line: u32, sequence: u16) -> Option<u64> {
    let at = 8 * line as usize;
    let word = (at < marks.size()).then(|| marks.word(at))?;
    (word as u16 == sequence)
        .then_some(word >> 16)?
        .checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::{highest, usual_lines};

    #[test]
    fn cpus_have_holes() {
        for (list, last) in [("0\n", 0), ("0-127\n", 127), ("0-3,8-11\n", 11), ("0,2", 2)] {
            assert_eq!(highest(list), Some(last));
        }
        assert_eq!(highest("\n"), None);
    }

    #[test]
    fn many_cpus_have_fewer_lines_each() {
        let lines = [1, 2, 64, 65, 128, 1000, 5000].map(usual_lines);
        assert_eq!(lines, [16_384, 16_384, 16_384, 8192, 8192, 1024, 1024]);
    }
}
