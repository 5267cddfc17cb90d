//! What is in `deploy/` is what systemd, Prometheus and kordon itself accept.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use kordon::config;

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name)
        .canonicalize()
        .unwrap()
}

/// Runs a tool; `None`, with a word, where it is not installed.
fn run(tool: &str, arguments: &[&Path]) -> Option<Output> {
    match Command::new(tool).args(arguments).output() {
        Ok(output) => Some(output),
        Err(e) => {
            println!("SKIPPED: `{tool}` cannot be run: {e}");
            None
        }
    }
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// systemd looks for the binary, which is not installed here: another one stands
/// in for it. Nothing else of the unit is changed.
#[test]
fn systemd_accepts_the_unit() {
    let text = fs::read_to_string(deploy("systemd/kordon.service")).unwrap();
    let installed = "ExecStart=/usr/sbin/kordon ";
    assert!(text.contains(installed));
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("kordon.service");
    fs::write(&unit, text.replace(installed, "ExecStart=/bin/true ")).unwrap();
    let arguments = [Path::new("verify"), Path::new("--man=no"), &unit];
    let Some(output) = run("systemd-analyze", &arguments) else {
        return;
    };
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(said(&output), "");

    let mount = deploy("systemd/sys-fs-bpf-kordon.mount");
    let of_the_mount = [Path::new("verify"), Path::new("--man=no"), &mount];
    let output = run("systemd-analyze", &of_the_mount).unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(said(&output), "");

    // The check can fail.
    fs::write(&unit, text.replace(installed, "ExecStart=/nowhere ")).unwrap();
    let output = run("systemd-analyze", &arguments).unwrap();
    assert_ne!(said(&output), "");
}

/// How much of the machine the unit leaves open, by systemd's own count: 10 is all of it.
#[test]
fn the_unit_is_hardened() {
    let unit = deploy("systemd/kordon.service");
    let arguments = ["security", "--offline=yes", "--no-pager", "--threshold=20"].map(Path::new);
    let Some(output) = run("systemd-analyze", &[&arguments[..], &[&unit]].concat()) else {
        return;
    };
    let said = said(&output);
    println!("{}", said.lines().last().unwrap_or_default());
    assert!(output.status.success(), "{said}");
    // The check can fail.
    let text = fs::read_to_string(&unit).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let open = dir.path().join("kordon.service");
    fs::write(&open, text.replace("NoNewPrivileges=yes", "")).unwrap();
    let output = run("systemd-analyze", &[&arguments[..], &[&open]].concat()).unwrap();
    assert!(!output.status.success());
}

#[test]
fn prometheus_accepts_rules_and_scrape() {
    let rules = deploy("prometheus/alerts.yml");
    let lint = ["check", "rules", "--lint-fatal"].map(Path::new);
    let Some(output) = run("promtool", &[&lint[..], &[&rules]].concat()) else {
        return;
    };
    assert!(output.status.success(), "{}", said(&output));

    let tests = deploy("prometheus/alerts_test.yml");
    let test = ["test", "rules"].map(Path::new);
    let output = run("promtool", &[&test[..], &[&tests]].concat()).unwrap();
    assert!(output.status.success(), "{}", said(&output));

    let scrape = fs::read_to_string(deploy("prometheus/scrape.yml")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("prometheus.yml");
    let whole = format!("rule_files: [\"{}\"]\n{scrape}", rules.display());
    fs::write(&config, whole).unwrap();
    let lint = ["check", "config", "--lint-fatal"].map(Path::new);
    let output = run("promtool", &[&lint[..], &[&config]].concat()).unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

/// Alerts on a metric that does not exist never fire.
#[test]
fn alerts_are_on_metrics_that_exist() {
    let docs = fs::read_to_string(deploy("../docs/metrics.md")).unwrap();
    let alerts = fs::read_to_string(deploy("prometheus/alerts.yml")).unwrap();
    let mut count = 0;
    for line in alerts.lines().filter(|line| line.contains("expr:")) {
        for name in line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if name.starts_with("kordon_") {
                assert!(docs.contains(&format!("| `{name}`")), "{name}");
                count += 1;
            }
        }
    }
    assert!(count >= 4);
}

/// Each alert is seen both firing and not.
#[test]
fn alerts_are_tested_both_ways() {
    let alerts = fs::read_to_string(deploy("prometheus/alerts.yml")).unwrap();
    let tests = fs::read_to_string(deploy("prometheus/alerts_test.yml")).unwrap();
    let names: Vec<&str> = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(names.len() >= 4, "{names:?}");
    for name in names {
        let fires = format!("alertname: {name}\n        exp_alerts:\n          - exp_labels:");
        assert!(tests.contains(&fires), "{name} is never seen firing");
        let rests = format!("alertname: {name}}}\n");
        assert!(tests.contains(&rests), "{name} is never seen at rest");
    }
}

/// What somebody who is woken up needs: what it is, and where it says what to do.
#[test]
fn alerts_lead_to_what_is_to_be_done() {
    let alerts = fs::read_to_string(deploy("prometheus/alerts.yml")).unwrap();
    let mut count = 0;
    for alert in alerts.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap();
        let annotation = |key: &str| {
            let line = alert.lines().find_map(|line| line.trim().strip_prefix(key));
            let text = line.unwrap_or_else(|| panic!("{name} has no {key}"));
            text.trim().trim_matches('"').to_owned()
        };
        assert!(annotation("severity:").len() > 4, "{name}");
        assert!(annotation("summary:").contains("kordon"), "{name}");
        assert!(annotation("description:").ends_with('.'), "{name}");
        let link = annotation("runbook_url:");
        let (file, anchor) = link.split_once('#').unwrap();
        let document = fs::read_to_string(deploy("..").join(file)).unwrap();
        let mut headings = document.lines().filter(|line| line.starts_with('#'));
        assert!(
            headings.any(|line| slug(line) == anchor),
            "{name}: {link} leads nowhere"
        );
        count += 1;
    }
    assert!(count >= 13, "{count}");
}

/// The anchor of a heading, as those who show Markdown make it.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn examples_are_good() {
    let (config, found) = config::load(&deploy("etc/kordon.toml"));
    assert!(config.is_some() && found.warnings.is_empty(), "{found:?}");
    // A database on day one.
    let remotes = config.unwrap().updates.remotes;
    assert_eq!(remotes.len(), 1);
    let url = remotes[0].url.as_str();
    assert_eq!(url, "https://iptoasn.com/data/ip2asn-combined.tsv.gz");
    for site in ["north", "south"] {
        let path = deploy(&format!("examples/several-sites/site-{site}.toml"));
        let (config, found) = config::load(&path);
        assert!(found.ok() && found.warnings.is_empty(), "{found:?}");
        let names: Vec<_> = config
            .unwrap()
            .interfaces
            .into_iter()
            .map(|i| i.name)
            .collect();
        assert_eq!(
            names,
            ["trunk", "annex"],
            "as the policy of all sites has them"
        );
    }
}

/// Each template as `kordon check` sees it: nothing wrong, and no warning but those that are
/// the point of it.
#[test]
fn templates_are_good() {
    let Some(kordon) = std::env::var_os("KORDON_BINARY") else {
        println!("SKIPPED: no binary; set KORDON_BINARY");
        return;
    };
    for (name, warnings) in [
        ("etc/policy.toml", 0),
        ("examples/audit-first.toml", 1),
        ("examples/default-deny.toml", 2),
        ("examples/several-sites/policy.toml", 0),
    ] {
        let output = Command::new(&kordon)
            .args(["check", "--json"])
            .arg(deploy(name))
            .output()
            .unwrap();
        let said = said(&output);
        assert!(output.status.success(), "{name}: {said}");
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = answer["warnings"].as_array().unwrap();
        assert_eq!(found.len(), warnings, "{name}: {said}");
        println!("{name}: {said}");
    }
}

/// Maintainer scripts and the installer are what a shell understands.
#[test]
fn scripts_are_scripts() {
    for script in [
        "deb/postinst",
        "deb/prerm",
        "deb/postrm",
        "tarball/install.sh",
    ] {
        let output = Command::new("sh").arg("-n").arg(deploy(script)).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{script}: {}", said(&output));
    }
}
