//! What `b` asks: what would be typed to block what is selected, or why there is nothing to block.

use std::{collections::HashMap, net::IpAddr};

use super::items::{Item, ItemKey, Scope};
use crate::live::{Action, Row, clean::clean, rates::Flow, units};

/// A question, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialog {
    /// It could be blocked.
    Ask(Order),
    /// It cannot, or need not.
    Refuse(String),
}

/// What is blocked, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// `AS64500`, `198.51.100.3/32`.
    pub target: String,
    /// The zone.
    pub zone: String,
    /// Whom that concerns, in words.
    pub about: String,
}

impl Order {
    /// What would be typed in a shell.
    pub fn command(&self) -> String {
        format!("kordon block {} --zone {}", self.target, quoted(&self.zone))
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", clean(word).replace('\'', r"'\''")),
    }
}

/// The question for a line. `flows` are all that are known, whatever is shown of them.
pub fn dialog<'a>(item: &Item, flows: impl Iterator<Item = Flow<'a>>) -> Dialog {
    let row = &item.row;
    let refuse = |words: &str| Dialog::Refuse(words.to_owned());
    if row.zone.is_empty() {
        return refuse("It has no zone: there is no policy for it, and nothing to block in.");
    }
    let target = match (&item.key, row.asn) {
        (ItemKey::Camera(_), _) => {
            return refuse(
                "A camera is not blocked: networks and destinations are. Go into it with enter.",
            );
        }
        (_, Some(asn)) => format!("AS{asn}"),
        (ItemKey::Network(_), None) => {
            return refuse(
                "These have no network that could be blocked. Go into it with enter, and choose a flow.",
            );
        }
        (ItemKey::Flow(_), None) => match host(row) {
            Some(prefix) => prefix,
            None => {
                return refuse("It has no destination that is known: there is nothing to block.");
            }
        },
    };
    let concerned: Vec<Flow<'_>> = flows.filter(|flow| is_hit(flow.row, row)).collect();
    if let Some(by) = dropped_by(&concerned) {
        let by = clean(&by);
        return Dialog::Refuse(format!(
            "{target} is already dropped in zone {}, by {by}: nothing to block.",
            clean(&row.zone)
        ));
    }
    let cameras: std::collections::HashSet<_> = concerned
        .iter()
        .map(|flow| (&flow.row.mac, &flow.row.src))
        .collect();
    let passed = concerned
        .iter()
        .filter(|flow| flow.row.action != Action::Drop);
    let passed: u64 = passed
        .map(|flow| flow.row.packets)
        .fold(0, u64::saturating_add);
    let name = row
        .name
        .as_deref()
        .filter(|_| row.asn.is_some())
        .unwrap_or_default();
    let name = if name.is_empty() {
        String::new()
    } else {
        format!("{}: ", clean(name))
    };
    let about = format!(
        "{name}{} sent {} that went on.",
        units::of(cameras.len() as u64, "camera"),
        units::of(passed, "packet"),
    );
    Dialog::Ask(Order {
        target,
        zone: row.zone.clone(),
        about,
    })
}

/// The address that decided, as a prefix of one.
fn host(row: &Row) -> Option<String> {
    match row.target()?.parse().ok()? {
        IpAddr::V4(address) => Some(format!("{address}/32")),
        IpAddr::V6(address) => Some(format!("{address}/128")),
    }
}

/// Whether what blocks one flow blocks another.
fn is_hit(flow: &Row, blocked: &Row) -> bool {
    flow.zone == blocked.zone
        && match blocked.asn {
            Some(_) => flow.asn == blocked.asn,
            None => flow.target() == blocked.target(),
        }
}

/// By what flows are dropped, if of each that is the last that was decided. A flow that passed before,
/// and not since it is dropped, is dropped; one that passed and is silent may pass again.
fn dropped_by(flows: &[Flow<'_>]) -> Option<String> {
    let mut last: HashMap<_, &Row> = HashMap::new();
    for flow in flows {
        let row = flow.row;
        let same = (&row.mac, &row.src, &row.dst, &row.proto, row.dport);
        let newest = last.entry(same).or_insert(row);
        // Of two at the same moment the worse is believed.
        if (&row.last, row.action != Action::Drop) > (&newest.last, newest.action != Action::Drop) {
            *newest = row;
        }
    }
    if last.is_empty() || last.values().any(|row| row.action != Action::Drop) {
        return None;
    }
    let mut by: Vec<String> = last
        .values()
        .map(|row| match &row.rule {
            Some(rule) => format!("rule {rule}"),
            None => row.reason.clone(),
        })
        .collect();
    by.sort_unstable();
    by.dedup();
    match by.len() {
        0..=3 => Some(by.join(", ")),
        more => Some(format!("{} and {} more", by[..2].join(", "), more - 2)),
    }
}

/// Where a scope leads, in words.
pub fn scope_words(scope: &Scope) -> Vec<String> {
    let mut words = Vec::new();
    let or = |value: &Option<String>| value.clone().unwrap_or_default();
    if let Some(network) = &scope.network {
        let name = match (network.asn, network.others) {
            (Some(asn), _) => format!("AS{asn}"),
            (None, true) => "others".to_owned(),
            (None, false) => "no network".to_owned(),
        };
        words.push(clean(&format!("{name} of zone {}", network.zone)));
    }
    if let Some(camera) = &scope.camera {
        let name = match &camera.src {
            Some(src) => src.clone(),
            None => or(&camera.mac),
        };
        let zone = match scope.network.is_some() {
            true => String::new(),
            false => format!(" of zone {}", camera.zone),
        };
        words.push(clean(&format!("{name}{zone}")));
    }
    words
}
