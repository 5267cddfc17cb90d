//! Whether a packet costs the same however large everything is: drawn tables of four sizes,
//! more zones, more ASNs blocked. Everything that is not varied is as usual.

use anyhow::Result;
use fastrand::Rng;

use super::Wanted;
use super::internet::{Blocked, Internet, Plan};
use super::measured::Measured;
use super::packet::{Case, of_subject};
use super::processors::bind;
use super::subject::{Subject, Subjects};
use super::synthetic::WHOLE;
use super::table::Table;

/// Prefixes of a table.
const SIZES: [(&str, usize); 4] = [
    ("1k", 1000),
    ("10k", 10_000),
    ("100k", 100_000),
    ("1M", 1_000_000),
];
const ZONES: [usize; 3] = [1, 16, 256];
/// ASNs that each of them blocks.
const ZONES_BLOCK: usize = 1000;
const ASNS: [(&str, usize); 3] = [("10", 10), ("10k", 10_000), ("80k", 80_000)];

/// One size of one thing: its programs, and what is sent through them.
struct Point {
    subjects: Subjects,
    cases: Vec<Case>,
}

/// Measures all of them. `prefixes` is the size of the tables whose size is not what is
/// varied; of smaller ones than the Internet's all sizes are a part.
pub(super) fn measure(prefixes: usize, wanted: Wanted<'_>) -> Result<Vec<Measured>> {
    let share = |count: usize| count * prefixes.min(WHOLE) / WHOLE;
    let mut points = Vec::new();
    let mut add = |name: String, table: &Table, plan: Plan| -> Result<()> {
        let internet = Internet::load(table, plan)?;
        let mut cases = of_subject(&internet, Subject::Kordon, &format!("{name}/"));
        cases.retain(|case| wanted.case(&case.name));
        if !cases.is_empty() {
            eprintln!("scale: {name}: {}", internet.summary());
            let subjects = Subjects::alone(&internet)?;
            points.push(Point { subjects, cases });
        }
        Ok(())
    };
    for (name, count) in SIZES {
        let table = Table::drawn(share(count).max(1000))?;
        add(format!("prefixes/{name}"), &table, Plan::USUAL)?;
    }
    let table = Table::drawn(prefixes)?;
    for zones in ZONES {
        add(
            format!("zones/{zones}"),
            &table,
            Plan {
                zones,
                blocked: Blocked::Asns(share(ZONES_BLOCK).max(10)),
                ..Plan::USUAL
            },
        )?;
    }
    for (name, count) in ASNS {
        let blocked = Blocked::Asns(share(count).max(10));
        add(
            format!("asns/{name}"),
            &table,
            Plan {
                blocked,
                ..Plan::USUAL
            },
        )?;
    }
    bind(0, wanted.processors.last)?;
    let mut order: Vec<(usize, usize)> = points
        .iter()
        .enumerate()
        .flat_map(|(point, Point { cases, .. })| (0..cases.len()).map(move |case| (point, case)))
        .collect();
    let mut rng = Rng::with_seed(2);
    for _ in 0..wanted.rounds {
        rng.shuffle(&mut order);
        for (point, case) in &order {
            let Point { subjects, cases } = &mut points[*point];
            cases[*case].round(subjects, wanted)?;
        }
    }
    Ok(points
        .into_iter()
        .flat_map(|point| point.cases)
        .map(|case| Measured::of("scale", case.name, "ns", case.means))
        .collect())
}
