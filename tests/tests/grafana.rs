//! The dashboard: what can be said of it without Grafana, which Debian does not have. Each of its queries
//! is asked of a real Prometheus that scrapes a real kordon while cameras send; none may be empty.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use kordon_tests::{
    controller::{Controller, binary},
    lab::{
        Wire,
        frame::{Ethernet, udp},
    },
    prometheus::{Prometheus, Sample},
    router::{Router, policy},
};
use serde_json::Value;

const DASHBOARD: &str = include_str!("../../deploy/grafana/dashboard.json");
const METRICS: &str = include_str!("../../docs/metrics.md");

fn dashboard() -> Value {
    serde_json::from_str(DASHBOARD).expect("the dashboard is JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A query of the dashboard, where it is, and what its series are called.
#[derive(Debug)]
struct Query {
    panel: String,
    expr: String,
    legend: String,
}

fn queries(dashboard: &Value) -> Vec<Query> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for panel in list(&dashboard["panels"]) {
        for target in list(&panel["targets"]) {
            found.push(Query {
                panel: text(&panel["title"]),
                expr: text(&target["expr"]),
                legend: text(&target["legendFormat"]),
            });
        }
    }
    for annotation in list(&dashboard["annotations"]["list"]) {
        found.push(Query {
            panel: text(&annotation["name"]),
            expr: text(&annotation["expr"]),
            legend: text(&annotation["titleFormat"]),
        });
    }
    found
}

/// Metrics that a query names.
fn names(expr: &str) -> BTreeSet<&str> {
    let words = expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| {
            let is_ours = word.starts_with("kordon_") || word.starts_with("process_");
            is_ours || ["up", "ALERTS"].contains(word)
        })
        .collect()
}

/// What stands in braces of a legend.
fn labels(legend: &str) -> Vec<&str> {
    let parts = legend.split("{{").skip(1);
    parts.filter_map(|part| part.split("}}").next()).collect()
}

#[test]
fn the_dashboard_is_well_made() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64() >= Some(36));
    for (key, value) in [("uid", "kordon"), ("title", "kordon")] {
        assert_eq!(dashboard[key], value);
    }
    // Grafana gives one itself where it is imported.
    assert!(dashboard.get("id").is_none());
    let variables: BTreeSet<&str> = list(&dashboard["templating"]["list"])
        .iter()
        .filter_map(|variable| variable["name"].as_str())
        .collect();
    assert_eq!(variables, BTreeSet::from(["datasource", "router", "zone"]));

    let panels = list(&dashboard["panels"]);
    assert!(panels.len() > 20);
    let mut ids = BTreeSet::new();
    let mut titles = BTreeSet::new();
    let mut cells = BTreeMap::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        assert!(!title.is_empty() && titles.insert(title), "`{title}` twice");
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}");
        let place = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
        let (x, y, w, h) = (place("x"), place("y"), place("w"), place("h"));
        assert!(w > 0 && h > 0 && x + w <= 24, "{title}: {x} + {w}");
        for cell in (y..y + h).flat_map(|y| (x..x + w).map(move |x| (x, y))) {
            let other = cells.insert(cell, title);
            assert_eq!(other, None, "`{title}` lies over another at {cell:?}");
        }
        if panel["type"] == "row" {
            assert!(list(&panel["panels"]).is_empty(), "{title}");
            continue;
        }
        let kinds = ["stat", "timeseries", "state-timeline", "table"];
        assert!(kinds.iter().any(|kind| panel["type"] == *kind), "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = list(&panel["targets"]);
        assert!(!targets.is_empty(), "{title} asks nothing");
        let mut letters = BTreeSet::new();
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            assert!(letters.insert(target["refId"].to_string()), "{title}");
            assert!(target["instant"] != target["range"], "{title}");
        }
    }
    // Each row of the grid is full: no panel hangs in the air.
    let bottom = cells.keys().map(|(_, y)| y + 1).max().unwrap_or(0);
    assert_eq!(cells.len() as u64, bottom * 24);
}

#[test]
fn queries_name_what_there_is() {
    let dashboard = dashboard();
    let queries = queries(&dashboard);
    assert!(queries.len() > 25, "{}", queries.len());
    for query in &queries {
        let names = names(&query.expr);
        assert!(!names.is_empty(), "{query:?}");
        for name in names {
            let is_documented = METRICS.contains(&format!("| `{name}` |"));
            assert!(
                is_documented || ["up", "ALERTS"].contains(&name),
                "{name} of `{}` is not in docs/metrics.md",
                query.panel
            );
        }
        // All variables have a meaning.
        let rest = replaced(&query.expr, ".*", ".*");
        assert!(!rest.contains('$'), "{rest}");
    }
    // Each action, of each way to count, is somewhere.
    for name in [
        "kordon_enforcing",
        "kordon_interface_attached",
        "kordon_interface_missed_packets_total",
        "kordon_packets_total",
        "kordon_rule_packets_total",
        "kordon_reason_packets_total",
        "kordon_asn_packets_total",
        "kordon_asn_info",
        "kordon_zone_silent",
        "kordon_asndb_age_seconds",
        "kordon_asndb_update_held",
        "kordon_asndb_update_failing",
        "kordon_asndb_updates_total",
        "process_resident_memory_bytes",
    ] {
        assert!(
            queries
                .iter()
                .any(|query| names(&query.expr).contains(name)),
            "no panel shows {name}"
        );
    }
}

/// What Grafana asks where these routers and zones are chosen.
fn replaced(expr: &str, router: &str, zone: &str) -> String {
    expr.replace("$__rate_interval", "10s")
        .replace("$__range", "1m")
        .replace("$__interval", "10s")
        .replace("$router", router)
        .replace("$zone", zone)
}

/// What provisioning files, documentation and dashboard say of places fits together.
#[test]
fn provisioning_finds_the_dashboard() {
    let provider = include_str!("../../deploy/grafana/provisioning/dashboards/kordon.yml");
    let source = include_str!("../../deploy/grafana/provisioning/datasources/kordon.yml");
    let operations = include_str!("../../docs/operations.md");
    let path = provider
        .lines()
        .find_map(|line| line.trim().strip_prefix("path: "))
        .expect("where dashboards are");
    assert!(operations.contains(&format!("{path}/dashboard.json")));
    for file in ["datasources/kordon.yml", "dashboards/kordon.yml"] {
        assert!(operations.contains(&format!("deploy/grafana/provisioning/{file}")));
    }
    for text in [provider, source] {
        assert!(text.lines().any(|line| line == "apiVersion: 1"));
    }
    assert!(source.contains("\n    type: prometheus\n"));
    // What Grafana takes rates over follows from how often is scraped.
    let scrape = include_str!("../../deploy/prometheus/scrape.yml");
    assert!(scrape.contains("scrape_interval: 15s") && source.contains("timeInterval: 15s"));
}

/// Panels whose series have to count what cameras send meanwhile.
const MOVING: [&str; 9] = [
    "Dropped and audited, by zone",
    "Passed, by zone",
    "By rule",
    "By reason",
    "Networks that cameras were kept from",
    "Networks over time",
    "Frames of no zone",
    "Not understood",
    "Applies",
];

/// One burst: dropped and audited, passed, of no zone, and not understood.
fn send(router: &Router) -> Result<()> {
    let from: IpAddr = "10.20.0.5".parse()?;
    let wire = &router.wire;
    for (to, times) in [("198.51.100.9", 30), ("192.0.2.9", 20), ("203.0.113.9", 50)] {
        wire.send(&Wire::packet(20, from, to.parse()?), times)?;
    }
    let to: IpAddr = "203.0.113.9".parse()?;
    wire.send(&Wire::packet(20, "172.16.9.9".parse()?, to), 10)?;
    wire.send(&Wire::packet(99, from, to), 10)?;
    // Nine tags are read on no interface.
    let nine = (0..9).fold(Ethernet::new([2; 6], [4; 6]), |frame, _| {
        frame.tag(0x8100, 99)
    });
    wire.send(&nine.packet(&udp(from, to, (1, 2), b"x")), 10)
}

#[test]
fn every_query_has_data() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("grafana", binary)?;
    let configuration = std::fs::read_to_string(router.path("kordon.toml"))?;
    router.write(
        "kordon.toml",
        configuration.replace("[asndb]\n", "[asndb]\nmax_age_days = 30\n"),
    )?;
    let audit = "[set.other]\nasns = [64502]\n\
                 [[rule]]\nname = \"look\"\nfrom = \"cameras\"\nto = \"other\"\naction = \"audit\"\n";
    router.write("policy.toml", policy("64500") + audit)?;
    let (controller, _) = Controller::start(&router.place())?;
    let Some(prometheus) = Prometheus::start(&router)? else {
        return Ok(());
    };
    let dashboard = dashboard();
    let queries = queries(&dashboard);
    let end = Instant::now() + Duration::from_secs(60);
    let everything = |left: &mut BTreeMap<usize, String>, router_is: &str, zone: &str| {
        left.retain(|number, why| {
            let query = &queries[*number];
            let expr = replaced(&query.expr, router_is, zone);
            match prometheus
                .query(&expr)
                .and_then(|found| judge(query, &found))
            {
                Ok(()) => false,
                Err(e) => {
                    *why = format!("{}: {expr}: {e:#}", query.panel);
                    true
                }
            }
        });
    };
    // First all routers and zones, then those that there are, by name.
    for (router_is, zone) in [(".*", ".*"), ("127\\\\.0\\\\.0\\\\.1:9754", "cameras")] {
        let all = 0..queries.len();
        let mut left: BTreeMap<usize, String> = all.map(|n| (n, String::new())).collect();
        println!("{} queries, routers {router_is}", left.len());
        let mut applied = 0;
        while !left.is_empty() {
            send(&router)?;
            // Each another policy, so that applies move.
            applied += 1;
            router.write(
                "policy.toml",
                format!("{}{audit}# {applied}\n", policy("64500")),
            )?;
            let path = router.path("policy.toml");
            controller.cli(&["apply", path.to_str().context("a path")?])?;
            everything(&mut left, router_is, zone);
            if Instant::now() > end {
                bail!("{left:#?}");
            }
            thread::sleep(Duration::from_millis(300));
        }
    }
    // Nothing is named that Prometheus has not seen.
    let seen = prometheus.ask("label/__name__/values", &[])?;
    let seen: BTreeSet<&str> = list(&seen).iter().filter_map(Value::as_str).collect();
    for query in &queries {
        for name in names(&query.expr) {
            // Alerts that do not fire have no series.
            ensure!(name == "ALERTS" || seen.contains(name), "{name}");
        }
    }
    // What variables offer: `label_values(METRIC, LABEL)`.
    for variable in list(&dashboard["templating"]["list"]) {
        let Some(query) = variable["query"]["query"].as_str() else {
            continue;
        };
        let inside = query
            .strip_prefix("label_values(")
            .and_then(|rest| rest.strip_suffix(')'));
        let (metric, label) = inside
            .and_then(|inside| inside.rsplit_once(", "))
            .context(query.to_owned())?;
        let found = prometheus.query(&replaced(metric, ".*", ".*"))?;
        ensure!(
            !found.is_empty() && found.iter().all(|(labels, _)| labels.contains_key(label)),
            "{query}: {found:?}"
        );
    }
    // The alerts that are shipped can be evaluated, and none fires here.
    let rules = prometheus.ask("rules", &[])?;
    let rules: Vec<&Value> = list(&rules["groups"])
        .iter()
        .flat_map(|group| list(&group["rules"]))
        .collect();
    ensure!(rules.len() >= 13, "{rules:?}");
    for rule in rules {
        ensure!(
            rule["health"] == "ok" && rule["state"] == "inactive",
            "{rule}"
        );
    }
    Ok(())
}

/// Whether an answer is what its panel needs.
fn judge(query: &Query, found: &[Sample]) -> Result<()> {
    ensure!(!found.is_empty(), "no data");
    for (labels_of, value) in found {
        ensure!(value.is_finite(), "{labels_of:?} is {value}");
        for label in labels(&query.legend) {
            ensure!(
                labels_of.get(label).is_some_and(|value| !value.is_empty()),
                "{labels_of:?} has no {label}"
            );
        }
    }
    if MOVING.contains(&query.panel.as_str()) {
        let sum: f64 = found.iter().map(|(_, value)| value).sum();
        ensure!(sum > 0.0, "nothing moves: {found:?}");
    }
    Ok(())
}
