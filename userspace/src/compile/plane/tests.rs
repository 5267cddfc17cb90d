//! A plane says what the class plane and the verdict words say, or asks; and it asks
//! for nothing that it has room to say.

use kordon_ebpf::{
    layout::{GROUP_BITS, VERDICT_ACTION_SHIFT, VERDICT_STEPS},
    plane::{ReadPlanes, leaf_v4, leaf_v6},
    table::{class_v4, class_v6},
};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::compile::{partition::Partition, table::FlatTable};

/// Verdict words by group: two passes that count elsewhere, a drop, an audit, steps,
/// and passes too rare to have a code.
const WORDS: [u32; 8] = [
    100,
    101,
    1 << VERDICT_ACTION_SHIFT | 102,
    2 << VERDICT_ACTION_SHIFT | 103,
    VERDICT_STEPS | 5,
    106,
    107,
    100,
];

struct Made {
    partition: Partition,
    table: FlatTable,
    planes: FlatPlanes,
}

fn make(v4: Vec<(u32, u32)>, v6: Vec<(u128, u32)>, nat64: &[Nat64], tier: Tier) -> Made {
    let mut partition = Partition::default();
    partition.v4 = v4;
    partition.v6 = v6;
    let table = FlatTable::build(&partition).unwrap();
    let mut fixed: Box<Generation<0>> = bytemuck::zeroed_box();
    fixed.zones[2].settings = 1;
    fixed.zones[2].verdict_base = 10;
    fixed.verdicts[10..][..WORDS.len()].copy_from_slice(&WORDS);
    fixed.nat64[..nat64.len()].copy_from_slice(nat64);
    fixed.nat64_len = nat64.len() as u32;
    // Two classes of each group; each has an ordinal of its own.
    let class_words: Vec<u32> = (0..2 * WORDS.len() as u32)
        .map(|class| (class << GROUP_BITS) | (class / 2))
        .collect();
    let planes = FlatPlanes::build(&fixed, &class_words, &table, tier);
    Made {
        partition,
        table,
        planes,
    }
}

impl Made {
    fn fast_zone(&self) -> &FastZone {
        &self.planes.zones[3]
    }

    /// A leaf with a code says the word; what asks has a reason to, unless `alike`.
    #[track_caller]
    fn check(&self, code: u32, class: u32, alike: bool) {
        let word = WORDS[class as usize / 2];
        if code != ASK {
            assert_eq!(self.fast_zone().words[code as usize], word);
        }
        if alike && self.fast_zone().words[..ASK as usize].contains(&word) {
            assert_ne!(code, ASK, "{word:#x} has a code");
        }
    }

    fn check_v4(&self, address: u32) {
        let class = |address| class_v4(&self.table, address);
        let alike = (address & !0xff..=address | 0xff).all(|near| class(near) == class(address));
        let special = matches!(address >> 24, 0 | 127) || address >> 8 == u32::MAX >> 8;
        let code = leaf_v4(&self.planes, 0, address);
        self.check(code, class(address), alike && !special);
    }

    fn check_v6(&self, address: u128) {
        let high = (address >> 64) as u64;
        if high >> 61 != 1 {
            return;
        }
        let class = class_v6(&self.table, high, address as u64);
        let unit = |address: u128| address >> 68;
        let starts = self.partition.v6.iter().map(|(start, _)| start);
        let alike = starts.clone().all(|start| unit(*start) != unit(address))
            && starts
                .filter(|start| *start >> 100 == address >> 100)
                .count()
                < 16;
        let special = high >> 32 == 0x2001_0000 || high >> 48 == 0x2002;
        let code = leaf_v6(&self.planes, 0, high);
        self.check(code, class, alike && !special);
    }
}

fn ranges<A: Ord + Default>(boundaries: Vec<(A, u32)>) -> Vec<(A, u32)> {
    let mut map: std::collections::BTreeMap<A, u32> = boundaries.into_iter().collect();
    map.entry(A::default()).or_insert(0);
    map.into_iter().collect()
}

fn near<A: Copy + Into<u128>>(starts: &[(A, u32)]) -> Vec<u128> {
    let starts = starts.iter().map(|(start, _)| (*start).into());
    starts
        .flat_map(|at: u128| {
            [0, 1, 255, 256, 1 << 68, 1 << 100].map(|by| [at.wrapping_sub(by), at.wrapping_add(by)])
        })
        .flatten()
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn says_what_the_class_plane_says_or_asks(
        v4 in vec((prop_oneof![
            any::<u32>(),
            any::<u32>().prop_map(|a| a & !0xff),
            (0..2u32, 0..1024u32).prop_map(|(a, n)| (a << 31) + 0x0b00_0000 + 64 * n),
            (0..600u32).prop_map(|n| u32::MAX - n),
        ], 0..16u32), 0..200),
        v6 in vec((prop_oneof![
            any::<u128>(),
            any::<u128>().prop_map(|a| (a >> 3 | 1 << 125) & !0 << 80),
            (0..1000u128).prop_map(|n| (0x2001_0db8 << 96) + (n << 76)),
            (0..4000u128).prop_map(|n| (0x2a00_0010 << 96) + (n << 66)),
            (0..100u128).prop_map(|n| (0x2001_0000 << 96) + (n << 70)),
            (0..100u128).prop_map(|n| (0x2002_0000 << 96) + (n << 70)),
        ], 0..16u32), 0..300),
        random in vec(any::<u128>(), 100),
    ) {
        let made = make(ranges(v4), ranges(v6), &[], Tier::Large);
        for address in near(&made.partition.v4).into_iter().chain(random.iter().copied()) {
            made.check_v4(address as u32);
        }
        for address in near(&made.partition.v6).into_iter().chain(random) {
            made.check_v6(address);
            made.check_v6(address >> 3 | 1 << 125);
        }
    }
}

/// What stands for another address, or is not a destination, is never answered.
#[test]
fn special_addresses_ask() {
    let prefix = |text: &str| {
        let net: ipnet::Ipv6Net = text.parse().unwrap();
        Nat64 {
            prefix: crate::compile::generation::prefix_of(net.into()),
            length: u32::from(net.prefix_len()),
            reserved: 0,
        }
    };
    let nat64 = [prefix("2001:db8:64::/96"), prefix("2600:40::/32")];
    let made = make(vec![(0, 0)], vec![(0, 0)], &nat64, Tier::Small);
    for (address, asks) in [
        ("0.0.0.1", true),
        ("127.0.0.1", true),
        ("255.255.255.255", true),
        ("1.0.0.1", false),
        ("126.255.255.255", false),
        ("255.255.254.255", false),
    ] {
        let address: std::net::Ipv4Addr = address.parse().unwrap();
        let code = leaf_v4(&made.planes, 0, address.to_bits());
        assert_eq!(code == ASK, asks, "{address}");
    }
    for (address, asks) in [
        ("2001:0:1::1", true),
        ("2001:db8:64::1", true),
        ("2002:1::1", true),
        ("2600:40::1", true),
        ("2001:8000::1", false),
        ("2600:50::1", false),
        ("2a00::1", false),
        ("3fff::1", false),
    ] {
        let address: std::net::Ipv6Addr = address.parse().unwrap();
        let code = leaf_v6(&made.planes, 0, (address.to_bits() >> 64) as u64);
        assert_eq!(code == ASK, asks, "{address}");
    }
}

/// What does not fit asks, and nothing else is wrong.
#[test]
fn what_does_not_fit_asks() {
    // Every /16 another pattern, every /28 of 300 /16 a tree.
    let v4 = (0..65536u32)
        .flat_map(|n| [0, n % 127 + 1, n % 113 + 128].map(|at| (n << 16 | at << 8, at % 2 * 2)))
        .collect();
    let v6 = (0..30_000u128)
        .map(|n| {
            (
                (0x2a00 + n / 100) << 112 | (n % 100) << 100 | 1 << 80,
                n as u32 % 3,
            )
        })
        .collect();
    let made = make(ranges(v4), ranges(v6), &[], Tier::Small);
    let room = Tier::Small.planes();
    assert_eq!(made.planes.blocks_v4.len(), room.blocks_v4);
    assert!(made.planes.blocks_v6.len() <= room.blocks_v6);
    assert!(made.planes.lines.len() <= room.lines);
    let mut asked = 0;
    for n in 0..65536u32 {
        let address = n << 16 | 77;
        let code = leaf_v4(&made.planes, 0, address);
        made.check(code, class_v4(&made.table, address), false);
        asked += u32::from(code == ASK);
    }
    assert!((10_000..65_536).contains(&asked), "{asked}");
    for n in 0..30_000u128 {
        let address = (0x2a00 + n / 100) << 112 | (n % 100) << 100 | 3 << 79;
        let high = (address >> 64) as u64;
        let class = class_v6(&made.table, high, address as u64);
        made.check(leaf_v6(&made.planes, 0, high), class, false);
    }
}

/// As the kernel reads them.
impl ReadPlanes for FlatPlanes {
    fn top_v4(&self, plane: u32, index: u16) -> Option<u16> {
        let index = plane as usize * 65536 + usize::from(index);
        self.v4.get(index).copied()
    }
    fn leaves_v4(&self, block: u16, index: u8) -> Option<u8> {
        let block = self.blocks_v4.get(usize::from(block))?;
        block.get(usize::from(index)).copied()
    }
    fn top_v6(&self, plane: u32, index: u16) -> Option<u16> {
        let index = plane as usize * 8192 + usize::from(index);
        self.v6.get(index).copied()
    }
    fn block_v6(&self, block: u16, index: u16) -> Option<u16> {
        let block = self.blocks_v6.get(usize::from(block))?;
        block.get(usize::from(index)).copied()
    }
    fn plane_line(&self, index: u16) -> Option<&PlaneLine> {
        self.lines.get(usize::from(index))
    }
}
