//! The lines of a view: flows, or sums of them by network or camera.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::Arc,
};

use crate::live::{
    Action, Key, Row,
    rates::{Flow, Pace},
};

/// What the lines are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Whom cameras send to.
    Networks,
    /// Who sends.
    Cameras,
    /// Both.
    Flows,
}

/// A network in a zone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkKey {
    /// The zone of the cameras.
    pub zone: String,
    /// The network; `None`: nobody announces it, or none decided.
    pub asn: Option<u32>,
    /// What is without destination.
    pub others: bool,
}

/// A camera.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CameraKey {
    /// Its zone.
    pub zone: String,
    /// Its MAC address.
    pub mac: Option<String>,
    /// Its address.
    pub src: Option<String>,
}

/// What makes a line the same line in the next answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ItemKey {
    /// A line of [`View::Networks`].
    Network(NetworkKey),
    /// A line of [`View::Cameras`].
    Camera(CameraKey),
    /// A line of [`View::Flows`].
    Flow(Key),
}

/// What a view is narrowed to by going into its lines.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Only flows to this network.
    pub network: Option<NetworkKey>,
    /// Only flows of this camera.
    pub camera: Option<CameraKey>,
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// How fast they grow.
    pub pace: Pace,
}

/// A line.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it is.
    pub key: ItemKey,
    /// Its last flow, which has its words.
    pub row: Arc<Row>,
    /// By [`Action`].
    pub counts: [Count; 3],
    /// Cameras in it.
    pub cameras: u64,
    /// Flows in it.
    pub flows: u64,
    /// The daemon tells none of its flows any more.
    pub is_gone: bool,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.pace += other.pace;
    }
}

impl Item {
    /// What was dropped.
    pub fn dropped(&self) -> Count {
        self.counts[Action::Drop as usize]
    }

    /// What would be dropped if its rule were not on probation. It went on.
    pub fn audited(&self) -> Count {
        self.counts[Action::Audit as usize]
    }

    /// What went on, for whatever reason.
    pub fn passed(&self) -> Count {
        let mut sum = self.counts[Action::Pass as usize];
        sum += self.audited();
        sum
    }

    /// All of it.
    pub fn all(&self) -> Count {
        let mut sum = self.passed();
        sum += self.dropped();
        sum
    }
}

impl Row {
    /// Its network.
    pub fn network_key(&self) -> NetworkKey {
        NetworkKey {
            zone: self.zone.clone(),
            asn: self.asn,
            others: self.others && self.asn.is_none(),
        }
    }

    /// Its camera.
    pub fn camera_key(&self) -> CameraKey {
        CameraKey {
            zone: self.zone.clone(),
            mac: self.mac.clone(),
            src: self.src.clone(),
        }
    }
}

impl Scope {
    /// Whether a flow is within.
    pub fn has(&self, row: &Row) -> bool {
        let network = self.network.as_ref().is_none_or(|network| {
            network.zone == row.zone
                && network.asn == row.asn
                && network.others == (row.others && row.asn.is_none())
        });
        let camera = self.camera.as_ref().is_none_or(|camera| {
            camera.zone == row.zone && camera.mac == row.mac && camera.src == row.src
        });
        network && camera
    }
}

/// Whether a flow has all the words of a filter somewhere. No words: every flow has them.
pub fn matches(row: &Row, words: &[String]) -> bool {
    if words.is_empty() {
        return true;
    }
    let or = |value: &Option<String>| value.clone().unwrap_or_default();
    let asn = row.asn.map(|asn| format!("AS{asn}")).unwrap_or_default();
    let text = [
        row.zone.clone(),
        or(&row.interface),
        or(&row.mac),
        or(&row.src),
        or(&row.dst),
        or(&row.judged),
        asn,
        or(&row.name),
        or(&row.country),
        row.service(),
        row.action.word().to_owned(),
        row.reason.clone(),
        or(&row.rule),
        if row.others { "others" } else { "" }.to_owned(),
    ]
    // A word is within one of them.
    .join("\n")
    .to_lowercase();
    words.iter().all(|word| text.contains(word.as_str()))
}

/// A sum of flows on its way.
struct Sum<'a> {
    flow: Flow<'a>,
    counts: [Count; 3],
    cameras: HashSet<(Option<&'a str>, Option<&'a str>)>,
    flows: u64,
    is_gone: bool,
}

impl<'a> Sum<'a> {
    fn new(flow: Flow<'a>) -> Self {
        Self {
            flow,
            counts: [Count::default(); 3],
            cameras: HashSet::new(),
            flows: 0,
            is_gone: true,
        }
    }

    fn add(&mut self, flow: Flow<'a>) {
        let row = flow.row;
        self.counts[row.action as usize] += Count {
            packets: row.packets,
            bytes: row.bytes,
            pace: flow.pace,
        };
        self.flows += 1;
        self.is_gone &= flow.is_gone;
        if (&row.last, flow.key) > (&self.flow.row.last, self.flow.key) {
            self.flow = flow;
        }
    }

    fn item(self, key: ItemKey) -> Item {
        Item {
            key,
            row: Arc::clone(self.flow.row),
            counts: self.counts,
            cameras: self.cameras.len() as u64,
            flows: self.flows,
            is_gone: self.is_gone,
        }
    }
}

fn sums<'a, G: Eq + Hash>(
    flows: impl Iterator<Item = Flow<'a>>,
    group: impl Fn(&'a Row) -> G,
    key: impl Fn(&Row) -> ItemKey,
) -> Vec<Item> {
    let mut all: HashMap<G, Sum<'a>> = HashMap::new();
    for flow in flows {
        let camera = (flow.row.mac.as_deref(), flow.row.src.as_deref());
        let sum = all.entry(group(flow.row)).or_insert_with(|| Sum::new(flow));
        sum.add(flow);
        sum.cameras.insert(camera);
    }
    let items = all.into_values().map(|sum| {
        let key = key(sum.flow.row);
        sum.item(key)
    });
    items.collect()
}

/// The lines of a view, in no order.
pub fn items<'a>(flows: impl Iterator<Item = Flow<'a>>, view: View) -> Vec<Item> {
    match view {
        View::Networks => sums(
            flows,
            |row| (row.zone.as_str(), row.asn, row.others && row.asn.is_none()),
            |row| ItemKey::Network(row.network_key()),
        ),
        View::Cameras => sums(
            flows,
            |row| (row.zone.as_str(), row.mac.as_deref(), row.src.as_deref()),
            |row| ItemKey::Camera(row.camera_key()),
        ),
        View::Flows => flows
            .map(|flow| {
                let mut sum = Sum::new(flow);
                sum.add(flow);
                sum.item(ItemKey::Flow(flow.key.clone()))
            })
            .collect(),
    }
}

/// Addresses in their order, before words in theirs.
pub(super) fn by_address(a: &Option<String>, b: &Option<String>) -> Ordering {
    let address = |text: &Option<String>| text.as_deref()?.parse::<std::net::IpAddr>().ok();
    match (address(a), address(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}
