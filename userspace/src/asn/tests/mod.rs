//! Tests of the whole module: files in, answers out.

mod formats;
mod gate;
mod hostile;
mod properties;
mod real;
mod snapshots;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "kordon-asn-{}-{}",
            std::process::id(),
            SERIAL.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn bz2(content: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zst(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 1).unwrap()
}

fn xz(content: &[u8]) -> Vec<u8> {
    liblzma::encode_all(content, 1).unwrap()
}

/// An xz stream whose dictionary has so many bits, and nothing else in it.
fn xz_with_window(bits: u32) -> Vec<u8> {
    use liblzma::stream::{Check, Filters, LzmaOptions, Stream};
    use std::io::Read;
    let mut options = LzmaOptions::new_preset(1).unwrap();
    options.dict_size(1 << 16);
    let mut filters = Filters::new();
    filters.lzma2(&options);
    let stream = Stream::new_stream_encoder(&filters, Check::Crc32).unwrap();
    let mut out = Vec::new();
    let mut encoder = liblzma::read::XzEncoder::new_stream(&b"x"[..], stream);
    encoder.read_to_end(&mut out).unwrap();
    // The block's header: size, flags, filter, length of its properties, the dictionary;
    // an encoder of such a size would take ten times that much.
    assert_eq!(out[14..16], [0x21, 1]);
    out[16] = (2 * (bits - 12)) as u8;
    let crc = crc32fast::hash(&out[12..20]).to_le_bytes();
    out[20..24].copy_from_slice(&crc);
    out
}

/// A zstd frame that says that it needs a window of so many bits (RFC 8878, 3.1.1.1.2).
fn zst_with_window(bits: u8) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (bits - 10) << 3];
    // One raw block, the last, of one byte.
    out.extend([0b0000_1001, 0, 0, b'x']);
    out
}

/// An input that was once read wrongly.
fn case(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/cases");
    std::fs::read(Path::new(folder).join(name)).unwrap()
}

/// Imports texts: ASN sources by priority, then country sources.
pub(super) fn import_texts(
    asn: &[&str],
    country: &[&str],
) -> Result<(AsnDb, Diagnostics), ImportError> {
    let folder = Folder::new();
    let files = |kind: &str, texts: &[&str]| -> Vec<PathBuf> {
        texts
            .iter()
            .enumerate()
            .map(|(i, text)| folder.file(&format!("{kind}{i}"), text))
            .collect()
    };
    import(&files("asn", asn), &files("country", country))
}

fn db(asn: &[&str], country: &[&str]) -> AsnDb {
    import_texts(asn, country).unwrap().0
}

fn lookup(db: &AsnDb, addr: &str) -> Answer {
    db.lookup(addr.parse().unwrap())
}

/// `prefix origins country name`, for tables.
fn brief(db: &AsnDb, addr: &str) -> String {
    let answer = lookup(db, addr);
    let origins: Vec<String> = answer.origins.iter().map(u32::to_string).collect();
    format!(
        "{} [{}] {} {}",
        answer.prefix.map_or("-".to_owned(), |p| p.to_string()),
        origins.join(" "),
        answer.country.map_or("-".to_owned(), |c| c.to_string()),
        answer.name.as_deref().unwrap_or("-")
    )
}

#[test]
fn rules_for_rows_that_disagree() {
    let nested =
        "1.0.0.0,1.0.255.255,1,Wide\n1.0.4.0,1.0.7.255,2,Inside\n1.0.5.0,1.0.5.255,3,Deep\n";
    let moas = "1.0.0.0,1.0.0.255,9,Nine\n1.0.0.0,1.0.0.255,4,Four\n";
    let partial = "1.0.0.0,1.0.0.99,1,\n1.0.0.50,1.0.0.149,2,\n1.0.0.0,1.0.0.255,3,\n";
    let zero =
        "1.0.0.0,1.0.255.255,1,Wide\n1.0.4.0,1.0.7.255,0,Not routed\n2.0.0.0,2.0.0.255,AS0,\n";
    let odd = "1.0.0.1,1.0.0.6,5,\n";
    for (asn, addr, expected) in [
        // More specific rows inside do not make the row that decides smaller.
        (&[nested][..], "1.0.0.1", "1.0.0.0/16 [1] - Wide"),
        (&[nested], "1.0.4.1", "1.0.4.0/22 [2] - Inside"),
        (&[nested], "1.0.5.1", "1.0.5.0/24 [3] - Deep"),
        (&[nested], "1.1.0.0", "- [] - -"),
        (&[moas], "1.0.0.77", "1.0.0.0/24 [4 9] - Four"),
        (&[partial], "1.0.0.10", "1.0.0.0/26 [1] - -"),
        (&[partial], "1.0.0.60", "1.0.0.0/26 [1 2] - -"),
        (&[partial], "1.0.0.200", "1.0.0.0/24 [3] - -"),
        (&[zero], "1.0.4.1", "1.0.0.0/16 [1] - Wide"),
        (&[zero], "2.0.0.1", "- [] - -"),
        (&[odd], "1.0.0.1", "1.0.0.1/32 [5] - -"),
        (&[odd], "1.0.0.5", "1.0.0.4/31 [5] - -"),
        (&[odd], "1.0.0.7", "- [] - -"),
        // Sources are joined; the order of the sources decides which is first.
        (&[nested, moas], "1.0.0.1", "1.0.0.0/16 [1 4 9] - Wide"),
        (&[moas, nested], "1.0.0.1", "1.0.0.0/24 [4 9 1] - Four"),
        (&[moas, nested], "1.0.5.1", "1.0.5.0/24 [3] - Deep"),
        (&[moas, moas], "1.0.0.1", "1.0.0.0/24 [4 9] - Four"),
        (&[nested], "::ffff:1.0.5.1", "1.0.5.0/24 [3] - Deep"),
    ] {
        assert_eq!(brief(&db(asn, &[]), addr), expected, "{addr} in {asn:?}");
    }
}

#[test]
fn names_and_countries() {
    let csv = "1.0.0.0,1.0.0.255,1,\"A, \"\"B\"\" Inc.\"\n1.0.1.0,1.0.1.255,2,None\n\
               1.0.2.0,1.0.2.255,3,C, Inc.\n1.0.3.0,1.0.3.255,4\n1.0.4.0,1.0.4.255,5,\"open\n\
               1.0.5.0,1.0.5.255,6,ev\x1b[2Jil\u{202e}\n";
    let tsv = "1.0.1.0\t1.0.1.255\t2\tRU\tTwo\n1.0.0.0\t1.0.0.255\t1\tUS\tOne\n\
               1.0.9.0\t1.0.9.255\t0\tNone\tNot routed\n1.0.8.0\t1.0.8.255\t8\tNone\tX\n";
    let countries = "1.0.0.0,1.0.0.127,AU\n1.0.0.0,1.0.0.63,nz\n\
                     1.0.8.0,1.0.8.255,ZZ\n1.0.9.0,1.0.9.255,CN\n";
    let second = "1.0.0.0,1.0.0.255,DE\n";
    let db = db(&[csv, tsv], &[countries, second]);
    for (addr, expected) in [
        ("1.0.0.1", "1.0.0.0/24 [1] NZ A, \"B\" Inc."),
        ("1.0.0.100", "1.0.0.0/24 [1] AU A, \"B\" Inc."),
        ("1.0.0.200", "1.0.0.0/24 [1] DE A, \"B\" Inc."),
        ("1.0.1.1", "1.0.1.0/24 [2] RU Two"),
        ("1.0.2.1", "1.0.2.0/24 [3] - C, Inc."),
        ("1.0.3.1", "1.0.3.0/24 [4] - -"),
        ("1.0.4.1", "1.0.4.0/24 [5] - open"),
        ("1.0.5.1", "1.0.5.0/24 [6] - ev [2Jil"),
        ("1.0.8.1", "1.0.8.0/24 [8] - X"),
        ("1.0.9.1", "- [] CN -"),
    ] {
        assert_eq!(brief(&db, addr), expected, "{addr}");
    }
    let country = |code: &str| code.parse().unwrap();
    assert_eq!(db.asns_in(country("RU")), [2]);
    assert_eq!(
        db.prefixes_in(country("AU")),
        ["1.0.0.64/26".parse().unwrap()]
    );
    let found: Vec<u32> = db.search("INC.").iter().map(|found| found.0).collect();
    assert_eq!(found, [1, 3]);
    assert_eq!(db.asn_info(7), None);
}

#[test]
fn prefixes_and_summary() {
    let db = db(
        &[
            "1.0.0.0,1.0.0.127,1,A\n1.0.0.128,1.0.0.255,1,A\n1.0.0.128,1.0.0.255,2,B\n\
           ::ffff:1.0.1.0,::ffff:1.0.1.255,1,A\n2001:db8::,2001:db8:2:ffff:ffff:ffff:ffff:ffff,1,A\n\
           255.255.255.254,255.255.255.255,3,C\n",
        ],
        &["2001:db8::,2001:db8::1,NO\n"],
    );
    let nets = |texts: &[&str]| -> Vec<ipnet::IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    };
    assert_eq!(
        db.prefixes_of(1),
        nets(&["1.0.0.0/23", "2001:db8::/47", "2001:db8:2::/48"])
    );
    assert_eq!(db.prefixes_of(2), nets(&["1.0.0.128/25"]));
    assert_eq!(db.prefixes_of(3), nets(&["255.255.255.254/31"]));
    assert_eq!(db.prefixes_of(4), nets(&[]));
    let info = db.info();
    assert_eq!((info.asns, info.multi_origin_sets), (3, 1));
    let four = FamilyInfo {
        rows: 5,
        ranges: 4,
        prefixes: 4,
        country_blocks: 0,
    };
    let six = FamilyInfo {
        rows: 1,
        ranges: 1,
        prefixes: 2,
        country_blocks: 1,
    };
    assert_eq!((info.ipv4, info.ipv6), (four, six));
    assert!(info.imported > 1_700_000_000);
}

#[test]
fn ranges_split_into_the_fewest_prefixes() {
    for (start, end, expected) in [
        ("0.0.0.0", "255.255.255.255", "0.0.0.0/0"),
        ("1.2.3.4", "1.2.3.4", "1.2.3.4/32"),
        (
            "0.0.0.1",
            "0.0.0.8",
            "0.0.0.1/32 0.0.0.2/31 0.0.0.4/30 0.0.0.8/32",
        ),
        (
            "255.255.255.253",
            "255.255.255.255",
            "255.255.255.253/32 255.255.255.254/31",
        ),
        ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0"),
        (
            "8000::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "8000::/1",
        ),
        ("::1", "::3", "::1/128 ::2/127"),
        ("1.2.3.5", "1.2.3.4", ""),
        ("1.2.3.4", "::1", ""),
    ] {
        let found: Vec<String> = cidrs(start.parse().unwrap(), end.parse().unwrap())
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found.join(" "), expected, "{start} to {end}");
    }
}

#[test]
fn answers_serialise_to_the_fields_of_lookup() {
    let db = db(&["1.0.0.0,1.0.0.255,1,A\n"], &["1.0.0.0,1.0.0.255,NO\n"]);
    let json = |addr| serde_json::to_string(&lookup(&db, addr)).unwrap();
    assert_eq!(
        json("1.0.0.1"),
        r#"{"prefix":"1.0.0.0/24","asn":1,"origins":[1],"name":"A","country":"NO"}"#
    );
    assert_eq!(
        json("9.9.9.9"),
        r#"{"prefix":null,"asn":null,"origins":[],"name":null,"country":null}"#
    );
}
