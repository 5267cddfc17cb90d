//! What peers say before the router's filters: the router may have refused it, so it
//! tightens, and never loosens.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::feed::{change, database, gone, of_policy, stakes};
use super::*;
use crate::asn;

const PRE: u8 = 0;

impl Lab {
    fn says(&mut self, n: u8, prefix: &str, origin: u32) {
        let bytes = routes_of(n, PRE, &update(prefix, Some(&[64501, origin])));
        self.send(&bytes);
    }
}

/// A feed with peer 1, of which both tables are monitored and empty; AS64500 is dropped,
/// AS65546 let through.
fn lab_over(db: AsnDb) -> Lab {
    let mut lab = Lab::new(stakes(&db), db);
    lab.begin(1);
    lab.send(&ends_of(1, PRE));
    lab.decide();
    lab
}

#[test]
fn what_the_router_refused_lets_nothing_through() {
    for combine in [asn::Combine::Union, asn::Combine::Priority] {
        let files = [("a.txt", "203.0.113.0/24 64500\n")];
        let mut lab = lab_over(database(&files, combine));
        lab.announce(1, "198.51.100.0/22", 64500);
        lab.says(1, "198.51.100.0/22", 64500);
        // Refused: parts of what is blocked, by BGP and by a file, as somebody else's.
        lab.says(1, "198.51.101.0/24", 65540);
        lab.says(1, "203.0.113.0/25", 65540);
        lab.says(1, "203.0.113.128/25", 65546);
        for _ in 0..3 {
            lab.decide();
            for address in [
                "198.51.101.1",
                "198.51.100.1",
                "203.0.113.1",
                "203.0.113.129",
            ] {
                assert_eq!(lab.origins(address), [64500], "{address}");
            }
            lab.wait(100_000);
        }
        assert_eq!(lab.feed.prefixes(), (1, 0));
    }
}

#[test]
fn what_it_refused_tightens_at_once_and_ends_late() {
    let mut lab = lab_over(database(
        &[("a.txt", "203.0.113.0/24 65540\n")],
        asn::Combine::Priority,
    ));
    lab.says(1, "203.0.113.0/25", 64500);
    assert_eq!(lab.decide(), change("203.0.113.0/25", &[64500]));
    assert_eq!(lab.origins("203.0.113.1"), [65540, 64500]);
    assert_eq!(lab.origins("203.0.113.129"), [65540]);
    let said = lab.feed.tightened("203.0.113.1".parse().unwrap()).unwrap();
    assert_eq!(
        (said.prefix.to_string(), said.origins),
        ("203.0.113.0/25".to_owned(), vec![64500])
    );
    assert_eq!(said.peers, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    // A longer prefix that the router accepted stands for itself.
    lab.announce(1, "203.0.113.0/26", 65541);
    lab.decide();
    lab.wait(600);
    lab.decide();
    assert_eq!(lab.origins("203.0.113.1"), [65541]);
    assert_eq!(lab.feed.tightened("203.0.113.1".parse().unwrap()), None);
    assert_eq!(lab.origins("203.0.113.65"), [65540, 64500]);
    // So does one that a peer said as somebody's whom nobody drops.
    lab.says(1, "203.0.113.64/26", 65542);
    lab.decide();
    assert_eq!(lab.origins("203.0.113.65"), [65540, 64500]);
    lab.wait(600);
    lab.decide();
    assert_eq!(lab.origins("203.0.113.65"), [65540]);
    // Gone: the rest waits.
    lab.send(&routes_of(1, PRE, &update("203.0.113.0/25", None)));
    lab.decide();
    assert_eq!(lab.feed.waiting(), 1);
    assert_eq!(lab.origins("203.0.113.33"), [65541]);
    lab.wait(600);
    assert_eq!(lab.decide(), gone("203.0.113.0/25"));
}

#[test]
fn nobody_beside_others_is_let_through_for_them() {
    // Named by a rule that drops and by one that passes: in some zone it may loosen.
    let text = "[zone.a]\nvlans = [20]\nsources = [\"10.0.0.0/8\"]\n\
                [zone.b]\nvlans = [21]\nsources = [\"10.0.0.0/8\"]\ndefault = \"drop\"\n\
                [set.both]\nasns = [64500]\n\
                [[rule]]\nfrom = \"b\"\nto = \"both\"\naction = \"pass\"\n\
                [[rule]]\nfrom = \"a\"\nto = \"both\"\naction = \"drop\"\n";
    let files = [("a.txt", "203.0.113.0/24 65540\n")];
    let db = database(&files, asn::Combine::Union);
    let mut lab = Lab::new(of_policy(text, &db), db);
    lab.says(1, "203.0.113.0/24", 64500);
    lab.wait(10);
    lab.decide();
    assert_eq!(lab.origins("203.0.113.1"), [65540]);
    // Space that nobody has is dropped as such by another zone.
    let text = "[zone.a]\nvlans = [20]\nsources = [\"10.0.0.0/8\"]\n\
                [set.bad]\nasns = [64500]\n\
                [[rule]]\nfrom = \"a\"\nto = [\"bad\", \"unrouted\"]\naction = \"drop\"\n";
    let db = database(&files, asn::Combine::Union);
    let mut lab = Lab::new(of_policy(text, &db), db);
    lab.says(1, "198.51.100.0/24", 64500);
    lab.says(1, "203.0.113.0/24", 64500);
    lab.wait(10);
    lab.decide();
    assert_eq!(lab.origins("198.51.100.1"), [] as [u32; 0]);
    assert_eq!(lab.origins("203.0.113.1"), [65540, 64500]);
}

#[test]
fn another_policy_is_another_meaning() {
    let files = [("a.txt", "203.0.113.0/24 65540\n")];
    let mut lab = lab_over(database(&files, asn::Combine::Union));
    lab.says(1, "203.0.113.0/24", 65541);
    lab.decide();
    assert_eq!(lab.origins("203.0.113.1"), [65540]);
    let text = "[zone.a]\nvlans = [20]\nsources = [\"10.0.0.0/8\"]\n[set.bad]\nasns = [65541]\n\
                [[rule]]\nfrom = \"a\"\nto = \"bad\"\naction = \"drop\"\n";
    let stakes = of_policy(text, &lab.imported);
    assert!(lab.feed.ground(stakes, lab.imported.clone()));
    assert!(lab.feed.is_dirty());
    assert_eq!(lab.decide(), change("203.0.113.0/24", &[65541]));
    assert_eq!(lab.origins("203.0.113.1"), [65540, 65541]);
    assert!(!lab.feed.is_dirty());
    // A restart knows it before it has read the policy.
    let bytes = lab.feed.to_bytes();
    let mut next = Lab::new(Stakes::default(), AsnDb::clone(&lab.imported));
    next.feed.restore(&bytes, at(0)).unwrap();
    assert_eq!(next.origins("203.0.113.1"), [65540, 65541]);
}

/// What a daemon of before kept: prefixes of what peers said were in effect then.
#[test]
fn the_first_version_is_read_and_loosens_nothing() {
    let mut lab = lab_over(AsnDb::default());
    lab.announce(1, "198.51.100.0/24", 64500);
    lab.decide();
    let bytes = lab.feed.to_bytes();
    let (body, _) = bytes.split_last_chunk::<4>().unwrap();
    // Without two ranges with their counts, two flags, and two empty lists at the end.
    let stakes = 8 + 4 + 8 + 4 + 8 + 2;
    let mut first = b"kordbgp1".to_vec();
    first.extend(&body[stakes..body.len() - 8]);
    first.extend(crc32fast::hash(&first).to_be_bytes());
    let mut next = lab_over(AsnDb::default());
    next.feed.lost(next.session, at(0));
    next.feed.restore(&first, at(0)).unwrap();
    assert_eq!(next.origins("198.51.100.1"), [64500]);
}

#[test]
fn tables_of_no_known_kind_only_tighten() {
    let mut lab = lab_over(AsnDb::default());
    lab.announce(1, "198.51.100.0/22", 64500);
    lab.decide();
    for kind in [4, 255] {
        let mut header = peer(1, POST);
        header[0] = kind;
        lab.send(&bmp(
            0,
            &[header, update("198.51.101.0/24", Some(&[65540]))].concat(),
        ));
    }
    lab.wait(100_000);
    lab.decide();
    lab.wait(100_000);
    lab.decide();
    assert_eq!(lab.origins("198.51.101.1"), [64500]);
}

#[derive(Clone, Debug)]
enum Step {
    /// In the table before the filters, or behind them; nobody: withdrawn.
    Route(bool, u8, (u32, u8), Option<u32>),
    Wait(u32),
    Decide,
}

fn step() -> impl Strategy<Value = Step> {
    let prefix = (0_u32..256, 24_u8..=32).prop_map(|(host, len)| {
        (
            (0xcb00_7100 | host) & (u32::MAX << (32 - u32::from(len))),
            len,
        )
    });
    // Dropped, let through, and others.
    let origin = prop_oneof![
        1 => Just(None),
        4 => prop::sample::select(vec![64500, 65546, 65540, 65541]).prop_map(Some)
    ];
    prop_oneof![
        8 => (any::<bool>(), 1_u8..3, prefix, origin)
            .prop_map(|(pre, n, prefix, origin)| Step::Route(pre, n, prefix, origin)),
        1 => prop::sample::select(vec![1_u32, 599, 600, 5000]).prop_map(Step::Wait),
        2 => Just(Step::Decide),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Two feeds, one of which does not hear what is said before the filters.
    #[test]
    fn it_adds_what_is_dropped_and_nothing_else(
        steps in prop::collection::vec(step(), 1..80),
        priority: bool,
    ) {
        let files = [("a.txt", "203.0.113.0/26 64500\n203.0.113.128/26 65540\n")];
        let combine = if priority { asn::Combine::Priority } else { asn::Combine::Union };
        let mut with = lab_over(database(&files, combine));
        let mut without = lab_over(AsnDb::clone(&with.imported));
        for lab in [&mut with, &mut without] {
            lab.begin(2);
            lab.send(&ends_of(2, PRE));
            lab.decide();
        }
        for step in steps {
            match step {
                Step::Route(pre, n, (start, len), origin) => {
                    let prefix = format!("{}/{len}", Ipv4Addr::from_bits(start));
                    let path = origin.map(|origin| [64501, origin]);
                    let update = update(&prefix, path.as_ref().map(|path| &path[..]));
                    let bytes = routes_of(n, if pre { PRE } else { POST }, &update);
                    with.send(&bytes);
                    if !pre {
                        without.send(&bytes);
                    }
                }
                Step::Wait(seconds) => {
                    with.wait(seconds);
                    without.wait(seconds);
                }
                Step::Decide => {
                    with.decide();
                    without.decide();
                }
            }
        }
        with.decide();
        without.decide();
        let (db, plain) = (with.feed.overlaid(&with.imported), without.feed.overlaid(&with.imported));
        let parts = with.feed.between_v4(&with.imported, (0xcb00_7100, 0xcb00_71ff));
        for host in 0..256_u32 {
            let bits = 0xcb00_7100 | host;
            let address = IpAddr::V4(Ipv4Addr::from_bits(bits));
            let all: BTreeSet<u32> = db.origins_at(address).iter().copied().collect();
            let few: BTreeSet<u32> = plain.origins_at(address).iter().copied().collect();
            prop_assert!(all.is_superset(&few), "{address}: {all:?} {few:?}");
            prop_assert!(all.difference(&few).all(|&asn| asn == 64500), "{address}: {all:?} {few:?}");
            // In place it is the same.
            let part = parts.partition_point(|(start, _)| *start <= bits) - 1;
            prop_assert_eq!(&parts[part].1[..], db.origins_at(address), "{}", address);
        }
    }
}
