//! `kordon flows`: who sent what to whom, in the past or as the daemon knows it now.

use std::io::Write as _;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    failure::Failure,
    filter::Filter,
    instance::Instance,
    output::{Output, say},
    past::Past,
    view,
};
use crate::{
    control::{
        client,
        protocol::{FlowsQuery, Request, SumBy},
    },
    diagnostic::printable,
    history::{
        flow::Flow,
        query::Seen,
        total::{By, Totals},
    },
};

/// Flows that people see; `--json` and filters show the rest.
const SHOWN: usize = 50;

#[derive(Debug, Args)]
pub(super) struct Flows {
    /// Without a log of evidence: what is in the kernel now, and what came out of it since the daemon started.
    #[arg(long, conflicts_with_all = ["since", "until", "folder", "csv"])]
    live: bool,
    #[command(flatten)]
    past: Past,
    #[command(flatten)]
    filter: Filter,
    /// Add up.
    #[arg(long, value_name = "BY")]
    sum: Option<By>,
    /// A table for spreadsheets.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    instance: Instance,
}

pub(super) fn flows(arguments: Flows, output: &mut Output) -> Result<(), Failure> {
    match arguments.live {
        true => live(arguments, output),
        false => past(&arguments, output),
    }
}

/// What the daemon knows by itself.
fn live(arguments: Flows, output: &mut Output) -> Result<(), Failure> {
    let sum = match arguments.sum {
        None => None,
        Some(By::Camera) => Some(SumBy::Camera),
        Some(By::Network) => Some(SumBy::Network),
        Some(By::Hour) => {
            let cure = "leave out `--live`: hours are in the log of evidence";
            return Err(Failure::usage("the kernel does not know hours", cure));
        }
    };
    let query = FlowsQuery {
        sum,
        limit: (!output.json).then_some(SHOWN),
        ..arguments.filter.query()
    };
    let socket = arguments.instance.resolve()?.socket;
    let answer = client::ask(&socket, &Request::Flows(query))?;
    let rows = answer["rows"].as_str().unwrap_or_default();
    if !output.json {
        let words = view::flows(&answer, arguments.sum);
        write!(output.out, "{words}")?;
        return Ok(());
    }
    output.out.write_all(rows.as_bytes())?;
    output.out.flush()?;
    for line in view::unshown(&answer) {
        say(format_args!("{line}"));
    }
    let (found, shown) = (answer["found"].as_u64().unwrap_or(0), rows.lines().count());
    if found > shown as u64 {
        say(format_args!(
            "these are the {shown} largest of {found}: `--zone`, `--camera`, `--asn`, `--country` and `--action` narrow it"
        ));
    }
    Ok(())
}

/// What the log of evidence knows.
fn past(arguments: &Flows, output: &mut Output) -> Result<(), Failure> {
    let mut totals = Totals::new(arguments.sum);
    let filter = &arguments.filter;
    let wanted = |flow: &Flow| filter.has(flow);
    let mut add = |seen: Seen<'_>| totals.add(seen);
    let found = (arguments.past).read(
        &arguments.instance,
        filter.zone.as_deref(),
        &wanted,
        &mut add,
    )?;
    match arguments.sum {
        None => print(&totals.rows(), arguments, output)?,
        Some(by) => print(&totals.sums(by), arguments, output)?,
    }
    output.out.flush()?;
    for line in view::untold(
        &found,
        arguments.past.period()?,
        filter.zone.as_deref(),
        filter.action.as_deref(),
    ) {
        say(printable(&line));
    }
    Ok(())
}

fn print<R: Serialize>(rows: &[R], arguments: &Flows, output: &mut Output) -> Result<(), Failure> {
    let rows = rows.iter().map(|row| json!(row));
    if output.json {
        for row in rows {
            writeln!(output.out, "{row}")?;
        }
    } else if arguments.csv {
        view::csv(rows, &mut output.out)?;
    } else {
        let found = rows.len();
        let shown: Vec<Value> = rows.take(SHOWN).collect();
        write!(output.out, "{}", view::past(shown, found, arguments.sum))?;
    }
    Ok(())
}
