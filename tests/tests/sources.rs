//! Sources that are not text, whole, damaged and hostile; and the same Internet from
//! sources of three formats.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    time::Instant,
};

use ipnet::IpNet;
use kordon::{
    asn::{self, AsnDb, Options},
    compile::{
        directory::Directory,
        generation::{Environment, PortSpec},
        partition::Partition,
    },
    diagnostic::Diagnostics,
    judge::Image,
    policy::{self, Bundle, Context, Overlay, Policy},
};
use kordon_ebpf::verdict::{Work, decide};
use kordon_tests::{
    formats::{Mmdb, Rib, Segment, Value, small_mmdb, small_rib},
    lab::Wire,
};

const NOBODY: [u32; 0] = [];

fn import(bytes: &[u8]) -> Result<(AsnDb, Diagnostics), String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("source");
    std::fs::write(&path, bytes).unwrap();
    asn::import(&[path], &[]).map_err(|e| e.to_string())
}

fn origins(db: &AsnDb, addr: &str) -> Vec<u32> {
    db.origins_at(addr.parse().unwrap()).to_vec()
}

fn country(db: &AsnDb, addr: &str) -> String {
    let found = db.block_country(addr.parse().unwrap());
    found.map_or("-".to_owned(), |country| country.to_string())
}

#[test]
fn maxmind_db_files() {
    for size in [24, 28, 32] {
        let (db, found) = import(&small_mmdb(size)).unwrap();
        assert!(found.warnings.is_empty(), "{found:?}");
        assert_eq!(db.sources[0].format, "mmdb");
        assert_eq!(origins(&db, "1.0.0.1"), [13335]);
        assert_eq!(db.asn_info(13335).unwrap().name, "Cloudflare, Inc.");
        assert_eq!(origins(&db, "1.0.5.1"), [38803]);
        assert_eq!(country(&db, "1.0.5.1"), "AU");
        assert_eq!(country(&db, "1.0.8.1"), "CN");
        assert_eq!(country(&db, "1.0.9.1"), "NO");
        assert_eq!(country(&db, "1.0.10.1"), "SE");
        // Two networks of the source, and no default route.
        assert_eq!(origins(&db, "29.1.1.1"), [749]);
        assert_eq!(origins(&db, "2001:db8::1"), [4608]);
        // What leads to IPv4 is not IPv6 space of that network.
        assert_eq!(origins(&db, "2002:100:1::"), NOBODY);
        assert_eq!(db.v6.len(), 1);
        let evidence = db.evidence("1.0.0.1".parse().unwrap());
        assert_eq!((evidence[0].line, evidence[0].record), (0, 1));
    }
    let mut only_v4 = Mmdb::new(false);
    let value = Value::Map(vec![("autonomous_system_number", Value::Number(7))]);
    only_v4.insert("203.0.113.0/24".parse().unwrap(), &value);
    let (db, _) = import(&only_v4.finish(24)).unwrap();
    assert_eq!(origins(&db, "203.0.113.9"), [7]);
}

#[test]
fn trees_that_lead_in_circles() {
    for circle in ["128.0.0.0/1", "4000::/2", "8000::/1"] {
        let mut file = Mmdb::new(true);
        let value = Value::Map(vec![("asn", Value::Number(7))]);
        file.insert("1.0.0.0/24".parse().unwrap(), &value);
        file.circle(circle.parse().unwrap());
        let error = import(&file.finish(28)).unwrap_err();
        assert!(
            error.contains("its tree leads to one node twice"),
            "{error}"
        );
    }
    // A path to IPv4 from inside IPv4.
    let mut file = Mmdb::new(true);
    file.insert(
        "1.0.0.0/24".parse().unwrap(),
        &Value::Map(vec![("asn", Value::Number(7))]),
    );
    file.alias("128.0.0.0/1".parse().unwrap());
    let error = import(&file.finish(28)).unwrap_err();
    assert!(
        error.contains("its tree leads to one node twice"),
        "{error}"
    );
}

/// Pointers that lead to themselves or out of the file cost what they stand for, and
/// neither time nor memory.
#[test]
fn data_that_refers_to_itself() {
    let good = small_mmdb(28);
    let name = b"\x42AU";
    let at = good.windows(3).position(|w| w == name).unwrap();
    // A pointer to itself, and one far outside, in place of the country.
    for pointer in [[0x28, 0, 0], [0x2f, 0xff, 0xff]] {
        let mut bad = good.clone();
        bad[at..at + 3].copy_from_slice(&pointer);
        if let Ok((db, _)) = import(&bad) {
            assert_eq!(origins(&db, "1.0.0.1"), [13335]);
        }
    }
}

#[test]
fn ribs() {
    for path_ids in [false, true] {
        let (db, found) = import(&small_rib(path_ids)).unwrap();
        assert_eq!(db.sources[0].format, "mrt");
        assert_eq!(origins(&db, "1.0.0.1"), [13335]);
        assert_eq!(origins(&db, "1.0.5.1"), [38803, 56203]);
        assert_eq!(origins(&db, "1.0.8.1"), [1, 2]);
        assert_eq!(origins(&db, "1.0.9.1"), [7, 65001]);
        assert_eq!(origins(&db, "1.0.10.1"), [9]);
        assert_eq!(origins(&db, "1.0.11.1"), [11]);
        assert_eq!(origins(&db, "1.0.12.1"), NOBODY);
        assert_eq!(origins(&db, "1.0.13.1"), NOBODY);
        assert_eq!(origins(&db, "2001:db8::1"), [4608]);
        assert_eq!(
            db.sources[0].skipped, 2,
            "one peer's, and the default route"
        );
        assert_eq!(found.warnings.len(), 1, "{found:?}");
        let evidence = db.evidence("1.0.0.1".parse().unwrap());
        assert_eq!((evidence[0].line, evidence[0].record), (0, 2));
    }
}

#[test]
fn visibility() {
    let mut rib = Rib::new(40, false);
    let path: &[Segment<'_>] = &[Segment::Sequence(&[7])];
    let other: &[Segment<'_>] = &[Segment::Sequence(&[8])];
    let net = |net: &str| -> IpNet { net.parse().unwrap() };
    let by = |peers: std::ops::Range<u16>, path| peers.map(move |p| (p, path)).collect::<Vec<_>>();
    rib.prefix(net("1.0.0.0/24"), &by(0..9, path));
    rib.prefix(net("1.0.1.0/24"), &by(0..10, path));
    // Nine of nineteen say something else: too few to count.
    rib.prefix(
        net("1.0.2.0/24"),
        &[by(0..10, path), by(10..19, other)].concat(),
    );
    // One peer, ten paths.
    rib.prefix(net("1.0.3.0/24"), &vec![(3, path); 10]);
    let (db, _) = import(&rib.finish()).unwrap();
    assert_eq!(origins(&db, "1.0.0.1"), NOBODY);
    assert_eq!(origins(&db, "1.0.1.1"), [7]);
    assert_eq!(origins(&db, "1.0.2.1"), [7]);
    assert_eq!(origins(&db, "1.0.3.1"), NOBODY);
}

#[test]
fn ribs_with_wrong_lengths() {
    let good = small_rib(false);
    let whole = import(&good).unwrap().0;
    let header = |number: usize| {
        let mut at = 0;
        for _ in 1..number {
            let length = u32::from_be_bytes(good[at + 8..at + 12].try_into().unwrap());
            at += 12 + length as usize;
        }
        at
    };
    // A record that is longer than anything, and one that swallows the next.
    let mut huge = good.clone();
    huge[header(3) + 8..header(3) + 12].copy_from_slice(&u32::MAX.to_be_bytes());
    let error = import(&huge).unwrap_err();
    assert!(
        error.contains("record 3 is said to have 4294967295 bytes"),
        "{error}"
    );
    let mut longer = good.clone();
    longer[header(3) + 11] += 1;
    assert!(import(&longer).is_err());
    // Inside of a record, its own prefix is lost and said to be.
    for at in [4, 9, 17] {
        let mut bad = good.clone();
        bad[header(2) + 12 + at] = 0xff;
        let (db, found) = import(&bad).unwrap();
        assert_eq!(origins(&db, "1.0.0.1"), NOBODY, "{at}");
        assert_eq!(origins(&db, "1.0.5.1"), [38803, 56203]);
        assert!(
            found.warnings[0].message.contains("record 2 is damaged"),
            "{at}: {found:?}"
        );
    }
    // Cut anywhere but between records it is refused.
    let ends: Vec<usize> = (1..=12).map(header).collect();
    for len in 0..good.len() {
        match import(&good[..len]) {
            Ok((db, _)) => {
                assert!(ends.contains(&len), "{len}");
                assert!(db.rows_v4.len() <= whole.rows_v4.len());
            }
            Err(error) => assert!(!error.is_empty()),
        }
    }
    // What is before the cut can be had for the gate to judge.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut");
    std::fs::write(&path, &good[..header(4) + 5]).unwrap();
    let salvage = Options {
        salvage: true,
        ..Options::default()
    };
    let (db, found) = asn::import_with(&[path], &[], &salvage).unwrap();
    assert_eq!(origins(&db, "1.0.0.1"), [13335]);
    let said = &found.warnings.last().unwrap().message;
    assert!(
        said.starts_with("it ends in the middle of record 4"),
        "{said}"
    );
    let mut updates = good.clone();
    updates[5] = 16;
    let error = import(&updates).unwrap_err();
    assert!(
        error.contains("it holds MRT messages (type 16), not a table"),
        "{error}"
    );
}

#[test]
fn maxmind_db_files_cut_or_changed_anywhere() {
    let good = small_mmdb(24);
    for len in 0..good.len() {
        assert!(import(&good[..len]).is_err(), "{len}");
    }
    for at in 0..good.len() {
        for bit in [0x01, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= bit;
            // Refused or read; it comes back, that is all.
            let _ = import(&bad);
        }
    }
}

/// What a database says, as a list of disjoint ranges.
fn prefixes(db: &AsnDb) -> Vec<(IpNet, Vec<u32>)> {
    let v4 = db.v4.iter().map(|r| {
        let (start, end) = (Ipv4Addr::from(r.start), Ipv4Addr::from(r.end));
        (IpAddr::V4(start), IpAddr::V4(end), r.origins)
    });
    let v6 = db.v6.iter().map(|r| {
        let (start, end) = (Ipv6Addr::from(r.start), Ipv6Addr::from(r.end));
        (IpAddr::V6(start), IpAddr::V6(end), r.origins)
    });
    v4.chain(v6)
        .flat_map(|(start, end, id)| {
            let origins = db.origins[id as usize].clone();
            asn::cidrs(start, end)
                .into_iter()
                .map(move |net| (net, origins.clone()))
        })
        .collect()
}

fn csv(db: &AsnDb) -> String {
    let mut text = String::new();
    for range in &db.v4 {
        let (start, end) = (Ipv4Addr::from(range.start), Ipv4Addr::from(range.end));
        let asn = db.origins[range.origins as usize][0];
        writeln!(text, "{start},{end},{asn},\"AS {asn}, Inc.\"").unwrap();
    }
    for range in &db.v6 {
        let (start, end) = (Ipv6Addr::from(range.start), Ipv6Addr::from(range.end));
        let asn = db.origins[range.origins as usize][0];
        writeln!(text, "{start},{end},{asn},\"AS {asn}, Inc.\"").unwrap();
    }
    text
}

fn mmdb(prefixes: &[(IpNet, Vec<u32>)]) -> Vec<u8> {
    let mut file = Mmdb::new(true);
    for (net, origins) in prefixes {
        let value = Value::Map(vec![
            ("autonomous_system_number", Value::Number(origins[0])),
            (
                "autonomous_system_organization",
                Value::Text(format!("AS {}, Inc.", origins[0])),
            ),
        ]);
        file.insert(*net, &value);
    }
    file.finish(28)
}

/// Nothing shorter than /8 or /16 is announced.
fn announced(net: IpNet) -> Vec<IpNet> {
    let shortest = if net.addr().is_ipv4() { 8 } else { 16 };
    if net.prefix_len() >= shortest {
        return vec![net];
    }
    net.subnets(shortest).unwrap().collect()
}

fn rib(prefixes: &[(IpNet, Vec<u32>)], all_origins: bool) -> Vec<u8> {
    let mut rib = Rib::new(2, false);
    for (net, origins) in prefixes {
        let origins = if all_origins {
            &origins[..]
        } else {
            &origins[..1]
        };
        // Alone: what stands before a private one would count too.
        let paths: Vec<[u32; 1]> = origins.iter().map(|asn| [*asn]).collect();
        let segments: Vec<[Segment<'_>; 1]> =
            paths.iter().map(|path| [Segment::Sequence(path)]).collect();
        let seen: Vec<(u16, &[Segment<'_>])> = segments
            .iter()
            .enumerate()
            .map(|(i, path)| (i as u16 % 2, &path[..]))
            .collect();
        for net in announced(*net) {
            rib.prefix(net, &seen);
        }
    }
    rib.finish()
}

/// Range CSV, an MMDB and an MRT file that are made of the same table are the same
/// database: range for range, class for class, and for as many addresses verdict for
/// verdict.
fn same_internet(base: &AsnDb, addresses: u32) {
    let dir = tempfile::tempdir().unwrap();
    let prefixes = prefixes(base);
    // One that private ASNs in a path do not add to.
    let read = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let start = Instant::now();
        let (db, _) = asn::import_with(&[path], &[], &Options::default()).unwrap();
        println!(
            "{name}: {} bytes, read in {:?}",
            bytes.len(),
            start.elapsed()
        );
        db
    };
    let first = read("csv", csv(base).as_bytes());
    let tree = read("mmdb", &mmdb(&prefixes));
    let table = read("mrt", &rib(&prefixes, false));
    for (name, other) in [("MMDB", &tree), ("MRT", &table)] {
        assert!(first.origins == other.origins, "{name}");
        assert!(first.v4 == other.v4, "{name}");
        assert!(first.v6 == other.v6, "{name}");
    }
    // Several origins at one prefix, which only the RIB can say.
    let several = read("moas", &rib(&prefixes, true));
    let said = |db: &AsnDb| -> Vec<(u128, u128, Vec<u32>)> {
        let sorted = |id: u32| {
            let mut set = db.origins[id as usize].clone();
            set.sort_unstable();
            set
        };
        let v4 = db.v4.iter();
        let v4 = v4.map(|r| (r.start.into(), r.end.into(), sorted(r.origins)));
        v4.chain(db.v6.iter().map(|r| (r.start, r.end, sorted(r.origins))))
            .collect()
    };
    assert!(said(base) == said(&several), "several origins");

    let policy = Policy::default();
    let [first_cut, tree_cut, table_cut] =
        [&first, &tree, &table].map(|db| Partition::new(&policy, db, &[]).unwrap());
    for cut in [&tree_cut, &table_cut] {
        assert!(first_cut.v4 == cut.v4 && first_cut.v6 == cut.v6);
        assert!(first_cut.classes == cut.classes);
    }
    let start = Instant::now();
    let mut random = fastrand::Rng::with_seed(4);
    let images = [&first, &tree, &table].map(image);
    let mut counts = BTreeMap::new();
    // Destinations are written into these; nobody looks at checksums.
    let [mut v4, mut v6] = ["192.0.2.1", "2001:db8::1"].map(|to| packet(to.parse().unwrap()));
    for number in 0..addresses {
        let address = match base.v6.len() {
            len if number % 2 == 0 && len > 0 => {
                let near = base.v6[random.usize(..len)].start;
                IpAddr::from(Ipv6Addr::from(near ^ u128::from(random.u64(..))))
            }
            _ => IpAddr::from(Ipv4Addr::from(random.u32(..))),
        };
        let frame = match address {
            IpAddr::V4(address) => {
                v4[34..38].copy_from_slice(&address.octets());
                &v4
            }
            IpAddr::V6(address) => {
                v6[42..58].copy_from_slice(&address.octets());
                &v6
            }
        };
        let said = images
            .each_ref()
            .map(|image| decide(&frame[..], 0, image, &mut Work::default(), &mut ()));
        assert!(
            said[0] == said[1] && said[0] == said[2],
            "{address}: {said:?}"
        );
        *counts.entry(said[0].action).or_insert(0) += 1;
    }
    println!(
        "{} prefixes; {addresses} addresses, the same verdict thrice in {:?}: {counts:?}",
        prefixes.len(),
        start.elapsed()
    );
    // Both of them are common.
    assert!(counts.len() > 1 && counts.values().all(|count| count * 100 > addresses));
}

/// Every fourth ASN is blocked, and what nobody announces.
fn image(db: &AsnDb) -> Image {
    let asns: Vec<String> = db
        .origins
        .iter()
        .filter(|origins| origins[0] % 4 == 1)
        .map(|origins| origins[0].to_string())
        .collect();
    let text = format!(
        "[zone.cameras]\nvlans = [20]\nsources = [\"10.0.0.0/8\", \"fd00::/8\"]\n\
         [set.hostile]\nasns = [{}]\n\
         [[rule]]\nfrom = \"cameras\"\nto = [\"hostile\", \"unrouted\"]\naction = \"drop\"\n",
        asns.join(", ")
    );
    let (policy, found) = policy::parse(
        &Bundle::from_text("p.toml", &text),
        &Overlay::default(),
        &Context::now(Some(db)),
    );
    let policy = policy.unwrap_or_else(|| panic!("{:?}", found.errors));
    let environment = Environment {
        ports: vec![PortSpec::default()],
        ..Environment::default()
    };
    Image::compile(&policy, db, &environment, &mut Directory::default()).unwrap()
}

fn packet(to: IpAddr) -> Vec<u8> {
    let from: IpAddr = if to.is_ipv4() {
        Ipv4Addr::new(10, 0, 0, 5).into()
    } else {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 5).into()
    };
    Wire::packet(20, from, to)
}

#[test]
fn the_same_table_from_three_formats() {
    let text = "1.0.0.0,1.0.0.255,1,A\n1.0.0.128,1.0.1.255,2,B\n28.0.0.0,30.255.255.255,749,C\n\
                1.0.3.1,1.0.9.77,3,D\n1.0.3.1,1.0.9.77,4,E\n2001:db8::,2001:db8:5::17,5,F\n\
                2400::,240f:ffff:ffff:ffff:ffff:ffff:ffff:ffff,6,G\n";
    same_internet(&import(text.as_bytes()).unwrap().0, 100_000);
}

#[test]
fn the_same_internet_from_three_formats() {
    let folder = kordon_tests::data::folder();
    let files: Vec<PathBuf> = ["asn-ipv4", "asn-ipv6"]
        .iter()
        .map(|name| folder.join(format!("{name}.csv.zst")))
        .collect();
    if !files[0].is_file() {
        println!(
            "SKIPPED: no asn-ipv4.csv.zst in `{}`; set KORDON_TEST_DATA",
            folder.display()
        );
        return;
    }
    let mut db = asn::import(&files, &[]).unwrap().0;
    // A RIB has no use for an ASN that nobody has (RFC 7300); this edition has one.
    let nobody = |id: u32| db.origins[id as usize] == [65535];
    db.v4.retain(|range| !nobody(range.origins));
    db.v6.retain(|range| !nobody(range.origins));
    same_internet(&db, 10_000_000);
}
