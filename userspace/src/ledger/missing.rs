//! What counters have and no record has: noted at the start, so that what is missing since can be told from what was
//! missing before.

use std::collections::HashMap;

use kordon_ebpf::layout::Counter;

use super::Keeper;
use crate::datapath::DatapathError;

/// Packets of a counter that are in no record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// All of them, at least.
    pub packets: u64,
    /// At most: with what was on its way into a record.
    pub most: u64,
    /// Those that found no room in the ring.
    pub lost: u64,
}

impl Keeper {
    /// Notes what is missing now. `counters`: reads them, by slot. What is recorded, and not yet named, is
    /// not missing: so this comes after [`Self::name_by`].
    ///
    /// # Errors
    /// As [`Self::read`], or of `counters`.
    pub fn begin(
        &mut self,
        counters: impl Fn() -> Result<Vec<Counter>, DatapathError>,
    ) -> Result<(), DatapathError> {
        let earlier = counters()?;
        let slots = u32::try_from(earlier.len()).unwrap_or(u32::MAX);
        let recorded = self.read(slots)?.recorded;
        let lost: HashMap<u32, Counter> = self.lost()?.into_iter().collect();
        let counted = earlier.into_iter().zip(counters()?).zip(0..);
        let missing = counted.filter_map(|((earlier, later), slot)| {
            let of = |sums: &HashMap<u32, Counter>| sums.get(&slot).map_or(0, |sum| sum.packets);
            let most = later.packets.saturating_sub(of(&recorded));
            let packets = earlier.packets.saturating_sub(of(&recorded));
            let lost = of(&lost);
            (most > 0).then_some((
                slot,
                Missing {
                    packets,
                    most,
                    lost,
                },
            ))
        });
        self.before = missing.collect();
        Ok(())
    }

    /// What was missing at the start, by slot.
    #[must_use]
    pub fn before(&self) -> &HashMap<u32, Missing> {
        &self.before
    }
}
