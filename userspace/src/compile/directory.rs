//! Which counter slot belongs to whom: slot 4711, say, to (zone `cameras`, rule
//! `no-hostile-networks`, drop). Slots are given once and never taken
//! back, so that counters survive every update; the directory lives beside the
//! counters, in the kernel, and is as old as they are.
//!
//! It is a log of records. This module reads and extends the log; where it is
//! kept is not known here.

use std::collections::HashMap;

use kordon_ebpf::layout::{
    ASN_PAGE, Action, COUNTER_SLOTS, FIXED_SLOTS, MAX_ORDINALS, REASONS, Reason,
};
use kordon_ebpf::seen::{self, By, Kind};

/// Whose a slot is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// Packets of a zone that a reason (not a rule) decided.
    Zone(String, Reason, Action),
    /// Packets of a zone in which a reason was met and ignored. Each is counted
    /// under what decided it as well.
    Noted(String, Reason, Action),
    /// Packets that a rule decided: zone, rule.
    Rule(String, String, Action),
    /// Packets to an ASN (`None`: announced by nobody) that were dropped or
    /// audited. Each is counted under what decided it as well.
    Asn(String, Option<u32>, Action),
    /// As `Asn`, for ASNs without a slot of their own.
    OtherAsns(String, Action),
    /// Packets on an interface that are in no zone: logical name.
    Port(String, Reason, Action),
    /// Frames that an interface let through, by tags.
    Seen(String, By, Kind),
    /// Packets of a zone that the guard of an interface dropped, because they got past the XDP
    /// program: logical name, zone. Each is counted under what decided it as well.
    Stopped(String, String),
}

impl Identity {
    /// Zone and action, of what counts each packet of a zone once: the others count it once more.
    #[must_use]
    pub fn of_zone(&self) -> Option<(&str, Action)> {
        match self {
            Self::Zone(zone, _, action) | Self::Rule(zone, _, action) => Some((zone, *action)),
            _ => None,
        }
    }
}

/// There is no room for another counter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// All slots are given.
    #[error("no counter is left for {0}: all are given")]
    Full(String),
    /// A record that this version does not know.
    #[error("the counter directory is damaged at byte {0}")]
    Damaged(usize),
}

/// Bytes that a log has at most.
pub const MAX_LOG: usize = (2 << 20) - 16;

/// Slots of a zone: fixed ones, then one for each action for other ASNs, which only older
/// versions counted.
const ZONE_SLOTS: u32 = FIXED_SLOTS + 3;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Record {
    Zone(String),
    Port(String),
    Rule(String, String),
    Ordinal(Option<u32>),
    /// Counters of so many ordinals, which older versions gave out: they are still shown.
    Page(String, Action, u32),
    Stopped(String, String),
}

/// The directory, and what was added to it since it was read.
#[derive(Clone, Debug)]
pub struct Directory {
    slots: HashMap<Record, u32>,
    by_start: Vec<(u32, Record)>,
    ordinals: Vec<Option<u32>>,
    next: u32,
    /// Slots that there are.
    most: u32,
    log: Vec<u8>,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            slots: HashMap::new(),
            by_start: Vec::new(),
            ordinals: Vec::new(),
            // Slot 0 belongs to nobody: it means "none".
            next: 1,
            most: COUNTER_SLOTS,
            log: Vec::new(),
        }
    }
}

/// Slots that only zones, interfaces and rules get.
const SLOTS_FOR_RULES: u32 = 1 << 13;

impl Directory {
    /// Reads a log, over so many slots.
    ///
    /// # Errors
    /// When it holds something that was never written.
    pub fn read(log: &[u8], most: u32) -> Result<Self, DirectoryError> {
        let mut directory = Self {
            most,
            ..Self::default()
        };
        let mut at = 0;
        while at < log.len() {
            let (record, length) = decode(&log[at..]).ok_or(DirectoryError::Damaged(at))?;
            directory
                .add(record)
                .map_err(|_| DirectoryError::Damaged(at))?;
            at += length;
        }
        directory.log = log.to_vec();
        Ok(directory)
    }

    /// The log as it is to be kept.
    #[must_use]
    pub fn log(&self) -> &[u8] {
        &self.log
    }

    /// Slots in use.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.next
    }

    fn slot(&mut self, record: Record) -> Result<u32, DirectoryError> {
        if let Some(&slot) = self.slots.get(&record) {
            return Ok(slot);
        }
        let mut bytes = Vec::new();
        encode(&record, &mut bytes);
        if self.log.len() + bytes.len() > MAX_LOG {
            return Err(DirectoryError::Full(what(&record)));
        }
        let slot = self.add(record)?;
        self.log.extend(bytes);
        Ok(slot)
    }

    fn add(&mut self, record: Record) -> Result<u32, DirectoryError> {
        let count = match &record {
            Record::Zone(_) => ZONE_SLOTS,
            Record::Port(_) => FIXED_SLOTS,
            Record::Rule(..) => 3,
            Record::Ordinal(_) => 0,
            Record::Page(..) => ASN_PAGE,
            Record::Stopped(..) => 1,
        };
        if let Record::Ordinal(asn) = record {
            let ordinal = u32::try_from(self.ordinals.len()).unwrap_or(u32::MAX);
            if ordinal >= MAX_ORDINALS - 1 {
                return Err(DirectoryError::Full("another ASN".into()));
            }
            self.ordinals.push(asn);
            self.slots.insert(record, ordinal);
            return Ok(ordinal);
        }
        if self.next + count > self.most {
            return Err(DirectoryError::Full(what(&record)));
        }
        let slot = self.next;
        self.next += count;
        self.by_start.push((slot, record.clone()));
        self.slots.insert(record, slot);
        Ok(slot)
    }

    /// First of a zone's fixed slots.
    ///
    /// # Errors
    /// When no slots are left.
    pub fn zone(&mut self, zone: &str) -> Result<u32, DirectoryError> {
        self.slot(Record::Zone(zone.into()))
    }

    /// First of a zone's fixed slots, if it has any.
    #[must_use]
    pub fn known_zone(&self, zone: &str) -> Option<u32> {
        self.slots.get(&Record::Zone(zone.into())).copied()
    }

    /// First of an interface's fixed slots.
    ///
    /// # Errors
    /// When no slots are left.
    pub fn port(&mut self, name: &str) -> Result<u32, DirectoryError> {
        self.slot(Record::Port(name.into()))
    }

    /// First of an interface's fixed slots, if it has any.
    #[must_use]
    pub fn known_port(&self, name: &str) -> Option<u32> {
        self.slots.get(&Record::Port(name.into())).copied()
    }

    /// First of three slots, by action.
    ///
    /// # Errors
    /// When no slots are left.
    pub fn rule(&mut self, zone: &str, rule: &str) -> Result<u32, DirectoryError> {
        self.slot(Record::Rule(zone.into(), rule.into()))
    }

    /// The slot of what the guard of an interface drops of a zone, `None` where slots have run out.
    pub fn stopped(&mut self, interface: &str, zone: &str) -> Option<u32> {
        let record = Record::Stopped(interface.into(), zone.into());
        // It may be missing; a counter of a zone or rule may not, so these leave some for them.
        let is_new = !self.slots.contains_key(&record);
        if is_new && self.next + SLOTS_FOR_RULES > self.most {
            return None;
        }
        self.slot(record).ok()
    }

    /// The number of an ASN, `None` where numbers have run out.
    pub fn ordinal(&mut self, asn: Option<u32>) -> Option<u32> {
        self.slot(Record::Ordinal(asn)).ok()
    }

    /// Whose a number is.
    #[must_use]
    pub fn asn(&self, ordinal: u32) -> Option<Option<u32>> {
        self.ordinals.get(ordinal as usize).copied()
    }

    /// The number that an ASN has.
    #[must_use]
    pub fn known_ordinal(&self, asn: Option<u32>) -> Option<u32> {
        self.slots.get(&Record::Ordinal(asn)).copied()
    }

    /// Whose a slot is. `None`: nobody's yet.
    #[must_use]
    pub fn identity(&self, slot: u32) -> Option<Identity> {
        let index = self.by_start.partition_point(|(start, _)| *start <= slot);
        let (start, record) = self.by_start.get(index.checked_sub(1)?)?;
        let offset = slot - start;
        let by_action = |offset: u32| Action::from_bits(offset % 3);
        let fixed = |offset: u32| Reason::ALL[(offset / 3) as usize];
        let all = (REASONS * 3) as u32;
        match record {
            Record::Zone(zone) if offset < all => Some(Identity::Zone(
                zone.clone(),
                fixed(offset),
                by_action(offset),
            )),
            Record::Zone(zone) if offset < FIXED_SLOTS => Some(Identity::Noted(
                zone.clone(),
                fixed(offset - all + u32::from(Reason::FIRST_UNPARSABLE) * 3),
                by_action(offset - all),
            )),
            Record::Zone(zone) if offset < ZONE_SLOTS => Some(Identity::OtherAsns(
                zone.clone(),
                by_action(offset - FIXED_SLOTS),
            )),
            Record::Port(name) if offset < all => Some(Identity::Port(
                name.clone(),
                fixed(offset),
                by_action(offset),
            )),
            Record::Port(name) => {
                let (by, kind) = seen::of_slot(offset)?;
                Some(Identity::Seen(name.clone(), by, kind))
            }
            Record::Rule(zone, rule) if offset < 3 => Some(Identity::Rule(
                zone.clone(),
                rule.clone(),
                by_action(offset),
            )),
            Record::Stopped(interface, zone) if offset == 0 => {
                Some(Identity::Stopped(interface.clone(), zone.clone()))
            }
            Record::Page(zone, action, page) if offset < ASN_PAGE => {
                let ordinal = page * ASN_PAGE + offset;
                let asn = self.ordinals.get(ordinal as usize)?;
                Some(Identity::Asn(zone.clone(), *asn, *action))
            }
            _ => None,
        }
    }
}

fn what(record: &Record) -> String {
    match record {
        Record::Zone(name) => format!("zone `{name}`"),
        Record::Port(name) => format!("interface `{name}`"),
        Record::Rule(zone, rule) => format!("rule `{rule}` in zone `{zone}`"),
        _ => "more ASNs".into(),
    }
}

fn encode(record: &Record, out: &mut Vec<u8>) {
    let text = |out: &mut Vec<u8>, text: &str| {
        // Names are far shorter; what is cut here is cut for good and alike.
        let bytes = &text.as_bytes()[..text.len().min(0xffff)];
        out.extend(u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend(bytes);
    };
    match record {
        Record::Zone(name) => {
            out.push(1);
            text(out, name);
        }
        Record::Port(name) => {
            out.push(2);
            text(out, name);
        }
        Record::Rule(zone, rule) => {
            out.push(3);
            text(out, zone);
            text(out, rule);
        }
        Record::Ordinal(None) => out.push(4),
        Record::Ordinal(Some(asn)) => {
            out.push(5);
            out.extend(asn.to_le_bytes());
        }
        Record::Page(..) => unreachable!("pages are read and never added"),
        Record::Stopped(interface, zone) => {
            out.push(7);
            text(out, interface);
            text(out, zone);
        }
    }
}

fn decode(bytes: &[u8]) -> Option<(Record, usize)> {
    let mut at = 1;
    let number = |at: &mut usize| {
        let chunk = bytes.get(*at..)?.first_chunk::<4>()?;
        *at += 4;
        Some(u32::from_le_bytes(*chunk))
    };
    let text = |at: &mut usize| {
        let length = u16::from_le_bytes(*bytes.get(*at..)?.first_chunk::<2>()?);
        let end = *at + 2 + usize::from(length);
        let text = std::str::from_utf8(bytes.get(*at + 2..end)?).ok()?;
        *at = end;
        Some(text.to_owned())
    };
    let record = match bytes.first()? {
        1 => Record::Zone(text(&mut at)?),
        2 => Record::Port(text(&mut at)?),
        3 => Record::Rule(text(&mut at)?, text(&mut at)?),
        4 => Record::Ordinal(None),
        5 => Record::Ordinal(Some(number(&mut at)?)),
        6 => {
            let zone = text(&mut at)?;
            let action = Action::from_bits(u32::from(*bytes.get(at)?));
            at += 1;
            Record::Page(zone, action, number(&mut at)?)
        }
        7 => Record::Stopped(text(&mut at)?, text(&mut at)?),
        _ => return None,
    };
    Some((record, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_survive_the_log() {
        let mut directory = Directory::default();
        let zone = directory.zone("cameras").unwrap();
        let rule = directory.rule("cameras", "hostile").unwrap();
        let port = directory.port("trunk").unwrap();
        let stopped = directory.stopped("trunk", "cameras").unwrap();
        let read = Directory::read(directory.log(), COUNTER_SLOTS).unwrap();
        for directory in [&directory, &read] {
            assert_eq!(
                directory.identity(zone + Reason::Tunnel.fixed_slot(Action::Audit)),
                Some(Identity::Zone(
                    "cameras".into(),
                    Reason::Tunnel,
                    Action::Audit
                ))
            );
            assert_eq!(
                directory.identity(zone + Reason::noted_slot(2, Action::Drop)),
                Some(Identity::Noted(
                    "cameras".into(),
                    Reason::Truncated,
                    Action::Drop
                ))
            );
            assert_eq!(
                directory.identity(zone + FIXED_SLOTS + 2),
                Some(Identity::OtherAsns("cameras".into(), Action::Drop))
            );
            assert_eq!(
                directory.identity(rule + 2),
                Some(Identity::Rule(
                    "cameras".into(),
                    "hostile".into(),
                    Action::Drop
                ))
            );
            assert_eq!(
                directory.identity(port + Reason::NoZone.fixed_slot(Action::Drop)),
                Some(Identity::Port("trunk".into(), Reason::NoZone, Action::Drop))
            );
            assert_eq!(
                directory.identity(port + seen::slot(By::Guard, Kind::Service)),
                Some(Identity::Seen("trunk".into(), By::Guard, Kind::Service))
            );
            assert_eq!(
                directory.identity(stopped),
                Some(Identity::Stopped("trunk".into(), "cameras".into()))
            );
            assert_eq!(directory.identity(0), None);
            assert_eq!(directory.identity(directory.used()), None);
        }
    }

    /// What is new comes behind them.
    #[test]
    fn pages_of_older_versions_are_read() {
        let mut directory = Directory::default();
        directory.zone("cameras").unwrap();
        let ordinal = directory.ordinal(Some(12695)).unwrap();
        let page = directory.used();
        let mut log = directory.log().to_vec();
        log.extend(b"\x06\x07\0cameras\x02\0\0\0\0");
        let mut read = Directory::read(&log, COUNTER_SLOTS).unwrap();
        assert_eq!(read.log(), log);
        assert_eq!(read.known_ordinal(Some(12695)), Some(ordinal));
        assert_eq!(
            read.identity(page + ordinal),
            Some(Identity::Asn("cameras".into(), Some(12695), Action::Drop))
        );
        assert_eq!(read.identity(page + 77), None);
        assert_eq!(read.rule("cameras", "hostile"), Ok(page + ASN_PAGE));
        let again = Directory::read(read.log(), COUNTER_SLOTS).unwrap();
        assert_eq!(again.used(), read.used());
    }

    #[test]
    fn a_damaged_log_is_refused() {
        let mut directory = Directory::default();
        directory.rule("a", "b").unwrap();
        let log = directory.log().to_vec();
        for length in 1..log.len() {
            assert_eq!(
                Directory::read(&log[..length], COUNTER_SLOTS).unwrap_err(),
                DirectoryError::Damaged(0)
            );
        }
        assert_eq!(
            Directory::read(&[9], COUNTER_SLOTS).unwrap_err(),
            DirectoryError::Damaged(0)
        );
    }
}
