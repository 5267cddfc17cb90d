//! A flow as it is kept and shown: who sent what to whom, what became of it, and the sums.
//!
//! [`Row`] is the contract of `kordon flows --json`: a row from the history and one from the kernel's lines look alike.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Whose packets they are. Two with the same fields are one flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Flow {
    /// Name of the zone.
    pub zone: String,
    /// Where it came in.
    pub interface: Option<String>,
    /// The camera, as `02:00:00:00:00:01`; `None`: more senders than are told apart.
    pub mac: Option<String>,
    /// Source address.
    pub src: Option<IpAddr>,
    /// Destination address.
    pub dst: Option<IpAddr>,
    /// The address that decided.
    pub judged: Option<IpAddr>,
    /// The network of that address.
    pub asn: Option<u32>,
    /// Its country, ISO 3166.
    pub country: Option<String>,
    /// What it is called.
    pub name: Option<String>,
    /// `tcp`, `udp`, `icmp` or a number.
    pub proto: Option<String>,
    /// Destination port.
    pub dport: Option<u16>,
    /// `pass`, `audit` or `drop`.
    pub action: String,
    /// Why.
    pub reason: String,
    /// The rule that said so.
    pub rule: Option<String>,
    /// `xdp` or `tc`: which program decided.
    pub by: String,
    /// Packets of several flows, without a destination.
    pub others: bool,
}

impl Flow {
    /// The same for equal flows, on every machine and with every version.
    #[must_use]
    pub(super) fn hash(&self) -> i64 {
        let text = serde_json::to_vec(self).unwrap_or_default();
        let hash: [u8; 32] = Sha256::digest(&text).into();
        i64::from_le_bytes(*hash.first_chunk().unwrap_or(&[0; 8]))
    }
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Count {
    /// Adds.
    pub fn add(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// What may be less than nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Packets.
    pub packets: i64,
    /// Their bytes.
    pub bytes: i64,
}

impl Difference {
    /// Whether there is none.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// What `more` is more than `less`.
    #[must_use]
    pub fn between(more: Count, less: Count) -> Self {
        Self {
            packets: more.packets.wrapping_sub(less.packets).cast_signed(),
            bytes: more.bytes.wrapping_sub(less.bytes).cast_signed(),
        }
    }

    /// Adds.
    pub fn add(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// What was seen of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// Packets and bytes.
    pub count: Count,
    /// First packet of the flow, which may be from before what is added up here.
    pub first: Timestamp,
    /// Last packet.
    pub last: Timestamp,
}

impl Sum {
    /// Adds what else was seen.
    pub fn add(&mut self, other: &Self) {
        self.count.add(other.count);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

/// A flow and its sums: an object of `kordon flows --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Whose.
    #[serde(flatten)]
    pub flow: Flow,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// First packet.
    #[serde(serialize_with = "moment", deserialize_with = "at")]
    pub first: Timestamp,
    /// Last packet.
    #[serde(serialize_with = "moment", deserialize_with = "at")]
    pub last: Timestamp,
}

impl Row {
    /// A flow and what was seen of it.
    #[must_use]
    pub fn new(flow: Flow, sum: &Sum) -> Self {
        Self {
            flow,
            packets: sum.count.packets,
            bytes: sum.count.bytes,
            first: sum.first,
            last: sum.last,
        }
    }

    /// What was seen of it.
    #[must_use]
    pub fn sum(&self) -> Sum {
        Sum {
            count: Count {
                packets: self.packets,
                bytes: self.bytes,
            },
            first: self.first,
            last: self.last,
        }
    }
}

/// RFC 3339, to the microsecond and always as long, so that moments can be compared as text.
pub fn moment<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{at:.6}"))
}

fn at<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}
