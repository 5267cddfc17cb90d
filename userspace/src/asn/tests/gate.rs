//! The gate: which updates are held back, and which are only warned of.

use super::*;
use crate::asn::gate::{Kind, MAX_CHANGE, warnings};

/// The kinds of concern that replacing one text by another raises, AS64500 named.
fn kinds(before: &str, after: &str) -> Vec<Kind> {
    let (before, _) = import_texts(&[before], &[]).unwrap();
    let (after, found) = import_texts(&[after], &[]).unwrap();
    let watched = Watched {
        asns: vec![64500..=64500],
        ..Watched::default()
    };
    let difference = compare(&before, &after, &watched);
    let concerns = judge(&before, &after, &difference, &found, MAX_CHANGE);
    for concern in &concerns {
        assert!(!concern.message.is_empty());
    }
    concerns.into_iter().map(|c| c.kind).collect()
}

fn named_v6(n: u32) -> String {
    (0..n)
        .map(|i| {
            format!(
                "2001:db8:{0:x}::,2001:db8:{0:x}:ffff:ffff:ffff:ffff:ffff,64500,Bad\n",
                i * 2
            )
        })
        .collect()
}

/// What one family has is nothing to measure the other by.
#[test]
fn families_are_apart() {
    let with = |v4: u32, v6: u32| table(1000) + &named(v4) + &named_v6(v6);
    // 4 of 104 prefixes, and all of IPv4 but six.
    assert_eq!(kinds(&with(10, 100), &with(4, 100)), [Kind::Halved]);
    assert_eq!(kinds(&with(10, 100), &with(0, 100)), [Kind::Halved]);
    assert_eq!(kinds(&with(100, 10), &with(100, 10)), []);
    let v6 = kinds(&with(100, 10), &with(100, 4));
    assert_eq!(v6.iter().filter(|k| **k == Kind::Halved).count(), 1);
    // Prefixes of a /48 among one of a /32, which is most of the space.
    let large = "2001:db9::,2001:db9:ffff:ffff:ffff:ffff:ffff:ffff,64501,Other\n";
    let found = kinds(&(with(10, 100) + large), &with(10, 100));
    assert_eq!(found, [Kind::Shrunk], "announced space of IPv6");
}

#[test]
fn half_is_a_warning() {
    let warned = |before: &str, after: &str| {
        let (before, _) = import_texts(&[before], &[]).unwrap();
        let (after, _) = import_texts(&[after], &[]).unwrap();
        let watched = Watched {
            asns: vec![64500..=64500],
            ..Watched::default()
        };
        warnings(&compare(&before, &after, &watched))
    };
    let with = |n: u32| table(1000) + &named(n) + &named_v6(100);
    assert_eq!(warned(&with(10), &with(6)), []);
    let [half] = &warned(&with(10), &with(5))[..] else {
        panic!("no warning");
    };
    assert!(
        half.message.contains("loses 5 of its 10 IPv4 prefixes"),
        "{half:?}"
    );
    // What is held back is told by that.
    assert_eq!(warned(&with(10), &with(4)), []);
    assert_eq!(warned(&with(10), &with(20)), []);
}

/// `n` blocks of a /24 with a gap behind each, of 40 others in turn.
fn table(n: u32) -> String {
    (0..n)
        .map(|i| {
            let at = std::net::Ipv4Addr::from(0x0b00_0000 + i * 512);
            let end = std::net::Ipv4Addr::from(0x0b00_0000 + i * 512 + 255);
            format!("{at},{end},{},Other\n", 64501 + i % 40)
        })
        .collect()
}

fn named(n: u32) -> String {
    (0..n)
        .map(|i| format!("198.51.{0}.0,198.51.{0}.255,64500,Bad\n", i * 2))
        .collect()
}

#[test]
fn totals_within_a_tenth_are_news() {
    let base = table(1000) + &named(10);
    assert_eq!(kinds(&base, &base), []);
    assert_eq!(kinds(&base, &(table(905) + &named(10))), []);
    assert_eq!(kinds(&base, &(table(1090) + &named(10))), []);
    // Prefixes and addresses.
    assert_eq!(
        kinds(&base, &(table(890) + &named(10))),
        [Kind::Shrunk, Kind::Shrunk]
    );
    assert_eq!(
        kinds(&base, &(table(1120) + &named(10))),
        [Kind::Grown, Kind::Grown]
    );
    // A handful more in a small table is no reason.
    assert_eq!(kinds(&named(2), &named(5)), []);
}

#[test]
fn who_is_named_may_not_vanish() {
    let with = |n: u32| table(1000) + &named(n);
    assert_eq!(kinds(&with(10), &with(5)), []);
    assert_eq!(kinds(&with(10), &with(4)), [Kind::Halved]);
    assert_eq!(kinds(&with(10), &with(0)), [Kind::Vanished]);
    // One large block among small ones.
    let large = "198.18.0.0,198.19.255.255,64500,Bad\n";
    let before = with(10) + large;
    assert!(kinds(&before, &with(10)).contains(&Kind::Halved));
    // The same addresses in other words.
    let halves = "11.0.0.0,11.0.0.127,64500,x\n11.0.0.128,11.0.0.255,64500,x\n";
    let whole = "11.0.0.0,11.0.0.255,64500,x\n";
    assert_eq!(kinds(halves, whole), []);
}

#[test]
fn default_routes_are_seen_in_any_form() {
    let base = table(1000);
    for row in [
        "0.0.0.0,255.255.255.255,64777,All\n",
        "::,ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff,64777,All\n",
        "12.0.0.0,15.255.255.255,64777,Wide\n",
    ] {
        let found = kinds(&base, &(base.clone() + row));
        assert!(found.contains(&Kind::Wide), "{row}: {found:?}");
    }
    // In pieces that are no prefix.
    let row = "12.0.0.0,99.0.0.1,64777,Wide\n";
    let found = kinds(&base, &(base.clone() + row));
    assert!(found.contains(&Kind::Wide), "{found:?}");
    // What has been there all the time is no news.
    let known = base.clone() + row;
    assert_eq!(kinds(&known, &known), []);
}

/// What is damaged is salvaged for the gate, and refused without it; there is no
/// beginning with it either.
#[test]
fn damaged_files_are_held_back() {
    use std::io::Write as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(table(3000).as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let mostly = table(30) + &"what is this\n".repeat(31);
    for (bytes, kind) in [
        (&gzip[..gzip.len() - 9], Kind::Truncated),
        (mostly.as_bytes(), Kind::Unreadable),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let files = [path.clone()];
        let strict = Options::default();
        let refused = import_with(&files, &[], &strict).unwrap_err();
        let salvage = Options {
            salvage: true,
            ..strict
        };
        let (db, found) = import_with(&files, &[], &salvage).unwrap();
        assert!(db.v4.len() >= 30);
        let none = AsnDb::default();
        let difference = compare(&none, &db, &Watched::default());
        let concerns = judge(&none, &db, &difference, &found, MAX_CHANGE);
        assert_eq!(concerns.len(), 1, "{concerns:?}");
        assert_eq!(concerns[0].kind, kind);
        let why = &refused.0.errors[0].message;
        assert!(concerns[0].message.contains(why), "{concerns:?} {why}");
    }
    // Of nothing, nothing can be salvaged.
    let salvage = Options {
        salvage: true,
        ..Options::default()
    };
    for text in ["", "<html>\n", "what is this\n", "\x1f\u{8b}\u{8}"] {
        std::fs::write(&path, text).unwrap();
        let files = [path.clone()];
        assert!(import_with(&files, &[], &salvage).is_err());
    }
}

#[test]
fn an_end_in_the_middle_is_seen() {
    let base = table(1000);
    let cut = &base[..base.len() - 3];
    assert_eq!(kinds(&base, cut), [Kind::Truncated]);
    // What comes first is taken.
    let (first, found) = import_texts(&[cut], &[]).unwrap();
    let none = AsnDb::default();
    let difference = compare(&none, &first, &Watched::default());
    assert_eq!(judge(&none, &first, &difference, &found, MAX_CHANGE), []);
}
