//! Columns: what they show of a line, and how they sort.

use std::cmp::Ordering;

use super::{
    items::{Item, View, by_address},
    layout::columns,
};
use crate::live::{
    clean::clean,
    stream::clock,
    units::{bits, bytes, count, rate},
};

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// The zone of the camera.
    Zone,
    /// Number, name and country of a network.
    Network,
    /// A camera's address.
    Camera,
    /// A camera's MAC address.
    Mac,
    /// Whom a flow is for.
    To,
    /// Protocol and port.
    Service,
    /// What was decided.
    Action,
    /// The rule, or the reason.
    Why,
    /// How many cameras.
    Cameras,
    /// How many flows.
    Flows,
    /// Packets per second.
    Rate,
    /// Packets dropped per second.
    DropRate,
    /// Packets per second that went on.
    PassRate,
    /// Bits per second.
    Bits,
    /// Bits dropped per second.
    DropBits,
    /// Bits per second that went on.
    PassBits,
    /// Packets.
    Packets,
    /// Bytes.
    Bytes,
    /// Packets dropped.
    Dropped,
    /// Packets that went on.
    Passed,
    /// Packets that went on and would not, were their rule not on probation.
    Audited,
    /// When the last packet came.
    Last,
}

use Column as C;

impl Column {
    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            C::Zone => "ZONE",
            C::Network => "NETWORK",
            C::Camera => "CAMERA",
            C::Mac => "MAC",
            C::To => "TO",
            C::Service => "PROTOCOL",
            C::Action => "ACTION",
            C::Why => "BY",
            C::Cameras => "CAMERAS",
            C::Flows => "FLOWS",
            C::Rate => "PKTS/S",
            C::DropRate => "DROP/S",
            C::PassRate => "PASS/S",
            C::Bits => "RATE",
            C::DropBits => "DROP RATE",
            C::PassBits => "PASS RATE",
            C::Packets => "PACKETS",
            C::Bytes => "BYTES",
            C::Dropped => "DROPPED",
            C::Passed => "PASSED",
            C::Audited => "AUDITED",
            C::Last => "LAST",
        }
    }

    /// Whether it has numbers: those stand at the right, and the largest are looked for first.
    pub fn is_number(self) -> bool {
        !matches!(
            self,
            C::Zone
                | C::Network
                | C::Camera
                | C::Mac
                | C::To
                | C::Service
                | C::Action
                | C::Why
                | C::Last
        )
    }

    /// Whether the largest come first unless somebody wants it otherwise.
    pub fn falls(self) -> bool {
        self.is_number() || self == C::Last
    }

    /// What it shows of a line. Nothing of it drives a terminal.
    pub fn text(self, item: &Item) -> String {
        let row = &item.row;
        let word = |value: &Option<String>| clean(value.as_deref().unwrap_or("-"));
        match self {
            C::Zone => clean(&row.zone),
            C::Network => network(item),
            C::Camera => word(&row.src),
            C::Mac => word(&row.mac),
            C::To if row.others => "others".to_owned(),
            C::To => word(&row.dst),
            C::Service => clean(&row.service()),
            C::Action => row.action.loud().to_owned(),
            C::Why => clean(row.why()),
            C::Cameras => count(item.cameras),
            C::Flows => count(item.flows),
            C::Rate => rate(item.all().pace.packets),
            C::DropRate => rate(item.dropped().pace.packets),
            C::PassRate => rate(item.passed().pace.packets),
            C::Bits => bits(item.all().pace.bytes),
            C::DropBits => bits(item.dropped().pace.bytes),
            C::PassBits => bits(item.passed().pace.bytes),
            C::Packets => count(item.all().packets),
            C::Bytes => bytes(item.all().bytes),
            C::Dropped => count(item.dropped().packets),
            C::Passed => count(item.passed().packets),
            C::Audited => count(item.audited().packets),
            C::Last => clock(&row.last),
        }
    }

    /// Which of two lines is smaller.
    pub fn compare(self, a: &Item, b: &Item) -> Ordering {
        let of = |item: &Item| match self {
            C::Rate => item.all().pace.packets,
            C::DropRate => item.dropped().pace.packets,
            C::PassRate => item.passed().pace.packets,
            C::Bits => item.all().pace.bytes,
            C::DropBits => item.dropped().pace.bytes,
            _ => item.passed().pace.bytes,
        };
        match self {
            C::Zone => a.row.zone.cmp(&b.row.zone),
            C::Network => a.row.asn.cmp(&b.row.asn),
            C::Camera => by_address(&a.row.src, &b.row.src),
            C::Mac => a.row.mac.cmp(&b.row.mac),
            C::To => by_address(&a.row.dst, &b.row.dst),
            C::Service => (&a.row.proto, a.row.dport).cmp(&(&b.row.proto, b.row.dport)),
            C::Action => a.row.action.cmp(&b.row.action),
            C::Why => a.row.why().cmp(b.row.why()),
            C::Cameras => a.cameras.cmp(&b.cameras),
            C::Flows => a.flows.cmp(&b.flows),
            C::Packets => a.all().packets.cmp(&b.all().packets),
            C::Bytes => a.all().bytes.cmp(&b.all().bytes),
            C::Dropped => a.dropped().packets.cmp(&b.dropped().packets),
            C::Passed => a.passed().packets.cmp(&b.passed().packets),
            C::Audited => a.audited().packets.cmp(&b.audited().packets),
            C::Last => a.row.last.cmp(&b.row.last),
            C::Rate | C::DropRate | C::PassRate | C::Bits | C::DropBits | C::PassBits => {
                of(a).total_cmp(&of(b))
            }
        }
    }
}

/// `AS64500 Bad Networks (RU)`
pub fn network(item: &Item) -> String {
    let row = &item.row;
    let Some(asn) = row.asn else {
        return match row.others {
            true => "others, without destination".to_owned(),
            false => "no network".to_owned(),
        };
    };
    let mut text = format!("AS{asn}");
    for (before, word, after) in [(" ", &row.name, ""), (" (", &row.country, ")")] {
        if let Some(word) = word.as_deref().filter(|word| !word.is_empty()) {
            text += &format!("{before}{}{after}", clean(word));
        }
    }
    text
}

/// All that is known of a line, in parts: columns may have cut it.
pub fn detail(item: &Item, view: View) -> Vec<String> {
    let row = &item.row;
    let mut parts: Vec<String> = columns(view)
        .map(|column| (column, column.text(item)))
        .filter(|(_, text)| text != "-" && text != "0")
        .map(|(column, text)| match column {
            C::Network | C::Camera | C::Service | C::Action => text,
            C::To => format!("to {text}"),
            _ => format!("{} {text}", column.title().to_lowercase()),
        })
        .collect();
    if view == View::Flows {
        if row.judged != row.dst
            && let Some(judged) = &row.judged
        {
            parts.push(format!("judged {}", clean(judged)));
        }
        if let Some(mac) = &row.mac {
            parts.push(format!("mac {}", clean(mac)));
        }
        if let Some(interface) = &row.interface {
            parts.push(format!("on {}", clean(interface)));
        }
        parts.push(format!("first {}", clean(&row.first)));
    }
    parts
}
