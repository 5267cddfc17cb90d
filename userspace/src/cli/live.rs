//! `kordon watch` and `kordon top`: what cameras send at this moment. Both ask the daemon each second, and know of no other
//! source.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use super::{
    failure::Failure,
    filter::Filter,
    instance::Instance,
    output::{Color, Output, bears_colours, say},
};
use crate::{
    control::{
        client::{self, ClientError},
        protocol::{Change, FlowsQuery, Request},
    },
    live::{
        row::rows,
        screen::{self, Poll, Source},
        stream::{Event, Lines, Stream, json},
    },
};

/// Between two questions.
const INTERVAL: Duration = Duration::from_secs(1);
/// A flow that goes on has a line no more often.
const EVERY: u64 = 10;

#[derive(Debug, Args)]
pub(super) struct Watch {
    #[command(flatten)]
    filter: Filter,
    /// A flow that goes on has a line so often, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = EVERY, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    every: u64,
    /// Begin with what the daemon has seen so far.
    #[arg(long)]
    all: bool,
    /// Colours.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    color: Color,
    #[command(flatten)]
    instance: Instance,
}

#[derive(Debug, Args)]
pub(super) struct Top {
    #[command(flatten)]
    instance: Instance,
}

/// A line for each flow, until somebody ends it.
pub(super) fn watch(arguments: Watch, output: &mut Output) -> Result<(), Failure> {
    let socket = arguments.instance.resolve()?.socket;
    let query = arguments.filter.query();
    let mut stream = Stream::new(Duration::from_secs(arguments.every), !arguments.all);
    let colours = match arguments.color {
        Color::Never => false,
        Color::Always => true,
        Color::Auto => io::stdout().is_terminal() && bears_colours(),
    };
    let mut lines = Lines::new(colours);
    // What was not told yet is told at the end, so that the lines add up.
    let ends = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, Arc::clone(&ends))?;
    }
    let status = client::ask(&socket, &Request::Status);
    let unrecorded = status.map_or_else(|_| Vec::new(), |status| unrecorded(&status));
    if !unrecorded.is_empty() {
        let what = unrecorded.join(", ");
        say(format_args!(
            "not recorded, so there is no line of it: {what}"
        ));
    }
    let mut is_lost = false;
    let mut is_first = true;
    while !ends.load(Ordering::Relaxed) {
        match client::ask(&socket, &Request::Flows(query.clone())) {
            Ok(answer) => {
                if std::mem::take(&mut is_lost) {
                    say("the daemon answers again");
                }
                let text = answer["rows"].as_str().unwrap_or_default();
                let rows = rows(text)
                    .map_err(|why| Failure::new(why, "use a client and a daemon of one version"))?;
                print(&stream.post(rows, Instant::now()), &mut lines, output)?;
            }
            // What was never there will not come.
            Err(e) if is_first => return Err(e.into()),
            Err(e) => {
                if !std::mem::replace(&mut is_lost, true) {
                    say(format_args!("no answer from the daemon: {e}; asking on"));
                }
            }
        }
        is_first = false;
        let next = Instant::now() + INTERVAL;
        while Instant::now() < next && !ends.load(Ordering::Relaxed) {
            thread::sleep(INTERVAL / 10);
        }
    }
    print(&stream.finish(), &mut lines, output)
}

fn print(events: &[Event], lines: &mut Lines, output: &mut Output) -> Result<(), Failure> {
    for event in events {
        match output.json {
            true => writeln!(output.out, "{}", json(event).map_err(io::Error::other)?)?,
            false => writeln!(output.out, "{}", lines.line(event))?,
        }
    }
    Ok(output.out.flush()?)
}

/// A screen, until somebody ends it.
pub(super) fn top(arguments: &Top) -> Result<(), Failure> {
    let socket = arguments.instance.resolve()?.socket;
    screen::run(Daemon(socket), INTERVAL).map_err(|e| {
        let cure = "run it in a terminal; `kordon watch` is for pipes and files";
        Failure::new(e.to_string(), cure)
    })
}

/// Zones of which flows do not have all, and what they lack.
fn unrecorded(status: &serde_json::Value) -> Vec<String> {
    let zones = status["zones"].as_array().into_iter().flatten();
    let zones = zones.filter_map(|zone| {
        let name = zone["name"].as_str()?;
        match zone["record"].as_str()? {
            "off" => Some(format!("zone {name}")),
            "drops" => Some(format!("what passes of zone {name}")),
            _ => None,
        }
    });
    zones.collect()
}

/// The daemon at a socket.
struct Daemon(PathBuf);

impl Daemon {
    fn ask(&self, request: &Request) -> Result<serde_json::Value, String> {
        client::ask(&self.0, request).map_err(|e: ClientError| e.to_string())
    }
}

impl Source for Daemon {
    fn poll(&mut self) -> Result<Poll, String> {
        let status = self.ask(&Request::Status)?;
        let flows = self.ask(&Request::Flows(FlowsQuery::default()))?;
        let reasons = status["reasons"].as_array().map(|reasons| {
            let texts = reasons.iter().filter_map(|reason| reason.as_str());
            texts.map(str::to_owned).collect()
        });
        Ok(Poll {
            rows: rows(flows["rows"].as_str().unwrap_or_default())?,
            reasons,
            enforcing: status["enforcing"].as_bool(),
            policy: status["policy"]["hash"].as_str().map(str::to_owned),
            unrecorded: unrecorded(&status),
        })
    }

    fn block(&mut self, target: &str, zone: &str) -> Result<String, String> {
        self.ask(&Request::Block(Change {
            target: target.to_owned(),
            zone: zone.to_owned(),
            for_seconds: None,
            note: Some("from `kordon top`".to_owned()),
            yes: false,
        }))?;
        Ok(format!("blocked {target} in zone {zone}"))
    }
}
