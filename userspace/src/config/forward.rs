//! `[[evidence.forward]]`: where records of the log are sent on to.

use std::collections::BTreeSet;

use toml::de::DeTable;

use super::reader::Reader;
use crate::{
    forward::config::{Destination, Facility, Start, Target},
    policy::text::Value,
};

const EXAMPLE: &str = "`[[evidence.forward]]` above each destination";
const KEYS: [&str; 7] = ["to", "facility", "only", "start", "ca", "cert", "key"];

impl Reader<'_, '_> {
    pub(super) fn forward(&mut self, value: &Value<'_>) -> Vec<Destination> {
        let mut known = BTreeSet::new();
        let mut destinations = Vec::new();
        let list = self.report.list(value, "`forward`", EXAMPLE);
        for value in list.unwrap_or_default() {
            let Some(table) = self.report.table(value, "a destination", EXAMPLE) else {
                continue;
            };
            let Some(destination) = self.destination(table, value) else {
                continue;
            };
            // Each keeps how far it has got, by what it is called.
            if !known.insert(destination.to.name()) {
                let span = table.get("to").unwrap_or(value).span();
                let help = "remove one of them: `only` may name several actions";
                self.report
                    .error(&span, "two destinations are the same", help);
            }
            destinations.push(destination);
        }
        destinations
    }

    fn destination(&mut self, table: &DeTable<'_>, whole: &Value<'_>) -> Option<Destination> {
        self.report.known_keys(table, &KEYS, " of a destination");
        let Some(to) = self.word(table, "to", Target::parse) else {
            if table.get("to").is_none() {
                let help = "write `to = \"tls://HOST\"`, `tcp://HOST`, `udp://HOST` or `journald`";
                self.report
                    .error(&whole.span(), "a destination without `to`", help);
            }
            return None;
        };
        let mut destination = Destination::new(to);
        if let Some(facility) = self.word(table, "facility", Facility::parse) {
            destination.facility = facility;
        }
        if let Some(start) = self.word(table, "start", Start::parse) {
            destination.start = start;
        }
        destination.only = table.get("only").map(|value| {
            let texts = self.report.strings(value, "`only`", "`only = [\"flow\"]`");
            texts.into_iter().map(|(_, text)| text.to_owned()).collect()
        });
        destination.ca = self.path(table, "ca");
        let (cert, key) = (self.path(table, "cert"), self.path(table, "key"));
        if cert.is_some() != key.is_some() {
            let help = "name both, or neither";
            let value = table
                .get("cert")
                .or_else(|| table.get("key"))
                .unwrap_or(whole);
            self.report
                .error(&value.span(), "`cert` and `key` belong together", help);
        }
        destination.client = cert.zip(key);
        if let Err(why) = destination.check() {
            let value = table.get("only").unwrap_or(whole);
            self.report
                .error(&value.span(), why, "docs/evidence.md says what each key is");
        }
        Some(destination)
    }

    /// A word that means something.
    fn word<T>(
        &mut self,
        table: &DeTable<'_>,
        key: &str,
        parse: fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = table.get(key)?;
        let text = (self.report).string(value, &format!("`{key}`"), &format!("`{key} = \"…\"`"))?;
        match parse(text) {
            Ok(meant) => Some(meant),
            Err(why) => {
                self.report
                    .error(&value.span(), why, format!("mend `{key}`, or remove it"));
                None
            }
        }
    }
}
