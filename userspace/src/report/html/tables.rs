//! The tables: one shape for all of them, so that all read, print and speak alike.

use std::net::IpAddr;

use super::{
    chart::{Slot, span},
    country::country,
};
use crate::report::{
    model::{Count, Difference, InForce, Report, Traffic},
    words::{between, bytes, counted, cut, either, moment, number, reason, signed},
};

/// More than that nobody reads, and browsers become slow.
pub(super) const ROWS: usize = 500;
/// Names from outside, and commands: no honest one is longer.
const NAME: usize = 120;
const COMMAND: usize = 500;

#[derive(Debug)]
pub(super) struct Table {
    pub(super) caption: &'static str,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<Cell>>,
    /// Said in place of a table without rows.
    pub(super) empty: &'static str,
    /// That there are more rows than here.
    pub(super) more: Option<String>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    /// `n` for numbers, `t` for moments, `w` for what may be long.
    pub(super) class: &'static str,
}

/// Parts that stand one below the other.
pub(super) type Cell = Vec<Part>;

#[derive(Debug)]
pub(super) enum Part {
    Text(String),
    /// What a machine said: an address, a rule, a command.
    Code(String),
    Small(String),
}
use Part::{Code, Small, Text};

fn table<T>(
    caption: &'static str,
    empty: &'static str,
    columns: &[(&'static str, &'static str)],
    all: &[T],
    row: impl FnMut(&T) -> Vec<Cell>,
) -> Table {
    let more = all.len().saturating_sub(ROWS);
    Table {
        caption,
        columns: columns
            .iter()
            .map(|&(name, class)| Column { name, class })
            .collect(),
        rows: all.iter().take(ROWS).map(row).collect(),
        empty,
        more: (more > 0).then(|| {
            let are = either(more as u64, "is", "are");
            format!(
                "There {are} {} that this table leaves out: kordon report --csv or --json has all.",
                counted(more as u64, "more row")
            )
        }),
    }
}

/// `AS64500 Example`
pub(super) fn network(asn: Option<u32>, name: Option<&str>) -> String {
    match (asn, name) {
        (Some(asn), Some(name)) => format!("AS{asn} {}", cut(name, NAME)),
        (Some(asn), None) => format!("AS{asn}"),
        (None, Some(name)) => cut(name, NAME).into_owned(),
        (None, None) => "no known network".to_owned(),
    }
}

fn to(asn: Option<u32>, name: Option<&str>, code: Option<&str>) -> Cell {
    let mut cell = vec![Text(network(asn, name))];
    cell.extend(code.map(|code| match country(code) {
        same if same == code => Small(code.to_owned()),
        name => Small(format!("{name} ({code})")),
    }));
    cell
}

fn sender(mac: Option<&str>) -> Part {
    match mac {
        Some(mac) => Code(mac.to_owned()),
        None => Text("other senders, more than are told apart".to_owned()),
    }
}

fn address(at: &IpAddr) -> Part {
    Code(at.to_string())
}

fn text(text: &str) -> Cell {
    vec![Text(cut(text, NAME).into_owned())]
}

fn code(text: &str) -> Cell {
    vec![Code(cut(text, COMMAND).into_owned())]
}

fn at(at: jiff::Timestamp) -> Cell {
    vec![Text(moment(at))]
}

fn digits(count: u64) -> Cell {
    vec![Text(number(count))]
}

/// Packets, and their bytes below where there are any.
fn count(of: Count) -> Cell {
    let mut cell = digits(of.packets);
    cell.extend((of.packets > 0 || of.bytes > 0).then(|| Small(bytes(of.bytes))));
    cell
}

fn difference(of: Difference) -> Cell {
    let mut cell = vec![Text(signed(of.packets, number))];
    let is_some = of != Difference::default();
    cell.extend(is_some.then(|| Small(signed(of.bytes, bytes))));
    cell
}

pub(super) fn attempts(report: &Report) -> Table {
    let columns = [
        ("Camera", "w"),
        ("To network", "w"),
        ("Why", "w"),
        ("Packets", "n"),
        ("First (UTC)", "t"),
        ("Last (UTC)", "t"),
    ];
    let (caption, empty) = (
        "Dropped packets, by camera, network and rule",
        "No dropped packet is recorded in this period.",
    );
    let dropped: Vec<&Traffic> = (report.traffic.iter())
        .filter(|row| row.action == "drop")
        .collect();
    table(caption, empty, &columns, &dropped, |attempt| {
        let mut camera = vec![sender(attempt.mac.as_deref())];
        camera.extend(attempt.src.iter().map(address));
        camera.push(Small(format!("zone {}", cut(&attempt.zone, NAME))));
        let mut why = vec![Text(cut(reason(&attempt.reason), NAME).into_owned())];
        why.extend(
            attempt
                .rule
                .as_deref()
                .map(|rule| Code(cut(rule, NAME).into_owned())),
        );
        let of = Count {
            packets: attempt.packets,
            bytes: attempt.bytes,
        };
        vec![
            camera,
            to(
                attempt.asn,
                attempt.name.as_deref(),
                attempt.country.as_deref(),
            ),
            why,
            count(of),
            at(attempt.first),
            at(attempt.last),
        ]
    })
}

pub(super) fn networks(report: &Report) -> Table {
    let columns = [
        ("Network", "w"),
        ("Zone", "w"),
        ("Cameras", "n"),
        ("Dropped", "n"),
        ("Reported (audit)", "n"),
        ("Passed", "n"),
        ("First (UTC)", "t"),
        ("Last (UTC)", "t"),
    ];
    let (caption, empty) = (
        "Packets, by network they went to and zone",
        "No packet to any network is recorded.",
    );
    table(caption, empty, &columns, &report.networks, |network| {
        vec![
            to(
                network.asn,
                network.name.as_deref(),
                network.country.as_deref(),
            ),
            text(&network.zone),
            digits(network.cameras),
            count(network.actions.drop),
            count(network.actions.audit),
            count(network.actions.pass),
            at(network.first),
            at(network.last),
        ]
    })
}

pub(super) fn cameras(report: &Report) -> Table {
    let columns = [
        ("Camera", "w"),
        ("Zone", "w"),
        ("Networks kept from", "n"),
        ("Dropped", "n"),
        ("Reported (audit)", "n"),
        ("Passed", "n"),
        ("First (UTC)", "t"),
        ("Last (UTC)", "t"),
    ];
    let (caption, empty) = ("Packets, by camera", "No sender is recorded.");
    table(caption, empty, &columns, &report.cameras, |camera| {
        let mut who = vec![sender(camera.mac.as_deref())];
        who.extend(camera.addresses.iter().map(address));
        who.extend((camera.more_addresses > 0).then(|| {
            let word = either(camera.more_addresses, "address", "addresses");
            Small(format!("and {} more {word}", number(camera.more_addresses)))
        }));
        vec![
            who,
            text(&camera.zone),
            digits(camera.networks_dropped),
            count(camera.actions.drop),
            count(camera.actions.audit),
            count(camera.actions.pass),
            at(camera.first),
            at(camera.last),
        ]
    })
}

pub(super) fn slots(slots: &[Slot]) -> Table {
    let columns = [
        ("Time (UTC)", "t"),
        ("Dropped", "n"),
        ("Reported (audit)", "n"),
        ("Passed", "n"),
    ];
    table("Packets, by time", "", &columns, slots, |slot| {
        let actions = slot.actions;
        if slot.is_unknown {
            let unknown = || vec![Text("\u{2013}".to_owned())];
            return vec![vec![Text(span(slot))], unknown(), unknown(), unknown()];
        }
        vec![
            vec![Text(span(slot))],
            count(actions.drop),
            count(actions.audit),
            count(actions.pass),
        ]
    })
}

pub(super) fn in_force(report: &Report) -> [Table; 2] {
    let one = |caption, empty, what, all: &[InForce]| {
        let columns = [("In force since (UTC)", "t"), (what, "w")];
        table(caption, empty, &columns, all, |force| {
            vec![at(force.since), code(&force.what)]
        })
    };
    [
        one(
            "Policies in force, oldest first",
            "No policy is recorded as in force.",
            "SHA-256 of the policy",
            &report.policies,
        ),
        one(
            "Databases of networks in force, oldest first",
            "No database of networks is recorded as in force.",
            "Database",
            &report.databases,
        ),
    ]
}

pub(super) fn changes(report: &Report) -> Table {
    let columns = [
        ("When (UTC)", "t"),
        ("Who", "w"),
        ("Command", "w"),
        ("After it", "w"),
    ];
    let (caption, empty) = (
        "Changes of the policy and of the database",
        "No change of the policy is recorded in this period.",
    );
    table(caption, empty, &columns, &report.changes, |change| {
        let who = change.user.as_deref().unwrap_or("the daemon");
        let mut who = text(who);
        who.extend(
            change
                .login
                .as_deref()
                .map(|login| Small(format!("logged in as {}", cut(login, NAME)))),
        );
        let mut after = Cell::new();
        if let Some(hash) = &change.policy_hash {
            after.push(Small("policy".to_owned()));
            after.push(Code(cut(hash, 16).into_owned()));
        }
        if let Some(database) = &change.database {
            after.push(Small("database".to_owned()));
            after.push(Code(cut(database, NAME).into_owned()));
        }
        if after.is_empty() {
            after.push(Text("as before".to_owned()));
        }
        vec![at(change.at), who, code(&change.command), after]
    })
}

/// How long, and from when to when: for gaps and the like.
const SPAN: [(&str, &str); 4] = [
    ("From (UTC)", "t"),
    ("To (UTC)", "t"),
    ("How long", "t"),
    ("Why", "w"),
];

pub(super) fn gaps(report: &Report) -> Table {
    let (caption, empty) = ("Gaps: nobody wrote what happened", "No gap is recorded.");
    table(caption, empty, &SPAN, &report.gaps, |gap| {
        let long = vec![Text(between(gap.from, gap.to))];
        vec![at(gap.from), at(gap.to), long, text(&gap.why)]
    })
}

pub(super) fn not_enforcing(report: &Report) -> Table {
    let caption = "Times in which not everything was enforced, or nobody knows whether it was";
    table(
        caption,
        "No time without full enforcement is recorded.",
        &SPAN,
        &report.not_enforcing,
        |span| {
            let long = vec![Text(between(span.from, span.to))];
            let reasons = span.reasons.iter().flat_map(|why| text(why)).collect();
            vec![at(span.from), at(span.to), long, reasons]
        },
    )
}

pub(super) fn books(report: &Report) -> Table {
    let columns = [
        ("Zone and action", "w"),
        ("Counted", "n"),
        ("Recorded", "n"),
        ("Unrecorded", "n"),
    ];
    let zones = report.books.iter();
    let all: Vec<_> = zones
        .flat_map(|(zone, actions)| {
            actions
                .iter()
                .map(move |(action, book)| (zone, action, book))
        })
        .collect();
    table(
        "Books: packets and their bytes",
        "Nothing was counted.",
        &columns,
        &all,
        |(zone, action, book)| {
            let what = vec![Text(cut(zone, NAME).into_owned()), Small((*action).clone())];
            vec![
                what,
                count(book.counted),
                count(book.recorded),
                difference(book.unrecorded),
            ]
        },
    )
}
