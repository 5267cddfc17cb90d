//! A network as a JSON object, as IPinfo gives them away: in lines, or in one list. The names
//! differ from publisher to publisher; what they mean does not.

use std::borrow::Cow;

use serde::Deserialize;

use super::document::Loose;
use super::format::Format;
use super::line::{self, Addresses, Fault, What, as_number, country, printable};

/// One network or range.
#[derive(Debug, Deserialize)]
pub(super) struct NetworkRow {
    #[serde(alias = "prefix", alias = "cidr")]
    network: Option<String>,
    #[serde(alias = "start", alias = "range_start", alias = "ip_range_start")]
    start_ip: Option<String>,
    #[serde(alias = "end", alias = "range_end", alias = "ip_range_end")]
    end_ip: Option<String>,
    #[serde(default, alias = "as_number", alias = "autonomous_system_number")]
    asn: Loose,
    #[serde(alias = "as_organization", alias = "autonomous_system_organization")]
    as_name: Option<String>,
    country_code: Option<String>,
    country: Option<String>,
}

impl NetworkRow {
    /// One that says where it is.
    pub(super) fn of(line: &[u8]) -> Option<Self> {
        let row: Self = serde_json::from_slice(line).ok()?;
        (row.network.is_some() || row.start_ip.is_some() && row.end_ip.is_some()).then_some(row)
    }

    /// What it says.
    pub(super) fn said(self, format: Format) -> Result<(Addresses, What<'static>), Fault> {
        let addresses = self.addresses(format)?;
        let asn = match &self.asn {
            Loose::Number(number) => u32::try_from(*number).ok(),
            Loose::Text(text) if text.is_empty() => None,
            Loose::Text(text) => match as_number(text.as_bytes()) {
                Some(asn) => Some(asn),
                None => return Err(Fault::Third(printable(text.as_bytes()))),
            },
            Loose::Missing => None,
            Loose::Other => return Err(Fault::Shape(format, "a number or a text as `asn`")),
        };
        // Some write the code under one name, some under the other.
        let codes = [self.country_code, self.country];
        let mut codes = codes.iter().flatten();
        let block = codes.find_map(|code| country(code.as_bytes()).flatten());
        let name = self.as_name.unwrap_or_default().into_bytes();
        let what = What::Network {
            asn,
            name: Cow::Owned(name),
            block,
        };
        Ok((addresses, what))
    }

    fn addresses(&self, format: Format) -> Result<Addresses, Fault> {
        if let Some(network) = &self.network {
            return line::network(network.as_bytes())
                .ok_or_else(|| Fault::NoPrefix(printable(network.as_bytes())));
        }
        let (Some(start), Some(end)) = (&self.start_ip, &self.end_ip) else {
            return Err(Fault::Shape(
                format,
                "`network`, or `start_ip` and `end_ip`",
            ));
        };
        let text = format!("{start},{end}");
        line::range_of(
            text.as_bytes(),
            &(0..start.len()),
            &(start.len() + 1..text.len()),
        )
        .map_err(|error| error.fault)
    }
}
