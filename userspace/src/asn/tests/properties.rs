//! The compiled ranges against a scan over rows that follows the rules to the
//! letter, and parsers against arbitrary bytes.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::super::line;
use super::super::source::Input;
use super::*;
use crate::asn::Country;

/// A row as the test made it: source, start, end, ASN or country.
type Made<T> = (usize, u128, u128, T);

/// Origins at an address: for each source in order the rows that do not strictly
/// contain another row over the address; ascending, each once.
fn scan_origins(rows: &[Made<u32>], addr: u128) -> Vec<u32> {
    let mut out = Vec::new();
    for source in 0..3 {
        let covering: Vec<_> = rows
            .iter()
            .filter(|r| r.0 == source && r.3 != 0 && r.1 <= addr && addr <= r.2)
            .collect();
        let inside =
            |a: &Made<u32>, b: &Made<u32>| a.1 >= b.1 && a.2 <= b.2 && (a.1, a.2) != (b.1, b.2);
        let mut found: Vec<u32> = covering
            .iter()
            .filter(|row| !covering.iter().any(|other| inside(other, row)))
            .map(|row| row.3)
            .collect();
        found.sort_unstable();
        for asn in found {
            if !out.contains(&asn) {
                out.push(asn);
            }
        }
    }
    out
}

/// Country at an address: first source, smallest row, first line.
fn scan_country(rows: &[Made<Country>], addr: u128) -> Option<Country> {
    let mut best: Option<&Made<Country>> = None;
    for row in rows.iter().filter(|r| r.1 <= addr && addr <= r.2) {
        if best.is_none_or(|best| (row.0, row.2 - row.1) < (best.0, best.2 - best.1)) {
            best = Some(row);
        }
    }
    best.map(|row| row.3)
}

/// Length of the largest prefix around the address in the row that decides.
fn scan_prefix(rows: &[Made<u32>], addr: u128, bits: u32) -> Option<u32> {
    let row = rows
        .iter()
        .filter(|r| r.3 != 0 && r.1 <= addr && addr <= r.2)
        .min_by_key(|r| (r.0, r.2 - r.1, r.3, r.1))?;
    let mut host = bits;
    loop {
        let mask = if host == 128 {
            u128::MAX
        } else {
            (1 << host) - 1
        };
        if addr & !mask >= row.1 && addr | mask <= row.2 {
            return Some(bits - host);
        }
        host -= 1;
    }
}

#[derive(Clone, Copy, Debug)]
enum Family {
    Four,
    Six,
}

impl Family {
    fn bits(self) -> u32 {
        match self {
            Self::Four => 32,
            Self::Six => 128,
        }
    }

    fn addr(self, value: u128) -> IpAddr {
        match self {
            Self::Four => Ipv4Addr::from(value as u32).into(),
            Self::Six => Ipv6Addr::from(value).into(),
        }
    }
}

/// Rows close together, so that they overlap in all ways; at the edges of the
/// address space too.
fn rows<T: std::fmt::Debug + Clone + 'static>(
    what: impl Strategy<Value = T> + Clone + 'static,
) -> impl Strategy<Value = (Family, u128, Vec<Made<T>>)> {
    let family = prop_oneof![Just(Family::Four), Just(Family::Six)];
    (family, 0..3usize).prop_flat_map(move |(family, place)| {
        let top = u128::MAX >> (128 - family.bits());
        let base = match (place, family) {
            (0, _) => 0,
            (1, _) => top - 63,
            (_, Family::Four) => 0x0100_0000,
            (_, Family::Six) => 0x2001_0db8 << 96,
        };
        let row = (0..3usize, 0..64u128, 0..64u128, what.clone())
            .prop_map(move |(source, a, b, what)| (source, base + a.min(b), base + a.max(b), what));
        (Just(family), Just(base), prop::collection::vec(row, 1..40))
    })
}

/// One text per source that has rows; sources without rows are left out, which
/// does not change the order of the others.
fn texts<T>(family: Family, made: &[Made<T>], show: impl Fn(&T) -> String) -> Vec<String> {
    let mut out = vec![String::new(); 3];
    for (source, start, end, what) in made {
        let (start, end) = (family.addr(*start), family.addr(*end));
        writeln!(out[*source], "{start},{end},{}", show(what)).unwrap();
    }
    out.retain(|text| !text.is_empty());
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn origins_equal_a_scan((family, base, made) in rows(0..6u32)) {
        let sources = texts(family, &made, u32::to_string);
        // A source in which nobody announces anything is refused, rightly.
        for source in 0..3 {
            prop_assume!(made.iter().all(|r| r.0 != source)
                || made.iter().any(|r| r.0 == source && r.3 != 0));
        }
        let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
        let db = db(&sources, &[]);
        for i in 0..64 {
            let addr = family.addr(base + i);
            let expected = scan_origins(&made, base + i);
            prop_assert_eq!(db.origins_at(addr), expected.as_slice(), "{}", addr);
            let answer = db.lookup(addr);
            prop_assert_eq!(
                answer.prefix.map(|p| u32::from(p.prefix_len())),
                scan_prefix(&made, base + i, family.bits())
            );
            prop_assert!(answer.prefix.is_none_or(|prefix| prefix.contains(&addr)));
        }
        // No neighbours that could be one, and prefixes that say the same.
        prop_assert!(db.v4.windows(2).all(|w| w[0].end < w[1].start
            && (w[0].end + 1 < w[1].start || w[0].origins != w[1].origins)));
        prop_assert!(db.v6.windows(2).all(|w| w[0].end < w[1].start
            && (w[0].end + 1 < w[1].start || w[0].origins != w[1].origins)));
        for asn in 1..6 {
            let prefixes = db.prefixes_of(asn);
            for i in 0..64 {
                let addr = family.addr(base + i);
                prop_assert_eq!(
                    prefixes.iter().filter(|p| p.contains(&addr)).count(),
                    usize::from(db.origins_at(addr).contains(&asn))
                );
            }
        }
    }

    #[test]
    fn countries_equal_a_scan((family, base, made) in rows((b'A'..=b'D').prop_map(|c| Country([c, b'X'])))) {
        let sources = texts(family, &made, Country::to_string);
        let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
        let db = db(&[], &sources);
        for i in 0..64 {
            let addr = family.addr(base + i);
            prop_assert_eq!(db.block_country(addr), scan_country(&made, base + i), "{}", addr);
        }
    }

    #[test]
    fn splitting_covers_exactly(a in any::<u128>(), b in any::<u128>(), shift in 0..128u32) {
        let (start, end) = (a.min(b) >> shift, a.max(b) >> shift);
        let mut next = Some(start);
        for net in cidrs(Ipv6Addr::from(start).into(), Ipv6Addr::from(end).into()) {
            let (IpAddr::V6(first), IpAddr::V6(last)) = (net.network(), net.broadcast()) else {
                panic!("{net}");
            };
            prop_assert_eq!(next, Some(u128::from(first)));
            next = u128::from(last).checked_add(1);
        }
        prop_assert_eq!(next, end.checked_add(1));
    }

    #[test]
    fn lines_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = line::parse(&bytes);
        let _ = line::is_header(&bytes);
        prop_assert!(line::clean_name(&bytes).chars().count() <= 200);
    }

    #[test]
    fn nearly_lines_never_panic(text in "[0-9a-f:.,\t\" ASNone#\r]{0,60}") {
        let _ = line::parse(text.as_bytes());
        let _ = line::is_header(text.as_bytes());
    }

    #[test]
    fn files_never_panic(
        magic in prop_oneof![Just(&b""[..]), Just(&b"\x1f\x8b\x08"[..]), Just(&b"\x28\xb5\x2f\xfd"[..]), Just(&b"kordonDB"[..])],
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let content = [magic, &bytes].concat();
        if let Ok(mut lines) = Input::new(std::io::Cursor::new(content.clone())).map(Input::lines) {
            while let Ok(Some(line)) = lines.next() {
                let _ = line::parse(line.bytes);
            }
        }
        let folder = Folder::new();
        let file = folder.file("db", content);
        let _ = import(&[file], &[]);
    }
}
