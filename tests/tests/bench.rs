//! Everything that `cargo xtask bench` is to measure can be measured, and nothing is left
//! behind. How fast it is, is no question for a test.

use std::collections::{HashMap, HashSet};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kordon_tests::controller::binary;
use kordon_tests::lab::namespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Cases that others rely on, by group.
fn required() -> HashMap<&'static str, Vec<String>> {
    let words = |text: &str| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut packet = words("empty no-zone");
    for before in ["", "lpm/"] {
        for family in ["ipv4", "ipv6"] {
            for verdict in ["pass", "drop"] {
                for traffic in ["hot", "random"] {
                    packet.push(format!("{before}{family}/{verdict}/{traffic}"));
                }
            }
        }
    }
    let mut wire = words("xdp-drop xdp-read stack");
    for peer in ["kordon", "nft-ingress", "ipset", "lpm"] {
        wire.extend(["drop", "pass"].map(|verdict| format!("{peer}/{verdict}")));
    }
    wire.extend(words(
        "kordon/pass/added nft-ingress/pass/added kordon/drop/rate nft-ingress/drop/rate \
         nft-prerouting/drop nft-prerouting/pass xdp-filter/drop xdp-filter/pass xdp-pass \
         dir-24-8/drop dir-24-8/pass",
    ));
    let mut update = words("kordon/one-more-asn/daemon kordon/replace/daemon");
    for tool in
        words("kordon nft-ingress nft-prerouting ipset ipset-in-place xdp-filter lpm lpm-in-place")
    {
        update.push(format!("{tool}/load"));
        for change in ["one-more-asn", "replace"] {
            update.push(format!("{tool}/{change}"));
            let of_traffic = words("under-traffic leaked lost sent");
            update.extend(
                of_traffic
                    .iter()
                    .map(|row| format!("{tool}/{change}/{row}")),
            );
        }
    }
    let mut scale = Vec::new();
    for size in words(
        "prefixes/1k prefixes/10k prefixes/100k prefixes/1M zones/1 zones/16 zones/256 asns/10 \
         asns/10k asns/80k",
    ) {
        for traffic in ["hot", "random"] {
            scale.extend(["ipv4", "ipv6"].map(|family| format!("{size}/{family}/pass/{traffic}")));
        }
    }
    let build = "whole/ranges-to-live whole/swap rules/to-live rules/proof";
    let memory = "kordon/live kordon/per-cpu/2 kordon/per-cpu/16 kordon/per-cpu/128 \
                  daemon/after-start";
    HashMap::from([
        ("packet", packet),
        ("wire", wire),
        ("update", update),
        ("scale", scale),
        ("build", words(build)),
        ("memory", words(memory)),
        (
            "evidence",
            words("writing/10k-a-minute/processor history/90-days report/html flows/by-camera"),
        ),
        ("touched", words("no-zone options/ipv6/drop/random/lines")),
    ])
}

/// The names of a row's fields, in order.
const FIELDS: [&str; 8] = [
    "group", "case", "unit", "median", "mean", "min", "max", "runs",
];

#[test]
fn every_case_can_be_measured() -> Result<()> {
    if binary().is_none() {
        return Ok(());
    }
    let required = required();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kordon-bench"));
    command.args(["--json", "--quick"]).args(required.keys());
    let output = command.output().context("cannot run the benchmark")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    let mut seen: HashMap<String, HashSet<String>> = HashMap::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let row: Value = serde_json::from_str(line).with_context(|| format!("`{line}`"))?;
        let fields = row.as_object().context("an object")?;
        assert!(fields.keys().eq(FIELDS), "{line}");
        let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
        let number = |field: &str| row[field].as_f64().unwrap_or(f64::NAN);
        assert!(number("min") <= number("median"), "{line}");
        assert!(number("median") <= number("max"), "{line}");
        assert!(number("runs") >= 1.0, "{line}");
        // A difference may be less than what disturbs it, nothing may leak, and the daemon
        // tells whole milliseconds.
        let may_be_zero = ["/added", "/daemon"]
            .iter()
            .any(|end| text("case").ends_with(end));
        if !may_be_zero && text("unit") != "packets" {
            assert!(number("min") > 0.0 && number("max").is_finite(), "{line}");
        }
        // Whatever others let through or lose while they change, we do not.
        let ours = text("group") == "update" && text("case").starts_with("kordon/");
        if ours
            && ["/leaked", "/lost"]
                .iter()
                .any(|end| text("case").ends_with(end))
        {
            assert_eq!(number("max"), 0.0, "{line}");
        }
        if text("case").ends_with("/sent") {
            assert!(number("min") > 100.0, "{line}");
        }
        let first = seen.entry(text("group")).or_default().insert(text("case"));
        assert!(first, "twice: {line}");
    }
    for (group, cases) in &required {
        let seen = seen
            .get(*group)
            .with_context(|| format!("no `{group}`: {said}"))?;
        for case in cases {
            // What a firewall is missing for, the benchmark says.
            let peer = case.split('/').next().unwrap_or_default();
            let skipped = format!("SKIPPED: {group}: `{peer}`");
            if let Some(why) = said.lines().find(|line| line.starts_with(&skipped)) {
                println!("{why}");
                continue;
            }
            assert!(seen.contains(case), "{group} lacks `{case}`: {said}");
        }
    }
    Ok(())
}

#[test]
fn ctrl_c_leaves_nothing_behind() -> Result<()> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kordon-bench"));
    command.args(["--json", "--prefixes", "2000", "--case", "stack", "wire"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().context("cannot run the benchmark")?;
    let own = format!("{}-{}", namespace::OWNED, child.id());
    let mut up = false;
    // The kernel's verifier comes first, which takes seconds on a machine that is busy.
    for _ in 0..3000 {
        up = !namespace::names(&own)?.is_empty();
        if up || child.try_wait()?.is_some() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    ensure!(up, "it made no namespace");
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT)?;
    let status = child.wait()?;
    assert_eq!(status.code(), Some(130));
    assert_eq!(namespace::names(&own)?, Vec::<String>::new());
    Ok(())
}
