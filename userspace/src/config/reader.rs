//! What all sections of the file are read with: sections, paths, numbers, times. Errors go into the
//! report, and what has one is as if it was not there.

use std::{
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use toml::de::DeTable;

use crate::{diagnostic::quoted, policy::text::Report};

pub(super) struct Reader<'r, 't> {
    pub(super) report: &'r mut Report<'t>,
    pub(super) folder: &'r Path,
}

impl Reader<'_, '_> {
    pub(super) fn section<'t, 'i>(
        &mut self,
        table: &'t DeTable<'i>,
        name: &str,
        keys: &[&str],
    ) -> Option<&'t DeTable<'i>> {
        Some(self.section_and_meant(table, name, keys)?.0)
    }

    /// With keys that were likely meant by those that are not known.
    pub(super) fn section_and_meant<'t, 'i, 'k>(
        &mut self,
        table: &'t DeTable<'i>,
        name: &str,
        keys: &[&'k str],
    ) -> Option<(&'t DeTable<'i>, Vec<&'k str>)> {
        let value = table.get(name)?;
        let table = self.report.table(
            value,
            &format!("`{name}`"),
            &format!("`[{name}]` above its keys"),
        )?;
        let owner = format!(" in `[{name}]`");
        let meant = self.report.known_keys(table, keys, &owner);
        Some((table, meant))
    }

    pub(super) fn path(&mut self, table: &DeTable<'_>, key: &str) -> Option<PathBuf> {
        let value = table.get(key)?;
        let what = format!("`{key}`");
        let text = self
            .report
            .string(value, &what, &format!("`{key} = \"/a/path\"`"))?;
        if text.is_empty() {
            self.report.error(
                &value.span(),
                format!("{what} is empty"),
                "name a path, or remove the key",
            );
            return None;
        }
        Some(self.folder.join(text))
    }

    pub(super) fn paths(&mut self, table: &DeTable<'_>, key: &str) -> Vec<PathBuf> {
        let Some(value) = table.get(key) else {
            return Vec::new();
        };
        let example = format!("`{key} = [\"file.csv\"]`");
        self.report
            .strings(value, &format!("`{key}`"), &example)
            .into_iter()
            .map(|(_, name)| self.folder.join(name))
            .collect()
    }

    /// A whole number; `example` is one that is usual.
    pub(super) fn number(
        &mut self,
        table: &DeTable<'_>,
        key: &str,
        range: RangeInclusive<u32>,
        example: u32,
    ) -> Option<u32> {
        let value = table.get(key)?;
        let number = value.get_ref().as_integer();
        let number = number
            .and_then(|number| u32::from_str_radix(number.as_str(), number.radix()).ok())
            .filter(|number| range.contains(number));
        if number.is_none() {
            let (from, to) = range.into_inner();
            self.report.error(
                &value.span(),
                format!("`{key}` must be a number from {from} to {to}"),
                format!("write `{key} = {example}`, or remove the key"),
            );
        }
        number
    }

    /// A power of two in a range, the bounds of which are powers of two.
    pub(super) fn power(
        &mut self,
        table: &DeTable<'_>,
        key: &str,
        range: RangeInclusive<u32>,
        example: u32,
    ) -> Option<u32> {
        let number = self.number(table, key, range, example)?;
        if number.is_power_of_two() {
            return Some(number);
        }
        let above = number.next_power_of_two();
        self.report.error(
            &table.get(key)?.span(),
            format!("`{key}` must be a power of two"),
            format!("write `{key} = {}` or `{key} = {above}`", above / 2),
        );
        None
    }

    /// An address with a port under `listen`; `or` is what else can be done.
    pub(super) fn listen(
        &mut self,
        table: &DeTable<'_>,
        usual: SocketAddr,
        or: &str,
    ) -> Option<SocketAddr> {
        let Some(value) = table.get("listen") else {
            return Some(usual);
        };
        let example = format!("`listen = \"{usual}\"`");
        let text = self.report.string(value, "`listen`", &example)?;
        let address = text.parse().ok();
        if address.is_none() {
            self.report.error(
                &value.span(),
                format!("{} is not an address with a port", quoted(text)),
                format!("write {example}, or {or}"),
            );
        }
        address
    }

    /// `30s`, `24h`, `7d`: a second or more.
    pub(super) fn time(
        &mut self,
        table: &DeTable<'_>,
        key: &str,
        most: Duration,
    ) -> Option<Duration> {
        let value = table.get(key)?;
        let text = value.get_ref().as_str();
        let time = text
            .and_then(|text| text.parse::<jiff::Span>().ok())
            .and_then(|span| {
                span.to_duration(jiff::SpanRelativeTo::days_are_24_hours())
                    .ok()
            })
            .and_then(|time| Duration::try_from(time).ok())
            .filter(|time| *time >= Duration::from_secs(1) && *time <= most);
        if time.is_none() {
            self.report.error(
                &value.span(),
                format!(
                    "`{key}` must be a time from `\"1s\"` to `\"{}s\"`",
                    most.as_secs()
                ),
                format!("write one like `{key} = \"30s\"` or `\"24h\"`, or remove the key"),
            );
        }
        time
    }
}
