//! `explain` and `replay`: verdicts on packets that touch no interface.

use std::{io::Write as _, path::Path};

use serde::Serialize;

use super::{
    at,
    failure::Failure,
    given::{Databases, Explain, Offline, Replay},
    instance::CONFIG,
    offline::load_policy,
    output::{Output, say},
    view,
};
use crate::{
    capture::Capture,
    config,
    control::{client, protocol::Request},
    diagnostic::{Problem, quoted},
    judge::{self, ExplainQuery, Judge, Router, Row},
    policy::{Policy, model::Set},
};

impl Offline {
    fn router(&self, policy: &Policy, config: Option<&Path>) -> Result<Router, Failure> {
        let configured = match config::load(config.unwrap_or(CONFIG.as_ref())) {
            (Some(config), _) => config.interfaces,
            (None, found) if config.is_some() => return Err(found.into()),
            // The policy may be another router's, or this no router at all.
            (None, _) => Vec::new(),
        };
        Ok(Router {
            ports: judge::ports(&configured, Some(policy), self.interface.as_deref())
                .map_err(wrong)?,
            addresses: self.router_addr.clone(),
            connected: Router::connected_everywhere(policy, &self.connected),
        })
    }
}

/// Verdicts without a database look like those with one, and let pass what is hostile.
fn warn_without_database(databases: &Databases, policy: &Policy) {
    let needs = |set: &&Set| {
        !(set.asns.is_empty()
            && set.orgs.is_empty()
            && set.asn_countries.is_empty()
            && set.countries.is_empty())
    };
    let names: Vec<String> = (policy.sets.iter().filter(needs))
        .map(|set| quoted(&set.name))
        .collect();
    if !databases.given() && !names.is_empty() {
        say(format_args!(
            "warning: without a database no address has an ASN or a country, so these sets match less \
             than on the router: {}\nhelp: `--asn-db /var/lib/kordon/asndb.snapshot` is the router's",
            names.join(", ")
        ));
    }
}

/// What to do where the kernel says no.
fn kernel(error: anyhow::Error) -> Failure {
    let error = match error.downcast::<Problem>() {
        Ok(problem) => return wrong(problem),
        Err(error) => error,
    };
    let failure = Failure::from_error(&error);
    if nix::unistd::geteuid().is_root() {
        return failure;
    }
    failure.with_help("be root, or let the library decide: `--engine reference`")
}

pub(super) fn explain(arguments: Explain, output: &mut Output) -> Result<(), Failure> {
    let query = ExplainQuery {
        interface: arguments.offline.interface.clone(),
        vlan: arguments.vlan,
        src: arguments.src,
        dst: arguments.dst,
        proto: arguments.proto,
        dport: arguments.dport,
    };
    // Wrong words are wrong usage, whoever is asked.
    query.frame().map_err(wrong)?;
    let value = match &arguments.policy {
        None if let Some(at) = arguments.at => {
            let folder = arguments.instance.log(arguments.folder.as_ref())?;
            at::explain(&folder, at, &query, arguments.offline.engine.into())?
        }
        Some(path) => {
            let db = arguments.databases.open()?;
            let policy = load_policy(path, &db)?;
            warn_without_database(&arguments.databases, &policy);
            let config = arguments.instance.config.as_deref();
            let router = arguments.offline.router(&policy, config)?;
            let engine = arguments.offline.engine.into();
            judge::explain(&policy, &db, &router, &query, engine).map_err(kernel)?
        }
        None if arguments.databases.given() => {
            return Err(Failure::usage(
                "databases without a policy",
                "add `--policy FILE`, or leave them out to ask the daemon",
            ));
        }
        None => {
            let request = Request::Explain(query);
            client::ask(&arguments.instance.resolve()?.socket, &request)?
        }
    };
    Ok(output.answer(&value, view::explain)?)
}

/// One line of `replay --json`.
#[derive(Serialize)]
struct Line<'a> {
    packet: u64,
    #[serde(flatten)]
    row: &'a Row,
}

pub(super) fn replay(arguments: &Replay, output: &mut Output) -> Result<(), Failure> {
    // The capture first: it is what is mistyped most, and read at no cost.
    let mut capture = Capture::open(&arguments.capture)?;
    let db = arguments.databases.open()?;
    let policy = load_policy(&arguments.policy, &db)?;
    warn_without_database(&arguments.databases, &policy);
    let config = arguments.config.as_deref();
    let router = arguments.offline.router(&policy, config)?;
    let engine = arguments.offline.engine.into();
    let mut judge = Judge::new(&policy, &db, &router, engine).map_err(kernel)?;
    let mut packet = 0;
    let mut cut = 0;
    let mut sums = view::Sums::default();
    let end = loop {
        let frame = match capture.next_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => break Ok(()),
            Err(problem) => break Err(problem.into()),
        };
        packet += 1;
        cut += u64::from(frame.cut);
        let (row, _) = judge.row(&frame.bytes).map_err(|e| of_packet(packet, e))?;
        if output.json {
            let line = Line { packet, row: &row };
            serde_json::to_writer(&mut output.out, &line).map_err(std::io::Error::from)?;
            writeln!(output.out)?;
        } else {
            writeln!(output.out, "{}", view::row(packet, &row))?;
        }
        sums.add(&row);
    };
    output.out.flush()?;
    if cut > 0 {
        say(format_args!(
            "warning: {} cut by the capture: what it left out was taken as zeros",
            view::counted(cut, "packet")
        ));
    }
    if !output.json {
        say(sums);
    }
    end
}

fn of_packet(packet: u64, error: anyhow::Error) -> Failure {
    match error.downcast::<Problem>() {
        Ok(Problem { message, help }) => {
            Failure::usage(format!("packet {packet}: {message}"), help)
        }
        Err(e) => Failure::from_error(&e.context(format!("packet {packet}"))),
    }
}

/// What was asked cannot be answered as it is.
fn wrong(Problem { message, help }: Problem) -> Failure {
    Failure::usage(message, help)
}
