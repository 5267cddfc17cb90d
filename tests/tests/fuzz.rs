//! Inputs that were good once and are damaged at random: frames, policies,
//! configurations, databases, snapshots and BMP sessions. Nothing panics, everything that is
//! refused says where and what to do, and about frames the library, the program
//! in the kernel and the reference interpreter agree.
//!
//! `KORDON_FUZZ_SECONDS` is the time of each target, `KORDON_SEED` where it starts.
//! What is met for the first time (another outcome, another message) is damaged
//! further.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod mutate;
mod sessions;

use std::{io::Write as _, path::Path};

use fastrand::Rng;
use kordon::{
    asn::{self, AsnDb},
    compile::directory::Directory,
    compile::generation::{Environment, PortSpec},
    config,
    datapath::probe::Prober,
    diagnostic::{Diagnostic, Diagnostics},
    judge::{self, Engine, Image, Judge},
    policy::{self, Bundle, Context, ListFile, Overlay},
};
use kordon_ebpf::{
    layout::ProbeOutput,
    verdict::{Work, decide},
};
use kordon_tests::{
    formats, generate,
    hostile::{self, Case},
    reference::{Interpreter, Row, Table},
};
use mutate::{
    Corpus,
    campaign::{campaign, peak_memory},
};

/// A message without what is quoted in it: its kind.
fn kind(diagnostic: &Diagnostic) -> String {
    diagnostic.message.split('`').step_by(2).collect()
}

fn kinds(found: &Diagnostics) -> String {
    let all = found.errors.iter().chain(&found.warnings);
    all.take(3).map(kind).collect::<Vec<_>>().join("|")
}

/// Every diagnostic names a place that exists and a cure.
fn check(found: &Diagnostics, text_of: impl Fn(&str) -> Option<String>) {
    for d in found.errors.iter().chain(&found.warnings) {
        assert!(
            !d.message.is_empty() && !d.message.contains('\n') && !d.message.ends_with('.'),
            "{d:?}"
        );
        assert!(
            d.help.as_ref().is_some_and(|help| !help.is_empty()),
            "no cure: {d:?}"
        );
        assert_eq!(d.line == 0, d.column == 0, "{d:?}");
        let Some(text) = text_of(&d.file).filter(|_| d.line > 0) else {
            continue;
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let line = text
            .split('\n')
            .nth(d.line - 1)
            .unwrap_or_else(|| panic!("no such line: {d:?}"));
        let rest: String = line.chars().skip(d.column - 1).collect();
        assert!(rest.starts_with(&d.text), "{d:?} in {line:?}");
    }
}

fn import(text: &str) -> AsnDb {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("asn.csv");
    std::fs::write(&csv, text).unwrap();
    asn::import(&[csv], &[]).unwrap().0
}

#[test]
fn frames() {
    let db = import(hostile::DATABASE);
    let (policy, found) = policy::parse(
        &Bundle::from_text("hostile.toml", hostile::POLICY),
        &Overlay::default(),
        &Context::now(Some(&db)),
    );
    let policy = policy.unwrap_or_else(|| panic!("{found:?}"));
    let facts = hostile::router();
    let router = judge::Router {
        addresses: facts.addresses.clone(),
        ..judge::Router::default()
    };
    let mut judge = Judge::new(&policy, &db, &router, Engine::Reference).unwrap();
    let image = judge.image();
    let mut prober = Prober::load(image.tier).unwrap();
    prober.install(&image.rules, &image.table).unwrap();
    let table = Table::read(&[hostile::DATABASE.to_owned()], &[]);
    let interpreter = Interpreter::new(&policy, &table, &facts, jiff::Timestamp::now());
    let mut work = Work::default();
    let corpus = Corpus::new(
        hostile::cases().into_iter().map(|case| case.frame),
        mutate::HEADERS.iter().map(|bytes| bytes.to_vec()),
        16 << 10,
    );
    campaign(corpus, |frame| {
        let (row, trace) = judge.row(frame).unwrap();
        let row = Row::from(&row);
        let reference = interpreter.row(frame);
        assert_eq!(row, reference, "left: the library, right: the reference");
        let library = decide(frame, 0, judge.image(), &mut work, &mut ());
        if frame.len() >= 14 {
            let kernel = prober.run(frame, 0).unwrap();
            let library = ProbeOutput::from(&library);
            assert_eq!(kernel, library, "left: the kernel, right: the library");
        }
        format!(
            "{} {:?} {:?} {}",
            Case::outcome(&row),
            trace.noted,
            trace
                .judged
                .iter()
                .map(|judged| judged.0)
                .collect::<Vec<_>>(),
            trace.inner.is_some(),
        )
    });
}

/// TOML examples of a Markdown file.
fn examples(markdown: &str) -> impl Iterator<Item = Vec<u8>> {
    let blocks = markdown.split("```toml\n").skip(1);
    blocks.filter_map(|block| Some(block.split_once("\n```")?.0.as_bytes().to_vec()))
}

#[test]
fn policies() {
    const LIST: &str = "lists/sanctions.txt";
    let db = import(hostile::DATABASE);
    let mut rng = Rng::with_seed(5);
    let mut seeds: Vec<Vec<u8>> = examples(include_str!("../../docs/policy.md")).collect();
    assert!(!seeds.is_empty());
    seeds.push(hostile::POLICY.into());
    seeds.extend((0..60).map(|_| generate::policy(&mut rng).into_bytes()));
    let words = mutate::POLICY_WORDS
        .iter()
        .map(|word| word.as_bytes().to_vec());
    let environment = Environment {
        ports: vec![PortSpec::default()],
        ..Environment::default()
    };
    campaign(Corpus::new(seeds, words, 64 << 10), |input| {
        let text = String::from_utf8_lossy(input).into_owned();
        // The end of the text is a list file as well.
        let list = text.chars().skip(text.chars().count() / 2).collect();
        let bundle = Bundle {
            lists: vec![ListFile {
                name: LIST.into(),
                content: Ok(list),
            }],
            ..Bundle::from_text("p.toml", &text)
        };
        let (policy, found) = policy::parse(&bundle, &Overlay::default(), &Context::now(Some(&db)));
        assert_eq!(policy.is_some(), found.ok());
        check(&found, |file| bundle.source(file).map(str::to_owned));
        let _ = found.render(|file| bundle.source(file), false);
        let mut compiled = "";
        if let Some(policy) = policy {
            let _ = policy::policy_hash(&policy);
            let image = Image::compile(&policy, &db, &environment, &mut Directory::default());
            compiled = if image.is_ok() {
                "compiled"
            } else {
                "too large"
            };
        }
        if let Err(found) = Overlay::parse("o.toml", &text) {
            check(&found, |_| Some(text.clone()));
        }
        format!("{compiled} {}", kinds(&found))
    });
}

#[test]
fn configurations() {
    let seeds = [
        "policy = \"policy.toml\"\n\n[[interface]]\ndevice = \"eth1\"\nname = \"trunk\"\nmode = \"auto\"\n\
         unknown_vlans = \"pass\"\nmanage_offload = true\n\n[asndb]\nsources = [\"asn.csv\"]\n\
         countries = [\"country.csv\"]\n\n[metrics]\nlisten = \"127.0.0.1:9754\"\n",
        "[[interface]]\ndevice = \"eth1\"\n",
    ];
    let words = mutate::CONFIG_WORDS
        .iter()
        .map(|word| word.as_bytes().to_vec());
    let corpus = Corpus::new(seeds.map(Vec::from), words, 8 << 10);
    campaign(corpus, |input| {
        let text = String::from_utf8_lossy(input).into_owned();
        let (config, found) = config::parse(Path::new("/etc/kordon/kordon.toml"), &text);
        assert_eq!(config.is_some(), found.ok());
        check(&found, |_| Some(text.clone()));
        kinds(&found)
    });
}

/// What the rest of kordon relies on.
fn check_database(db: &AsnDb) {
    fn ascending<T>(ranges: &[T], ends: impl Fn(&T) -> (u128, u128)) {
        for range in ranges {
            assert!(ends(range).0 <= ends(range).1);
        }
        for pair in ranges.windows(2) {
            assert!(ends(&pair[0]).1 < ends(&pair[1]).0);
        }
    }
    ascending(&db.v4, |range| (range.start.into(), range.end.into()));
    ascending(&db.v6, |range| (range.start, range.end));
    ascending(&db.countries_v4, |range| {
        (range.start.into(), range.end.into())
    });
    ascending(&db.countries_v6, |range| (range.start, range.end));
    let origins = db
        .v4
        .iter()
        .map(|r| r.origins)
        .chain(db.v6.iter().map(|r| r.origins));
    for id in origins {
        assert!(!db.origins[id as usize].is_empty());
    }
    assert!(db.asns.is_sorted_by_key(|(asn, _)| *asn));
}

/// Sources as text, plain and compressed.
fn sources() -> Vec<Vec<u8>> {
    let mut rng = Rng::with_seed(9);
    let mut seeds = vec![hostile::DATABASE.as_bytes().to_vec()];
    for _ in 0..8 {
        let sources = generate::sources(&mut rng);
        seeds.extend(sources.asn.into_iter().map(String::into_bytes));
        seeds.extend(sources.country.into_iter().map(String::into_bytes));
    }
    for seed in seeds.clone() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&seed).unwrap();
        seeds.push(gzip.finish().unwrap());
        seeds.push(zstd::encode_all(seed.as_slice(), 3).unwrap());
        seeds.push(liblzma::encode_all(seed.as_slice(), 1).unwrap());
    }
    seeds
}

#[test]
fn databases() {
    source(sources());
}

/// Damages sources, and compiles what is left of them in every way.
fn source(seeds: Vec<Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("source");
    let words = mutate::ROW_WORDS
        .iter()
        .map(|word| word.as_bytes().to_vec());
    let options = [
        asn::Options {
            min_peers: 1,
            ..asn::Options::default()
        },
        asn::Options {
            combine: asn::Combine::Priority,
            add_vrps: true,
            salvage: true,
            ..asn::Options::default()
        },
    ];
    campaign(Corpus::new(seeds, words, 256 << 10), |input| {
        std::fs::write(&path, input).unwrap();
        // A lone CR ends a line of a source too.
        let lines = |text: &str| text.replace("\r\n", "\n").replace('\r', "\n");
        let text = || std::str::from_utf8(input).ok().map(lines);
        let files = [path.clone()];
        let mut said = String::new();
        for options in &options {
            let mut found = match asn::import_with(&files, &[], options) {
                Ok((db, found)) => {
                    check_database(&db);
                    check_evidence(&db);
                    said += if db.v4.is_empty() && db.v6.is_empty() {
                        "empty "
                    } else {
                        "good "
                    };
                    said += &db.sources[0].format;
                    found
                }
                Err(error) => error.0,
            };
            // What is shown of a row is shortened and made printable.
            for d in found.errors.iter_mut().chain(&mut found.warnings) {
                d.text.clear();
                d.column = d.line.min(1);
            }
            check(&found, |_| text());
            said += &kinds(&found);
        }
        said
    });
    assert!(peak_memory() < 1500, "{} MiB", peak_memory());
}

/// The rows that are named are those that made the origins.
fn check_evidence(db: &AsnDb) {
    let v4 = db.v4.iter().take(4).map(|range| range.end);
    let v4 = v4.map(|addr| std::net::Ipv4Addr::from(addr).into());
    let v6 = db.v6.iter().take(4).map(|range| range.start);
    let v6 = v6.map(|addr| std::net::Ipv6Addr::from(addr).into());
    for addr in v4.chain(v6) {
        let addr: std::net::IpAddr = addr;
        let mut named: Vec<u32> = db.evidence(addr).iter().map(|row| row.asn).collect();
        named.dedup();
        // Stored ranges of IPv4-mapped space cannot be asked for.
        if addr.to_canonical() == addr {
            assert_eq!(named, db.origins_at(addr), "{addr}");
        }
    }
}

/// A text as it is, with other line ends, and compressed.
fn packed(text: &str) -> Vec<Vec<u8>> {
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(text.as_bytes()).unwrap();
    vec![
        text.as_bytes().to_vec(),
        format!("\u{feff}{}", text.replace('\n', "\r\n")).into_bytes(),
        text.replace('\n', "\r").into_bytes(),
        liblzma::encode_all(text.as_bytes(), 1).unwrap(),
        bzip2.finish().unwrap(),
        zstd::encode_all(text.as_bytes(), 3).unwrap(),
    ]
}

/// The samples that a predicate chooses.
fn samples(wanted: impl Fn(&str) -> bool) -> Vec<Vec<u8>> {
    let chosen: Vec<_> = formats::SAMPLES
        .iter()
        .filter(|text| wanted(text))
        .collect();
    assert!(!chosen.is_empty());
    chosen.into_iter().flat_map(|text| packed(text)).collect()
}

#[test]
fn source_pfx2as() {
    source(samples(|text| text.contains("\t24\t")));
}

#[test]
fn source_riswhois() {
    source(samples(|text| text.starts_with('%')));
}

#[test]
fn source_prefixes() {
    source(samples(|text| {
        text.contains("/24 1") || text.contains("/32,NO")
    }));
}

#[test]
fn source_json_lines() {
    source(samples(|text| {
        text.starts_with("{\"CIDR") || text.starts_with("{\"name")
    }));
}

#[test]
fn source_columns() {
    source(samples(|text| {
        ["network,", "geoname_id", "ASN,"]
            .iter()
            .any(|start| text.starts_with(start))
    }));
}

#[test]
fn source_networks() {
    source(samples(|text| {
        text.starts_with("{\"network") || text.starts_with("[\n")
    }));
}

#[test]
fn source_numbers() {
    source(samples(|text| text.starts_with("16777216")));
}

#[test]
fn source_delegated() {
    source(samples(|text| text.contains("|apnic|")));
}

#[test]
fn source_organisations() {
    source(samples(|text| text.contains("LVLT-ARIN|")));
}

#[test]
fn source_vrp_json() {
    source(samples(|text| text.contains("\"roas\"")));
}

#[test]
fn source_mmdb() {
    let mut seeds = [24, 28, 32].map(formats::small_mmdb).to_vec();
    seeds.push(include_bytes!("../data/cases/pointers.mmdb").to_vec());
    source(seeds);
}

#[test]
fn source_mrt() {
    source([false, true].map(formats::small_rib).to_vec());
}

#[test]
fn snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("asn.db");
    let mut rng = Rng::with_seed(11);
    let mut seeds = Vec::new();
    for _ in 0..12 {
        let sources = generate::sources(&mut rng);
        let write = |(number, text): (usize, &String)| {
            let path = dir.path().join(format!("{number}.csv"));
            std::fs::write(&path, text).unwrap();
            path
        };
        let networks: Vec<_> = sources.asn.iter().enumerate().map(write).collect();
        let blocks = sources.country.iter().enumerate();
        let blocks: Vec<_> = blocks
            .map(|(number, text)| write((number + 100, text)))
            .collect();
        let (db, _) = asn::import(&networks, &blocks).unwrap();
        asn::save(&db, &path).unwrap();
        seeds.push(std::fs::read(&path).unwrap());
    }
    campaign(Corpus::new(seeds, [], 64 << 10), |input| {
        let mut input = input.to_vec();
        // Every second one with a header that fits: damage by somebody who knows.
        let is_even = input.iter().fold(0, |sum, byte| sum ^ byte) & 1 == 0;
        if is_even && input.len() > 24 {
            let length = input.len() as u64 - 24;
            let mut crc = flate2::Crc::new();
            crc.update(&input[24..]);
            input[..8].copy_from_slice(b"kordonDB");
            input[8..12].copy_from_slice(&2u32.to_le_bytes());
            input[12..16].copy_from_slice(&crc.sum().to_le_bytes());
            input[16..24].copy_from_slice(&length.to_le_bytes());
        }
        std::fs::write(&path, &input).unwrap();
        match asn::load(&path) {
            Ok(db) => {
                check_database(&db);
                let _ = (
                    db.info(),
                    db.lookup([198, 51, 100, 9].into()),
                    db.search("a"),
                );
                format!("good {} {}", db.sources.len(), db.origins.len())
            }
            Err(error) => {
                assert!(!error.help.is_empty());
                error
                    .to_string()
                    .rsplit('`')
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            }
        }
    });
}
