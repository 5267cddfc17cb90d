//! `kordon flows`: who sent what to whom, in the past or as the daemon knows it now.

use std::{io::Write as _, net::IpAddr};

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    failure::Failure,
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
    /// Only of this zone.
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Only of this camera.
    #[arg(long, value_name = "MAC|ADDR", value_parser = camera)]
    camera: Option<String>,
    /// Only to this network.
    #[arg(long, value_name = "AS64500", value_parser = asn)]
    asn: Option<u32>,
    /// Only to networks of this country.
    #[arg(long, value_name = "CC", value_parser = country)]
    country: Option<String>,
    /// Only what got this action.
    #[arg(long, value_parser = ["pass", "audit", "drop"])]
    action: Option<String>,
    /// Add up.
    #[arg(long, value_name = "BY")]
    sum: Option<By>,
    /// A table for spreadsheets.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    instance: Instance,
}

pub(super) fn country(text: &str) -> Result<String, String> {
    match text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        true => Ok(text.to_ascii_uppercase()),
        false => Err("a country has two letters, as in ISO 3166: RU".to_owned()),
    }
}

pub(super) fn asn(text: &str) -> Result<u32, String> {
    let number = text.strip_prefix("AS").or_else(|| text.strip_prefix("as"));
    let number = number.unwrap_or(text).parse();
    number.map_err(|_| "an ASN is a number, like AS64500".to_owned())
}

pub(super) fn camera(text: &str) -> Result<String, String> {
    let is_octet = |part: &str| part.len() == 2 && u8::from_str_radix(part, 16).is_ok();
    // As it stands on many a label.
    let text = if text.contains(':') {
        text.to_owned()
    } else {
        text.replace('-', ":")
    };
    let parts: Vec<&str> = text.split(':').collect();
    let is_mac = parts.len() == 6 && parts.iter().all(|part| is_octet(part));
    match is_mac || text.parse::<IpAddr>().is_ok() {
        true => Ok(text),
        false => {
            Err("a camera is a MAC address, like 02:00:00:00:00:01, or a source address".to_owned())
        }
    }
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
        zone: arguments.zone,
        camera: arguments.camera,
        asn: arguments.asn,
        country: arguments.country,
        action: arguments.action,
        sum,
        limit: (!output.json).then_some(SHOWN),
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
    let wanted = |flow: &Flow| is_asked(arguments, flow);
    let mut add = |seen: Seen<'_>| totals.add(seen);
    let found = (arguments.past).read(
        &arguments.instance,
        arguments.zone.as_deref(),
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
        arguments.zone.as_deref(),
        arguments.action.as_deref(),
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

fn is_asked(asked: &Flows, flow: &Flow) -> bool {
    let is = |asked: &Option<String>, it: Option<&String>| {
        asked.is_none() || asked.as_deref() == it.map(String::as_str)
    };
    let is_camera = asked.camera.as_ref().is_none_or(|camera| {
        let address = camera.parse::<IpAddr>().ok();
        let is_mac = |mac: &String| mac.eq_ignore_ascii_case(camera);
        match address {
            Some(_) => flow.src == address,
            None => flow.mac.as_ref().is_some_and(is_mac),
        }
    });
    is_camera
        && is(&asked.zone, Some(&flow.zone))
        && is(&asked.action, Some(&flow.action))
        && is(&asked.country, flow.country.as_ref())
        && (asked.asn.is_none() || asked.asn == flow.asn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_numbers() {
        assert_eq!(asn("AS12695"), Ok(12695));
        assert_eq!(asn("12695"), Ok(12695));
        assert!(asn("RU").is_err());
    }

    #[test]
    fn cameras_are_addresses() {
        for right in ["02:00:00:00:01:0A", "10.20.0.5", "fd00:20::5"] {
            assert_eq!(camera(right), Ok(right.to_owned()));
        }
        let labelled = camera("02-00-00-00-01-0A");
        assert_eq!(labelled.as_deref(), Ok("02:00:00:00:01:0A"));
        for wrong in [
            "",
            "front door",
            "02:00:00:00:01",
            "02:00:00:00:01:zz",
            "10.20.0",
        ] {
            assert!(camera(wrong).is_err(), "{wrong}");
        }
    }
}
