//! What routes mean: families, paths, path identifiers.

use super::super::message::{AddPath, Family, Message};
use super::super::update::{Session, Update};
use super::*;
use crate::asn::path::Width;

fn read(message: &[u8], session: Session) -> Update {
    let mut update = Update::default();
    assert_eq!(update.read(message, &session), Ok(None));
    update
}

fn number(address: &str) -> u32 {
    address.parse::<Ipv4Addr>().unwrap().to_bits()
}

#[test]
fn both_families() {
    let v4 = read(
        &update("198.51.100.0/24", Some(&[1, 2])),
        Session::default(),
    );
    assert_eq!(v4.here_v4, [(number("198.51.100.0"), 24, 0)]);
    assert_eq!(v4.origins, [2]);
    let v6 = read(&update("2001:db8::/32", Some(&[1, 2])), Session::default());
    assert_eq!(v6.here_v6, [(0x2001_0db8 << 96, 32, 0)]);
    let gone = read(&update("2001:db8::/32", None), Session::default());
    assert_eq!(gone.gone_v6, v6.here_v6);
    assert_eq!(gone.end, None);
    let gone = read(&update("198.51.100.0/24", None), Session::default());
    assert_eq!(gone.gone_v4, v4.here_v4);
}

#[test]
fn ends_and_defaults() {
    let end = read(&bgp(2, &END_V4), Session::default());
    assert_eq!(end.end, Some(Family::V4));
    let end = read(
        &raw_update(&[], &attribute(15, &[0, 2, 1]), &[]),
        Session::default(),
    );
    assert_eq!(end.end, Some(Family::V6));
    let vpn = read(
        &raw_update(&[], &attribute(15, &[0, 1, 128]), &[]),
        Session::default(),
    );
    assert_eq!((vpn.end, vpn.ignored), (None, 1));
    for short in ["0.0.0.0/0", "128.0.0.0/7", "::/0", "2000::/15"] {
        let update = read(&update(short, Some(&[1])), Session::default());
        assert_eq!(update.ignored, 1, "{short}");
        assert!(update.here_v4.is_empty() && update.here_v6.is_empty());
    }
}

#[test]
fn origins_of_paths() {
    let of = |path: &[u8], session: Session| {
        let here = nlri("192.0.2.0/24".parse().unwrap());
        read(&raw_update(&[], &attribute(2, path), &here), session).origins
    };
    let session = Session {
        asn: 64499,
        ..Session::default()
    };
    let set = |asns: &[u32]| {
        let mut out = sequence(asns);
        out[0] = 1;
        out
    };
    let confederation = |asns: &[u32]| {
        let mut out = sequence(asns);
        out[0] = 3;
        out
    };
    assert_eq!(of(&sequence(&[1, 2, 3]), session), [3]);
    assert_eq!(
        of(&[sequence(&[1, 2]), set(&[9, 8])].concat(), session),
        [8, 9]
    );
    let many: Vec<u32> = (1..=255).collect();
    assert_eq!(of(&[sequence(&[1, 2]), set(&many)].concat(), session), many);
    // A route of the peer's own AS, by itself or out of a confederation.
    assert_eq!(of(&[], session), [64499]);
    assert_eq!(of(&confederation(&[65001]), session), [64499]);
    assert_eq!(
        of(
            &[confederation(&[65001]), sequence(&[1, 2])].concat(),
            session
        ),
        [2]
    );
    assert_eq!(of(&sequence(&[1, 64512]), session), [1, 64512]);
    assert_eq!(of(&sequence(&[1, 0]), session), [1]);
    assert_eq!(of(&sequence(&[0]), session), [] as [u32; 0]);
}

#[test]
fn two_octets() {
    let session = Session {
        width: Width::Two,
        ..Session::default()
    };
    let path = |asns: &[u16]| {
        let mut out = vec![2, asns.len() as u8];
        out.extend(asns.iter().flat_map(|asn| asn.to_be_bytes()));
        out
    };
    let of = |path: Vec<u8>, as4: Option<Vec<u8>>| {
        let mut attributes = attribute(2, &path);
        attributes.extend(as4.into_iter().flat_map(|value| attribute(17, &value)));
        let here = nlri("192.0.2.0/24".parse().unwrap());
        read(&raw_update(&[], &attributes, &here), session).origins
    };
    assert_eq!(of(path(&[1, 2]), None), [2]);
    assert_eq!(of(path(&[1, 23456]), Some(sequence(&[200_000]))), [200_000]);
    // Who let it out, where nobody says who it is.
    assert_eq!(of(path(&[1, 23456]), None), [1]);
    // One that is damaged is left out.
    for damaged in [&[2, 2, 0, 0, 0, 1][..], &[2, 0], &[9, 1, 0, 0, 0, 1]] {
        assert_eq!(of(path(&[1, 23456]), Some(damaged.to_vec())), [1]);
    }
    // The end of the path could be said: nothing else counts.
    assert_eq!(of(path(&[23456, 2]), Some(sequence(&[200_000, 7]))), [2]);
}

#[test]
fn path_identifiers() {
    let both = [69, 8, 0, 1, 1, 3, 0, 2, 1, 1];
    let read_up = |sent: &[u8], received: &[u8]| {
        let bytes = peer_up(1, sent, received);
        match Message::first(&bytes).unwrap().unwrap().1 {
            Message::PeerUp { add_path, .. } => add_path,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(read_up(&both, &[]), AddPath::default());
    let v4 = AddPath {
        v4: true,
        v6: false,
    };
    assert_eq!(read_up(&both, &both), v4);
    // Two paths with different origins: both count, until each goes.
    let mut lab = Lab::new(Stakes::default(), AsnDb::default());
    lab.send(&peer_up(1, &both, &both));
    let route = |id: u32, asn: Option<u32>| {
        let prefix = nlri("198.51.100.0/24".parse().unwrap());
        let entry = [&id.to_be_bytes()[..], &prefix].concat();
        routes(
            1,
            &match asn {
                Some(asn) => raw_update(&[], &attribute(2, &sequence(&[1, asn])), &entry),
                None => raw_update(&entry, &[], &[]),
            },
        )
    };
    lab.send(&route(1, Some(10)));
    lab.send(&route(2, Some(20)));
    lab.send(&ends(1));
    lab.decide();
    assert_eq!(lab.origins("198.51.100.1"), [10, 20]);
    lab.send(&route(1, None));
    lab.decide();
    assert_eq!(lab.origins("198.51.100.1"), [20]);
}

#[test]
fn what_the_router_sends_is_not_what_it_has() {
    let mut lab = Lab::new(Stakes::default(), AsnDb::default());
    lab.begin(1);
    let mut body = peer(1, 0x10);
    body.extend(update("198.51.100.0/24", Some(&[7])));
    lab.send(&bmp(0, &body));
    assert!(lab.decide().is_empty());
    assert_eq!(lab.feed.counts().adj_rib_out, 1);
    // The router's own table: its flags mean other things.
    let mut header = peer(1, 0x80);
    header[0] = 3;
    let body = [header, update("198.51.100.0/24", Some(&[7]))].concat();
    lab.send(&bmp(0, &body));
    lab.wait(2);
    assert_eq!(
        lab.decide(),
        [("198.51.100.0/24".to_owned(), Some(vec![7]))]
    );
}
