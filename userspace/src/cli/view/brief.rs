//! `status --brief`: a line for each interface, for a glance and for `grep`.

use serde_json::Value;

use super::{aligned, counted, list, text};

pub(in crate::cli) fn brief(value: &Value) -> String {
    let lines: Vec<[String; 5]> = list(&value["interfaces"])
        .iter()
        .map(|interface| {
            [
                text(&interface["name"]),
                text(&interface["device"]),
                text(&interface["mode"]),
                format!("missed {}", interface["missed"]),
                verdict(interface),
            ]
        })
        .collect();
    if lines.is_empty() {
        return format!("{}\n", verdict(value));
    }
    // What is policed may enforce, and something else not be policed.
    let gaps = list(&value["gaps"]);
    let gaps = gaps
        .iter()
        .filter(|gap| gap["certain"] == true && gap["interface"].is_null());
    let gaps = gaps.map(|gap| {
        let none = || "-".to_owned();
        let verdict = format!("NOT ENFORCING: {}", text(&gap["found"]));
        [none(), text(&gap["device"]), none(), none(), verdict]
    });
    let lines: Vec<[String; 5]> = lines.into_iter().chain(gaps).collect();
    aligned(&lines)
}

/// That it enforces, or the first reason why not.
fn verdict(value: &Value) -> String {
    if value["enforcing"] == true {
        return match value["by"] == "tc" && value["mode"] != "tc" {
            true => "enforcing, by the guard alone (tc)".to_owned(),
            false => "enforcing".to_owned(),
        };
    }
    let reasons = list(&value["reasons"]);
    let first = reasons.first().map_or_else(String::new, text);
    let more = match reasons.len() {
        0 | 1 => String::new(),
        all => format!(" (and {})", counted(all as u64 - 1, "more reason")),
    };
    format!("NOT ENFORCING: {first}{more}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_for_each_interface() {
        let value = json!({
            "enforcing": false,
            "reasons": ["a", "b", "c"],
            "interfaces": [
                {"name": "trunk", "device": "eth1", "mode": "native", "missed": 0, "enforcing": true,
                 "reasons": []},
                {"name": "up", "device": "enp3s0", "mode": "generic", "missed": 12, "enforcing": false,
                 "reasons": ["`enp3s0` is not attached", "b"]},
            ],
        });
        assert_eq!(
            brief(&value),
            "trunk  eth1    native   missed 0   enforcing\n\
             up     enp3s0  generic  missed 12  NOT ENFORCING: `enp3s0` is not attached (and 1 more reason)\n"
        );
        let value = json!({"interfaces": [{"name": "trunk", "device": "eth1", "mode": "native",
            "missed": 3, "enforcing": true, "by": "tc", "reasons": []}]});
        assert_eq!(
            brief(&value),
            "trunk  eth1  native  missed 3  enforcing, by the guard alone (tc)\n"
        );
        let value = json!({"enforcing": false, "reasons": ["b"],
        "interfaces": [{"name": "trunk", "device": "eth1", "mode": "native", "missed": 3,
            "enforcing": true, "by": "xdp", "reasons": []}],
        "gaps": [
            {"device": "eth2", "interface": null, "certain": true, "found": "`eth2` is a gap"},
            {"device": "eth3", "interface": null, "certain": false, "found": "it may be"},
            {"device": "eth1", "interface": "trunk", "certain": true, "found": "said above"},
        ]});
        assert_eq!(
            brief(&value),
            "trunk  eth1  native  missed 3  enforcing\n\
             -      eth2  -       -         NOT ENFORCING: `eth2` is a gap\n"
        );
        let none = json!({"enforcing": false, "reasons": ["a", "b", "c"], "interfaces": []});
        assert_eq!(brief(&none), "NOT ENFORCING: a (and 2 more reasons)\n");
    }
}
