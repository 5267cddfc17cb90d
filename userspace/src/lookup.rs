//! What the database says of an address, an ASN, a country or a name: `kordon
//! lookup`, with files and in the daemon.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::{
    asn::AsnDb,
    diagnostic::quoted,
    policy::{OverlayTarget, TargetError, model::Country},
};

/// An address, a prefix, `AS…`, a country, or a part of a name.
///
/// # Errors
/// When it is none of these, or nothing has such a name.
pub fn lookup(db: &AsnDb, query: &str) -> Result<Value, TargetError> {
    if let Ok(address) = query.parse::<IpAddr>() {
        return Ok(json!(db.lookup(address)));
    }
    let country = |country: Option<Country>| country.map(|country| country.to_string());
    match query.parse::<OverlayTarget>() {
        Ok(OverlayTarget::Asn(asn)) => {
            let info = db.asn_info(asn);
            Ok(json!({
                "asn": asn,
                "name": info.map(|info| info.name.as_str()).filter(|name| !name.is_empty()),
                "country": country(info.and_then(|info| info.country)),
                "prefixes": db.prefixes_of(asn),
            }))
        }
        Ok(OverlayTarget::Country(code)) => Ok(json!({
            "country": code.to_string(),
            "asns": db.asns_in(code),
            "prefixes": db.prefixes_in(code),
        })),
        Ok(OverlayTarget::Prefix(prefix)) => Ok(json!(db.lookup(prefix.addr()))),
        Err(error) if query.trim().is_empty() => Err(error),
        Err(_) => {
            let found: Vec<Value> = db
                .search(query)
                .into_iter()
                .map(|(asn, info)| {
                    json!({"asn": asn, "name": info.name, "country": country(info.country)})
                })
                .collect();
            if found.is_empty() {
                return Err(TargetError {
                    message: format!("nothing in the database is called {}", quoted(query)),
                    help: "give an address, `AS64500`, a country code or a part of a name"
                        .to_owned(),
                });
            }
            Ok(json!({ "matches": found }))
        }
    }
}
