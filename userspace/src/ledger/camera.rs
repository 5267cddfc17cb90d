//! Who sent it: what each camera sent in all, whatever its packets were for. Kept since the controller started, and
//! bounded: a camera can make up sources.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use kordon_ebpf::layout::{
    Counter, FLOW_INNER_V6, FLOW_JUDGED_SHIFT, FLOW_OTHERS, FLOW_READABLE, FLOW_SLOT, FLOW_V6,
    Flow, FlowLine, Judged,
};

/// Cameras and counters that are told apart.
const MOST: usize = 1 << 16;

/// A sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Camera {
    /// Its source address.
    Address(IpAddr),
    /// Its MAC address, where no source address could be read.
    Mac([u8; 6]),
    /// One of those that are more than are told apart.
    Others,
}

impl Camera {
    /// The sender of a flow.
    #[must_use]
    pub fn of(flow: &Flow) -> Self {
        let [source, ..] = addresses(flow);
        source.map_or_else(|| Self::Mac(mac(flow.sender)), Self::Address)
    }
}

impl fmt::Display for Camera {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Mac([first, rest @ ..]) => {
                write!(f, "{first:02x}")?;
                rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
            }
            Self::Others => f.write_str("other"),
        }
    }
}

/// The MAC address in [`Flow::sender`].
#[must_use]
pub fn mac(sender: u64) -> [u8; 6] {
    let [a, b, c, d, e, f, ..] = sender.to_le_bytes();
    [a, b, c, d, e, f]
}

type Sums = HashMap<(u32, Camera), Counter>;

/// By counter slot and camera.
#[derive(Default)]
pub(super) struct Cameras {
    /// What has left its line.
    left: Sums,
    /// What was said: it never becomes less.
    said: Sums,
}

impl Cameras {
    /// A line was left.
    pub(super) fn left(&mut self, line: &FlowLine) {
        add(&mut self.left, line);
    }

    /// All, with what is in these lines. Where the ring is full, what leaves its line is in no record.
    pub(super) fn say<'a>(
        &mut self,
        lines: impl Iterator<Item = &'a FlowLine>,
    ) -> Vec<(u32, Camera, Counter)> {
        let mut all = self.left.clone();
        lines.for_each(|line| add(&mut all, line));
        for ((slot, mut camera), sum) in all {
            // Of what was in lines and is in no record more may have been said than there is room for.
            if self.said.len() >= 2 * MOST && !self.said.contains_key(&(slot, camera)) {
                camera = Camera::Others;
            }
            let said = self.said.entry((slot, camera)).or_default();
            said.packets = said.packets.max(sum.packets);
            said.bytes = said.bytes.max(sum.bytes);
        }
        let said = self.said.iter();
        said.map(|((slot, camera), sum)| (*slot, *camera, *sum))
            .collect()
    }
}

fn add(sums: &mut Sums, line: &FlowLine) {
    let slot = (line.flow.identity & FLOW_SLOT) as u32;
    let mut key = (slot, Camera::of(&line.flow));
    if sums.len() >= MOST && !sums.contains_key(&key) {
        key.1 = Camera::Others;
    }
    *sums.entry(key).or_default() += Counter {
        packets: line.packets.into(),
        bytes: line.bytes.into(),
    };
}

/// Which address decided: one of [`Judged`].
pub fn code(flow: &Flow) -> u8 {
    (flow.identity >> FLOW_JUDGED_SHIFT) as u8 & 15
}

/// Source, destination as in the packet, and the inner destination that was judged.
pub fn addresses(flow: &Flow) -> [Option<IpAddr>; 3] {
    let is = |flag: u64| flow.identity & flag != 0;
    if !is(FLOW_READABLE) {
        return [None; 3];
    }
    let v4 = |raw: u64| IpAddr::V4(Ipv4Addr::from((raw as u32).to_ne_bytes()));
    let v6 = |high: u64, low: u64| {
        let (high, low) = (u64::from_be(high), u64::from_be(low));
        IpAddr::V6(Ipv6Addr::from_bits(
            u128::from(high) << 64 | u128::from(low),
        ))
    };
    let [a, b, c, d] = flow.addresses;
    let is_inner = code(flow) >= Judged::Inner as u8;
    let inner = || match is(FLOW_INNER_V6) {
        true => v6(c, d),
        false => IpAddr::V4(Ipv4Addr::from_bits(u64::from_be(d) as u32)),
    };
    let (src, dst) = match is(FLOW_V6) {
        // There the inner destination stands for the outer one.
        true => (v6(a, b), (!is_inner).then(|| v6(c, d))),
        false => (v4(a), Some(v4(a >> 32))),
    };
    let is_others = is(FLOW_OTHERS);
    let inner = (is_inner && !is_others).then(inner);
    [Some(src), dst.filter(|_| !is_others), inner]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(source: Ipv4Addr, packets: u32) -> FlowLine {
        FlowLine {
            flow: Flow {
                addresses: [u32::from(source).to_be().into(), 0, 0, 0],
                sender: 0x0605_0403_0202,
                identity: 7 | FLOW_READABLE,
            },
            packets,
            bytes: 100 * packets,
            ..FlowLine::default()
        }
    }

    #[test]
    fn cameras_are_bounded_and_never_less() {
        let source = Ipv4Addr::new(10, 20, 0, 5);
        let mut cameras = Cameras::default();
        let said = |cameras: &mut Cameras, lines: &[FlowLine]| -> HashMap<String, u64> {
            let all = cameras.say(lines.iter()).into_iter();
            all.map(|(slot, camera, sum)| {
                assert_eq!((slot, sum.bytes), (7, 100 * sum.packets));
                (camera.to_string(), sum.packets)
            })
            .collect()
        };
        let mut stranger = line(source, 3);
        stranger.flow.identity = 7;
        let all = said(&mut cameras, &[line(source, 2), line(source, 4), stranger]);
        assert_eq!(all["10.20.0.5"], 6);
        assert_eq!(all["02:02:03:04:05:06"], 3);
        // They leave, and one finds no room in the ring.
        cameras.left(&line(source, 2));
        assert_eq!(said(&mut cameras, &[])["10.20.0.5"], 6);
        cameras.left(&line(source, 9));
        assert_eq!(said(&mut cameras, &[])["10.20.0.5"], 11);
        for number in 0..2 * MOST as u32 {
            cameras.left(&line(Ipv4Addr::from(0x0b00_0000 + number), 1));
        }
        let all = said(&mut cameras, &[]);
        assert!(all.len() <= MOST + 2, "{}", all.len());
        assert_eq!(all["10.20.0.5"], 11);
        assert_eq!(all.values().sum::<u64>(), 2 * MOST as u64 + 11 + 3);
    }
}
