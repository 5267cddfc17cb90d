//! The RIB against a list that is searched from end to end.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;

/// Prefixes inside 203.0.113.0/24 and 203.0.112.0/23, so that they meet.
fn prefix() -> impl Strategy<Value = (u32, u8)> {
    (0_u32..512, 23_u8..=32).prop_map(|(host, len)| {
        let address = 0xcb00_7000 | host;
        (address & (u32::MAX << (32 - u32::from(len))), len)
    })
}

#[derive(Clone, Debug)]
enum Step {
    Announce(u8, (u32, u8), Vec<u32>),
    Withdraw(u8, (u32, u8)),
    /// Down and up again; some of what was there comes back.
    Resync(u8, Vec<bool>),
    Decide,
}

fn step() -> impl Strategy<Value = Step> {
    let n = 1_u8..4;
    prop_oneof![
        6 => (n.clone(), prefix(), prop::collection::vec(0_u32..6, 1..3))
            .prop_map(|(n, prefix, path)| Step::Announce(n, prefix, path)),
        3 => (n.clone(), prefix()).prop_map(|(n, prefix)| Step::Withdraw(n, prefix)),
        1 => (n, prop::collection::vec(any::<bool>(), 8))
            .prop_map(|(n, back)| Step::Resync(n, back)),
        1 => Just(Step::Decide),
    ]
}

fn text((address, len): (u32, u8)) -> String {
    format!("{}/{len}", Ipv4Addr::from_bits(address))
}

/// Of a path of small numbers: the last, unless it is AS0; then whoever is before it.
fn origin(path: &[u32]) -> Option<u32> {
    path.iter().rfind(|&&asn| asn != 0).copied()
}

fn imported() -> AsnDb {
    let mut db = AsnDb {
        origins: vec![vec![1], vec![100, 101]],
        ..AsnDb::default()
    };
    for (start, end, origins) in [(0xcb00_7040, 0xcb00_709f, 0), (0xcb00_7100, 0xcb00_717f, 1)] {
        db.v4.push(crate::asn::model::OriginRange {
            start,
            end,
            origins,
        });
    }
    db
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn the_rib_is_what_a_list_is(steps in prop::collection::vec(step(), 1..120)) {
        let mut lab = Lab::new(Stakes::default(), imported());
        let mut list: BTreeMap<(u8, (u32, u8)), Vec<u32>> = BTreeMap::new();
        for n in 1..4 {
            lab.begin(n);
        }
        // What the changes alone say.
        let mut told: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        let mut decide = |lab: &mut Lab| {
            for (prefix, origins) in lab.decide() {
                match origins {
                    Some(origins) => told.insert(prefix, origins),
                    None => told.remove(&prefix),
                };
            }
        };
        for step in steps {
            match step {
                Step::Announce(n, prefix, path) => {
                    lab.send(&routes(n, &update(&text(prefix), Some(&path))));
                    list.insert((n, prefix), path);
                }
                Step::Withdraw(n, prefix) => {
                    lab.send(&routes(n, &update(&text(prefix), None)));
                    list.remove(&(n, prefix));
                }
                Step::Resync(n, back) => {
                    lab.send(&peer_down(n));
                    lab.send(&peer_up(n, &[], &[]));
                    let had: Vec<_> = list
                        .iter()
                        .filter(|((owner, _), _)| *owner == n)
                        .map(|((_, prefix), path)| (*prefix, path.clone()))
                        .collect();
                    for (index, (prefix, path)) in had.into_iter().enumerate() {
                        if back[index % back.len()] {
                            lab.send(&routes(n, &update(&text(prefix), Some(&path))));
                        } else {
                            list.remove(&(n, prefix));
                        }
                    }
                    lab.send(&ends(n));
                }
                Step::Decide => decide(&mut lab),
            }
        }
        decide(&mut lab);
        let mut wanted: BTreeMap<(u32, u8), Vec<u32>> = BTreeMap::new();
        for ((_, prefix), path) in &list {
            wanted.entry(*prefix).or_default().extend(origin(path));
        }
        wanted.retain(|_, set| {
            set.sort_unstable();
            set.dedup();
            !set.is_empty()
        });
        let expected: BTreeMap<String, Vec<u32>> =
            wanted.iter().map(|(prefix, set)| (text(*prefix), set.clone())).collect();
        prop_assert_eq!(&told, &expected);
        let db = lab.feed.overlaid(&lab.imported);
        for host in 0..512_u32 {
            let address = 0xcb00_7000 | host;
            let longest = wanted
                .iter()
                .filter(|((start, len), _)| address & (u32::MAX << (32 - u32::from(*len))) == *start)
                .max_by_key(|((_, len), _)| *len);
            let mut set = longest.map(|(_, set)| set.clone()).unwrap_or_default();
            let address = IpAddr::V4(Ipv4Addr::from_bits(address));
            for &asn in lab.imported.origins_at(address) {
                if !set.contains(&asn) {
                    set.push(asn);
                }
            }
            prop_assert_eq!(db.origins_at(address), &set[..], "{}", address);
        }
    }
}
