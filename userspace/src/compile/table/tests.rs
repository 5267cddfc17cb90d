//! The table answers as a search in the partition does: random partitions, the
//! corners, and the whole Internet.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
    io::Write,
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    str::FromStr,
    time::Instant,
};

use kordon_ebpf::table::{class_v4, class_v6};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    asn::model::{AsnDb, OriginRange},
    policy::model::{Policy, Set, Target},
};

fn partition(v4: Vec<(u32, u32)>, v6: Vec<(u128, u32)>) -> Partition {
    let mut partition = Partition::default();
    partition.v4 = v4;
    partition.v6 = v6;
    partition
}

/// Classes for boundaries; neighbours may be equal, the builder must not mind.
fn ranges<A: Ord + Default>(boundaries: Vec<(A, u32)>) -> Vec<(A, u32)> {
    let mut map: BTreeMap<A, u32> = boundaries.into_iter().collect();
    map.entry(A::default()).or_insert(0);
    map.into_iter().collect()
}

fn search<A: Ord>(ranges: &[(A, u32)], address: &A) -> u32 {
    ranges[ranges.partition_point(|(start, _)| start <= address) - 1].1
}

#[track_caller]
fn same_v4(table: &FlatTable, ranges: &[(u32, u32)], address: u32) {
    assert_eq!(
        class_v4(table, address),
        search(ranges, &address),
        "{}",
        Ipv4Addr::from_bits(address)
    );
}

#[track_caller]
fn same_v6(table: &FlatTable, ranges: &[(u128, u32)], address: u128) {
    assert_eq!(
        class_v6(table, (address >> 64) as u64, address as u64),
        search(ranges, &address),
        "{}",
        Ipv6Addr::from_bits(address)
    );
}

/// Every boundary with its neighbours, and both ends of the space.
fn same_at_boundaries(table: &FlatTable, partition: &Partition) {
    for &(start, _) in &partition.v4 {
        for address in [start.wrapping_sub(1), start, start.wrapping_add(1)] {
            same_v4(table, &partition.v4, address);
        }
    }
    for &(start, _) in &partition.v6 {
        for address in [start.wrapping_sub(1), start, start.wrapping_add(1)] {
            same_v6(table, &partition.v6, address);
        }
    }
}

/// What the lookup relies on without checking.
fn well_formed(table: &FlatTable) {
    assert_eq!((table.v4.len(), table.v6.len()), (65536, 65536));
    let is_class = |word: &u32| *word & LEAF != 0 && *word & !LEAF <= CLASS_MASK;
    for word in &table.v4 {
        assert!(is_class(word) || (*word as usize) < table.nodes.len());
    }
    for word in &table.v6 {
        assert!(is_class(word) || (*word as usize) < table.blocks.len());
    }
    for word in table.blocks.as_flattened() {
        assert!(is_class(word) || (*word as usize) < table.nodes.len());
    }
    for node in &table.nodes {
        assert!(node.starts(0));
        let mut before = node.words[0] >> 32;
        for word in node.words {
            assert_eq!(word >> 32, before);
            before += u64::from((word as u32).count_ones());
        }
        assert!((before as usize) < table.values.len());
    }
    for line in &table.lines {
        assert!(line.keys().is_sorted());
        let end = if line.tail() & LINE_INNER == 0 {
            table.values.len()
        } else {
            table.lines.len()
        };
        assert!(((line.tail() & !LINE_INNER) as usize) < end);
    }
}

fn build(partition: &Partition) -> FlatTable {
    let table = FlatTable::build(partition).unwrap();
    well_formed(&table);
    same_at_boundaries(&table, partition);
    table
}

/// Boundaries anywhere, at both ends, and in clusters of every width.
fn v4_boundary() -> impl Strategy<Value = u32> {
    let ends = prop_oneof![0..600u32, (u32::MAX - 600)..=u32::MAX];
    let cluster = (0..4u32, 0..=24u32, any::<u32>())
        .prop_map(|(base, width, n)| (base * 0x4321_8765) ^ (n & ((1 << width) - 1)));
    prop_oneof![
        any::<u32>(),
        any::<u32>().prop_map(|a| a & !0xff),
        ends,
        cluster
    ]
}

fn v6_boundary() -> impl Strategy<Value = u128> {
    let ends = prop_oneof![0..600u128, (u128::MAX - 600)..=u128::MAX];
    let cluster = (0..4u128, 0..=110u32, any::<u128>()).prop_map(|(base, width, n)| {
        (base * 0x2001_0db8_1234_5678_9abc_def0_1357_9bdf) ^ (n & ((1 << width) - 1))
    });
    let cut = (any::<u128>(), 1..=128u32).prop_map(|(a, length)| a & (u128::MAX << (128 - length)));
    // Next to each other at the edge of a /64, a /28 and a /16.
    let edges = (
        1..16u128,
        prop_oneof![Just(64), Just(100), Just(112)],
        0..4u128,
    )
        .prop_map(|(n, shift, offset)| (n << shift).wrapping_add(offset).wrapping_sub(2));
    prop_oneof![any::<u128>(), ends, cluster, cut, edges]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn answers_as_a_search_does(
        v4 in vec((v4_boundary(), 0..40u32), 0..400),
        v6 in vec((v6_boundary(), 0..40u32), 0..400),
        random_v4 in vec(any::<u32>(), 200),
        random_v6 in vec(any::<u128>(), 200),
    ) {
        let partition = partition(ranges(v4), ranges(v6));
        let table = build(&partition);
        for address in random_v4 {
            same_v4(&table, &partition.v4, address);
        }
        for address in random_v6 {
            same_v6(&table, &partition.v6, address);
        }
    }

    /// Trees of every size, so that every split into lines is met.
    #[test]
    fn trees_of_every_size(
        len in 1..2000u128,
        gap in 1..1000u128,
        shift in prop_oneof![Just(0u32), Just(40), Just(64), Just(66), Just(76)],
        base in prop_oneof![Just(0u128), Just(0x2001_0db8 << 96), Just(u128::MAX << 100)],
    ) {
        let boundaries = (0..len).map(|n| (base + ((n * gap) << shift), n as u32 % 3 + 1));
        let partition = partition(vec![(0, 0)], ranges(boundaries.collect()));
        build(&partition);
    }
}

#[test]
fn one_class_needs_no_parts() {
    let table = build(&partition(vec![(0, 7)], vec![(0, CLASS_MASK)]));
    let values = 1;
    let nothing = Usage {
        values,
        ..Usage::default()
    };
    assert_eq!(table.usage(), nothing);
    assert_eq!(class_v4(&table, u32::MAX), 7);
    assert_eq!(class_v6(&table, u64::MAX, u64::MAX), CLASS_MASK);
}

#[test]
fn every_address_of_a_slash_24_is_its_own() {
    let v4 = (0..65536u32).map(|n| (0xc000_0200 + n, n % 5 + 1));
    let table = build(&partition(ranges(v4.collect()), vec![(0, 0)]));
    // Two /16 are touched; 255 whole /24 and two parts of one.
    assert_eq!(table.usage().nodes, 2 + 256);
}

/// Dense enough that trees below a /32 and below a /96 are four lines deep.
#[test]
fn deep_trees() {
    let base = 0x2001_0db8_u128 << 96;
    let dense = (0..40_000u128).map(|n| (base + n * 3, n as u32 % 7 + 1));
    let above = (1..40_000u128).map(|n| (base + (n << 64), n as u32 % 7 + 1));
    let top = (0..40_000u128).map(|n| (u128::MAX - n, n as u32 % 7 + 1));
    let boundaries = dense.chain(above).chain(top).collect();
    let partition = partition(vec![(0, 0)], ranges(boundaries));
    let table = build(&partition);
    assert!(table.lines.len() > 7_500, "{}", table.lines.len());
    for n in 0..200_000u128 {
        same_v6(&table, &partition.v6, base + n);
    }
}

#[test]
fn what_is_no_partition_is_refused() {
    let bad = |v4, v6| FlatTable::build(&partition(v4, v6)).unwrap_err();
    let v4 = TableError::BadPartition { family: "IPv4" };
    let v6 = TableError::BadPartition { family: "IPv6" };
    assert_eq!(bad(vec![], vec![(0, 0)]), v4);
    assert_eq!(bad(vec![(1, 0)], vec![(0, 0)]), v4);
    assert_eq!(bad(vec![(0, 0), (9, 1), (8, 2)], vec![(0, 0)]), v4);
    assert_eq!(bad(vec![(0, CLASS_MASK + 1)], vec![(0, 0)]), v4);
    assert_eq!(bad(vec![(0, 0)], vec![]), v6);
    assert_eq!(bad(vec![(0, 0)], vec![(0, 0), (5, 1), (5, 2)]), v6);
}

#[test]
fn tiers() {
    assert_eq!(choose_tier(&Usage::default()), Ok(Tier::Small));
    for (tier, larger) in [(Tier::Small, Tier::Internet), (Tier::Internet, Tier::Large)] {
        let full = tier.capacity();
        assert_eq!(choose_tier(&full), Ok(tier));
        assert_eq!(choose_tier_with_room(&full), Ok(larger));
        for over in [
            Usage {
                nodes: full.nodes + 1,
                ..full
            },
            Usage {
                values: full.values + 1,
                ..full
            },
            Usage {
                blocks: full.blocks + 1,
                ..full
            },
            Usage {
                lines: full.lines + 1,
                ..full
            },
            Usage {
                classes: full.classes + 1,
                ..full
            },
        ] {
            assert_eq!(choose_tier(&over), Ok(larger));
        }
    }
    let full = Tier::Large.capacity();
    assert_eq!(choose_tier_with_room(&full), Ok(Tier::Large));
    let error = choose_tier(&Usage {
        lines: full.lines + 1,
        ..full
    })
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot build the lookup table: it needs {} IPv6 lines, the largest size has {}; \
             name fewer prefixes and countries, or use a smaller ASN database",
            full.lines + 1,
            full.lines
        )
    );
}

/// `KORDON_TEST_DATA`, or `shared/data` beside the repository.
fn internet() -> Option<AsnDb> {
    let folder = std::env::var_os("KORDON_TEST_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")),
        PathBuf::from,
    );
    let mut ids = HashMap::new();
    let v4 = read::<Ipv4Addr>(&folder.join("asn-ipv4.csv.zst"), &mut ids)?;
    let v6 = read::<Ipv6Addr>(&folder.join("asn-ipv6.csv.zst"), &mut ids)?;
    let mut origins = vec![Vec::new(); ids.len()];
    for (asn, id) in ids {
        origins[id as usize] = vec![asn];
    }
    let bits_v4 = |(start, end, origins): (Ipv4Addr, Ipv4Addr, u32)| OriginRange {
        start: start.to_bits(),
        end: end.to_bits(),
        origins,
    };
    let bits_v6 = |(start, end, origins): (Ipv6Addr, Ipv6Addr, u32)| OriginRange {
        start: start.to_bits(),
        end: end.to_bits(),
        origins,
    };
    Some(AsnDb {
        v4: v4.into_iter().map(bits_v4).collect(),
        v6: v6.into_iter().map(bits_v6).collect(),
        origins,
        ..AsnDb::default()
    })
}

/// Rows that overlap an earlier one are left out; real files have some.
fn read<A: FromStr + Ord + Copy + Display>(
    path: &std::path::Path,
    ids: &mut HashMap<u32, u32>,
) -> Option<Vec<(A, A, u32)>> {
    let file = std::fs::File::open(path).ok()?;
    let text = std::io::read_to_string(zstd::Decoder::new(file).unwrap()).unwrap();
    let mut rows: Vec<(A, A, u32)> = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(4, ',');
        let mut address = || {
            fields
                .next()
                .and_then(|field| field.parse::<A>().ok())
                .unwrap()
        };
        let (start, end) = (address(), address());
        let asn = fields.next().unwrap().parse().unwrap();
        let new = ids.len() as u32;
        if rows.last().is_some_and(|row| row.1 >= start) {
            println!("left out: {start} to {end}, it overlaps the row before");
            continue;
        }
        rows.push((start, end, *ids.entry(asn).or_insert(new)));
    }
    Some(rows)
}

#[test]
fn the_whole_internet() {
    let Some(db) = internet() else {
        // Not `println!`: the test harness hides what a passing test prints.
        let note = "SKIPPED the_whole_internet: no asn-ipv4.csv.zst and asn-ipv6.csv.zst in \
                    KORDON_TEST_DATA or ../shared/data";
        writeln!(std::io::stderr(), "{note}").unwrap();
        return;
    };
    // Host routes and what is longer than a /64, as lists have them.
    let prefixes = (0..40_000u32).map(|n| {
        let scattered = n.wrapping_mul(0x9e37_79b1);
        match n % 4 {
            0 => format!("{}/32", Ipv4Addr::from_bits(scattered)),
            1 => format!("{}/28", Ipv4Addr::from_bits(scattered & !15)),
            2 => format!(
                "2a00:{:x}:{:x}::{n:x}/128",
                scattered & 0xfff,
                scattered >> 20
            ),
            _ => format!("2600:{:x}:{:x}::/56", scattered & 0xfff, scattered >> 20),
        }
        .parse()
        .unwrap()
    });
    let list = Set {
        name: "list".into(),
        prefixes: prefixes.collect(),
        ..Set::default()
    };
    let asns = Set {
        name: "asns".into(),
        asns: vec![1..=5, 13335..=13335, 60_000..=70_000],
        ..Set::default()
    };
    let plain = Policy::default();
    let policy = Policy {
        sets: vec![list, asns],
        ..Policy::default()
    };
    for (name, policy, count) in [("plain", &plain, 10_000_000), ("list", &policy, 1_000_000)] {
        let start = Instant::now();
        let partition = Partition::new(policy, &db, &[]).unwrap();
        let cut = start.elapsed();
        let start = Instant::now();
        let table = FlatTable::build(&partition).unwrap();
        let built = start.elapsed();
        let start = Instant::now();
        for target in [Target::Unrouted, Target::Private] {
            partition.members(target, policy, &db).unwrap();
        }
        for set in 0..policy.sets.len() {
            partition.members(Target::Set(set), policy, &db).unwrap();
        }
        let members = start.elapsed();
        let usage = table.usage();
        let bytes = 2 * 65536 * 4
            + usage.nodes * size_of::<Node>()
            + usage.values * 4
            + usage.blocks * 1024
            + usage.lines * 64;
        println!(
            "{name}: {} IPv4 and {} IPv6 ranges, {usage:?}, {bytes} bytes; cut {cut:?}, \
             built {built:?}, members {members:?}",
            partition.v4.len(),
            partition.v6.len(),
        );
        // Tens of thousands of scattered host routes may take the next size.
        let largest = if policy.sets.is_empty() {
            Tier::Internet
        } else {
            Tier::Large
        };
        assert!(choose_tier(&usage).unwrap() <= largest);
        well_formed(&table);
        same_at_boundaries(&table, &partition);
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..count / 4 {
            same_v4(&table, &partition.v4, random.u32(..));
            same_v6(&table, &partition.v6, random.u128(..));
            // Near a boundary: a uniform IPv6 address is never announced.
            let (boundary, _) = partition.v4[random.usize(..partition.v4.len())];
            let offset = random.u32(..) >> random.u8(8..32);
            same_v4(&table, &partition.v4, boundary.wrapping_add(offset));
            let (boundary, _) = partition.v6[random.usize(..partition.v6.len())];
            let offset = random.u128(..) >> random.u8(16..128);
            same_v6(&table, &partition.v6, boundary.wrapping_add(offset));
        }
    }
}
