//! BMP, and the UPDATEs in it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use bgpkit_parser::{
    bgp::parse_bgp_message,
    bmp::messages::{BmpMessageBody, PerPeerFlags},
    models::{
        Afi, AsnLength, AttrType, AttributeValue, BgpMessage, BgpUpdateMessage, NetworkPrefix,
        Nlri, Safi,
    },
    parse_bmp_msg,
};
use bytes::Bytes;
use fastrand::Rng;
use ipnet::IpNet;
use kordon::bmp::{
    message::{AddPath, LOC_RIB, Message, Width},
    update::{Session, Update},
};
use kordon_tests::bmp;

use super::{any_asn, any_net, counted, is_default, is_nobody, last, mutate::Corpus, origins};

/// What one UPDATE says: prefixes with their path identifiers, and who announces them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Routes {
    gone: BTreeSet<(IpNet, u32)>,
    here: BTreeSet<(IpNet, u32)>,
    origins: BTreeSet<u32>,
}

impl Routes {
    fn ours(update: &Update) -> Self {
        let net = |address: IpAddr, len| IpNet::new(address, len).unwrap();
        let v4 = |(address, len, id): &(u32, u8, u32)| {
            (net(Ipv4Addr::from_bits(*address).into(), *len), *id)
        };
        let v6 = |(address, len, id): &(u128, u8, u32)| {
            (net(Ipv6Addr::from_bits(*address).into(), *len), *id)
        };
        let all = |four: &[_], six: &[_]| four.iter().map(v4).chain(six.iter().map(v6)).collect();
        Self {
            gone: all(&update.gone_v4, &update.gone_v6),
            here: all(&update.here_v4, &update.here_v6),
            origins: update.origins.iter().copied().collect(),
        }
    }

    fn theirs(update: &BgpUpdateMessage, session: &Session) -> Self {
        let nlri = |kind| {
            update.attributes.iter().find_map(|value| match value {
                AttributeValue::MpReachNlri(nlri) | AttributeValue::MpUnreachNlri(nlri)
                    if value.attr_type() == kind =>
                {
                    Some(nlri)
                }
                _ => None,
            })
        };
        let unicast =
            |nlri: &&Nlri| nlri.safi == Safi::Unicast && matches!(nlri.afi, Afi::Ipv4 | Afi::Ipv6);
        let gone = nlri(AttrType::MP_UNREACHABLE_NLRI).filter(unicast);
        let here = nlri(AttrType::MP_REACHABLE_NLRI).filter(unicast);
        let with = |plain: &[NetworkPrefix], nlri: Option<&Nlri>| -> BTreeSet<_> {
            let more = nlri.map_or(&[][..], |nlri| &nlri.prefixes);
            let all = plain.iter().chain(more);
            all.filter(|prefix| !is_default(&prefix.prefix))
                .map(|prefix| (prefix.prefix.trunc(), prefix.path_id.unwrap_or(0)))
                .collect()
        };
        let mut routes = Self {
            gone: with(&update.withdrawn_prefixes, gone),
            here: with(&update.announced_prefixes, here),
            origins: BTreeSet::new(),
        };
        if !routes.here.is_empty() {
            let path = update.attributes.as_path().cloned().unwrap_or_default();
            routes.origins = origins(&path);
            // Of two the first counts, even if it cannot be read (RFC 7606, 3, g).
            let whole = update
                .attributes
                .iter()
                .find(|value| value.attr_code() == 17);
            let whole = whole.and_then(|value| match value {
                AttributeValue::As4Path(path) => Some(path),
                _ => None,
            });
            let whole =
                whole.filter(|path| path.segments.iter().all(|segment| !segment.is_empty()));
            // The path's end may not have fitted into two octets (RFC 6793).
            if session.width == Width::Two
                && last(&path).contains(&23456)
                && let Some(whole) = whole.map(origins).filter(|origins| !origins.is_empty())
            {
                routes.origins = whole;
            }
            if last(&path).is_empty() && !is_nobody(session.asn) {
                routes.origins.insert(session.asn);
            }
        }
        routes
    }
}

/// What ours refuses, and the other one takes without a word.
const ONLY_THEIRS: [&str; 5] = [
    // It leaves out what is cut (RFC 7606, 4: a withdrawal of all).
    "its path attributes are cut",
    // It takes those of VPNs, and none, for unicast (RFC 8950, 3).
    "a next hop is no address",
    // RFC 7606, 7.2.
    "its AS path has an empty segment",
    // It guesses that there are path identifiers.
    "a prefix is longer than an address",
    "it is shorter than it says",
];

/// Reads a BGP message twice. What it came to, in a word.
fn compare_update(message: &[u8], session: &Session) -> String {
    let mut ours = Update::default();
    let said = ours.read(message, session);
    let len = match session.width {
        Width::Two => AsnLength::Bits16,
        Width::Four => AsnLength::Bits32,
    };
    let theirs = parse_bgp_message(
        &mut Bytes::copy_from_slice(message),
        session.add_path.v4,
        &len,
    );
    match (said, theirs) {
        (Ok(None), Ok(BgpMessage::Update(update))) => {
            let [ours_read, theirs] = [Routes::ours(&ours), Routes::theirs(&update, session)];
            if ours_read != theirs && !session.add_path.v4 && ours.ignored > 0 {
                return "they guess".to_owned();
            }
            assert_eq!(ours_read, theirs, "left: ours, right: theirs");
            let (gone, here) = (theirs.gone.len(), theirs.here.len());
            format!("same {} {}", gone.min(3), here.min(3))
        }
        (Ok(None), theirs) => panic!("only ours takes it: {theirs:?}"),
        (Ok(Some(why)) | Err(why), Ok(BgpMessage::Update(update)))
            if !update.attributes.has_validation_warnings() =>
        {
            assert!(ONLY_THEIRS.contains(&why), "only theirs takes it: {why}");
            format!("only theirs: {why}")
        }
        (Ok(Some(why)) | Err(why), _) => format!("neither: {why}"),
    }
}

/// Reads a stream of BMP twice.
pub(crate) fn compare_stream(mut left: &[u8], ids: bool) -> Vec<String> {
    let mut said = Vec::new();
    while let Ok(Some((length, ours))) = Message::first(left) {
        let mut theirs = Bytes::copy_from_slice(&left[..length]);
        let theirs = parse_bmp_msg(&mut theirs);
        left = &left[length..];
        let Message::Routes { header, bgp } = ours else {
            continue;
        };
        // Theirs refuses types of peers that nobody has, and more in OPENs.
        if let Ok(theirs) = theirs {
            let peer = theirs.per_peer_header.unwrap();
            assert!(matches!(
                theirs.message_body,
                BmpMessageBody::RouteMonitoring(_)
            ));
            assert_eq!(
                (
                    header.peer.kind,
                    header.peer.distinguisher,
                    // Of one that is said to have two octets they read two.
                    if header.width == Width::Two {
                        header.asn & 0xffff
                    } else {
                        header.asn
                    },
                    header.width
                ),
                (
                    peer.peer_type as u8,
                    peer.peer_distinguisher,
                    u32::from(peer.peer_asn),
                    match peer.asn_length() {
                        AsnLength::Bits16 => Width::Two,
                        AsnLength::Bits32 => Width::Four,
                    },
                )
            );
            // Of the router's own table there is none (RFC 9069).
            assert!(header.peer.kind == LOC_RIB || header.peer.address == peer.peer_ip);
            let flags = match peer.peer_flags {
                PerPeerFlags::PeerFlags(flags) => flags.bits(),
                PerPeerFlags::LocalRibPeerFlags(_) => 0,
            };
            assert_eq!(header.post_policy, flags & 0x40 != 0);
            assert_eq!(header.adj_rib_out, flags & 0x10 != 0);
        }
        let session = Session {
            width: header.width,
            add_path: AddPath { v4: ids, v6: ids },
            asn: header.asn,
        };
        said.push(compare_update(bgp, &session));
    }
    said
}

fn path(rng: &mut Rng, width: Width) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..rng.u32(..4) {
        let count = rng.u8(1..5);
        out.extend([rng.u8(1..5), count]);
        for _ in 0..count {
            let asn = any_asn(rng, width).to_be_bytes();
            out.extend(if width == Width::Two {
                &asn[2..]
            } else {
                &asn[..]
            });
        }
    }
    out
}

fn prefixes(rng: &mut Rng, v4: bool, ids: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for net in (0..rng.usize(..4))
        .map(|_| any_net(rng))
        .collect::<Vec<_>>()
    {
        if net.addr().is_ipv4() != v4 {
            continue;
        }
        if ids {
            out.extend(rng.u32(..9).to_be_bytes());
        }
        bmp::nlri(net, &mut out);
    }
    out
}

/// A route monitoring message of an UPDATE as no test elsewhere writes them: many prefixes,
/// both families, all kinds of segments, ASNs of two octets.
fn any_message(rng: &mut Rng, width: Width, ids: bool) -> Vec<u8> {
    let (gone, here) = (prefixes(rng, true, ids), prefixes(rng, true, ids));
    let mut attributes = Vec::new();
    bmp::attribute(1, &[0], &mut attributes);
    bmp::attribute(2, &path(rng, width), &mut attributes);
    bmp::attribute(3, &[192, 0, 2, 1], &mut attributes);
    if rng.bool() {
        let mut value = vec![0, 2, 1, 16];
        value.extend([0; 17]);
        value.extend(prefixes(rng, false, ids));
        bmp::attribute(14, &value, &mut attributes);
    }
    if rng.bool() {
        let value = [vec![0, 2, 1], prefixes(rng, false, ids)].concat();
        bmp::attribute(15, &value, &mut attributes);
    }
    if width == Width::Two {
        bmp::attribute(17, &path(rng, Width::Four), &mut attributes);
    }
    let mut message = bmp::monitored(1, &bmp::update(&gone, &attributes, &here));
    if width == Width::Two {
        message[7] |= 0x20;
    }
    message
}

#[test]
fn bmp_is_read_alike() {
    let mut rng = Rng::with_seed(3);
    let net = |text: &str| text.parse().unwrap();
    for ids in [false, true] {
        let mut seeds = Vec::new();
        let mut same = 0;
        for number in 0..2000 {
            let width = if number % 3 == 0 {
                Width::Two
            } else {
                Width::Four
            };
            let message = any_message(&mut rng, width, ids);
            let said = compare_stream(&message, ids);
            same += usize::from(said[0].starts_with("same"));
            seeds.push(message);
        }
        println!("path identifiers {ids}: {same} of 2000 good and compared");
        assert!(same > 1500, "{same}");
        if !ids {
            let path: &[bmp::Segment<'_>] = &[
                (bmp::SEQUENCE, &[64601, 7]),
                (bmp::SET, &[1, 2]),
                (bmp::CONFEDERATION, &[9]),
            ];
            let written = [
                bmp::initiation("r1"),
                bmp::peer_up(1),
                bmp::announce_path(1, net("198.51.100.0/25"), path),
                bmp::announce(1, net("2001:db8:bad::/49"), &[64601, 64501]),
                bmp::before_filters(bmp::announce(1, net("198.51.0.0/16"), &[64601, 64500])),
                bmp::withdraw(1, net("198.51.100.0/25")),
                bmp::withdraw(1, net("2001:db8:bad::/49")),
                bmp::ends(1),
                bmp::peer_down(1),
            ];
            seeds.push(written.concat());
            let said = compare_stream(&written.concat(), ids);
            assert_eq!(
                said,
                [
                    "same 0 1", "same 0 1", "same 0 1", "same 1 0", "same 1 0", "same 0 0",
                    "same 0 0"
                ]
            );
        }
        counted(Corpus::new(seeds, [], 8 << 10), |input| {
            // The peer's AS is what was drawn; the message is as long as its bytes.
            let mut input = input.to_vec();
            if input.len() > 48 + 19 {
                let length = input.len() as u32;
                input[..6].copy_from_slice(&[3, 0, 0, 0, 0, 0]);
                input[1..5].copy_from_slice(&length.to_be_bytes());
                input[48..64].fill(0xff);
                input[64..66].copy_from_slice(&(length as u16 - 48).to_be_bytes());
                input[66] = 2;
            }
            compare_stream(&input, ids).join("|")
        });
    }
}
