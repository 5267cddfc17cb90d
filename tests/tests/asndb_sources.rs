//! Why an ASN is blocked and its site stays reachable, or somebody else is blocked by
//! accident: other ASNs of one organisation, several origins, sources that do not know
//! everything, prefixes of others inside a blocked one. Each from files as publishers write
//! them, as packets meet it.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use kordon_tests::{
    controller::{Controller, binary},
    live::drops,
    router::Router,
    traffic::{refused, status},
};
use serde_json::{Value, json};

const POLICY: &str = r#"
[zone.cameras]
vlans = [20]
sources = ["10.20.0.0/16"]
[set.hostile]
asns = [64500]
orgs = ["Hostile Networks"]
asn_countries = ["KP"]
countries = ["IR"]
[[rule]]
name = "hostile"
from = "cameras"
to = "hostile"
action = "drop"
"#;

/// CAIDA's as2org: AS64500 and AS64510 are of one organisation.
const ORGANISATIONS: &str = "\
# format:org_id|changed|org_name|country|source
HOST-1|20260101|Hostile Networks|SE|RIPE
GOOD-1|20260101|Good Networks|SE|RIPE
# format:aut|changed|aut_name|org_id|opaque_id|source
64500|20260101|HOST|HOST-1||RIPE
64510|20260101|HOST-CDN|HOST-1||RIPE
64501|20260101|GOOD|GOOD-1||RIPE
";

/// A registry's: AS64520 is registered in KP, 198.18.40.0/23 is delegated to IR.
const DELEGATED: &str = "\
2|ripencc|20260101|3|19830101|20260101|+0000
ripencc|*|asn|*|1|summary
ripencc|KP|asn|64520|1|20100101|allocated|x
ripencc|IR|ipv4|198.18.40.0|512|20100101|allocated|x
ripencc|SE|ipv4|198.18.50.0|256|20100101|allocated|x
";

/// CAIDA's pfx2as: two origins at 198.18.20.0/24, an AS set at 198.18.21.0/24.
const TABLE: &str = "\
198.18.0.0\t20\t64500
198.18.4.0\t24\t64501
198.18.10.0\t24\t64510
198.18.20.0\t24\t64501_64500
198.18.21.0\t24\t64501,64500
198.18.30.0\t24\t64520
198.18.40.0\t23\t64501
198.18.50.0\t24\t64501
198.18.60.0\t24\t64501
";

/// Another collector's, with one prefix more of AS64500.
const MORE: &str = "\
% This is RIPE NCC's Routing Information Service

64500\t198.18.60.0/24\t300
64500\t198.18.61.0/24\t2
64501\t198.18.50.0/24\t300
";

const PAYLOADS: &str = "ASN,IP Prefix,Max Length,Trust Anchor\nAS64501,198.18.0.0/18,24,x\n";

fn configure(router: &Router, more: &str) -> Result<()> {
    router.write(
        "kordon.toml",
        format!(
            "policy = \"policy.toml\"\n[[interface]]\nname = \"trunk\"\ndevice = \"in\"\n\
             mode = \"native\"\n[metrics]\nlisten = \"127.0.0.1:9754\"\n[asndb]\n\
             sources = [\"pfx2as\", \"riswhois\", \"as2org\", \"delegated\", \"vrps\"]\n{more}\n"
        ),
    )
}

fn start(name: &str) -> Result<Option<(Router, Controller)>> {
    let Some(binary) = binary() else {
        return Ok(None);
    };
    let router = Router::new(name, binary)?;
    for (name, text) in [
        ("policy.toml", POLICY),
        ("pfx2as", TABLE),
        ("riswhois", MORE),
        ("as2org", ORGANISATIONS),
        ("delegated", DELEGATED),
        ("vrps", PAYLOADS),
    ] {
        router.write(name, text)?;
    }
    configure(&router, "")?;
    let (controller, _) = Controller::start(&router.place())?;
    Ok(Some((router, controller)))
}

/// Each address, why, and whether packets to it are dropped.
const VERDICTS: [(&str, &str, bool); 14] = [
    ("198.18.0.9", "the ASN itself", true),
    ("198.18.3.9", "beside somebody else's part", true),
    ("198.18.4.9", "somebody else's part", false),
    ("198.18.5.9", "behind somebody else's part", true),
    ("198.18.10.9", "an ASN of the same organisation", true),
    ("198.18.20.9", "one of two origins", true),
    ("198.18.21.9", "one of an AS set", true),
    ("198.18.30.9", "an ASN that is registered there", true),
    ("198.18.40.9", "a block that is delegated there", true),
    ("198.18.41.9", "its other half", true),
    ("198.18.42.9", "behind that block", false),
    ("198.18.50.9", "somebody who is not named", false),
    ("198.18.60.9", "an origin that only one source knows", true),
    ("198.18.61.9", "what too few peers see", false),
];

fn check(router: &Router, verdicts: &[(&str, &str, bool)]) -> Result<()> {
    for (to, what, dropped) in verdicts {
        let to: IpAddr = to.parse()?;
        ensure!(drops(router, to)? == *dropped, "{to}: {what}");
    }
    Ok(())
}

#[test]
fn a_blocked_site_is_not_reachable_and_nobody_else_is_blocked() -> Result<()> {
    let Some((router, controller)) = start("sources")? else {
        return Ok(());
    };
    check(&router, &VERDICTS)?;

    // Each origin with its row, and what the RPKI says of it.
    let said = controller.cli(&["lookup", "198.18.60.9"])?;
    ensure!(said["origins"] == json!([64501, 64500]), "{said}");
    let rows: Vec<Value> = said["evidence"]
        .as_array()
        .context("evidence")?
        .iter()
        .map(|row| {
            let name = row["source"].as_str().unwrap_or_default();
            let name = name.rsplit('/').next().unwrap_or_default();
            json!([row["asn"], name, row["line"], row["rpki"]])
        })
        .collect();
    ensure!(
        rows == [
            json!([64501, "pfx2as", 9, "valid"]),
            json!([64500, "riswhois", 3, "invalid"]),
        ],
        "{rows:?}"
    );
    let packet = ["--vlan", "20", "--src", "10.20.0.5", "--dst", "198.18.60.9"];
    let explained = controller.cli(&[&["explain"], &packet[..]].concat())?;
    let why = explained["why"].to_string();
    ensure!(explained["action"] == "drop", "{explained}");
    for words in ["pfx2as", "riswhois", "line 3", "invalid"] {
        ensure!(why.contains(words), "no {words:?} in {why}");
    }

    // By priority the first source that has a row decides.
    configure(&router, "combine = \"priority\"")?;
    controller.kill()?;
    let (controller, _) = Controller::start(&router.place())?;
    controller.cli(&["asndb", "update", "--accept"])?;
    check(&router, &VERDICTS[..12])?;
    check(
        &router,
        &[("198.18.60.9", "not what the second says", false)],
    )?;

    // Payloads are announcements only by choice, and peers count as configured.
    configure(&router, "vrps = \"add\"\nmin_peers = 2")?;
    controller.kill()?;
    let (controller, _) = Controller::start(&router.place())?;
    controller.cli(&["asndb", "update", "--accept"])?;
    check(&router, &[("198.18.61.9", "two peers are enough", true)])?;
    let said = controller.cli(&["lookup", "198.18.63.9"])?;
    ensure!(said["origins"] == json!([64501]), "{said}");
    Ok(())
}

/// Mistakes of an administrator: each is refused with what would cure it, and what was live
/// stays.
#[test]
fn who_cannot_be_found_is_no_empty_set() -> Result<()> {
    let Some((router, controller)) = start("mistakes")? else {
        return Ok(());
    };
    for (from, to, words) in [
        (
            "\"Hostile Networks\"",
            "\"Hostile Network\"",
            "did you mean `Hostile Networks`",
        ),
        ("\"Hostile Networks\"", "\"HOST-2\"", "HOST-1"),
        ("orgs =", "org =", "did you mean `orgs`"),
        ("[\"KP\"]", "[\"DPRK\"]", "ISO 3166"),
    ] {
        router.write("wrong.toml", POLICY.replace(from, to))?;
        let path = router.path("wrong.toml");
        let said = refused(&controller, &["apply", &path.to_string_lossy()])?;
        ensure!(said.contains(words), "{to}: no {words:?} in {said}");
    }
    check(&router, &VERDICTS)?;
    // The organisation is gone from the next edition: that is no update to take by itself.
    let before = status(&controller)?["prefixes_v4"].clone();
    let renamed = ORGANISATIONS.replace("Hostile Networks", "Another Name");
    router.write("as2org", renamed)?;
    let said = refused(&controller, &["asndb", "update"])?;
    ensure!(said.contains("Hostile Networks"), "{said}");
    ensure!(status(&controller)?["prefixes_v4"] == before);
    check(&router, &VERDICTS)
}

/// Small files that would be large, or read for ever: refused within the memory and the time
/// that docs/asndb.md promises.
#[test]
fn small_files_cost_little() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/data/cases");
    for (name, words) in [
        ("bomb.bz2", "grows to more than 250 times its size"),
        ("pointers.mmdb", "it holds no rows"),
    ] {
        // 400 MB of addresses, and a minute on a machine that does something else as well.
        let limited = format!(
            "ulimit -v 400000; exec timeout 60 {} asndb info --asn-db {cases}/{name}",
            binary.display()
        );
        let output = std::process::Command::new("sh")
            .args(["-c", &limited])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1), "{name}: {output:?}");
        ensure!(said.contains(words), "{name}: no {words:?} in {said}");
    }
    Ok(())
}
