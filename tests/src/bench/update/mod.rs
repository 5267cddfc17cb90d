//! Lists that change: how long it takes until what an administrator asked for is live,
//! and what gets through, or is lost, while it changes under traffic.
//!
//! Each turn of a [`tool`] has a new cable. First nothing is sent, and loading, one ASN
//! more and another list are timed. Then the same changes are made while packets arrive
//! all the time whose fate is the same before and after: what passes of the blocked has
//! leaked, what is dropped of the others is lost.
//!
//! - [`lists`]: what is blocked, and addresses whose fate is known.
//! - [`tool`]: who blocks it, and how an administrator changes that: the [`daemon`] of
//!   kordon, firewalls, and the kernel's [`trie`] behind a program of our own.

mod daemon;
mod lists;
mod tool;
mod trie;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;

use super::Wanted;
use super::internet::{Input, Internet};
use super::measured::{Measured, Values};
use super::table::Table;
use super::wire::firewall::Late;
use super::wire::link::{Flow, Link, Sender};
use super::wire::paced::SAMPLE;
use daemon::Home;
use lists::{Fates, Lists};
use tool::{Change, Kind, Parts, Tool};

/// What a turn leaves behind is taken away by the kernel beside what follows.
const REST: Duration = Duration::from_millis(300);

/// Cases of each tool, and what may be behind their names.
const CASES: [&str; 3] = ["load", "one-more-asn", "replace"];
const ROWS: [&str; 7] = [
    "",
    "/under-traffic",
    "/leaked",
    "/lost",
    "/sent",
    "/daemon",
    "/swap",
];

/// Measures all tools that are wanted.
pub(super) fn measure(
    table: &Table,
    internet: &Internet,
    wanted: Wanted<'_>,
) -> Result<Vec<Measured>> {
    let lists = Lists::draw(internet)?;
    eprintln!("update: {}", lists.summary());
    let mut sender = Sender::new()?;
    let mut kinds = Kind::ALL.to_vec();
    kinds.retain(|kind| {
        let rows = |case| ROWS.map(|row| format!("{}/{case}{row}", kind.name()));
        let mut names = CASES.into_iter().flat_map(rows);
        names.any(|name| wanted.case(&name))
    });
    let home = Home::new(table)?;
    let mut values = Values::default();
    let mut rng = Rng::with_seed(6);
    let mut order = kinds.clone();
    for round in 0..wanted.rounds {
        if round > 0 {
            rng.shuffle(&mut order);
        }
        for kind in order.clone() {
            let mut turn = Turn {
                kind,
                sender: &mut sender,
                lists: &lists,
                home: &home,
                wanted,
                values: &mut values,
            };
            let outcome = turn
                .take(round == 0)
                .with_context(|| format!("cannot update `{}`", kind.name()));
            match outcome {
                Ok(()) => {}
                // A firewall need not be on this machine; we must.
                Err(error) if kind.is_foreign() => {
                    eprintln!("SKIPPED: update: `{}`: {error:#}", kind.name());
                    order.retain(|other| *other != kind);
                }
                Err(error) => return Err(error),
            }
            thread::sleep(REST);
        }
    }
    let mut rows = values.measured("update");
    let place = |row: &Measured| {
        kinds
            .iter()
            .position(|kind| row.case.starts_with(&format!("{}/", kind.name())))
    };
    rows.sort_by_key(place);
    Ok(rows)
}

/// One tool in one round.
struct Turn<'a, 'b> {
    kind: Kind,
    sender: &'a mut Sender,
    lists: &'a Lists,
    home: &'a Home,
    wanted: Wanted<'b>,
    values: &'a mut Values,
}

impl Turn<'_, '_> {
    /// The whole turn; the first one makes sure that all changes do what they should.
    fn take(&mut self, verify: bool) -> Result<()> {
        let link = &mut self.sender.link(self.wanted.processors)?;
        link.untag(true)?;
        let late = &Late::begin(&link.namespace)?;
        let link = &*link;
        let mut tool = self.kind.tool(self.lists, self.home, link)?;
        let tool = tool.as_mut();
        let fates = &tool.fates(self.lists);
        for change in Change::ALL {
            let took = timed(tool, change, link)?;
            self.note(change, took);
            if verify {
                self.verify(link, late, fates, change)
                    .with_context(|| format!("after {}", change.name()))?;
            }
        }
        for change in Change::ALL.into_iter().skip(1) {
            self.watched(tool, link, late, fates, change)
                .with_context(|| format!("{}, under traffic", change.name()))?;
        }
        tool.end()
    }

    fn note(&mut self, change: Change, took: Took) {
        let Some(case) = change.case() else { return };
        let case = format!("{}/{case}", self.kind.name());
        self.values.note(&case, "ms", took.whole);
        for (part, ms) in took.parts {
            self.values.note(format!("{case}/{part}"), "ms", ms);
        }
    }

    /// Changes something while packets arrive.
    fn watched(
        &mut self,
        tool: &mut dyn Tool,
        link: &Link,
        late: &Late<'_>,
        fates: &Fates,
        change: Change,
    ) -> Result<()> {
        let before = late.packets()?;
        let kinds = [&fates.dropped[..], &fates.passed[..]];
        let act = || timed(tool, change, link);
        let (took, sent) = link.during(kinds, self.wanted.processors, act)?;
        link.settle()?;
        let after = late.packets()?;
        let [leaked, passed] = [0, 1].map(|kind| after[kind] - before[kind]);
        ensure!(passed <= sent, "more packets arrived than were sent");
        if let Some(case) = change.case() {
            let case = format!("{}/{case}", self.kind.name());
            let rows = [
                ("under-traffic", "ms", took.whole),
                ("leaked", "packets", leaked as f64),
                ("lost", "packets", (sent - passed) as f64),
                ("sent", "packets", sent as f64),
            ];
            for (name, unit, value) in rows {
                self.values.note(format!("{case}/{name}"), unit, value);
            }
        }
        Ok(())
    }

    /// That a tool drops and passes what it should after a change.
    fn verify(&self, link: &Link, late: &Late<'_>, fates: &Fates, change: Change) -> Result<()> {
        let more = change == Change::More;
        let other = change == Change::Other;
        let expected: [(&str, &[Input], bool); 5] = [
            ("always dropped", &fates.dropped, true),
            ("always passed", &fates.passed, false),
            ("of the first list", &fates.of_first, !other),
            ("of the other list", &fates.of_other, other),
            ("of the one ASN more", &fates.of_more, more),
        ];
        for (what, addresses, dropped) in expected {
            let sample = &addresses[..addresses.len().min(SAMPLE)];
            let before = late.packets()?[0];
            let flow = Flow {
                destinations: sample,
                tagged: true,
            };
            link.each(flow)?;
            let arrived = late.packets()?[0] - before;
            let right = if dropped { 0 } else { sample.len() as u64 };
            ensure!(
                arrived == right,
                "of {} packets to addresses {what} {arrived} pass, where {right} should",
                sample.len()
            );
        }
        Ok(())
    }
}

/// What a change took, in milliseconds.
struct Took {
    whole: f64,
    /// Of which, where the tool says so.
    parts: Parts,
}

fn timed(tool: &mut dyn Tool, change: Change, link: &Link) -> Result<Took> {
    tool.prepare(change)?;
    let start = Instant::now();
    let parts = tool.make(change, link)?;
    Ok(Took {
        whole: start.elapsed().as_secs_f64() * 1e3,
        parts,
    })
}
