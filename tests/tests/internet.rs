//! The whole Internet's table, in the kernel: what it says of addresses is what a
//! scan through the rows of the database says.
//!
//! Needs real data, in the folder that `KORDON_TEST_DATA` names.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use kordon::{
    asn::{self, model::AsnDb},
    compile::{
        generation::{Environment, PortSpec, compile},
        partition::Partition,
        table::{FlatTable, choose_tier},
    },
    datapath::kernel::Datapath,
    policy::{self, Bundle, Context, Overlay, Policy},
    prove::{Budget, Claim, prove},
};
use kordon_tests::lab::Bpffs;

/// Folder with real data, or why a test is skipped.
fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("KORDON_TEST_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    if folder.join("asn-ipv4.csv.zst").is_file() {
        return Some(folder);
    }
    println!(
        "SKIPPED: no asn-ipv4.csv.zst in `{}`; set KORDON_TEST_DATA",
        folder.display()
    );
    None
}

fn import(data: &Path) -> Result<AsnDb> {
    let file = |name: &str| data.join(format!("{name}.csv.zst"));
    let (db, _) = asn::import(
        &[file("asn-ipv4"), file("asn-ipv6")],
        &[file("asn-country-ipv4"), file("asn-country-ipv6")],
    )?;
    Ok(db)
}

fn policy(db: &AsnDb, asns: &str) -> Result<Policy> {
    let text = format!(
        "[zone.cameras]\nvlans = [20]\nsources = [\"10.20.0.0/16\", \"fd00:20::/48\"]\n\
         [zone.doors]\nvlans = [\"30-39\"]\ndefault = \"drop\"\n\
         [set.hostile]\nasns = [{asns}]\ncountries = [\"RU\", \"BY\"]\n\
         prefixes = [\"203.0.113.0/24\", \"2001:db8::/32\"]\n\
         [set.cloud]\nasns = [15169, 16509]\n\
         [[rule]]\nname = \"time\"\nfrom = \"*\"\nto = \"any\"\nproto = \"udp\"\nports = [123]\n\
         action = \"audit\"\n\
         [[rule]]\nname = \"hostile\"\nfrom = \"cameras\"\nto = \"hostile\"\naction = \"drop\"\n\
         [[rule]]\nname = \"cloud\"\nfrom = \"doors\"\nto = \"cloud\"\naction = \"pass\"\n"
    );
    let (policy, found) = policy::parse(
        &Bundle::from_text("internet.toml", &text),
        &Overlay::default(),
        &Context::now(Some(db)),
    );
    policy.ok_or_else(|| anyhow!("{found:?}"))
}

fn environment() -> Environment {
    Environment {
        router: vec![IpAddr::from([10, 20, 0, 1])],
        ports: vec![PortSpec {
            logical: "trunk".into(),
            drop_unknown: false,
        }],
        ..Environment::default()
    }
}

/// One line of a table of times.
fn took(what: &str, since: Instant) -> Duration {
    let took = since.elapsed();
    println!("{what:<40} {:>9.1} ms", took.as_secs_f64() * 1e3);
    took
}

/// As the daemon does it: compile, write, prove in the kernel, swap.
#[test]
fn a_change_is_proven_in_time() -> Result<()> {
    let Some(data) = data() else { return Ok(()) };
    let bpffs = Bpffs::new()?;
    let mut datapath = Datapath::open(bpffs.path())?;
    let all = Instant::now();
    let start = Instant::now();
    let db = import(&data)?;
    took("import", start);
    let environment = environment();
    let start = Instant::now();
    let first = policy(&db, "12389, 12695")?;
    let partition = Partition::new(&first, &db, &environment.router)?;
    let flat = FlatTable::build(&partition)?;
    let tier = choose_tier(&flat.usage())?;
    took("cut and table", start);
    let mut publish = |policy: &Policy, budget| -> Result<Duration> {
        let whole = Instant::now();
        let start = Instant::now();
        let mut directory = datapath.directory().clone();
        let mut rules = compile(policy, &db, &environment, &partition, &mut directory)?;
        rules.fixed.table_key = [1; 32];
        took("  compile", start);
        let claim = Claim {
            policy,
            db: &db,
            environment: &environment,
            directory: &directory,
        };
        let start = Instant::now();
        let mut proof = Duration::ZERO;
        let published = datapath.publish(&mut rules, &flat, tier, &directory, &mut |prober| {
            let start = Instant::now();
            let proven = prove(&claim, budget, prober)?;
            proof = took("  proof", start);
            println!("  {proven:?}");
            Ok(())
        })?;
        ensure!(published.table_written == (budget == Budget::Table));
        println!(
            "{:<40} {:>9.1} ms",
            "  write and swap",
            (start.elapsed() - proof).as_secs_f64() * 1e3
        );
        println!("  swap alone {:?}", published.swap);
        Ok(whole.elapsed())
    };
    println!("a new database");
    publish(&first, Budget::Table)?;
    took("all", all);
    let mut best = Duration::MAX;
    for asns in ["12389, 12695, 64500", "12389", "12389, 12695"] {
        println!("a change of rules");
        let start = Instant::now();
        let next = policy(&db, asns)?;
        took("  parse", start);
        publish(&next, Budget::Rules)?;
        best = best.min(took("all", start));
    }
    println!("best {best:?}");
    Ok(())
}
