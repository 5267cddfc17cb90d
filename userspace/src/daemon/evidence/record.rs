//! Records, in the names of the Elastic Common Schema (ECS 8.11) where that has one, and under `kordon` otherwise.
//! `docs/evidence.md` says what each field is; scripts rely on that.

use jiff::Timestamp;
use kordon_ebpf::layout::{Action, Counter};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value, json};

use crate::{
    daemon::{
        state::journal::Entry,
        status::{Told, View},
    },
    ledger::witness::Seen,
};

/// The version of ECS.
const ECS: &str = "8.11.0";

/// A record with what every one has. `index`: its place in the log.
pub(super) fn whole(mut record: Value, index: u64, now: Timestamp, boot: &str) -> Value {
    record["event"]["sequence"] = json!(index);
    record["kordon"]["boot"] = json!(boot);
    let up = clock_gettime(ClockId::Boottime);
    record["kordon"]["monotonic"] = json!(up.tv_sec * 1_000_000 + up.tv_nsec / 1000);
    let mut whole = json!({
        "@timestamp": moment(now),
        "ecs": { "version": ECS },
        "observer": {
            "product": "kordon",
            "type": "firewall",
            "version": env!("CARGO_PKG_VERSION"),
        },
    });
    if let (Some(whole), Value::Object(fields)) = (whole.as_object_mut(), record) {
        whole.extend(fields);
    }
    whole
}

/// A moment, in UTC, always as long.
pub(super) fn moment(at: Timestamp) -> String {
    format!("{at:.6}")
}

fn sums(counter: Counter) -> Value {
    json!({ "packets": counter.packets, "bytes": counter.bytes })
}

/// Without what nobody knows.
fn known<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
    let fields = fields.map(|(name, value)| (name.to_owned(), value));
    Value::Object(fields.collect::<Map<_, _>>())
}

/// What is new of a line, and what was in it in all; `None`: nobody knows yet whose its counter is.
pub(super) fn flow(view: &View, seen: &Seen, place: &str, new: Counter) -> Option<Value> {
    let told = view.told(&seen.flow, seen.network, &view.updates.database.db)?;
    let (sum, is_drop) = (&seen.sum, told.action == Action::Drop);
    let of_as = told.asn.map(|number| {
        let organization = told.name.as_ref().map(|name| json!({ "name": name }));
        known([
            ("number", json!(number)),
            ("organization", json!(organization)),
        ])
    });
    let geo = (told.country.as_ref()).map(|country| json!({ "country_iso_code": country }));
    // As in ECS: with dashes, in capitals.
    let mac = (told.mac.as_ref()).map(|mac| mac.replace(':', "-").to_uppercase());
    let family = told
        .src
        .map(|src| if src.is_ipv4() { "ipv4" } else { "ipv6" });
    Some(json!({
        "event": {
            "kind": "event",
            "category": ["network"],
            "type": ["connection", if is_drop { "denied" } else { "allowed" }],
            "action": "flow",
            "start": moment(sum.first),
            "end": moment(sum.last),
        },
        "source": known([("mac", json!(mac)), ("ip", json!(told.src))]),
        "destination": known([
            ("ip", json!(told.dst)),
            ("port", json!(told.dport)),
            ("as", json!(of_as)),
            ("geo", json!(geo)),
        ]),
        "network": known([
            ("type", json!(family)),
            ("transport", json!(told.proto)),
            ("packets", json!(new.packets)),
            ("bytes", json!(new.bytes)),
        ]),
        "rule": known([("name", json!(told.rule))]),
        "kordon": flow_of(&told, seen, place),
    }))
}

fn flow_of(told: &Told<'_>, seen: &Seen, place: &str) -> Value {
    known([
        ("zone", json!(told.zone)),
        ("interface", json!(told.interface)),
        ("action", json!(told.action.as_str())),
        ("reason", json!(told.reason.as_str())),
        ("judged", json!(told.judged)),
        ("by", json!(if told.is_by_guard { "tc" } else { "xdp" })),
        ("others", json!(told.is_others.then_some(true))),
        ("ended", json!(seen.is_last)),
        ("line", json!(place)),
        ("total", sums(seen.sum.counter)),
    ])
}

/// Something that is no flow. `fields` are those under `kordon`.
pub(super) fn event(kind: &str, category: &str, action: &str, fields: Value) -> Value {
    json!({
        "event": { "kind": kind, "category": [category], "type": ["info"], "action": action },
        "kordon": fields,
    })
}

/// A change of what is enforced, and who made it.
pub(super) fn change(entry: &Entry) -> Value {
    let mut record = event("event", "configuration", "change", json!({}));
    record["event"]["type"] = json!(["change"]);
    record["event"]["start"] = json!(moment(entry.at));
    record["user"] = known([
        ("id", json!(entry.uid.map(|uid| uid.to_string()))),
        ("name", json!(entry.user)),
    ]);
    record["kordon"] = known([
        ("command", json!(entry.command)),
        ("login", json!(entry.login)),
        ("policy_hash", json!(entry.new)),
        ("policy_hash_before", json!(entry.old)),
        ("policy", json!(entry.policy)),
        (
            "database",
            json!(entry.database.as_ref().map(|(_, new)| new)),
        ),
    ]);
    record
}
