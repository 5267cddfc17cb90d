//! What the database says of an address, an ASN, a country or a name: `kordon
//! lookup`, with files and in the daemon.

use std::{borrow::Cow, net::IpAddr};

use ipnet::IpNet;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    asn::{AsnDb, Country, model::AsnInfo},
    diagnostic::{Problem, quoted},
    policy::{OverlayTarget, network},
};

/// Entries of each list of an answer, unless somebody asks for more or fewer.
pub const LIMIT: usize = 10_000;
/// Entries that the daemon shows at most. As an answer is put together, an entry takes some
/// 600 bytes.
pub const MAX_LIMIT: usize = 100_000;

/// Lists that are cut where they are too long, and what that left out.
struct Lists {
    limit: usize,
    more: Map<String, Value>,
}

impl Lists {
    fn cut<T: Serialize>(&mut self, name: &str, all: &[T]) -> Value {
        let shown = &all[..all.len().min(self.limit)];
        self.left_out(name, (all.len() - shown.len()) as u64);
        json!(shown)
    }

    fn left_out(&mut self, name: &str, count: u64) {
        if count > 0 {
            self.more.insert(name.to_owned(), count.into());
        }
    }
}

/// An address, a prefix, `AS…`, a country, or a part of a name. Lists have no more than
/// `limit` entries; `more` says how many there are besides.
///
/// # Errors
/// When it is none of these, or nothing has such a name.
pub fn lookup(db: &AsnDb, query: &str, limit: usize) -> Result<Value, Problem> {
    let mut lists = Lists {
        limit,
        more: Map::new(),
    };
    let mut answer = find(db, query, &mut lists)?;
    if !lists.more.is_empty() {
        answer["more"] = lists.more.into();
    }
    Ok(answer)
}

fn find(db: &AsnDb, query: &str, lists: &mut Lists) -> Result<Value, Problem> {
    if let Ok(address) = query.parse::<IpAddr>() {
        return Ok(at(db, address));
    }
    let query = &*meant(query);
    let country = |country: Option<Country>| country.map(|country| country.to_string());
    match query.parse::<OverlayTarget>() {
        Ok(OverlayTarget::Asn(asn)) => {
            let info = db.asn_info(asn);
            let org = db.org_of(asn).map(|org| {
                let asns = lists.cut("asns", &org.asns);
                json!({"id": org.id, "name": org.name, "asns": asns})
            });
            Ok(json!({
                "asn": asn,
                "name": info.map(|info| info.name.as_str()).filter(|name| !name.is_empty()),
                "country": country(info.and_then(|info| info.country)),
                "org": org,
                "prefixes": lists.cut("prefixes", &db.prefixes_of(asn)),
            }))
        }
        Ok(OverlayTarget::Country(code)) => Ok(json!({
            "country": code.to_string(),
            "asns": lists.cut("asns", &db.asns_in(code)),
            "prefixes": lists.cut("prefixes", &db.prefixes_in(code)),
        })),
        Ok(OverlayTarget::Prefix(prefix)) => {
            let (parts, count) = db.within(prefix, lists.limit);
            Ok(match &parts[..] {
                [] => at(db, prefix.addr()),
                [(whole, _)] if *whole == prefix => at(db, prefix.addr()),
                // One address of it would speak for others that are somebody else's.
                parts => {
                    lists.left_out("parts", count - parts.len() as u64);
                    let part = |(net, origins): &(IpNet, &[u32])| json!({"prefix": net, "origins": origins});
                    json!({ "parts": parts.iter().map(part).collect::<Vec<_>>() })
                }
            })
        }
        Err(error) if query.trim().is_empty() => Err(error),
        Err(_) => {
            let found = db.search(query);
            if found.is_empty() {
                if let Ok(org) = db.org(query) {
                    let asns = lists.cut("asns", &org.asns);
                    return Ok(json!({
                        "org": {"id": org.id, "name": org.name, "asns": asns},
                        "asns": asns,
                    }));
                }
                return Err(Problem::new(
                    format!("nothing in the database is called {}", quoted(query)),
                    "give an address, a prefix, `AS64500`, a country code, a part of a name or \
                     the id of an organisation",
                ));
            }
            let shown = &found[..found.len().min(lists.limit)];
            lists.left_out("matches", (found.len() - shown.len()) as u64);
            let one = |(asn, info): &(u32, &AsnInfo)| json!({"asn": asn, "name": info.name, "country": country(info.country)});
            Ok(json!({ "matches": shown.iter().map(one).collect::<Vec<_>>() }))
        }
    }
}

/// What a question means that a policy would refuse: an ASN as `1.10` (RFC 5396), a
/// network by one of its hosts. Nothing is blocked by a question.
fn meant(query: &str) -> Cow<'_, str> {
    if let Some(net) = network(query) {
        return net.trunc().to_string().into();
    }
    let bare = query
        .get(..2)
        .filter(|start| start.eq_ignore_ascii_case("AS"));
    if let Some((high, low)) = query[bare.map_or(0, str::len)..].split_once('.')
        && let (Ok(high), Ok(low)) = (high.parse::<u16>(), low.parse::<u16>())
    {
        return format!("AS{}", u32::from(high) << 16 | u32::from(low)).into();
    }
    query.into()
}

/// What is known of an address, and which rows of which sources say so.
fn at(db: &AsnDb, address: IpAddr) -> Value {
    let mut answer = json!(db.lookup(address));
    answer["evidence"] = json!(db.evidence(address));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asn;

    #[test]
    fn every_origin_with_its_row() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = [
            file("table.txt", "203.0.113.0/24 64500\n"),
            file("ranges.csv", "203.0.113.0,203.0.113.255,64501,Other\n"),
            file(
                "vrps.csv",
                "ASN,IP Prefix,Max Length,Trust Anchor\nAS64500,203.0.113.0/24,24,x\n",
            ),
            file(
                "org.txt",
                "O-1|1|Org|NO|R\n64500|1|X|O-1||R\n64502|1|X|O-1||R\n",
            ),
        ];
        let (db, _) = asn::import(&files, &[]).unwrap();
        let answer = lookup(&db, "203.0.113.7", LIMIT).unwrap();
        assert_eq!(answer["origins"], json!([64500, 64501]));
        let source = |name: &str| dir.path().join(name).display().to_string();
        assert_eq!(
            answer["evidence"],
            json!([
                {"asn": 64500, "source": source("table.txt"), "line": 1, "record": 0,
                 "prefix": "203.0.113.0/24", "rpki": "valid"},
                {"asn": 64501, "source": source("ranges.csv"), "line": 1, "record": 0,
                 "prefix": "203.0.113.0/24", "rpki": "invalid"},
            ])
        );
        let answer = lookup(&db, "AS64502", LIMIT).unwrap();
        assert_eq!(
            answer["org"],
            json!({"id": "O-1", "name": "Org", "asns": [64500, 64502]})
        );
        let answer = lookup(&db, "198.51.100.1", LIMIT).unwrap();
        assert_eq!(answer["evidence"], json!([]));
        // Who goes by its id in a policy is found by it.
        let answer = lookup(&db, "o-1", LIMIT).unwrap();
        assert_eq!(answer["asns"], json!([64500, 64502]));
    }

    #[test]
    fn a_question_may_be_worded_freely() {
        for (query, expected) in [
            ("8.8.8.8/24", "8.8.8.0/24"),
            ("2001:db8::7/32", "2001:db8::/32"),
            ("AS1.10", "AS65546"),
            ("as0.64500", "AS64500"),
            ("1.10", "AS65546"),
            ("AS1.65536", "AS1.65536"),
            ("Example, Inc.", "Example, Inc."),
            ("é.1", "é.1"),
        ] {
            assert_eq!(meant(query), expected, "{query}");
        }
    }

    /// A prefix of several networks is not that of its first address.
    #[test]
    fn all_parts_of_a_prefix() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table.txt");
        std::fs::write(&path, "203.0.113.0/25 64500\n203.0.113.192/26 64501\n").unwrap();
        let (db, _) = asn::import(&[path], &[]).unwrap();
        let answer = lookup(&db, "203.0.113.0/24", LIMIT).unwrap();
        assert_eq!(
            answer["parts"],
            json!([
                {"prefix": "203.0.113.0/25", "origins": [64500]},
                {"prefix": "203.0.113.192/26", "origins": [64501]},
            ])
        );
        // A part of one network is that network's.
        let answer = lookup(&db, "203.0.113.64/26", LIMIT).unwrap();
        assert_eq!(answer["origins"], json!([64500]));
        assert_eq!(answer["prefix"], "203.0.113.0/25");
        assert_eq!(
            lookup(&db, "192.0.2.0/24", LIMIT).unwrap()["origins"],
            json!([])
        );
    }

    /// All of the Internet's parts took 700 MB for each who asked.
    #[test]
    fn lists_end_and_say_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table.txt");
        let rows = (0..200).map(|n| format!("10.0.{n}.0/24 {}\n", 64500 + n % 2));
        std::fs::write(&path, rows.collect::<String>()).unwrap();
        let (db, _) = asn::import(&[path], &[]).unwrap();
        let length = |answer: &Value, list: &str| answer[list].as_array().map(Vec::len);
        let answer = lookup(&db, "0.0.0.0/0", 7).unwrap();
        assert_eq!(length(&answer, "parts"), Some(7));
        assert_eq!(answer["more"], json!({"parts": 193}));
        let answer = lookup(&db, "AS64500", 99).unwrap();
        assert_eq!(length(&answer, "prefixes"), Some(99));
        assert_eq!(answer["more"], json!({"prefixes": 1}));
        for (query, limit) in [("0.0.0.0/0", 200), ("AS64500", 100)] {
            let answer = lookup(&db, query, limit).unwrap();
            assert_eq!(answer.get("more"), None, "{query}");
        }
        // One entry of many is not the whole prefix.
        let answer = lookup(&db, "10.0.0.0/16", 1).unwrap();
        assert_eq!(length(&answer, "parts"), Some(1));
        assert_eq!(answer["more"], json!({"parts": 199}));
    }
}
