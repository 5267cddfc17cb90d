//! Which ASNs and cameras have series of their own. Cameras that scan reach every ASN there is, and can make up
//! sources; a series for each would be more than a monitoring system bears: the largest of a zone are
//! shown, and all others as one.
//!
//! No counter goes backwards. A series that begins late begins at zero: what it had counted
//! until then stays where it was shown, in `other`. What a series showed that has to make
//! way is shown in `other` from then on. To keep that rare and small, a series once shown
//! stays until somebody has twice its packets. So at each moment the sum over all series
//! is what the zone has counted.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    io,
    path::Path,
};

use kordon_ebpf::layout::{Action, Counter};
use serde::{Deserialize, Serialize};

use crate::compile::directory::Identity;

/// Packets and bytes, by action.
type Counts = [[u64; 2]; 3];

/// Packets of one of them in a zone; `None`: of all others.
pub type Row<K> = (String, Option<K>, Action, Counter);

/// What is shown of each zone. Of ASNs it is kept on disk, so that a restart moves no counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(serialize = "K: Serialize", deserialize = "K: Deserialize<'de>"))]
pub struct Shown<K: Ord> {
    zones: BTreeMap<String, Zone<K>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(serialize = "K: Serialize", deserialize = "K: Deserialize<'de>"))]
struct Zone<K: Ord> {
    /// One was counted in `other` before now.
    crowded: bool,
    /// Those that have series, and what each had counted before these began.
    shown: BTreeMap<K, Counts>,
}

impl<K: Ord> Default for Shown<K> {
    fn default() -> Self {
        let zones = BTreeMap::new();
        Self { zones }
    }
}

impl<K: Ord> Default for Zone<K> {
    fn default() -> Self {
        Self {
            crowded: false,
            shown: BTreeMap::new(),
        }
    }
}

impl Shown<u32> {
    /// Those of the daemon before; none where there is no such file.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn load(path: &Path) -> io::Result<Self> {
        match crate::regular::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(e) if crate::regular::is_absent(&e) => Ok(Self::default()),
            Err(e) => Err(e),
        }
    }

    /// What [`Self::load`] reads.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether there is anything to keep: where all ASNs are shown from their first
    /// packets, nothing depends on what was before.
    #[must_use]
    pub fn matters(&self) -> bool {
        self.zones.values().any(|zone| zone.crowded)
    }

    /// What of `counters` a page shows, where it shows no more than `most` ASNs of a zone.
    pub fn fold(
        &mut self,
        counters: Vec<(Identity, Counter)>,
        most: usize,
    ) -> Vec<(Identity, Counter)> {
        let (mut page, mut rows) = (Vec::new(), Vec::new());
        for (identity, counter) in counters {
            match identity {
                Identity::Asn(zone, Some(asn), action) => {
                    rows.push((zone, Some(asn), action, counter));
                }
                Identity::OtherAsns(zone, action) => rows.push((zone, None, action, counter)),
                _ => page.push((identity, counter)),
            }
        }
        let rows = self.choose(rows, most).into_iter();
        page.extend(rows.map(|(zone, asn, action, counter)| {
            let identity = match asn {
                Some(asn) => Identity::Asn(zone, Some(asn), action),
                None => Identity::OtherAsns(zone, action),
            };
            (identity, counter)
        }));
        page
    }
}

impl<K: Copy + Ord + Hash> Shown<K> {
    /// What of these a page shows, where it shows no more than `most` of a zone.
    pub fn choose(&mut self, rows: Vec<Row<K>>, most: usize) -> Vec<Row<K>> {
        let mut counted: BTreeMap<String, HashMap<K, Counts>> = BTreeMap::new();
        for (zone, one, action, counter) in &rows {
            let Some(one) = one else { continue };
            let all = match counted.get_mut(zone) {
                Some(all) => all,
                None => counted.entry(zone.clone()).or_default(),
            };
            all.entry(*one).or_default()[*action as usize] = [counter.packets, counter.bytes];
        }
        let mut others: BTreeMap<(String, Action), Counter> = BTreeMap::new();
        for (name, all) in &counted {
            let zone = self.zones.entry(name.clone()).or_default();
            zone.choose(all, most);
            // A series that starts with its first packet hides that packet from `rate`.
            others.insert((name.clone(), Action::Drop), Counter::default());
        }
        let mut page = Vec::new();
        for (zone, one, action, counter) in rows {
            let shown = one.and_then(|one| self.zones.get(&zone)?.shown.get(&one));
            let before = shown.map(|before| before[action as usize]);
            let [packets, bytes] = before.unwrap_or([counter.packets, counter.bytes]);
            if before.is_some() {
                let after = Counter {
                    packets: counter.packets - packets,
                    bytes: counter.bytes.saturating_sub(bytes),
                };
                page.push((zone.clone(), one, action, after));
            }
            if packets > 0 {
                *others.entry((zone, action)).or_default() += Counter { packets, bytes };
            }
        }
        page.extend(
            (others.into_iter()).map(|((zone, action), counter)| (zone, None, action, counter)),
        );
        page
    }
}

fn packets(counts: &Counts) -> u64 {
    counts.iter().map(|[packets, _]| packets).sum()
}

impl<K: Copy + Ord + Hash> Zone<K> {
    fn choose(&mut self, all: &HashMap<K, Counts>, most: usize) {
        let fits = |(one, before): (&K, &Counts)| {
            let now = all.get(one).copied().unwrap_or_default();
            before
                .iter()
                .zip(now)
                .all(|(before, now)| before[0] <= now[0])
        };
        // Counters began anew, with a reboot or `kordon detach`.
        if !self.shown.iter().all(fits) {
            *self = Self::default();
        }
        let size = |one: &K| all.get(one).map_or(0, packets);
        while self.shown.len() > most {
            // The limit was lowered.
            let Some(smallest) = self.shown.keys().copied().min_by_key(size) else {
                break;
            };
            self.shown.remove(&smallest);
            self.crowded = true;
        }
        let mut waiting: Vec<K> = all.keys().copied().collect();
        waiting.retain(|one| !self.shown.contains_key(one));
        waiting.sort_unstable_by_key(|one| (std::cmp::Reverse(size(one)), *one));
        let room = most - self.shown.len();
        let late = waiting.split_off(room.min(waiting.len()));
        let was_crowded = self.crowded;
        let before = |one: &K| match was_crowded {
            true => all.get(one).copied().unwrap_or_default(),
            false => Counts::default(),
        };
        for one in waiting {
            self.shown.insert(one, before(&one));
        }
        if late.is_empty() {
            return;
        }
        self.crowded = true;
        let mut smallest: Vec<K> = self.shown.keys().copied().collect();
        smallest.sort_unstable_by_key(|one| (size(one), *one));
        for (small, large) in smallest.into_iter().zip(late) {
            if size(&large) < size(&small).saturating_mul(2) {
                break;
            }
            self.shown.remove(&small);
            self.shown.insert(large, before(&large));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(shown: &mut Shown<u32>, counts: &[(u32, u64)], most: usize) -> BTreeMap<String, u64> {
        let counters = counts.iter().map(|(asn, packets)| {
            let counter = Counter {
                packets: *packets,
                bytes: packets * 100,
            };
            (Identity::Asn("z".into(), Some(*asn), Action::Drop), counter)
        });
        let folded = shown.fold(counters.collect(), most);
        let one = |(identity, counter): (Identity, Counter)| {
            assert_eq!(counter.bytes, counter.packets * 100);
            let name = match identity {
                Identity::Asn(_, Some(asn), _) => asn.to_string(),
                Identity::OtherAsns(..) => "other".to_owned(),
                other => panic!("{other:?}"),
            };
            (name, counter.packets)
        };
        folded.into_iter().map(one).collect()
    }

    fn of(series: &[(&str, u64)]) -> BTreeMap<String, u64> {
        series.iter().map(|(n, c)| ((*n).to_owned(), *c)).collect()
    }

    #[test]
    fn the_largest_and_the_others() {
        let mut shown = Shown::default();
        let counts = [(1, 5), (2, 50), (3, 7), (4, 6)];
        assert_eq!(
            page(&mut shown, &counts[..2], 2),
            of(&[("1", 5), ("2", 50), ("other", 0)])
        );
        assert!(!shown.matters());
        // 3 has not twice what 1 has.
        assert_eq!(
            page(&mut shown, &counts, 2),
            of(&[("1", 5), ("2", 50), ("other", 13)])
        );
        assert!(shown.matters());
        // Now it has: its series begins at zero, and what 1 showed is in `other`.
        let counts = [(1, 5), (2, 50), (3, 10), (4, 6)];
        assert_eq!(
            page(&mut shown, &counts, 2),
            of(&[("2", 50), ("3", 0), ("other", 21)])
        );
        let counts = [(1, 9), (2, 50), (3, 14), (4, 6)];
        assert_eq!(
            page(&mut shown, &counts, 2),
            of(&[("2", 50), ("3", 4), ("other", 25)])
        );
        // Across a restart, on disk.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shown");
        assert_eq!(Shown::load(&path).unwrap(), Shown::default());
        std::fs::write(&path, shown.to_bytes()).unwrap();
        let mut after = Shown::load(&path).unwrap();
        assert_eq!(
            page(&mut after, &counts, 2),
            of(&[("2", 50), ("3", 4), ("other", 25)])
        );
        std::fs::write(&path, "{").unwrap();
        assert!(Shown::load(&path).is_err());
        // Nobody waits for whoever writes there.
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(Shown::load(&path).is_err());
        // More room, and less.
        let more = page(&mut after, &counts, 3);
        assert_eq!(more, of(&[("1", 0), ("2", 50), ("3", 4), ("other", 25)]));
        let mut anew = after.clone();
        assert_eq!(
            page(&mut after, &counts, 1),
            of(&[("2", 50), ("other", 29)])
        );
        // Counters that began anew.
        let all = of(&[("1", 1), ("2", 1), ("3", 1), ("other", 0)]);
        assert_eq!(page(&mut anew, &[(1, 1), (2, 1), (3, 1)], 3), all);
    }

    /// What Prometheus would see: nothing ever goes down, and the sum is exact.
    #[test]
    fn no_counter_goes_backwards() {
        let mut rng = fastrand::Rng::with_seed(7);
        for most in [1, 3, 10] {
            let mut shown = Shown::default();
            let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
            let mut last: BTreeMap<String, u64> = BTreeMap::new();
            let mut changes = 0;
            for round in 0..500 {
                for _ in 0..rng.u32(0..4) {
                    let reach = rng.u32(1..40);
                    let asn = rng.u32(0..reach);
                    *counts.entry(asn).or_default() += 1 << rng.u32(0..12);
                }
                if round % 50 == 49 {
                    let text = serde_json::to_string(&shown).unwrap();
                    shown = serde_json::from_str(&text).unwrap();
                }
                let all: Vec<(u32, u64)> = counts.iter().map(|(a, c)| (*a, *c)).collect();
                let now = page(&mut shown, &all, most);
                assert_eq!(now.values().sum::<u64>(), counts.values().sum::<u64>());
                assert!(now.len() <= most + 1);
                for (name, count) in &last {
                    match now.get(name) {
                        Some(now) => assert!(now >= count, "{name}: {count} becomes {now}"),
                        None => changes += 1,
                    }
                }
                last = now;
            }
            assert!(changes > 0 && changes < 50, "{changes} series went");
        }
    }
}
