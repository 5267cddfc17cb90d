//! The ledger's maps: lines that programs write, the ring that lines go out by, what found no room
//! there, and the books: what of each counter came out of the ring. All of them are pinned, and outlive
//! controllers: the next one goes on where this one was, also in the middle of a record.
//!
//! A record is booked exactly once. Before a sum changes, the book's head says which record it is of and
//! what the sum will be; only then the ring is told that the record was read. Whoever finds the head
//! writes the sum once more, and leaves out the record if that is still in the ring.

use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, Map, MapData, RingBuf},
    programs::{TestRun as _, TestRunOptions},
};
use aya_obj::generated::bpf_map_type;
use kordon_ebpf::layout::{
    COUNTER_SLOTS, Counter, FLOW_BUDGET, FLOW_BUDGETS, FLOW_LINES, FLOW_LOST, FLOW_RING, FLOW_SLOT,
    FlowLine, LEDGER_VERSION, Record,
};

use super::{
    DatapathError, chain,
    memory::{MMAPABLE, Mapped},
    pins::Pins,
    programs::{self, CLOCK},
    shared::open,
};

/// First word of the books.
const MAGIC: u64 = u64::from_le_bytes(*b"kordonbk");
/// Words of the head: what it is, the last record (line and sequence, when it left), its counter and
/// that counter's sums.
const HEAD: [usize; 6] = [0, 8, 16, 24, 32, 40];
/// Bytes before the sums.
const SUMS: usize = 64;

/// The maps, as programs open them.
pub(super) struct LedgerMaps {
    flows: MapData,
    budgets: MapData,
    records: MapData,
    lost: MapData,
    books: MapData,
}

/// Their pins, and what programs call them.
pub(super) const NAMES: [(&str, &str); 4] = [
    ("flows", "FLOWS"),
    ("budgets", "BUDGETS"),
    ("records", "RECORDS"),
    ("lost", "LOST"),
];
/// The pin that only controllers open.
const BOOKS: &str = "books";

/// All pins.
fn names() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter().map(|(name, _)| name).chain([BOOKS])
}

/// What a map of the ledger is pinned as.
pub(super) fn pin(name: &str) -> String {
    format!("{name}-{LEDGER_VERSION}")
}

/// Whether kordon of some version would pin a map of the ledger so.
pub(super) fn is_pin(name: &str) -> bool {
    name.split_once('-').is_some_and(|(name, version)| {
        let is_known = names().any(|known| known == name);
        is_known && !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Lines of the ledger for each CPU, as programs are told.
pub(super) const LINES: u32 = FLOW_LINES;

/// Lines that a source may take in the time of a budget.
pub(super) const BUDGET: u32 = FLOW_BUDGET;

fn cpus() -> Result<u32, DatapathError> {
    let cpus = aya::util::nr_cpus();
    let cpus = cpus.map_err(|(path, e)| DatapathError::new(format!("read {path}"), e))?;
    Ok(u32::try_from(cpus).unwrap_or(u32::MAX))
}

impl LedgerMaps {
    /// What an earlier controller left, or new ones. What cannot be used is made anew, and
    /// `damaged` says so; programs that are on interfaces go on with theirs until they are replaced.
    ///
    /// # Errors
    /// When they cannot be made.
    pub(super) fn open(pins: &Pins, damaged: &mut Vec<String>) -> Result<Self, DatapathError> {
        let (there, missing): (Vec<_>, Vec<_>) =
            names().partition(|name| pins.shared(&pin(name)).exists());
        let found = match missing.first() {
            Some(name) if !there.is_empty() => Err(DatapathError::new(
                "go on with the ledger",
                format!("the pin `{}` is missing", pin(name)),
            )),
            _ => Self::of(pins),
        };
        match found {
            Ok(maps) => Ok(maps),
            Err(e) => {
                Self::forget(pins);
                let maps = Self::of(pins)?;
                damaged.push(format!("{e}; the ledger begins anew"));
                Ok(maps)
            }
        }
    }

    /// Lets go of what is there.
    pub(super) fn forget(pins: &Pins) {
        for name in names() {
            let pin = pins.shared(&pin(name));
            // Somebody may have put an empty folder there.
            let _ = std::fs::remove_file(&pin).or_else(|_| std::fs::remove_dir(&pin));
        }
    }

    fn of(pins: &Pins) -> Result<Self, DatapathError> {
        let cpus = cpus()?;
        let word = size_of::<u64>();
        let array = bpf_map_type::BPF_MAP_TYPE_ARRAY;
        let named =
            |name, kind, size, entries, flags| open(pins, &pin(name), kind, size, entries, flags);
        let lines = LINES.saturating_mul(cpus);
        let budgets = FLOW_BUDGETS.saturating_mul(cpus);
        let sums = SUMS + size_of::<Counter>() * COUNTER_SLOTS as usize;
        Ok(Self {
            flows: named("flows", array, size_of::<FlowLine>(), lines, MMAPABLE)?,
            budgets: named("budgets", array, word, budgets, 0)?,
            records: named(
                "records",
                bpf_map_type::BPF_MAP_TYPE_RINGBUF,
                0,
                FLOW_RING,
                0,
            )?,
            lost: named(
                "lost",
                bpf_map_type::BPF_MAP_TYPE_HASH,
                size_of::<Counter>(),
                FLOW_LOST,
                0,
            )?,
            books: named(BOOKS, array, sums, 1, MMAPABLE)?,
        })
    }

    /// Those that programs write.
    pub(super) fn written(&self) -> [&MapData; 4] {
        [&self.flows, &self.budgets, &self.records, &self.lost]
    }

    /// All, by their pins.
    pub(super) fn pinned(&self) -> impl Iterator<Item = (String, &MapData)> {
        let maps = self.written().into_iter().chain([&self.books]);
        names().map(pin).zip(maps)
    }
}

/// Reads the ledger, books what comes out of it. There is one in each controller.
pub struct Ledger {
    flows: Mapped,
    records: RingBuf<MapData>,
    lost: HashMap<MapData, u32, [u64; 2]>,
    books: Mapped,
    /// The record that was booked last, which may still be in the ring.
    booked: Option<[u64; 2]>,
    clock: Ebpf,
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
        let mut books = Mapped::of(open(BOOKS)?)?;
        let booked = again(&mut books);
        Ok(Self {
            flows: Mapped::entries(open("flows")?)?,
            records: records.map_err(|e| DatapathError::new(what("records"), e))?,
            lost: lost.map_err(|e| DatapathError::new(what("lost"), e))?,
            books,
            booked,
            clock: clock()?,
        })
    }

    /// Jiffies, the low half, now.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn now(&mut self) -> Result<u32, DatapathError> {
        let ran = programs::program(&mut self.clock, CLOCK)?.test_run(TestRunOptions {
            data_in: Some(&[0; 14]),
            repeat: 1,
            ..TestRunOptions::default()
        });
        let ran = ran.map_err(|e| DatapathError::new("ask for the kernel's clock", e))?;
        Ok(ran.return_value)
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

    /// Takes what has left its line since, books it, and gives it to `take`. Returns how many records
    /// there were.
    pub fn drain(&mut self, mut take: impl FnMut(&Record)) -> u64 {
        let mut count = 0;
        while let Some(item) = self.records.next() {
            let Some(bytes) = item.first_chunk::<{ size_of::<Record>() }>() else {
                continue;
            };
            let record: Record = bytemuck::pod_read_unaligned(bytes);
            let name = named(&record);
            if self.booked.take() != Some(name) {
                book(&mut self.books, &record, name);
            }
            // The ring forgets it here.
            drop(item);
            take(&record);
            count += 1;
        }
        count
    }

    /// What of a counter has come out of the ring, since the pins were made.
    #[must_use]
    pub fn booked(&self, slot: u32) -> Counter {
        let at = sums_of(u64::from(slot.min(COUNTER_SLOTS - 1)));
        Counter {
            packets: self.books.word(at),
            bytes: self.books.word(at + 8),
        }
    }

    /// What found no room in the ring, by counter; of counter 0 what had no room here, either.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn lost(&self) -> Result<Vec<(u32, Counter)>, DatapathError> {
        let all = self.lost.iter().map(|entry| {
            let (slot, [packets, bytes]) = entry?;
            Ok((slot, Counter { packets, bytes }))
        });
        all.collect::<Result<_, aya::maps::MapError>>()
            .map_err(|e| DatapathError::new("read what the ledger lost", e))
    }
}

/// What a record is called, as long as it is in the ring.
fn named(record: &Record) -> [u64; 2] {
    [
        u64::from(record.line) << 32 | u64::from(record.held.sequence),
        u64::from(record.at) << 32 | 1,
    ]
}

/// Where the sums of a counter are in the books.
fn sums_of(slot: u64) -> usize {
    SUMS + size_of::<Counter>() * slot as usize
}

/// Adds a record to the sum of its counter.
fn book(books: &mut Mapped, record: &Record, name: [u64; 2]) {
    let held = &record.held;
    let slot = (held.flow.identity & FLOW_SLOT).min(u64::from(COUNTER_SLOTS) - 1);
    let at = sums_of(slot);
    let packets = books.word(at) + u64::from(held.packets);
    let bytes = books.word(at + 8) + u64::from(held.bytes);
    // Whose it is comes last: half a head is none.
    books.set_word(HEAD[2], 0);
    for (at, word) in [
        (HEAD[0], MAGIC),
        (HEAD[1], name[0]),
        (HEAD[3], slot),
        (HEAD[4], packets),
        (HEAD[5], bytes),
        (HEAD[2], name[1]),
        (at, packets),
        (at + 8, bytes),
    ] {
        books.set_word(at, word);
    }
}

/// Finishes what a controller that was killed had begun. Which record it was of.
fn again(books: &mut Mapped) -> Option<[u64; 2]> {
    let [magic, line, at, slot, packets, bytes] = HEAD.map(|at| books.word(at));
    if magic != MAGIC || at == 0 || slot >= u64::from(COUNTER_SLOTS) {
        return None;
    }
    books.set_word(sums_of(slot), packets);
    books.set_word(sums_of(slot) + 8, bytes);
    Some([line, at])
}

fn clock() -> Result<Ebpf, DatapathError> {
    let mut ebpf = EbpfLoader::new()
        .load(programs::CLOCK_OBJECT)
        .map_err(|e| DatapathError::new("load the ledger's clock", chain(&e)))?;
    programs::load_one(&mut ebpf, CLOCK)
        .map_err(|e| DatapathError::new("load the ledger's clock", chain(&e)))?;
    Ok(ebpf)
}
