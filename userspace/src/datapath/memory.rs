//! BPF arrays of one large value, as memory of this process.
//!
//! aya writes values through a system call and the stack; a table of 14 MB is
//! written in place instead. Where the controller may have unsafe code is said in
//! `docs/architecture.md`; `userspace/tests/arrows.rs` looks.

use std::{
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
    ptr::NonNull,
    sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering},
};

use aya::maps::MapData;
use aya_obj::generated::bpf_map_type;
use kordon_ebpf::layout::{
    FLOW_SAID, FlowLine, Generation, Line, Node, Planes, Probe, Table, tier,
};

use super::DatapathError;
use crate::compile::{
    amend::{LivePlanes, LiveTable},
    generation::Rules,
    plane::FlatPlanes,
    table::{FlatTable, Tier},
};

/// `BPF_F_MMAPABLE` of `linux/bpf.h`.
pub(super) const MMAPABLE: u32 = 1 << 10;

/// Where [`Planes::settled`] is, in planes of any size.
const SETTLED: usize = std::mem::offset_of!(tier::SmallPlanes, settled);

/// A map of one value, mapped.
pub struct Mapped {
    /// The map.
    pub map: MapData,
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to this value alone; moving it to another thread
// moves the only handle.
unsafe impl Send for Mapped {}

impl Mapped {
    /// Creates a map whose value has `size` bytes, all zero.
    ///
    /// # Errors
    /// When the kernel has no memory for it or refuses.
    pub fn create(name: &str, size: usize) -> Result<Self, DatapathError> {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let map = aya_obj::Map::new_from_params(
            bpf_map_type::BPF_MAP_TYPE_ARRAY as u32,
            4,
            size,
            1,
            MMAPABLE,
        );
        let map = MapData::create(map, name, None)
            .map_err(|e| DatapathError::new(format!("create map `{name}`"), e))?;
        Self::of(map)
    }

    /// Maps an existing map of one value.
    ///
    /// # Errors
    /// When it is not mappable.
    pub fn of(map: MapData) -> Result<Self, DatapathError> {
        let info = map
            .info()
            .map_err(|e| DatapathError::new("read map information", e))?;
        let length = info.value_size() as usize;
        Self::whole(map, length)
    }

    /// Maps an existing map with all its values, of whole words.
    ///
    /// # Errors
    /// When it is not mappable.
    pub fn entries(map: MapData) -> Result<Self, DatapathError> {
        let info = map
            .info()
            .map_err(|e| DatapathError::new("read map information", e))?;
        let length = info.value_size() as usize * info.max_entries() as usize;
        Self::whole(map, length)
    }

    fn whole(map: MapData, length: usize) -> Result<Self, DatapathError> {
        let length = length.next_multiple_of(4096);
        // SAFETY: a fresh shared mapping of a map's memory, which the kernel
        // keeps as long as the mapping exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        let start = NonNull::new(start.cast::<u8>()).filter(|_| start != libc::MAP_FAILED);
        let Some(start) = start else {
            return Err(DatapathError::new(
                "map the memory of a BPF array",
                std::io::Error::last_os_error(),
            ));
        };
        Ok(Self { map, start, length })
    }

    /// Opens a pinned map of one value.
    ///
    /// # Errors
    /// When nothing is pinned there.
    pub fn open(path: &Path) -> Result<Self, DatapathError> {
        let map = MapData::from_pin(path)
            .map_err(|e| DatapathError::new(format!("open {}", path.display()), e))?;
        Self::of(map)
    }

    /// Bytes that the kernel holds for it.
    #[must_use]
    pub fn size(&self) -> usize {
        self.length
    }

    fn check(&self, size: usize) {
        assert!(
            size <= self.length,
            "a map is as large as what is written to it"
        );
    }

    /// Bytes of the value. The program may write them meanwhile; callers read
    /// what only userspace writes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping has this length; see above for who writes.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    /// As `bytes`, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; the kernel only reads what is written here.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }

    /// Writes a generation. Nothing may read the map yet.
    pub fn write_generation(&mut self, rules: &Rules) {
        let head = size_of::<Generation<0>>();
        self.check(head + 4 * rules.class_words.len());
        // SAFETY: the mapping is page-aligned and long enough, both checked, and
        // `Generation<0>` is the head of every `Generation`.
        unsafe {
            std::ptr::copy_nonoverlapping(
                std::ptr::from_ref::<Generation<0>>(&rules.fixed).cast::<u8>(),
                self.start.as_ptr(),
                head,
            );
        }
        let words: &[u8] = bytemuck::cast_slice(&rules.class_words);
        let (used, free) = self.bytes_mut()[head..].split_at_mut(words.len());
        used.copy_from_slice(words);
        free.fill(0);
    }

    /// The head of a generation.
    #[must_use]
    pub fn generation(&self) -> &Generation<0> {
        self.check(size_of::<Generation<0>>());
        // SAFETY: aligned, long enough, and any bytes are a generation.
        unsafe { self.start.cast().as_ref() }
    }

    /// Writes a table. Nothing may read the map yet; `table` fits the tier.
    pub fn write_table(&mut self, tier: Tier, table: &FlatTable) {
        match tier {
            Tier::Small => self.write_sized::<tier::SmallTable>(table),
            Tier::Internet => self.write_sized::<tier::InternetTable>(table),
            Tier::Large => self.write_sized::<tier::LargeTable>(table),
        }
    }

    fn write_sized<T: Parts>(&mut self, table: &FlatTable) {
        self.sized::<T>().write(table);
    }

    /// A table while programs read it.
    pub fn live_table(&mut self, tier: Tier) -> LiveTable<'_> {
        match tier {
            Tier::Small => self.sized::<tier::SmallTable>().live(),
            Tier::Internet => self.sized::<tier::InternetTable>().live(),
            Tier::Large => self.sized::<tier::LargeTable>().live(),
        }
    }

    /// Planes while programs read them.
    pub fn live_planes(&mut self, tier: Tier) -> LivePlanes<'_> {
        match tier {
            Tier::Small => self.sized::<tier::SmallPlanes>().live(),
            Tier::Internet => self.sized::<tier::InternetPlanes>().live(),
            Tier::Large => self.sized::<tier::LargePlanes>().live(),
        }
    }

    /// The value, as what it holds: a table or planes.
    fn sized<T>(&mut self) -> &mut T {
        self.check(size_of::<T>());
        // SAFETY: aligned, long enough, and any bytes are a table or planes.
        unsafe { self.start.cast().as_mut() }
    }

    /// Names what a live generation was compiled from, after its table was changed in
    /// place. Only controllers read that.
    pub fn rename_generation(&mut self, hash: [u8; 32], table_key: [u8; 32]) {
        self.check(size_of::<Generation<0>>());
        // SAFETY: aligned, long enough, and any bytes are a generation.
        let generation: &mut Generation<0> = unsafe { self.start.cast().as_mut() };
        (generation.hash, generation.table_key) = (hash, table_key);
    }

    /// Gives a class of a live generation a word.
    pub fn set_class_word(&mut self, class: usize, word: u32) {
        let at = size_of::<Generation<0>>() + 4 * class;
        self.check(at + 4);
        // SAFETY: aligned, inside the mapping, and a word that programs only read.
        let place = unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(at).cast()) };
        place.store(word, Ordering::Release);
    }

    /// The first class words of a generation.
    #[must_use]
    pub fn class_words(&self, count: usize) -> &[u32] {
        let head = size_of::<Generation<0>>();
        bytemuck::cast_slice(&self.bytes()[head..][..4 * count])
    }

    /// A word that programs do not write, at a multiple of eight.
    #[must_use]
    pub fn word(&self, at: usize) -> u64 {
        self.atomic(at).load(Ordering::Acquire)
    }

    /// Writes one. In this order, whenever this process ends.
    pub fn set_word(&mut self, at: usize, word: u64) {
        self.atomic(at).store(word, Ordering::Release);
    }

    fn atomic(&self, at: usize) -> &AtomicU64 {
        self.check(at + 8);
        assert!(at.is_multiple_of(8), "a word is aligned");
        // SAFETY: aligned, inside the mapping, and words are written whole.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(at).cast()) }
    }

    /// A line of the ledger, as it is at one moment; `None`: it was never used.
    #[must_use]
    pub fn line(&self, index: usize) -> Option<FlowLine> {
        let first = index * size_of::<FlowLine>();
        let word = |index: usize| self.atomic(first + 8 * index);
        // The flow's identity, and the word with the sequence.
        let head = || {
            (
                word(5).load(Ordering::Acquire),
                word(7).load(Ordering::Acquire) >> 48,
            )
        };
        loop {
            let before = head();
            if before == (0, 0) {
                return None;
            }
            let words: [u64; 8] = std::array::from_fn(|index| word(index).load(Ordering::Acquire));
            std::sync::atomic::fence(Ordering::Acquire);
            // While a flow takes it, for some nanoseconds, it has no identity.
            if before.0 != 0 && head() == before {
                let mut line: FlowLine = bytemuck::cast(words);
                line.flow.identity &= FLOW_SAID;
                return Some(line);
            }
            std::hint::spin_loop();
        }
    }

    /// Of which generation the planes are; 0: they are not used.
    #[must_use]
    pub fn planes_number(&self) -> u64 {
        self.number().load(Ordering::Acquire)
    }

    /// Says of which generation the planes are. All that was written before is
    /// seen by whoever sees the number.
    pub fn set_planes_number(&self, number: u64) {
        self.number().store(number, Ordering::Release);
    }

    /// Says when the last change ended of what packets are judged by, in jiffies: see [`Planes::settled`].
    pub fn set_settled(&self, jiffies: u64) {
        self.atomic(SETTLED).store(jiffies, Ordering::SeqCst);
    }

    /// The first word of the planes.
    fn number(&self) -> &AtomicU64 {
        self.atomic(0)
    }

    /// Writes planes, all but their number. They are off, and no program that saw
    /// them on can still run. They fit the tier.
    pub fn write_planes(&mut self, tier: Tier, planes: &FlatPlanes) {
        match tier {
            Tier::Small => self.write_planes_sized::<tier::SmallPlanes>(planes),
            Tier::Internet => self.write_planes_sized::<tier::InternetPlanes>(planes),
            Tier::Large => self.write_planes_sized::<tier::LargePlanes>(planes),
        }
    }

    fn write_planes_sized<P: PlaneParts>(&mut self, planes: &FlatPlanes) {
        self.sized::<P>().write(planes);
    }

    /// The probe's control, inputs and outputs.
    pub fn probe(&mut self) -> &mut Probe {
        self.check(size_of::<Probe>());
        // SAFETY: aligned, long enough, any bytes are a probe, and no program
        // runs while the borrow lasts: probes run inside a system call.
        unsafe { self.start.cast().as_mut() }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

trait Parts {
    fn write(&mut self, table: &FlatTable);
    fn live(&mut self) -> LiveTable<'_>;
}

/// Words that are written while programs read them.
trait Words {
    type Atomic;
    /// The same words.
    fn shared(&mut self) -> &[Self::Atomic];
}

impl Words for [u32] {
    type Atomic = AtomicU32;
    fn shared(&mut self) -> &[AtomicU32] {
        // SAFETY: of the same size and alignment, and borrowed as long as these.
        unsafe { std::slice::from_raw_parts(self.as_mut_ptr().cast(), self.len()) }
    }
}

impl Words for [u16] {
    type Atomic = AtomicU16;
    fn shared(&mut self) -> &[AtomicU16] {
        // SAFETY: of the same size and alignment, and borrowed as long as these.
        unsafe { std::slice::from_raw_parts(self.as_mut_ptr().cast(), self.len()) }
    }
}

impl<const NODES: usize, const VALUES: usize, const BLOCKS: usize, const LINES: usize> Parts
    for Table<NODES, VALUES, BLOCKS, LINES>
{
    fn write(&mut self, table: &FlatTable) {
        self.v4.copy_from_slice(&table.v4);
        self.v6.copy_from_slice(&table.v6);
        self.blocks[..table.blocks.len()].copy_from_slice(&table.blocks);
        let _: &[Line] = &table.lines;
        self.lines[..table.lines.len()].copy_from_slice(&table.lines);
        let _: &[Node] = &table.nodes;
        self.nodes[..table.nodes.len()].copy_from_slice(&table.nodes);
        self.values[..table.values.len()].copy_from_slice(&table.values);
    }

    fn live(&mut self) -> LiveTable<'_> {
        LiveTable {
            v4: self.v4.shared(),
            v6: self.v6.shared(),
            blocks: self.blocks.as_flattened_mut().shared(),
            lines: &mut self.lines,
            nodes: &mut self.nodes,
            values: &mut self.values,
        }
    }
}

trait PlaneParts {
    fn write(&mut self, planes: &FlatPlanes);
    fn live(&mut self) -> LivePlanes<'_>;
}

impl<const TOPS: usize, const BLOCKS4: usize, const BLOCKS6: usize, const LINES: usize> PlaneParts
    for Planes<TOPS, BLOCKS4, BLOCKS6, LINES>
{
    fn write(&mut self, planes: &FlatPlanes) {
        self.zones.copy_from_slice(&planes.zones);
        self.ports.copy_from_slice(&planes.ports);
        self.vids.copy_from_slice(&planes.vids);
        self.v4.as_flattened_mut()[..planes.v4.len()].copy_from_slice(&planes.v4);
        self.blocks4[..planes.blocks_v4.len()].copy_from_slice(&planes.blocks_v4);
        self.v6.as_flattened_mut()[..planes.v6.len()].copy_from_slice(&planes.v6);
        self.blocks6[..planes.blocks_v6.len()].copy_from_slice(&planes.blocks_v6);
        self.lines[..planes.lines.len()].copy_from_slice(&planes.lines);
    }

    fn live(&mut self) -> LivePlanes<'_> {
        LivePlanes {
            v4: self.v4.as_flattened_mut().shared(),
            blocks_v4: &mut self.blocks4,
            v6: self.v6.as_flattened_mut().shared(),
            blocks_v6: self.blocks6.as_flattened_mut().shared(),
            lines: &mut self.lines,
            zones: &self.zones,
        }
    }
}

/// Bytes of a tier's planes.
#[must_use]
pub fn planes_size(tier: Tier) -> usize {
    match tier {
        Tier::Small => size_of::<tier::SmallPlanes>(),
        Tier::Internet => size_of::<tier::InternetPlanes>(),
        Tier::Large => size_of::<tier::LargePlanes>(),
    }
}

/// Bytes of a tier's table.
#[must_use]
pub fn table_size(tier: Tier) -> usize {
    match tier {
        Tier::Small => size_of::<tier::SmallTable>(),
        Tier::Internet => size_of::<tier::InternetTable>(),
        Tier::Large => size_of::<tier::LargeTable>(),
    }
}

/// Bytes of a tier's generation.
#[must_use]
pub fn generation_size(tier: Tier) -> usize {
    match tier {
        Tier::Small => size_of::<tier::SmallGeneration>(),
        Tier::Internet => size_of::<tier::InternetGeneration>(),
        Tier::Large => size_of::<tier::LargeGeneration>(),
    }
}
