//! Small databases with everything that real ones do badly: overlaps, several
//! origins, ranges that are no prefixes, AS0, IPv4 in IPv6, default routes.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use fastrand::Rng;

use super::{once_in, pick};

/// Texts of ASN sources and country lists, by priority.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Range CSV or iptoasn TSV.
    pub asn: Vec<String>,
    /// Country lists.
    pub country: Vec<String>,
}

pub(super) const ASNS: [u32; 8] = [1, 2, 64500, 64501, 64502, 64510, 4_200_000_000, u32::MAX];
pub(super) const COUNTRIES: [&str; 4] = ["RU", "BY", "NL", "DE"];
const NETS_V4: [u32; 6] = [
    0xc633_6400, // 198.51.100.0
    0x0505_0000,
    0x0506_0000,
    0x0a14_0000, // 10.20.0.0
    0xdf00_0000,
    0x7e00_0000,
];
const NETS_V6: [u128; 5] = [
    0x2001_0db8_0000_0000 << 64,
    0x2a00_0000_0000_0000 << 64,
    0x2a00_0001_0000_0000 << 64,
    0x2001_0000_0000_0000 << 64,
    0xfd00_0020_0000_0000 << 64,
];

fn range_v4(rng: &mut Rng) -> (u32, u32) {
    let base = *pick(rng, &NETS_V4);
    match rng.u32(..12) {
        // A single address, a prefix, a range that is none, something huge.
        0 => {
            let address = base | rng.u32(..8);
            (address, address)
        }
        1..=6 => {
            let size = 1 << rng.u32(1..17);
            let start = (base + rng.u32(..0x1_0000)) & !(size - 1);
            (start, start + (size - 1))
        }
        7 => *pick(
            rng,
            &[
                (0, u32::MAX),
                (0, 0x7fff_ffff),
                (0x8000_0000, u32::MAX),
                (0x0400_0000, 0x05ff_ffff),
                (0x0400_0000, 0x05ff_fffe),
                (0x0500_0000, 0x05ff_ffff),
            ],
        ),
        _ => {
            let (a, b) = (base + rng.u32(..0x2_0000), base + rng.u32(..0x2_0000));
            (a.min(b), a.max(b))
        }
    }
}

fn range_v6(rng: &mut Rng) -> (u128, u128) {
    let base = *pick(rng, &NETS_V6);
    match rng.u32(..12) {
        0 => (base | 5, base | 5),
        1..=6 => {
            let size = 1u128 << rng.u32(1..113);
            let start = (base + rng.u128(..1 << 96)) & !(size - 1);
            (start, start + (size - 1))
        }
        7 => *pick(
            rng,
            &[
                (0, u128::MAX),
                (0x2000 << 112, (0x4000 << 112) - 1),
                (0x2a00 << 112, (0x2a01 << 112) - 1),
                (0x2a00 << 112, (0x2a02 << 112) - 1),
                (0x2a00 << 112, (0x2a02 << 112) - 2),
            ],
        ),
        _ => {
            let (a, b) = (base + rng.u128(..1 << 97), base + rng.u128(..1 << 97));
            (a.min(b), a.max(b))
        }
    }
}

/// Both ends of a range as text.
fn range(rng: &mut Rng, before: &mut Vec<(String, String)>) -> (String, String) {
    // The same range once more.
    if !before.is_empty() && once_in(rng, 5) {
        return pick(rng, before).clone();
    }
    let texts = match rng.u32(..7) {
        0..=2 => {
            let (start, end) = range_v4(rng);
            (
                Ipv4Addr::from(start).to_string(),
                Ipv4Addr::from(end).to_string(),
            )
        }
        3 => {
            let (start, end) = range_v4(rng);
            let mapped = |value: u32| Ipv4Addr::from(value).to_ipv6_mapped().to_string();
            (mapped(start), mapped(end))
        }
        _ => {
            let (start, end) = range_v6(rng);
            (
                Ipv6Addr::from(start).to_string(),
                Ipv6Addr::from(end).to_string(),
            )
        }
    };
    before.push(texts.clone());
    texts
}

/// Random sources.
pub fn sources(rng: &mut Rng) -> Sources {
    let mut before = Vec::new();
    let mut asn = Vec::new();
    for _ in 0..rng.usize(1..3) {
        let with_countries = rng.bool();
        // A row that counts, so that no source is refused as empty.
        let mut text = if with_countries {
            "203.0.113.0\t203.0.113.255\t64599\tNL\tFirst\n".to_owned()
        } else {
            "203.0.113.0,203.0.113.255,64599,First\n".to_owned()
        };
        for _ in 0..rng.usize(1..25) {
            let (start, end) = range(rng, &mut before);
            let number = if once_in(rng, 10) {
                0
            } else {
                *pick(rng, &ASNS)
            };
            if with_countries {
                let country = if once_in(rng, 4) {
                    "None"
                } else {
                    pick(rng, &COUNTRIES)
                };
                writeln!(text, "{start}\t{end}\t{number}\t{country}\tName")
            } else {
                writeln!(text, "{start},{end},{number},Name")
            }
            .expect("strings can be written to");
        }
        asn.push(text);
    }
    let mut country = Vec::new();
    for _ in 0..rng.usize(..3) {
        let mut text = "203.0.113.0,203.0.113.255,NL\n".to_owned();
        for _ in 0..rng.usize(1..15) {
            let (start, end) = range(rng, &mut before);
            let code = pick(rng, &COUNTRIES);
            writeln!(text, "{start},{end},{code}").expect("strings can be written to");
        }
        country.push(text);
    }
    Sources { asn, country }
}
