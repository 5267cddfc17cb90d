//! Tables in MRT.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use bgpkit_parser::{
    models::{MrtMessage, TableDumpV2Message, TableDumpV2Type},
    parse_mrt_record,
};
use fastrand::Rng;
use ipnet::IpNet;
use kordon::{asn, bmp::message::Width};
use kordon_tests::formats::{self, Rib, Segment};

use super::{any_asn, any_net, counted, is_default, mutate::Corpus, origins};

/// Reads a table twice, and compares who announces each end of each prefix, and its neighbours.
pub(crate) fn compare_table(file: &Path, bytes: &[u8]) -> String {
    fs::write(file, bytes).unwrap();
    let db = match asn::import(&[file.to_owned()], &[]) {
        Ok((db, found)) => {
            let whole =
                |message: &str| message.contains("default route") || message.contains("peers see");
            if let Some(other) = found.warnings.iter().find(|found| !whole(&found.message)) {
                return format!("damaged: {}", other.message);
            }
            db
        }
        Err(error) => return format!("refused: {}", error.0.errors[0].message),
    };
    let mut left = bytes;
    let mut min_peers = asn::Options::default().min_peers;
    let mut table: BTreeMap<IpNet, BTreeSet<u32>> = BTreeMap::new();
    while !left.is_empty() {
        let record = match parse_mrt_record(&mut left) {
            Ok(record) => record,
            // Generic ones, and others that nobody reads.
            Err(error) if error.bytes.is_some() => continue,
            Err(error) => panic!("only ours takes it: {error}"),
        };
        match record.message {
            MrtMessage::TableDumpV2Message(TableDumpV2Message::PeerIndexTable(peers)) => {
                let peers = peers.id_peer_map.len() as u32;
                min_peers = min_peers.min(peers / 2).max(1);
            }
            MrtMessage::TableDumpV2Message(TableDumpV2Message::RibAfi(entries))
                if !matches!(
                    entries.rib_type,
                    TableDumpV2Type::RibIpv4Multicast
                        | TableDumpV2Type::RibIpv6Multicast
                        | TableDumpV2Type::RibIpv4MulticastAddPath
                        | TableDumpV2Type::RibIpv6MulticastAddPath
                ) =>
            {
                let mut seen: BTreeMap<u32, BTreeSet<u16>> = BTreeMap::new();
                for entry in &entries.rib_entries {
                    let path = entry.attributes.as_path().cloned().unwrap_or_default();
                    for origin in origins(&path) {
                        seen.entry(origin).or_default().insert(entry.peer_index);
                    }
                }
                let net = entries.prefix.prefix;
                seen.retain(|_, peers| peers.len() >= min_peers as usize);
                if !seen.is_empty() && !is_default(&net) {
                    table
                        .entry(net.trunc())
                        .or_default()
                        .extend(seen.into_keys());
                }
            }
            _ => {}
        }
    }
    let next = |address: IpAddr, up: bool| -> IpAddr {
        let step = |value: u128| {
            if up {
                value.wrapping_add(1)
            } else {
                value.wrapping_sub(1)
            }
        };
        match address {
            IpAddr::V4(address) => {
                Ipv4Addr::from_bits(step(address.to_bits().into()) as u32).into()
            }
            IpAddr::V6(address) => Ipv6Addr::from_bits(step(address.to_bits())).into(),
        }
    };
    for net in table.keys() {
        for end in [
            net.network(),
            net.broadcast(),
            next(net.network(), false),
            next(net.broadcast(), true),
        ] {
            // IPv4 inside of IPv6 cannot be asked for.
            if end.to_canonical() != end {
                continue;
            }
            let of = table.iter().filter(|(net, _)| net.contains(&end));
            let longest = of.max_by_key(|(net, _)| net.prefix_len());
            let theirs: Vec<u32> =
                longest.map_or_else(Vec::new, |(_, origins)| origins.iter().copied().collect());
            assert_eq!(
                db.origins_at(end),
                theirs,
                "{end} of {net}: left: ours, right: theirs"
            );
        }
    }
    format!("same {}", table.len().min(9))
}

/// Tables with paths of every kind, several of a prefix and prefixes in each other.
fn any_table(rng: &mut Rng, ids: bool) -> Vec<u8> {
    let peers = rng.u16(1..6);
    let mut rib = Rib::new(peers, ids);
    for _ in 0..rng.u32(1..20) {
        let net = any_net(rng);
        let paths: Vec<(u16, Vec<(u8, Vec<_>)>)> = (0..rng.u16(..5))
            .map(|_| {
                let mut segment = || {
                    (
                        rng.u8(..4),
                        (0..rng.u32(..4))
                            .map(|_| any_asn(rng, Width::Four))
                            .collect(),
                    )
                };
                let segments = vec![segment(), segment()];
                (rng.u16(..peers), segments)
            })
            .collect();
        let paths: Vec<(u16, Vec<Segment<'_>>)> = (paths.iter())
            .map(|(peer, segments)| {
                let segments = segments.iter().map(|(kind, asns)| match kind {
                    0 => Segment::Set(asns),
                    1 => Segment::Confederation(asns),
                    _ => Segment::Sequence(asns),
                });
                (*peer, segments.collect())
            })
            .collect();
        let paths: Vec<(u16, &[Segment<'_>])> = paths
            .iter()
            .map(|(peer, segments)| (*peer, &segments[..]))
            .collect();
        rib.prefix(net, &paths);
    }
    rib.finish()
}

/// Headers of records that fit, and a last record that is as long as it says: else nearly all
/// that is damaged is refused for these.
fn mend(table: &mut [u8]) {
    let mut at = 0;
    while table.len() - at >= 12 {
        let rest = table.len() - at - 12;
        let said = u32::from_be_bytes(table[at + 8..at + 12].try_into().unwrap()) as usize;
        let length = said.min(rest);
        table[at + 4..at + 6].copy_from_slice(&[0, 13]);
        table[at + 8..at + 12].copy_from_slice(&(length as u32).to_be_bytes());
        at += 12 + length;
    }
}

#[test]
fn tables_are_read_alike() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rib");
    let mut rng = Rng::with_seed(4);
    let mut seeds = Vec::new();
    for ids in [false, true] {
        let small = formats::small_rib(ids);
        assert_eq!(compare_table(&file, &small), "same 7");
        seeds.push(small);
        for _ in 0..100 {
            let table = any_table(&mut rng, ids);
            let said = compare_table(&file, &table);
            assert!(said.starts_with("same") || said.contains("no "), "{said}");
            seeds.push(table);
        }
    }
    // Bits behind the prefix, which do not count (RFC 4271, 4.3), and two paths, of which the
    // first counts (RFC 7606, 3, g).
    let mut rib = Rib::new(2, false);
    let entry = [0, 0, 0, 0, 20, 198, 51, 111, 0, 1, 0, 0, 0, 0, 0, 0, 0, 18];
    let paths = [0x40, 2, 6, 2, 1, 0, 0, 0, 7, 0x40, 2, 6, 2, 1, 0, 0, 0, 8];
    rib.record(2, &[&entry[..], &paths].concat());
    seeds.push(rib.finish());
    assert_eq!(compare_table(&file, &seeds[seeds.len() - 1]), "same 1");
    counted(Corpus::new(seeds, [], 8 << 10), |input| {
        let mut input = input.to_vec();
        mend(&mut input);
        let said = compare_table(&file, &input);
        let said: String = said.split('`').step_by(2).collect();
        if said.starts_with("same") {
            said
        } else {
            said.replace(|c: char| c.is_ascii_digit(), "")
        }
    });
}
