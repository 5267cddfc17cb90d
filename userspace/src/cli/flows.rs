//! `kordon flows`: who sent what to whom.

use std::{io::Write as _, net::IpAddr};

use clap::Args;

use super::{
    failure::Failure,
    instance::Instance,
    output::{Output, say},
    view,
};
use crate::control::{
    client,
    protocol::{FlowsQuery, Request, SumBy},
};

/// Flows that people see; `--json` and filters show the rest.
const SHOWN: usize = 50;

#[derive(Debug, Args)]
pub(super) struct Flows {
    /// What is in the kernel now, and what came out of it since the daemon started.
    #[arg(long, required = true)]
    live: bool,
    /// Only of this zone.
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Only of this camera.
    #[arg(long, value_name = "MAC|ADDR", value_parser = camera)]
    camera: Option<String>,
    /// Only to this network.
    #[arg(long, value_name = "AS64500", value_parser = asn)]
    asn: Option<u32>,
    /// Only what got this action.
    #[arg(long, value_parser = ["pass", "audit", "drop"])]
    action: Option<String>,
    /// Add up.
    #[arg(long, value_name = "BY")]
    sum: Option<SumBy>,
    #[command(flatten)]
    instance: Instance,
}

fn asn(text: &str) -> Result<u32, String> {
    let number = text.strip_prefix("AS").or_else(|| text.strip_prefix("as"));
    let number = number.unwrap_or(text).parse();
    number.map_err(|_| "an ASN is a number, like AS64500".to_owned())
}

fn camera(text: &str) -> Result<String, String> {
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
    let query = FlowsQuery {
        zone: arguments.zone,
        camera: arguments.camera,
        asn: arguments.asn,
        action: arguments.action,
        sum: arguments.sum,
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
            "these are the {shown} largest of {found}: `--zone`, `--camera`, `--asn` and `--action` narrow it"
        ));
    }
    Ok(())
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
