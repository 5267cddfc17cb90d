//! What was counted, for people: by zone, rule, reason and network, and how fast it grows where there
//! is an earlier answer to compare with.

use serde_json::Value;

use super::{Page, bytes, counted, list, text};

/// Lines of each kind, where not all are asked for.
pub(super) const SHORT: usize = 5;
/// The same of zones.
const ZONES: usize = 10;

/// How much of an answer is shown.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cli) struct Shape<'a> {
    /// All that the answer has.
    pub(in crate::cli) all: bool,
    /// An earlier answer: rates are since then.
    pub(in crate::cli) before: Option<&'a Value>,
}

impl Shape<'_> {
    /// What is shown of a list: all of it if it is short or all is asked for, else the first and
    /// what somebody should look at; and how many there are besides.
    pub(super) fn some<'v>(
        &self,
        entries: impl IntoIterator<Item = &'v Value>,
        most: usize,
        is_loud: impl Fn(&Value) -> bool,
    ) -> (Vec<&'v Value>, usize) {
        let entries: Vec<&Value> = entries.into_iter().collect();
        let count = entries.len();
        let is_shown =
            |(place, entry): &(usize, &Value)| self.all || *place < most || is_loud(entry);
        let shown: Vec<&Value> = entries
            .into_iter()
            .enumerate()
            .filter(is_shown)
            .map(|(_, entry)| entry)
            .collect();
        let more = count - shown.len();
        (shown, more)
    }
}

/// Entries of a list of the answer, and how to find each in the earlier answer.
struct Counts<'a> {
    now: &'a Value,
    /// The earlier list, and how many seconds ago that was.
    before: Option<(&'a [Value], f64)>,
    keys: &'static [&'static str],
}

impl<'a> Counts<'a> {
    fn new(
        now: &'a Value,
        shape: &Shape<'a>,
        path: &[&str],
        keys: &'static [&'static str],
    ) -> Self {
        let at = |value: &Value| value["at"].as_str()?.parse::<jiff::Timestamp>().ok();
        let before = shape.before.and_then(|before| {
            let seconds = at(now)?.duration_since(at(before)?).as_secs_f64();
            let list = list(path.iter().fold(before, |value, name| &value[*name]));
            (seconds > 0.0).then_some((list, seconds))
        });
        Self { now, before, keys }
    }

    fn at(&self, path: &[&str]) -> &'a [Value] {
        list(path.iter().fold(self.now, |value, name| &value[*name]))
    }

    /// `drop 10 (1 kB), audit 0`; with an earlier answer `drop 10 (1 kB; 3/s, 2 kbit/s), …`.
    fn words(&self, entry: &Value, actions: &[&str]) -> String {
        let before = self.before.and_then(|(all, seconds)| {
            let same = |other: &&Value| self.keys.iter().all(|key| other[*key] == entry[*key]);
            Some((all.iter().find(same)?, seconds))
        });
        let parts = actions.iter().map(|action| {
            let count = |value: &Value, what: &str| value[what][*action].as_u64().unwrap_or(0);
            if count(entry, "packets") == 0 {
                return format!("{action} 0");
            }
            let grown = |what: &str| {
                let (before, seconds) = before?;
                let more = count(entry, what).saturating_sub(count(before, what));
                Some(more as f64 / seconds)
            };
            let mut part = format!(
                "{action} {} ({}",
                count(entry, "packets"),
                bytes(count(entry, "bytes"))
            );
            if let (Some(packets), Some(bytes)) = (grown("packets"), grown("bytes")) {
                part += &match packets > 0.0 {
                    true => format!("; {}/s, {}", per_second(packets), bits(bytes * 8.0)),
                    false => "; 0/s".to_owned(),
                };
            }
            part + ")"
        });
        parts.collect::<Vec<_>>().join(", ")
    }
}

fn per_second(rate: f64) -> String {
    match rate < 9.95 {
        true => format!("{rate:.1}"),
        false => format!("{rate:.0}"),
    }
}

fn bits(rate: f64) -> String {
    match rate {
        ..10_000.0 => format!("{rate:.0} bit/s"),
        ..10_000_000.0 => format!("{:.0} kbit/s", rate / 1e3),
        ..10_000_000_000.0 => format!("{:.0} Mbit/s", rate / 1e6),
        _ => format!("{:.0} Gbit/s", rate / 1e9),
    }
}

fn packets(entry: &Value, actions: &[&str]) -> u64 {
    let packets = actions
        .iter()
        .map(|action| entry["packets"][*action].as_u64());
    packets.map(|count| count.unwrap_or(0)).sum()
}

const ALL: [&str; 3] = ["drop", "audit", "pass"];
/// What a camera was not free to do.
const STOPPED: [&str; 2] = ["drop", "audit"];

/// Zones, and what was counted of each.
pub(super) fn zones(page: &mut Page, value: &Value, shape: &Shape<'_>) {
    let zones = Counts::new(value, shape, &["zones"], &["name"]);
    let mut all: Vec<&Value> = zones.at(&["zones"]).iter().collect();
    if all.len() > ZONES && !shape.all {
        all.sort_by_key(|zone| std::cmp::Reverse(packets(zone, &STOPPED)));
    }
    let (shown, more) = shape.some(all, ZONES, |zone| zone["silent"] == true);
    for zone in shown {
        let silent = match zone["silent"] == true {
            true => "; SILENT: it had packets, and has none any more",
            false => "",
        };
        let record = match zone["record"].as_str() {
            Some("off") => "; not recorded",
            Some("drops") => "; what passes is not recorded",
            _ => "",
        };
        let words = zones.words(zone, &ALL);
        let name = text(&zone["name"]);
        page.line("zone", format!("{name}: {words}{record}{silent}"));
    }
    if more > 0 {
        page.line(
            "",
            format!("{}: `--all`", counted(more as u64, "more zone")),
        );
    }
}

/// Which rules and what else decided.
pub(super) fn decided(page: &mut Page, value: &Value, shape: &Shape<'_>) {
    let rules = Counts::new(value, shape, &["rules"], &["zone", "rule"]);
    let show = |rule: &Value| {
        format!(
            "{} ({}): {}",
            text(&rule["rule"]),
            text(&rule["zone"]),
            rules.words(rule, &moved(rule, &["drop"]))
        )
    };
    entries(
        page,
        "rule",
        rules.at(&["rules"]),
        shape.all,
        |rule| packets(rule, &ALL),
        show,
    );
    let reasons = Counts::new(value, shape, &["decided"], &["zone", "reason"]);
    let show = |reason: &Value| {
        format!(
            "{} ({}): {}",
            text(&reason["reason"]),
            text(&reason["zone"]),
            reasons.words(reason, &moved(reason, &["drop"]))
        )
    };
    let size = |reason: &Value| match shape.all {
        true => packets(reason, &ALL),
        false => packets(reason, &STOPPED),
    };
    entries(
        page,
        "reason",
        reasons.at(&["decided"]),
        shape.all,
        size,
        show,
    );
}

/// The actions of which there are packets; without any, `otherwise`.
fn moved(entry: &Value, otherwise: &[&'static str]) -> Vec<&'static str> {
    let some: Vec<_> = ALL
        .into_iter()
        .filter(|action| packets(entry, &[action]) > 0)
        .collect();
    match some.is_empty() {
        true => otherwise.to_vec(),
        false => some,
    }
}

/// All entries, as they are; or the largest, and how many there are besides.
fn entries(
    page: &mut Page,
    label: &str,
    all: &[Value],
    is_all: bool,
    size: impl Fn(&Value) -> u64,
    show: impl Fn(&Value) -> String,
) {
    if is_all {
        for entry in all {
            page.line(label, show(entry));
        }
        return;
    }
    let mut some: Vec<&Value> = all.iter().filter(|entry| size(entry) > 0).collect();
    some.sort_by_key(|entry| std::cmp::Reverse(size(entry)));
    for entry in some.iter().take(SHORT) {
        page.line(label, show(entry));
    }
    if let more @ 1.. = some.len().saturating_sub(SHORT) {
        page.line("", format!("{more} more with packets: `--all`"));
    }
}

/// The networks that were dropped or audited most.
pub(super) fn networks(page: &mut Page, value: &Value, shape: &Shape<'_>) {
    const TOP: [&str; 2] = ["networks", "top"];
    let networks = Counts::new(value, shape, &TOP, &["asn"]);
    let top = networks.at(&TOP);
    let shown = top.len().min(if shape.all { usize::MAX } else { SHORT });
    for network in &top[..shown] {
        let words = networks.words(network, &moved(network, &["drop"]));
        page.line("network", format!("{}: {words}", name(network)));
    }
    let more = &value["networks"]["more"];
    let rest = || top[shown..].iter().chain([more]);
    let sum = |action: &str| rest().map(|entry| packets(entry, &[action])).sum::<u64>();
    let (dropped, audited) = (sum("drop"), sum("audit"));
    let others = more["networks"].as_u64().unwrap_or(0) + (top.len() - shown) as u64;
    if dropped + audited > 0 {
        let others = match others {
            // Without counters of their own.
            0 => "others".to_owned(),
            _ => counted(others, "more network"),
        };
        page.line("", format!("{others}: drop {dropped}, audit {audited}"));
    }
}

fn name(network: &Value) -> String {
    if network["asn"].is_null() {
        return "announced by nobody".to_owned();
    }
    let mut words = format!("AS{}", network["asn"]);
    if let Some(name) = network["name"].as_str().filter(|name| !name.is_empty()) {
        words = format!("{words} {name}");
    }
    if let Some(country) = network["country"].as_str() {
        words = format!("{words} ({country})");
    }
    words
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(at: &str, packets: u64) -> Value {
        let sums = |drop: u64| {
            json!({
                "packets": {"pass": 0, "audit": 0, "drop": drop},
                "bytes": {"pass": 0, "audit": 0, "drop": drop * 1000},
            })
        };
        let entry = |mut names: Value, drop: u64| {
            let (Value::Object(names_of), Value::Object(sums)) = (&mut names, sums(drop)) else {
                panic!("objects");
            };
            names_of.extend(sums);
            names
        };
        let rule = |number: u64| entry(json!({"zone": "z", "rule": format!("r{number}")}), number);
        let network = |asn: u64| {
            let names = json!({"asn": asn, "name": format!("N{asn}"), "country": "RU"});
            entry(names, packets + 100 - asn)
        };
        json!({
            "at": at,
            "zones": [entry(json!({"name": "z", "silent": true}), packets)],
            "rules": (0..9).map(rule).collect::<Vec<_>>(),
            "decided": [
                entry(json!({"zone": "z", "reason": "tunnel"}), packets),
                entry(json!({"zone": "z", "reason": "not-ip"}), 0),
            ],
            "networks": {
                "top": (1..=7).map(network).collect::<Vec<_>>(),
                "more": entry(json!({"networks": 3}), 30),
            },
        })
    }

    fn page(value: &Value, shape: &Shape<'_>) -> String {
        let mut page = Page(String::new());
        zones(&mut page, value, shape);
        decided(&mut page, value, shape);
        networks(&mut page, value, shape);
        page.0
    }

    #[test]
    fn the_largest_of_each() {
        let value = answer("2026-01-01T00:00:00Z", 10);
        let short = page(&value, &Shape::default());
        assert_eq!(
            short,
            "zone        z: drop 10 (10000 B), audit 0, pass 0; SILENT: it had packets, \
             and has none any more\n\
             rule        r8 (z): drop 8 (8000 B)\n\
             rule        r7 (z): drop 7 (7000 B)\n\
             rule        r6 (z): drop 6 (6000 B)\n\
             rule        r5 (z): drop 5 (5000 B)\n\
             rule        r4 (z): drop 4 (4000 B)\n            3 more with packets: `--all`\n\
             reason      tunnel (z): drop 10 (10 kB)\n\
             network     AS1 N1 (RU): drop 109 (109 kB)\n\
             network     AS2 N2 (RU): drop 108 (108 kB)\n\
             network     AS3 N3 (RU): drop 107 (107 kB)\n\
             network     AS4 N4 (RU): drop 106 (106 kB)\n\
             network     AS5 N5 (RU): drop 105 (105 kB)\n            \
             5 more networks: drop 237, audit 0\n"
                .replace("10000 B", "10 kB")
        );
        let all = page(
            &value,
            &Shape {
                all: true,
                before: None,
            },
        );
        for line in [
            "rule        r0 (z): drop 0",
            "reason      not-ip (z): drop 0",
            "network     AS7 N7 (RU): drop 103 (103 kB)",
            "            3 more networks: drop 30, audit 0",
        ] {
            assert!(all.lines().any(|l| l == line), "{line}\n{all}");
        }
    }

    #[test]
    fn many_zones_are_few_lines() {
        let mut value = answer("2026-01-01T00:00:00Z", 10);
        let zone = |number: u64| {
            let packets = json!({"pass": 0, "audit": 0, "drop": number});
            json!({"name": format!("z{number}"), "silent": number == 3, "packets": packets,
                "bytes": packets})
        };
        value["zones"] = (0..30).map(zone).collect::<Vec<_>>().into();
        let short = page(&value, &Shape::default());
        let named = |page: &str| page.matches("\nzone ").count() + 1;
        assert_eq!(named(&short), 11, "{short}");
        assert!(
            short.starts_with("zone        z29: drop 29 (29 B)"),
            "{short}"
        );
        assert!(short.contains("zone        z3: drop 3 (3 B), audit 0, pass 0; SILENT"));
        assert!(short.contains("\n            19 more zones: `--all`\n"));
        let all = Shape {
            all: true,
            before: None,
        };
        assert_eq!(named(&page(&value, &all)), 30);
    }

    #[test]
    fn rates_are_since_the_answer_before() {
        let before = answer("2026-01-01T00:00:00Z", 10);
        let now = answer("2026-01-01T00:00:02Z", 50);
        let shape = |before| Shape { all: true, before };
        let with = page(&now, &shape(Some(&before)));
        for words in [
            "z: drop 50 (50 kB; 20/s, 160 kbit/s), audit 0,",
            "r8 (z): drop 8 (8000 B; 0/s)",
            "AS1 N1 (RU): drop 149 (149 kB; 20/s, 160 kbit/s)",
        ] {
            assert!(with.contains(words), "{words}\n{with}");
        }
        // Counters that began anew have no rate below nothing, and at one moment there is none.
        let fewer = page(&before, &shape(Some(&before)));
        assert!(!fewer.contains("/s"), "{fewer}");
        let anew = answer("2026-01-01T00:00:04Z", 0);
        let anew = page(&anew, &shape(Some(&now)));
        assert!(anew.contains("z: drop 0, "), "{anew}");
        // Who was not in the list before has none.
        let mut other = before.clone();
        other["networks"]["top"] = json!([]);
        let with = page(&now, &shape(Some(&other)));
        assert!(with.contains("AS1 N1 (RU): drop 149 (149 kB)\n"), "{with}");
    }

    #[test]
    fn in_units_that_say_enough() {
        assert_eq!(per_second(0.25), "0.2");
        assert_eq!(per_second(9.96), "10");
        assert_eq!(bits(9_999.0), "9999 bit/s");
        assert_eq!(bits(12_000_000.0), "12 Mbit/s");
        assert_eq!(bits(25e9), "25 Gbit/s");
        let nobody = json!({"asn": null});
        assert_eq!(name(&nobody), "announced by nobody");
        assert_eq!(name(&json!({"asn": 7, "name": "", "country": null})), "AS7");
    }
}
