//! Zones that had packets and have none any more: cameras that are off, or that reach the
//! router past the interfaces that are policed. Nobody can tell which from here, so it is
//! said and not called an error.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// When zones had packets last, as far as this daemon has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Silence {
    /// Packets so far, and when there were more.
    zones: BTreeMap<String, (u64, Instant)>,
    looked: Option<Instant>,
}

impl Silence {
    /// Whether it is time to look, for zones that may be silent so long.
    pub(crate) fn is_due(&self, after: Duration, now: Instant) -> bool {
        let pause = (after / 10).clamp(Duration::from_secs(1), Duration::from_secs(10));
        self.looked.is_none_or(|last| now - last >= pause)
    }

    /// Packets of each zone of the live policy.
    pub(crate) fn note(&mut self, zones: BTreeMap<String, u64>, now: Instant) {
        self.looked = Some(now);
        self.zones.retain(|name, _| zones.contains_key(name));
        for (name, packets) in zones {
            let zone = self.zones.entry(name).or_insert((packets, now));
            if packets != zone.0 {
                *zone = (packets, now);
            }
        }
    }

    /// Zones, and how long each that has had packets has had none, if that is too long.
    pub(crate) fn zones(
        &self,
        after: Duration,
        now: Instant,
    ) -> impl Iterator<Item = (&str, Option<Duration>)> {
        self.zones.iter().map(move |(name, (packets, last))| {
            let silent = now - *last;
            let is_silent = *packets > 0 && silent >= after;
            (name.as_str(), is_silent.then_some(silent))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_is_who_has_spoken() {
        let mut silence = Silence::default();
        let start = Instant::now();
        let after = Duration::from_secs(60);
        let at = |seconds| start + Duration::from_secs(seconds);
        let counts = |a, b| BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
        let silent = |silence: &Silence, now| -> Vec<String> {
            let zones = silence.zones(after, now);
            zones
                .filter(|(_, silent)| silent.is_some())
                .map(|(name, _)| name.to_owned())
                .collect()
        };
        assert!(silence.is_due(after, start));
        silence.note(counts(5, 0), at(0));
        assert!(!silence.is_due(after, at(5)) && silence.is_due(after, at(6)));
        assert!(silent(&silence, at(59)).is_empty());
        assert_eq!(silent(&silence, at(60)), ["a"]);
        silence.note(counts(6, 0), at(60));
        assert!(silent(&silence, at(119)).is_empty());
        silence.note(BTreeMap::new(), at(130));
        assert!(silent(&silence, at(1000)).is_empty());
    }
}
