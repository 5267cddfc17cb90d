//! Bytes from somebody who means harm, or from a wire that cuts.

use proptest::prelude::*;

use super::super::message::{MAX_MESSAGE, Malformed, Message};
use super::super::update::{Session, Update};
use super::*;

fn one_of_each() -> Vec<Vec<u8>> {
    let mut initiation = vec![0, 2, 0, 2];
    initiation.extend(b"r1");
    let add_path = [69, 4, 0, 1, 1, 3];
    vec![
        bmp(4, &initiation),
        peer_up(1, &add_path, &add_path),
        routes(1, &update("198.51.100.0/24", Some(&[64501, 64496]))),
        routes(1, &update("2001:db8::/32", Some(&[64501, 64496]))),
        routes(1, &update("198.51.100.0/24", None)),
        bmp(1, &[0; 60]),
        peer_down(1),
        bmp(5, &[0, 1, 0, 2, 0, 0]),
    ]
}

#[test]
fn a_message_that_is_not_whole_is_waited_for() {
    for message in one_of_each() {
        for cut in 0..message.len() {
            assert_eq!(Message::first(&message[..cut]), Ok(None), "at {cut}");
        }
        let mut longer = message.clone();
        longer.extend([3, 0]);
        let (length, _) = Message::first(&longer).unwrap().unwrap();
        assert_eq!(length, message.len());
    }
}

#[test]
fn a_message_that_is_cut_inside_is_damaged() {
    // The length says that it is whole.
    for message in one_of_each() {
        let kind = message[5];
        for cut in 6..message.len() {
            let mut cut = message[..cut].to_vec();
            let length = cut.len() as u32;
            cut[1..5].copy_from_slice(&length.to_be_bytes());
            let read = Message::first(&cut);
            let damaged = match read {
                Err(Malformed::Damaged { .. }) => true,
                Ok(Some((_, Message::Routes { header, bgp }))) => {
                    let session = Session {
                        asn: header.asn,
                        ..Session::default()
                    };
                    Update::default().read(bgp, &session).is_err()
                }
                Ok(Some(_)) => false,
                other => panic!("{other:?}"),
            };
            // Initiation is a list that may end after any part; the others do not count.
            assert!(
                damaged || matches!(kind, 1 | 4 | 5),
                "{kind} at {}",
                cut.len()
            );
        }
    }
}

#[test]
fn lengths_that_cannot_be() {
    let header = |length: u32| {
        let mut out = vec![3];
        out.extend(length.to_be_bytes());
        out.push(0);
        out
    };
    for length in [0, 1, 5, MAX_MESSAGE as u32 + 1, u32::MAX] {
        assert_eq!(
            Message::first(&header(length)),
            Err(Malformed::Length(length))
        );
    }
    assert_eq!(Message::first(&header(MAX_MESSAGE as u32)), Ok(None));
    for version in [0, 1, 2, 4, b'G', 255] {
        let error = Message::first(&[version]).unwrap_err();
        assert_eq!(error, Malformed::Version(version));
        assert!(error.to_string().contains("RFC 7854"), "{error}");
    }
}

#[test]
fn updates_that_cannot_be() {
    let good = update("198.51.100.0/24", Some(&[64501]));
    let session = Session::default();
    let mut reader = Update::default();
    reader.read(&good, &session).unwrap();
    let with = |at: usize, value: u8| {
        let mut bad = good.clone();
        bad[at] = value;
        bad
    };
    let prefix_at = good.len() - 4;
    for (bad, what) in [
        (with(0, 0), "has no marker"),
        (with(18, 1), "of another type"),
        (with(17, 18), "shorter than its header"),
        (with(17, 200), "shorter than it says"),
        (with(20, 200), "shorter than it says"),
        (with(22, 200), "shorter than it says"),
        (with(prefix_at, 33), "longer than an address"),
        (with(prefix_at, 32), "shorter than it says"),
        ([&good[..], &[0]].concat(), "longer than it says"),
    ] {
        let said = reader.read(&bad, &session).unwrap_err();
        assert!(said.contains(what), "{said}: {what}");
    }
    // What was wrong before does not stay.
    reader.read(&good, &session).unwrap();
    assert_eq!(reader.origins, [64501]);
}

/// RFC 7606, case by case.
#[test]
fn a_bad_attribute_is_a_withdrawal_and_ends_nothing() {
    let session = Session::default();
    let here = nlri("192.0.2.0/24".parse().unwrap());
    let key = [(0xc000_0200, 24, 0)];
    let path = attribute(2, &sequence(&[64501]));
    let with_flags = |flags: u8, attribute: &[u8]| {
        let mut out = attribute.to_vec();
        out[0] = flags;
        out
    };
    let mut reach = vec![0, 2, 1, 16];
    reach.extend([0; 17]);
    reach.extend(nlri("2001:db8::/32".parse().unwrap()));
    let reach = attribute(14, &reach);
    let mut reader = Update::default();
    let segment = |bytes: &[u8]| attribute(2, bytes);
    for (attributes, what) in [
        (segment(&[9, 1, 0, 0, 0, 1]), "unknown kind"),
        (segment(&[2, 0]), "empty segment"),
        (segment(&[2, 1, 0, 0, 0, 1, 2, 0]), "empty segment"),
        (segment(&[2, 2, 0, 0, 0, 1]), "shorter than it says"),
        (segment(&[2, 1, 0, 0, 0, 1, 2]), "shorter than it says"),
        (with_flags(0xd0, &path), "flags of another kind"),
        (with_flags(0x10, &path), "flags of another kind"),
        (attribute(1, &[0]), "no AS path"),
        (Vec::new(), "no AS path"),
        // Cut in the header, in the length, in the value.
        ([&path[..], &[0x40]].concat(), "are cut"),
        ([&path[..], &[0x50, 4, 0]].concat(), "are cut"),
        ([&path[..], &[0x40, 4, 9, 0]].concat(), "are cut"),
    ] {
        let bytes = raw_update(&[], &attributes, &here);
        let said = reader.read(&bytes, &session).unwrap().unwrap();
        assert!(said.contains(what), "{said}: {what}");
        assert_eq!((&reader.gone_v4[..], reader.here_v4.len()), (&key[..], 0));
        // IPv6 beside it goes as well, where it could be read.
        let bytes = raw_update(&[], &[&reach[..], &attributes].concat(), &here);
        reader.read(&bytes, &session).unwrap().unwrap();
        assert_eq!((reader.gone_v6.len(), reader.here_v6.len()), (1, 0));
    }
    let flagged = [&with_flags(0x50, &reach)[..], &path].concat();
    let bytes = raw_update(&[], &flagged, &[]);
    assert!(reader.read(&bytes, &session).unwrap().is_some());
    assert_eq!((reader.gone_v6.len(), reader.here_v6.len()), (1, 0));
    // Of two paths the first counts.
    let two = [&path[..], &attribute(2, &sequence(&[7]))].concat();
    assert_eq!(
        reader.read(&raw_update(&[], &two, &here), &session),
        Ok(None)
    );
    assert_eq!(reader.origins, [64501]);
    // What is not read is not judged: its routes are the router's.
    let odd = [&path[..], &attribute(1, &[9, 9]), &attribute(8, &[1])].concat();
    assert_eq!(
        reader.read(&raw_update(&[], &odd, &here), &session),
        Ok(None)
    );
    assert_eq!(reader.here_v4, key);
}

#[test]
fn what_hides_its_routes_ends_the_session() {
    let session = Session::default();
    let here = nlri("192.0.2.0/24".parse().unwrap());
    let path = attribute(2, &sequence(&[64501]));
    let reach = |next_hop: u8, nlri: &[u8]| {
        let mut value = vec![0, 2, 1, next_hop];
        value.extend(vec![0; usize::from(next_hop) + 1]);
        value.extend(nlri);
        attribute(14, &value)
    };
    let unreach = |nlri: &[u8]| attribute(15, &[&[0, 2, 1], nlri].concat());
    let v6 = nlri("2001:db8::/32".parse().unwrap());
    let mut reader = Update::default();
    for (attributes, what) in [
        (reach(16, &[129]), "longer than an address"),
        (reach(16, &[64, 1]), "shorter than it says"),
        (reach(4, &v6), "no address"),
        (reach(0, &v6), "no address"),
        (attribute(14, &[0, 2]), "shorter than it says"),
        (unreach(&[129]), "longer than an address"),
        (unreach(&[64, 1]), "shorter than it says"),
        (attribute(15, &[0]), "shorter than it says"),
        ([reach(16, &v6), reach(16, &v6)].concat(), "twice"),
        ([unreach(&v6), unreach(&v6)].concat(), "twice"),
    ] {
        let bytes = raw_update(&[], &[&path[..], &attributes].concat(), &here);
        let said = reader.read(&bytes, &session).unwrap_err();
        assert!(said.contains(what), "{said}: {what}");
    }
    for next_hop in [16, 32] {
        let bytes = raw_update(&[], &[&path[..], &reach(next_hop, &v6)].concat(), &[]);
        assert_eq!(reader.read(&bytes, &session), Ok(None));
        assert_eq!(reader.here_v6.len(), 1);
    }
    // Behind the damage there may have been routes of the other family.
    for attributes in [&[0x40][..], &attribute(2, &[9, 1]), &path[..3]] {
        let bytes = raw_update(&[], attributes, &[]);
        assert!(reader.read(&bytes, &session).is_err());
    }
}

proptest! {
    #[test]
    fn nothing_panics(bytes: Vec<u8>, kind in 0_u8..8) {
        let _ = Message::first(&bytes);
        let whole = bmp(kind, &bytes);
        if let Ok(Some((length, Message::Routes { bgp, .. }))) = Message::first(&whole) {
            prop_assert_eq!(length, whole.len());
            let _ = Update::default().read(bgp, &Session::default());
        }
        let _ = Update::default().read(&bgp(2, &bytes), &Session::default());
    }

    #[test]
    fn a_flipped_byte_does_no_harm(which in 0_usize..8, place: prop::sample::Index, value: u8) {
        let mut message = one_of_each().swap_remove(which);
        let place = place.index(message.len());
        message[place] = value;
        let mut lab = Lab::new(Stakes::default(), AsnDb::default());
        if let Ok(Some((_, message))) = Message::first(&message) {
            let _ = lab.feed.message(lab.session, &message, at(0));
            lab.decide();
        }
    }
}
