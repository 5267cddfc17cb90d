//! Inputs that are wrong, cut, swapped or meant to hurt, each with what is said.

use super::*;

/// What an import of one file must come to.
enum Expected {
    /// Refused: line, message, a piece of the help.
    Error(usize, &'static str, &'static str),
    /// Taken, with this many rows, and these warnings (line, text, message).
    Taken(u64, &'static [(usize, &'static str, &'static str)]),
}
use Expected::{Error, Taken};

#[rustfmt::skip]
fn asn_cases() -> Vec<(&'static str, Vec<u8>, Expected)> {
    const GOOD: &[u8] = b"1.0.0.0,1.0.0.255,1,A\n2001:db8::,2001:db8::ffff,2,B\n";
    let text = |text: &str| text.as_bytes().to_vec();
    let cut = |mut bytes: Vec<u8>, by: usize| {
        bytes.truncate(bytes.len() - by);
        bytes
    };
    let long: String = (0..3000)
        .map(|i| {
            format!(
                "1.{}.{}.0,1.{}.{}.255,{i},N\n",
                i / 256,
                i % 256,
                i / 256,
                i % 256
            )
        })
        .collect();
    let mut flipped = gzip(long.as_bytes());
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x55;
    let mut flipped_zst = zst(long.as_bytes());
    let middle = flipped_zst.len() / 2;
    flipped_zst[middle..middle + 8].fill(0xff);
    let mut utf16 = vec![0xff, 0xfe];
    utf16.extend(
        "1.0.0.0,1.0.0.255,1,A\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes),
    );
    let mut giant_line = vec![b'x'; 3 << 20];
    giant_line.extend_from_slice(b"\n");
    giant_line.extend_from_slice(GOOD);
    let mut latin1 = b"1.0.0.0,1.0.0.255,1,Telef\xf3nica\n".to_vec();
    latin1.extend_from_slice(b"1.0.1.0,1.0.1.255,\xff\xff,X\n1.0.2.0,1.0.2.255,3,\0\0\n");
    let deep: String = (0..300)
        .map(|i| {
            format!(
                "1.0.{}.{},1.1.{}.{},{},N\n",
                i / 256,
                i % 256,
                i / 256,
                i % 256,
                i + 1
            )
        })
        .collect();
    let many_bad: String = (0..40)
        .map(|i| format!("1.0.{i}.0,1.0.{i}.255,1,A\nbad{i},1,2\n"))
        .collect();

    vec![
        ("empty file", text(""),
            Error(0, "it holds no rows", "range CSV")),
        ("only comments", text("# x\n\n  \r\n"),
            Error(0, "it holds no rows", "range CSV")),
        ("only a header", text("start,end,asn,name\n"),
            Error(0, "it holds no rows", "range CSV")),
        ("empty gzip", gzip(b""),
            Error(0, "it holds no rows", "range CSV")),
        ("country list", text("1.0.0.0,1.0.0.255,AU\n"),
            Taken(1, &[])),
        ("country list after a comment", text("# c\n1.0.0.0,1.0.0.255,AS\n"),
            Taken(1, &[])),
        ("all backwards", text("1.0.0.255,1.0.0.0,1,A\n2.0.0.1,2.0.0.0,2,B\n"),
            Error(1, "all rows end before they start; the first: the range starts at `1.0.0.255`, after its end `1.0.0.0`", "start comes first")),
        ("web page", text("<!DOCTYPE html>\n<html><body>404</body></html>\n"),
            Error(1, "it is a web page (HTML or XML), not a table", "address")),
        ("prose", text("Not Found\n"),
            Error(1, "1 of 1 rows cannot be read; the first: a row needs start, end and an AS number or country, by commas or tabs", "range CSV")),
        ("prefixes under a header", text("network,asn,org\n1.0.0.0/24,13335,X\n"),
            Taken(1, &[])),
        ("more than half unreadable", text("1.0.0.0,1.0.0.255,1,A\nx,y,1\nx,y,1\n"),
            Error(2, "2 of 3 rows cannot be read; the first: `x` is not an IP address", "range CSV")),
        ("half unreadable", text("1.0.0.0,1.0.0.255,1,A\n1.0.0.256,1.0.1.0,1\n"),
            Taken(1, &[(2, "1.0.0.256", "row left out: `1.0.0.256` is not an IP address")])),
        ("nobody announces anything", text("1.0.0.0\t1.0.0.255\t0\tNone\tNot routed\n"),
            Error(0, "no row names a network that an ASN announces", "range CSV")),
        ("only default routes", text("0.0.0.0,255.255.255.255,1,A\n::,ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff,1,A\n"),
            Error(0, "no row names a network that an ASN announces", "range CSV")),
        ("default routes", text("0.0.0.0,127.255.255.255,1,A\n2000::,3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff,1,A\n1.0.0.0,1.255.255.255,2,B\n2002::,2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff,3,C\n"),
            Taken(2, &[(1, "0.0.0.0,127.255.255.255", "`0.0.0.0/1` is ignored: shorter than /8, it is a default route"), (2, "2000::,3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "`2000::/3` is ignored: shorter than /16, it is a default route")])),
        ("one backwards", text("1.0.0.255,1.0.0.0,1,A\n1.0.1.0,1.0.1.255,1,A\n"),
            Taken(1, &[(1, "1.0.0.255,1.0.0.0", "row left out: the range starts at `1.0.0.255`, after its end `1.0.0.0`")])),
        ("families mixed in a row", text("1.0.0.0,2001:db8::,1,A\n1.0.1.0,1.0.1.255,1,A\n"),
            Taken(1, &[(1, "1.0.0.0,2001:db8::", "row left out: `1.0.0.0` and `2001:db8::` are not of one family")])),
        ("AS number too large", text("1.0.0.0,1.0.0.255,4294967296,A\n1.0.1.0,1.0.1.255,AS4294967295,A\n"),
            Taken(1, &[(1, "4294967296", "row left out: `4294967296` is neither an AS number nor a country code")])),
        ("AS without digits, negative, empty", text("1.0.0.0,1.0.0.255,ASX,A\n1.0.0.0,1.0.0.255,-1,A\n1.0.0.0,1.0.0.255,,A\n1.0.1.0,1.0.1.255,1,A\n1.0.2.0,1.0.2.255,1,A\n1.0.3.0,1.0.3.255,1,A\n"),
            Taken(3, &[(1, "ASX", "row left out: `ASX` is neither an AS number nor a country code"), (2, "-1", "row left out: `-1` is neither an AS number nor a country code"), (3, "", "row left out: `` is neither an AS number nor a country code")])),
        ("country row in an ASN source", text("1.0.0.0,1.0.0.255,1,A\n1.0.1.0,1.0.1.255,AU\n"),
            Taken(1, &[(2, "AU", "row left out: this row is a country list (start,end,CC), the file is range CSV (start,end,asn,name)")])),
        ("row without ASN", text("1.0.0.0,1.0.0.255\n1.0.1.0,1.0.1.255,1\n"),
            Taken(1, &[(1, "1.0.0.0,1.0.0.255", "row left out: a row needs start, end and an AS number or country, by commas or tabs")])),
        ("second header", text("start,end,asn\n1.0.1.0,1.0.1.255,1\nstart,end,asn\n"),
            Taken(1, &[(3, "start", "row left out: `start` is not an IP address")])),
        ("BOM, CRLF, blanks, quotes, unsorted, header", text("\u{feff}start_ip,end_ip,asn,name\r\n\r\n# c\r\n\"2.0.0.0\", \"2.0.0.255\" ,\"AS2\",\"B\"\r\n  1.0.0.0 , 1.0.0.255 , as1 , A \r\n"),
            Taken(2, &[])),
        ("BOM before the first row", text("\u{feff}1.0.0.0,1.0.0.255,1,A\n"),
            Taken(1, &[])),
        ("duplicates", text("1.0.0.0,1.0.0.255,1,A\n1.0.0.0,1.0.0.255,1,A\n::ffff:1.0.0.0,::ffff:1.0.0.255,1,B\n"),
            Taken(1, &[])),
        ("no line end", text("1.0.0.0,1.0.0.255,1,A\n1.0.1.0,1.0.1.255,13"),
            Taken(2, &[(2, "1.0.1.0,1.0.1.255,13", "the last line has no line end: the file may have been cut short")])),
        ("cut gzip", cut(gzip(long.as_bytes()), 9),
            Error(3001, "the gzip stream ends too early", "cut short")),
        ("cut gzip checksum", cut(gzip(GOOD), 1),
            Error(3, "the gzip stream ends too early", "cut short")),
        ("cut zstd", cut(zst(GOOD), 1),
            Error(0, "the zstd stream ends too early", "cut short")),
        ("only the gzip magic", vec![0x1f, 0x8b],
            Error(0, "the gzip stream ends too early", "cut short")),
        ("only the zstd magic", vec![0x28, 0xb5, 0x2f, 0xfd],
            Error(0, "the zstd stream ends too early", "cut short")),
        ("damaged gzip", flipped,
            Error(usize::MAX, "the gzip stream is corrupt", "fetch it again")),
        ("damaged zstd", flipped_zst,
            Error(usize::MAX, "the zstd stream is corrupt", "fetch it again")),
        ("two gzip members", [gzip(GOOD), gzip(b"9.0.0.0,9.0.0.255,9,N\n")].concat(),
            Taken(3, &[])),
        ("two zstd frames", [zst(GOOD), zst(b"9.0.0.0,9.0.0.255,9,N\n")].concat(),
            Taken(3, &[])),
        ("gzip in zstd", zst(&gzip(long.as_bytes())),
            Error(usize::MAX, "", "range CSV")),
        ("only the bzip2 magic", text("BZh91AY"),
            Error(0, "the bzip2 stream ends too early", "cut short")),
        ("cut bzip2", cut(bz2(long.as_bytes()), 9),
            Error(usize::MAX, "the bzip2 stream ends too early", "cut short")),
        ("two bzip2 streams", [bz2(GOOD), bz2(b"9.0.0.0,9.0.0.255,9,N\n")].concat(),
            Taken(3, &[])),
        ("only the xz magic", b"\xfd7zXZ\0\0".to_vec(),
            Error(0, "the xz stream ends too early", "cut short")),
        ("cut xz", cut(xz(long.as_bytes()), 9),
            Error(usize::MAX, "the xz stream ends too early", "cut short")),
        ("two xz streams", [xz(GOOD), xz(b"9.0.0.0,9.0.0.255,9,N\n")].concat(),
            Taken(3, &[])),
        ("an xz stream that wants 1 GiB", xz_with_window(30),
            Error(0, "the xz stream needs more than 129 MiB of memory", "smaller window")),
        ("a zstd stream that wants 256 MiB", zst_with_window(28),
            Error(0, "the zstd stream needs more than 129 MiB of memory", "smaller window")),
        ("a bzip2 stream of 466 bytes that is 466 MB", case("bomb.bz2"),
            Error(0, "the bzip2 stream grows to more than 250 times its size", "look at what it holds")),
        ("the same of text", bz2(&GOOD.repeat(400_000)),
            Error(usize::MAX, "the bzip2 stream grows to more than 250 times its size", "")),
        ("the same as zstd", zst(&vec![0; 40 << 20]),
            Error(0, "the zstd stream grows", "")),
        ("the same as xz", xz(&vec![0; 40 << 20]),
            Error(0, "the xz stream grows", "")),
        ("pointers that double", case("pointers.mmdb"),
            Error(0, "it holds no rows", "")),
        ("only CR between the lines", case("asn-cr-only.csv"),
            Taken(3, &[])),
        ("CR, LF and CRLF", text("\u{feff}start,end,asn\r1.0.0.0,1.0.0.255,1,A\r\n1.0.1.0,1.0.1.255,2,B\n\r1.0.2.0,1.0.2.255,3,C\r\r\n1.0.3.0,1.0.3.255,x\r"),
            Taken(3, &[(7, "x", "row left out: `x` is neither an AS number nor a country code")])),
        ("zip", b"PK\x03\x04\0\0".to_vec(),
            Error(0, "it is a zip archive, which is not read", "unpack it first")),
        ("UTF-16", utf16,
            Error(0, "it is UTF-16 text, which is not read", "UTF-8")),
        ("snapshot", b"kordonDB\x01".to_vec(),
            Error(0, "it is a snapshot of kordon, which is not read", "given alone")),
        ("nothing but nul bytes", vec![0; 1 << 20],
            Error(0, "it is binary, and of no format that is known", "range CSV")),
        ("a line of three megabytes", giant_line,
            Taken(2, &[(1, "", "row left out: the line is longer than 64 KiB")])),
        ("invalid UTF-8 and nul bytes", latin1,
            Taken(2, &[(2, "\u{fffd}\u{fffd}", "row left out: `\u{fffd}\u{fffd}` is neither an AS number nor a country code")])),
        ("300 rows over one address", text(&deep),
            Error(257, "more than 256 rows overlap, or too many in ever new ways", "no table of routes")),
        ("many bad rows", text(&many_bad),
            Taken(40, &[(0, "", "20 more rows were left out")])),
        ("escape sequences", text("1.0.0.0,1.0.0.255,1,A\n\x1b[2J\u{202e},1.0.0.1,1\n"),
            Taken(1, &[(2, "\u{fffd}[2J\u{fffd}", "row left out: `\u{fffd}[2J\u{fffd}` is not an IP address")])),
        ("numbers as addresses", text("16777216,16777471,13335,\"Cloudflare, Inc.\"\n42540528726795050063891204319802818560,42540528806023212578155541913346768895,2500,WIDE\n0,16777215,0,\n281470681743360,281470698520575,7,Mapped\n"),
            Taken(3, &[])),
        ("numbers that are no addresses", text("1,2,3\n16777216,16777471,1\n016777472,16777727,1\n16777728,1.0.2.255,1\n1.0.3.0,1.0.3.255,1\n340282366920938463463374607431768211456,340282366920938463463374607431768211456,1\n1.0.4.0,1.0.4.255,1\n1.0.5.0,1.0.5.255,1\n"),
            Taken(4, &[(1, "1", "row left out: `1` is not an IP address"), (3, "016777472", "row left out: `016777472` is not an IP address"), (4, "16777728", "row left out: `16777728` is not an IP address"), (6, "340282366920938463463374607431768211456", "row left out: `340282366920938463463374607431768211456` is not an IP address")])),
        ("prefixes with leading zeros", text("203.0.113.0/024,1\n203.0.113.0/24,1\n203.0.114.0/+24,1\n203.000.113.0/24,1\n198.51.100.0/24,2\n192.0.2.0/24,1\n192.0.3.0/24,1\n"),
            Taken(4, &[(1, "203.0.113.0/024", "row left out: `203.0.113.0/024` is a prefix, not an address"), (3, "203.0.114.0/+24", "row left out: `203.0.114.0/+24` is no prefix"), (4, "203.000.113.0/24", "row left out: `203.000.113.0/24` is no prefix")])),
        ("zone index, leading zeros, octal", text("fe80::1%eth0,fe80::2,1\n01.0.0.0,1.0.0.255,1\n1.0.0.0,1.0.0.255,1\n1.0.1.0,1.0.1.255,1\n"),
            Taken(2, &[(1, "fe80::1%eth0", "row left out: `fe80::1%eth0` is not an IP address"), (2, "01.0.0.0", "row left out: `01.0.0.0` is not an IP address")])),
    ]
}

fn check(name: &str, role_is_asn: bool, content: &[u8], expected: &Expected) {
    let folder = Folder::new();
    let files = [folder.file("db", content)];
    let result = if role_is_asn {
        import(&files, &[])
    } else {
        import(&[], &files)
    };
    match (result, expected) {
        (Err(ImportError(found)), Error(line, message, help)) => {
            let [error] = found.errors.as_slice() else {
                panic!("{name}: {found:?}");
            };
            assert!(error.message.starts_with(message), "{name}: {error:?}");
            assert!(
                error.help.as_deref().unwrap_or("").contains(help),
                "{name}: {error:?}"
            );
            assert_eq!(error.file, files[0].display().to_string(), "{name}");
            assert!(
                *line == usize::MAX || error.line == *line,
                "{name}: {error:?}"
            );
            assert!(error.text.chars().count() <= 81, "{name}");
        }
        (Ok((db, found)), Taken(rows, warnings)) => {
            assert!(found.errors.is_empty(), "{name}");
            assert_eq!(db.sources[0].rows, *rows, "{name}: {found:?}");
            assert!(found.warnings.len() <= 22, "{name}");
            if warnings.len() != 1 || warnings[0].0 != 0 {
                assert_eq!(found.warnings.len(), warnings.len(), "{name}: {found:?}");
            }
            for (line, text, message) in *warnings {
                assert!(
                    found.warnings.iter().any(|warning| warning.line == *line
                        && (text.is_empty() || warning.text == *text)
                        && warning.message == *message),
                    "{name}: {found:?}"
                );
            }
        }
        (result, _) => panic!("{name}: {result:?}"),
    }
}

#[test]
fn asn_sources() {
    let cases = asn_cases();
    assert!(cases.len() >= 25);
    for (name, content, expected) in cases {
        check(name, true, &content, &expected);
    }
}

#[test]
fn country_sources() {
    for (name, content, expected) in [
        // A file says itself what it is.
        ("range CSV", "1.0.0.0,1.0.0.255,1,A\n", Taken(1, &[])),
        ("iptoasn", "1.0.0.0\t1.0.0.255\t1\tAU\tA\n", Taken(1, &[])),
        (
            "three letters",
            "1.0.0.0,1.0.0.255,AUS\n",
            Error(
                1,
                "1 of 1 rows cannot be read; the first: `AUS` is neither",
                "start,end,CC",
            ),
        ),
        (
            "no country known",
            "1.0.0.0,1.0.0.255,ZZ\n",
            Error(0, "no row names a country", "start,end,CC"),
        ),
        (
            "by tabs, with a name behind",
            "1.0.0.0\t1.0.0.255\tAU\tAustralia\n",
            Taken(1, &[]),
        ),
        (
            "a merged block of /7",
            "28.0.0.0,29.255.255.255,US\n",
            Taken(1, &[]),
        ),
        (
            "quoted",
            "\"1.0.0.0\",\"1.0.0.255\",\"no\"\n",
            Taken(1, &[]),
        ),
    ] {
        check(name, false, content.as_bytes(), &expected);
    }
}

#[test]
fn columns_count_characters() {
    let (_, found) =
        import_texts(&["1.0.0.0,1.0.0.255,1,A\n  1.0.0.0, 1.0.0.ä, 1\n"], &[]).unwrap();
    let [warning] = found.warnings.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!((warning.line, warning.column), (2, 12));
    assert_eq!(warning.text, "1.0.0.ä");
}

#[test]
fn all_files_are_reported_at_once() {
    let missing = PathBuf::from("/nonexistent/a");
    let folder = Folder::new();
    let empty = folder.file("empty", "");
    let error = import(&[missing, empty.clone()], std::slice::from_ref(&folder.0)).unwrap_err();
    let messages: Vec<&str> = error.0.errors.iter().map(|e| e.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "cannot open it: No such file or directory (os error 2)",
            "it holds no rows",
            "cannot read it: Is a directory (os error 21)"
        ]
    );
    assert!(error.to_string().starts_with(
        "cannot import `/nonexistent/a`: cannot open it: No such file or directory (os error 2) (check"
    ));
    assert!(
        error
            .to_string()
            .contains(&format!("`{}`", empty.display()))
    );
}

#[test]
fn nothing_given_is_an_empty_database() {
    let (db, found) = import(&[], &[]).unwrap();
    assert_eq!(found, Diagnostics::default());
    assert_eq!(db.info().asns, 0);
}
