//! What takes effect, and when.

use super::*;
use crate::asn;
use crate::policy::{Bundle, Context, Overlay, parse};

const PREFIX: &str = "198.51.100.0/24";
const INSIDE: &str = "198.51.100.9";

/// What AS64500 drops and AS65546 passes mean.
pub(super) fn stakes(db: &AsnDb) -> Stakes {
    of_policy(
        "[zone.cameras]\nvlans = [20]\nsources = [\"10.0.0.0/8\"]\n\
         [set.bad]\nasns = [64500]\n[set.good]\nasns = [65546]\n\
         [[rule]]\nfrom = \"cameras\"\nto = \"good\"\naction = \"pass\"\n\
         [[rule]]\nfrom = \"cameras\"\nto = \"bad\"\naction = \"drop\"\n",
        db,
    )
}

pub(super) fn of_policy(text: &str, db: &AsnDb) -> Stakes {
    let bundle = Bundle {
        file: "policy.toml".to_owned(),
        text: text.to_owned(),
        lists: Vec::new(),
    };
    let (policy, found) = parse(&bundle, &Overlay::default(), &Context::now(Some(db)));
    Stakes::of(&policy.unwrap_or_else(|| panic!("{found:?}")), db)
}

pub(super) fn database(files: &[(&str, &str)], combine: asn::Combine) -> AsnDb {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<_> = files
        .iter()
        .map(|(name, text)| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        })
        .collect();
    let options = asn::Options {
        combine,
        ..asn::Options::default()
    };
    asn::import_with(&paths, &[], &options).unwrap().0
}

/// A feed whose peers 1 and 2 are up and have nothing.
fn lab() -> Lab {
    lab_over(AsnDb::default())
}

fn lab_over(db: AsnDb) -> Lab {
    let mut lab = Lab::new(stakes(&db), db);
    lab.begin(1);
    lab.begin(2);
    lab
}

pub(super) fn change(prefix: &str, origins: &[u32]) -> Vec<(String, Option<Vec<u32>>)> {
    vec![(prefix.to_owned(), Some(origins.to_vec()))]
}

pub(super) fn gone(prefix: &str) -> Vec<(String, Option<Vec<u32>>)> {
    vec![(prefix.to_owned(), None)]
}

impl Lab {
    pub(super) fn announce(&mut self, n: u8, prefix: &str, origin: u32) {
        let bytes = routes(n, &update(prefix, Some(&[64501, origin])));
        self.send(&bytes);
    }

    pub(super) fn withdraw(&mut self, n: u8, prefix: &str) {
        let bytes = routes(n, &update(prefix, None));
        self.send(&bytes);
    }

    fn wait_at(&self, address: &str) -> Option<crate::bmp::found::Wait> {
        self.feed.at(address.parse().unwrap(), at(self.now)).1
    }
}

#[test]
fn what_tightens_is_at_once() {
    let mut lab = lab();
    lab.announce(1, PREFIX, 64500);
    assert_eq!(lab.decide(), change(PREFIX, &[64500]));
    assert_eq!(lab.origins(INSIDE), [64500]);
    let (found, wait) = lab.feed.at(INSIDE.parse().unwrap(), at(9));
    let found = found.unwrap();
    assert_eq!((found.since, wait), (1_000_000, None));
    assert_eq!(found.peers, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    // Again: nothing new.
    lab.announce(1, PREFIX, 64500);
    assert!(lab.decide().is_empty());
}

#[test]
fn another_origin_waits_and_is_shown() {
    let mut lab = lab();
    lab.announce(1, PREFIX, 64500);
    lab.decide();
    lab.wait(10);
    lab.announce(1, PREFIX, 65540);
    assert_eq!(lab.decide(), change(PREFIX, &[64500, 65540]));
    let wait = lab.wait_at(INSIDE).unwrap();
    assert_eq!(
        (wait.current, wait.wanted),
        (vec![64500, 65540], vec![65540])
    );
    assert_eq!((wait.since, wait.left), (1_000_010, 600));
    lab.wait(599);
    assert!(lab.decide().is_empty());
    lab.wait(1);
    assert_eq!(lab.decide(), change(PREFIX, &[65540]));
    assert_eq!(lab.feed.waiting(), 0);
}

#[test]
fn a_way_back_ends_the_wait_and_the_next_begins_anew() {
    let mut lab = lab();
    lab.announce(1, PREFIX, 64500);
    lab.decide();
    lab.announce(1, PREFIX, 65540);
    lab.decide();
    lab.wait(500);
    lab.announce(1, PREFIX, 64500);
    assert_eq!(lab.decide(), change(PREFIX, &[64500]));
    assert_eq!(lab.feed.waiting(), 0);
    lab.announce(1, PREFIX, 65540);
    lab.decide();
    lab.wait(599);
    assert!(lab.decide().is_empty());
    // Somebody else now: he has to stand for as long.
    lab.announce(1, PREFIX, 65541);
    assert_eq!(lab.decide(), change(PREFIX, &[64500, 65541]));
    lab.wait(2);
    assert!(lab.decide().is_empty());
    lab.wait(598);
    assert_eq!(lab.decide(), change(PREFIX, &[65541]));
}

#[test]
fn a_withdrawal_waits_and_flaps_change_nothing() {
    let mut lab = lab();
    lab.announce(1, PREFIX, 64500);
    lab.decide();
    for _ in 0..1000 {
        lab.withdraw(1, PREFIX);
        assert!(lab.decide().is_empty());
        assert_eq!(lab.wait_at(INSIDE).unwrap().wanted, [] as [u32; 0]);
        lab.announce(1, PREFIX, 64500);
        assert!(lab.decide().is_empty());
    }
    assert_eq!(lab.feed.waiting(), 0);
    lab.withdraw(1, PREFIX);
    lab.decide();
    lab.wait(600);
    assert_eq!(lab.decide(), gone(PREFIX));
    assert!(lab.feed.is_empty());
    // What nobody drops goes at once.
    lab.announce(1, PREFIX, 65540);
    lab.decide();
    lab.withdraw(1, PREFIX);
    assert_eq!(lab.decide(), gone(PREFIX));
}

#[test]
fn a_part_with_another_origin_is_not_free_at_once() {
    let mut lab = lab();
    lab.announce(1, "198.51.100.0/22", 64500);
    lab.decide();
    lab.announce(1, "198.51.101.0/24", 65540);
    assert_eq!(lab.decide(), change("198.51.101.0/24", &[64500, 65540]));
    assert_eq!(lab.wait_at("198.51.101.1").unwrap().wanted, [65540]);
    lab.wait(600);
    assert_eq!(lab.decide(), change("198.51.101.0/24", &[65540]));
    assert_eq!(lab.origins("198.51.100.1"), [64500]);
    // Gone again: who has the rest has it, at once.
    lab.withdraw(1, "198.51.101.0/24");
    assert_eq!(lab.decide(), gone("198.51.101.0/24"));
    assert_eq!(lab.origins("198.51.101.1"), [64500]);
}

#[test]
fn moas_is_all_of_them() {
    let mut lab = lab();
    lab.announce(1, PREFIX, 65540);
    lab.announce(2, PREFIX, 64500);
    assert_eq!(lab.decide(), change(PREFIX, &[64500, 65540]));
    // The one that nobody drops goes at once, the other waits.
    lab.withdraw(1, PREFIX);
    assert_eq!(lab.decide(), change(PREFIX, &[64500]));
    lab.announce(1, PREFIX, 65540);
    lab.decide();
    lab.withdraw(2, PREFIX);
    assert!(lab.decide().is_empty());
    assert_eq!(lab.wait_at(INSIDE).unwrap().wanted, [65540]);
}

#[test]
fn a_network_that_is_let_through_waits_to_come_and_goes_at_once() {
    let mut lab = lab();
    lab.announce(1, PREFIX, 65546);
    assert!(lab.decide().is_empty());
    assert_eq!(lab.wait_at(INSIDE).unwrap().wanted, [65546]);
    lab.wait(600);
    assert_eq!(lab.decide(), change(PREFIX, &[65546]));
    lab.withdraw(1, PREFIX);
    assert_eq!(lab.decide(), gone(PREFIX));
}

#[test]
fn space_that_nobody_had_is_dropped_until_the_announcement_has_stood() {
    let text = "[zone.cameras]\nvlans = [20]\nsources = [\"10.0.0.0/8\"]\n\
                [[rule]]\nfrom = \"cameras\"\nto = \"unrouted\"\naction = \"drop\"\n";
    let db = database(&[("a.txt", "203.0.113.0/24 65540\n")], asn::Combine::Union);
    let mut lab = Lab::new(of_policy(text, &db), db);
    lab.begin(1);
    lab.announce(1, PREFIX, 65540);
    assert!(lab.decide().is_empty());
    lab.announce(1, "203.0.113.0/24", 65541);
    assert_eq!(lab.decide(), change("203.0.113.0/24", &[65541]));
    lab.wait(600);
    assert_eq!(lab.decide(), change(PREFIX, &[65540]));
}

#[test]
fn the_rpki_ends_the_wait() {
    let vrps = "ASN,IP Prefix,Max Length,Trust Anchor\nAS65540,198.51.100.0/24,24,x\n";
    let db = database(
        &[("a.txt", "192.0.2.0/24 64502\n"), ("v.csv", vrps)],
        asn::Combine::Union,
    );
    let mut lab = lab_over(db);
    lab.announce(1, PREFIX, 64500);
    lab.decide();
    lab.announce(1, PREFIX, 65541);
    assert_eq!(lab.decide(), change(PREFIX, &[64500, 65541]));
    lab.announce(1, PREFIX, 65540);
    assert_eq!(lab.decide(), change(PREFIX, &[65540]));
    // Longer than the authorisation allows.
    lab.announce(1, PREFIX, 64500);
    lab.decide();
    lab.announce(1, "198.51.100.0/25", 65540);
    assert_eq!(lab.decide(), change("198.51.100.0/25", &[64500, 65540]));
}

#[test]
fn over_files() {
    let files = [("a.txt", "198.51.100.0/25 64500\n203.0.113.0/24 64502\n")];
    let mut lab = lab_over(database(&files, asn::Combine::Union));
    lab.announce(1, "198.51.100.0/24", 65540);
    lab.decide();
    assert_eq!(lab.origins("198.51.100.1"), [65540, 64500]);
    assert_eq!(lab.origins("198.51.100.129"), [65540]);
    assert_eq!(lab.origins("203.0.113.1"), [64502]);

    let mut lab = lab_over(database(&files, asn::Combine::Priority));
    lab.announce(1, "198.51.100.0/24", 65540);
    lab.decide();
    // Until it has stood, both.
    assert_eq!(lab.origins("198.51.100.1"), [65540, 64500]);
    assert_eq!(lab.feed.waiting(), 1);
    lab.wait(600);
    lab.decide();
    assert_eq!(lab.origins("198.51.100.1"), [65540]);
    assert_eq!(lab.origins("203.0.113.1"), [64502]);
    lab.announce(1, "203.0.113.0/24", 65540);
    assert_eq!(lab.decide(), change("203.0.113.0/24", &[65540]));
    assert_eq!(lab.origins("203.0.113.1"), [65540]);
}

#[test]
fn the_first_routes_of_a_peer_are_one_change() {
    let mut lab = Lab::new(stakes(&AsnDb::default()), AsnDb::default());
    lab.send(&peer_up(1, &[], &[]));
    lab.announce(1, "198.51.100.0/22", 64500);
    assert!(lab.decide().is_empty());
    lab.announce(1, "198.51.101.0/24", 65540);
    lab.send(&ends(1));
    assert_eq!(lab.decide().len(), 2);
    // Not blocked for a moment, and nothing to wait for.
    assert_eq!(lab.origins("198.51.101.1"), [65540]);
    assert_eq!(lab.feed.waiting(), 0);
    // One that never says that this is all.
    lab.send(&peer_up(2, &[], &[]));
    lab.announce(2, "203.0.113.0/24", 64500);
    assert!(lab.decide().is_empty());
    lab.wait(2);
    assert_eq!(lab.decide(), change("203.0.113.0/24", &[64500]));
}

#[test]
fn a_session_that_is_lost_keeps_its_state_and_comes_back_without_a_gap() {
    let mut lab = lab();
    lab.announce(1, PREFIX, 64500);
    lab.announce(1, "203.0.113.0/24", 65540);
    lab.decide();
    lab.feed.lost(lab.session, at(lab.now));
    assert!(lab.decide().is_empty());
    lab.wait(3599);
    lab.decide();
    assert!(
        lab.feed
            .tables()
            .all(|(table, ..)| !table.stale && !table.up)
    );
    lab.wait(1);
    assert!(lab.decide().is_empty());
    assert!(lab.feed.tables().all(|(table, ..)| table.stale));
    assert!(lab.feed.at(INSIDE.parse().unwrap(), at(0)).0.unwrap().stale);
    assert_eq!(lab.origins(INSIDE), [64500]);
    // Back; one route is not there any more.
    lab.session = lab.feed.open(ROUTER, at(lab.now));
    lab.send(&peer_up(1, &[], &[]));
    lab.send(&peer_up(2, &[], &[]));
    assert!(lab.decide().is_empty());
    lab.announce(1, PREFIX, 64500);
    assert!(lab.decide().is_empty());
    lab.send(&ends(1));
    assert_eq!(lab.decide(), gone("203.0.113.0/24"));
    assert_eq!(lab.origins(INSIDE), [64500]);
}

#[test]
fn a_peer_that_goes_down_keeps_its_routes_too() {
    let mut lab = lab();
    lab.announce(1, PREFIX, 65540);
    lab.decide();
    lab.send(&peer_down(1));
    assert!(lab.decide().is_empty());
    lab.wait(3600);
    lab.decide();
    let (table, routes, _) = lab.feed.tables().next().unwrap();
    assert!(table.stale && routes == 1);
    // It comes back and never says that it has sent all.
    lab.send(&peer_up(1, &[], &[]));
    lab.wait(3599);
    assert!(lab.decide().is_empty());
    lab.wait(1);
    assert_eq!(lab.decide(), gone(PREFIX));
}

#[test]
fn a_peer_that_its_router_has_no_longer_is_forgotten() {
    let mut lab = lab();
    lab.announce(1, PREFIX, 64500);
    lab.decide();
    lab.send(&peer_down(1));
    lab.send(&peer_down(2));
    let tables = |lab: &Lab| lab.feed.tables().count();
    // Who has no routes is forgotten when it is stale.
    lab.wait(3600);
    assert!(lab.decide().is_empty());
    assert_eq!(tables(&lab), 1);
    lab.wait(100_000 - 3601);
    assert!(lab.decide().is_empty());
    // What it had goes like what is withdrawn: what loosens waits.
    lab.wait(1);
    assert!(lab.decide().is_empty());
    assert_eq!((tables(&lab), lab.feed.waiting()), (0, 1));
    assert_eq!(lab.origins(INSIDE), [64500]);
    lab.wait(600);
    assert_eq!(lab.decide(), gone(PREFIX));
    assert_eq!(lab.feed.held_sets(), 0);
}

#[test]
fn nobody_is_forgotten_while_its_router_is_away() {
    let mut lab = lab();
    lab.announce(1, PREFIX, 64500);
    lab.decide();
    lab.feed.lost(lab.session, at(lab.now));
    lab.wait(1_000_000);
    lab.decide();
    lab.session = lab.feed.open(ROUTER, at(lab.now));
    // The router is back; that it has no such peer takes as long to believe.
    lab.wait(99_999);
    assert!(lab.decide().is_empty());
    assert_eq!(lab.feed.waiting(), 0);
    lab.wait(1);
    lab.decide();
    assert_eq!((lab.feed.tables().count(), lab.feed.waiting()), (0, 1));
}

#[test]
fn there_is_always_room_for_a_peer_that_is_there() {
    let mut lab = Lab::new(stakes(&AsnDb::default()), AsnDb::default());
    let header = |n: u16| {
        let mut header = peer(1, POST);
        header[22..24].copy_from_slice(&n.to_be_bytes());
        header
    };
    let announce = |n: u16, prefix: &str| {
        let update = update(prefix, Some(&[64501, 64500]));
        bmp(0, &[header(n), update].concat())
    };
    let down = |n: u16| bmp(2, &[header(n), vec![4]].concat());
    for n in 0..4096 {
        lab.send(&announce(n, &format!("10.{}.{}.0/24", n >> 8, n & 255)));
    }
    lab.wait(2);
    lab.decide();
    // All are up: one more is too many.
    let one_more = announce(5000, PREFIX);
    let (_, message) = Message::first(&one_more).unwrap().unwrap();
    let error = lab.feed.message(lab.session, &message, at(2)).unwrap_err();
    assert!(
        error.to_string().contains("more than 4096 peers"),
        "{error}"
    );
    // The one that is gone for longest makes room; what it said goes as ever.
    lab.send(&down(7));
    lab.wait(1);
    lab.send(&down(4095));
    lab.wait(1);
    lab.send(&one_more);
    lab.decide();
    assert_eq!(lab.feed.tables().count(), 4096);
    assert_eq!(lab.wait_at("10.0.7.1").unwrap().wanted, [] as [u32; 0]);
    lab.wait(2);
    lab.decide();
    assert_eq!(lab.origins(INSIDE), [64500]);
    // The one that took its number has its own routes still.
    assert_eq!(lab.origins("10.15.255.1"), [64500]);
    lab.send(&announce(4095, "10.99.0.0/24"));
    lab.decide();
    let (found, _) = lab.feed.at("10.99.0.1".parse().unwrap(), at(9));
    assert_eq!(found.unwrap().origins, [64500]);
    let routes: usize = lab.feed.tables().map(|(_, v4, _)| v4).sum();
    assert_eq!(routes, 4097);
}

#[test]
fn sets_are_given_back() {
    let mut lab = lab();
    for n in 0..1000 {
        lab.announce(1, PREFIX, 70_000 + n);
        lab.decide();
    }
    lab.withdraw(1, PREFIX);
    lab.decide();
    assert_eq!(lab.feed.held_sets(), 0);
}

#[test]
fn a_restart_loosens_nothing() {
    let mut lab = lab();
    lab.announce(1, PREFIX, 64500);
    lab.announce(1, "2001:db8::/32", 64500);
    lab.decide();
    lab.announce(1, PREFIX, 65540);
    lab.withdraw(1, "2001:db8::/32");
    lab.decide();
    let bytes = lab.feed.to_bytes();
    let mut next = Lab::new(stakes(&AsnDb::default()), AsnDb::default());
    next.feed.lost(next.session, at(0));
    for cut in 0..bytes.len() {
        assert!(next.feed.restore(&bytes[..cut], at(0)).is_err());
    }
    assert!(next.feed.is_empty());
    next.feed.restore(&bytes, at(0)).unwrap();
    assert_eq!(next.origins(INSIDE), [64500, 65540]);
    assert_eq!(next.origins("2001:db8::1"), [64500]);
    assert!(next.decide().is_empty());
    assert_eq!(next.feed.waiting(), 2);
    // The router is back, and has what it had.
    next.session = next.feed.open(ROUTER, at(1));
    next.send(&peer_up(1, &[], &[]));
    next.announce(1, PREFIX, 65540);
    next.send(&ends(1));
    assert!(next.decide().is_empty());
    next.wait(600);
    let mut expected = gone("2001:db8::/32");
    expected.splice(0..0, change(PREFIX, &[65540]));
    assert_eq!(next.decide(), expected);
}

#[test]
fn only_what_rules_name_is_urgent() {
    let mut lab = lab();
    let urgent = |lab: &mut Lab| -> Vec<bool> {
        let changes = lab.feed.decide(at(lab.now));
        changes.iter().map(|change| change.urgent).collect()
    };
    lab.announce(1, PREFIX, 65540);
    assert_eq!(urgent(&mut lab), [false]);
    lab.announce(1, PREFIX, 64500);
    assert_eq!(urgent(&mut lab), [true]);
    lab.announce(1, PREFIX, 65540);
    assert_eq!(urgent(&mut lab), [true]);
    lab.announce(1, "198.51.100.128/25", 65541);
    assert_eq!(urgent(&mut lab), [true]);
}
