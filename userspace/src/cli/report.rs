//! `kordon report`: what was seen in a period, for people; with `--verify`, whether the log can be believed.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::json;

use super::{
    failure::Failure, instance::Instance, output::Output, past::Past, verify::verify, view,
};
use crate::{
    history::{flow::Flow, query::Seen},
    regular,
    report::{
        self, Frame, Maker,
        html::html,
        model::{Log, Report as Made},
    },
};

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes of --verify: 0 sound, and a checkpoint from outside says so; 4 sound, but nobody outside holds a checkpoint; 1 something is missing, altered, cut or out of order."
)]
pub(super) struct Report {
    #[command(flatten)]
    past: Past,
    /// Only of this zone.
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// One page for a browser, without scripts, that needs nothing else.
    #[arg(long, conflicts_with_all = ["csv", "json"])]
    html: bool,
    /// A table for spreadsheets: which camera sent what to which network, and what became of it.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Whether anything of the log of evidence is missing, altered, cut or out of order.
    #[arg(long, conflicts_with_all = ["since", "until", "zone", "html", "csv"])]
    verify: bool,
    /// A checkpoint that somebody else holds: only that shows that the whole log was not replaced.
    #[arg(long, value_name = "FILE", requires = "verify")]
    checkpoint: Vec<PathBuf>,
    #[command(flatten)]
    instance: Instance,
}

pub(super) fn report(arguments: &Report, output: &mut Output) -> Result<(), Failure> {
    let folder = arguments.past.place(&arguments.instance)?;
    if arguments.verify {
        return verify(&folder, &arguments.checkpoint, output);
    }
    if arguments.html && io::stdout().is_terminal() {
        let cure = "write it to a file: `kordon report --html > report.html`";
        return Err(Failure::usage("a page is not for a terminal", cure));
    }
    let made = make(arguments, &folder)?;
    if output.json {
        writeln!(output.out, "{}", json!(made))?;
    } else if arguments.html {
        let page = html(&made).map_err(|e| Failure::from_error(&e.into()))?;
        output.out.write_all(page.as_bytes())?;
    } else if arguments.csv {
        view::csv(made.traffic.iter().map(|row| json!(row)), &mut output.out)?;
    } else {
        write!(output.out, "{}", view::report(&made))?;
    }
    Ok(())
}

fn make(arguments: &Report, folder: &Path) -> Result<Made, Failure> {
    let period = arguments.past.period()?;
    let mut maker = Maker::default();
    let zone = arguments.zone.as_deref();
    let wanted = |flow: &Flow| zone.is_none_or(|zone| zone == flow.zone);
    let mut add = |seen: Seen<'_>| maker.add(seen);
    let found = (arguments.past).read(&arguments.instance, zone, &wanted, &mut add)?;
    let read = |name: &str| regular::read_text(&folder.join(name)).ok();
    let key = read("key.pub").map(|key| key.trim().to_owned());
    // A log keeps the name of the router that began it, on a copy, too.
    let host = (key.as_deref())
        .and_then(|key| key.split_once('+'))
        .map(|(name, _)| name.trim_start_matches("kordon/").to_owned());
    let frame = Frame {
        period,
        zone: arguments.zone.clone(),
        host: host.unwrap_or_default(),
        log: Log {
            is_failing: false,
            folder: folder.display().to_string(),
            checkpoint: read("checkpoint"),
            key,
            ..Log::default()
        },
    };
    Ok(report::report(maker, &found, frame))
}
