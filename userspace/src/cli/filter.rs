//! Which flows are meant: the same words for [`super::flows`] and [`super::live`].

use std::net::IpAddr;

use clap::Args;

use crate::{control::protocol::FlowsQuery, history::flow::Flow};

/// What is not given is any.
#[derive(Clone, Debug, Args)]
pub(super) struct Filter {
    /// Only of this zone.
    #[arg(long, value_name = "ZONE")]
    pub(super) zone: Option<String>,
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
    pub(super) action: Option<String>,
}

impl Filter {
    /// As the daemon is asked.
    pub(super) fn query(&self) -> FlowsQuery {
        FlowsQuery {
            zone: self.zone.clone(),
            camera: self.camera.clone(),
            asn: self.asn,
            country: self.country.clone(),
            action: self.action.clone(),
            ..FlowsQuery::default()
        }
    }

    /// Whether it is one of those, for certain.
    pub(super) fn has(&self, flow: &Flow) -> bool {
        let is = |asked: &Option<String>, it: Option<&String>| {
            asked.is_none() || asked.as_deref() == it.map(String::as_str)
        };
        let is_camera = self.camera.as_ref().is_none_or(|camera| {
            let address = camera.parse::<IpAddr>().ok();
            let is_mac = |mac: &String| mac.eq_ignore_ascii_case(camera);
            match address {
                Some(_) => flow.src == address,
                None => flow.mac.as_ref().is_some_and(is_mac),
            }
        });
        is_camera
            && is(&self.zone, Some(&flow.zone))
            && is(&self.action, Some(&flow.action))
            && is(&self.country, flow.country.as_ref())
            && (self.asn.is_none() || self.asn == flow.asn)
    }
}

fn country(text: &str) -> Result<String, String> {
    match text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        true => Ok(text.to_ascii_uppercase()),
        false => Err("a country has two letters, as in ISO 3166: RU".to_owned()),
    }
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
