//! `[[interface]]`: what is policed, what policies call it, and how programs are attached.

use std::collections::BTreeSet;

use toml::de::DeTable;

use super::reader::Reader;
use crate::{
    datapath::attach::Mode,
    diagnostic::quoted,
    policy::text::{Report, Value},
};

/// One policed interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// As the kernel calls it.
    pub device: String,
    /// As policies call it.
    pub name: String,
    /// How to attach.
    pub mode: Mode,
    /// Frames of VLANs without a zone are dropped.
    pub drop_unknown: bool,
    /// `rx-vlan-offload` may be switched off.
    pub manage_offload: bool,
    /// A tc program behind the XDP program notices what that does not see.
    pub guard: bool,
}

/// The word for a mode in the file.
#[must_use]
pub const fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Auto => "auto",
        Mode::Native => "native",
        Mode::Generic => "generic",
        Mode::Tc => "tc",
    }
}

impl Reader<'_, '_> {
    pub(super) fn interfaces(&mut self, value: &Value<'_>) -> Vec<Interface> {
        const EXAMPLE: &str = "`[[interface]]` above each interface";
        let (mut devices, mut names) = (BTreeSet::new(), BTreeSet::new());
        let mut interfaces = Vec::new();
        for value in self
            .report
            .list(value, "`interface`", EXAMPLE)
            .unwrap_or_default()
        {
            let Some(table) = self.report.table(value, "an interface", EXAMPLE) else {
                continue;
            };
            let Some(interface) = self.interface(table, value) else {
                continue;
            };
            for (key, name, known) in [
                ("device", &interface.device, &mut devices),
                ("name", &interface.name, &mut names),
            ] {
                if !known.insert(name.clone()) {
                    let span = table.get(key).unwrap_or(value).span();
                    self.report.error(
                        &span,
                        format!("two interfaces have the {key} {}", quoted(name)),
                        "remove one of them, or give it another",
                    );
                }
            }
            interfaces.push(interface);
        }
        interfaces
    }

    fn interface(&mut self, table: &DeTable<'_>, value: &Value<'_>) -> Option<Interface> {
        const KEYS: [&str; 6] = [
            "device",
            "name",
            "mode",
            "unknown_vlans",
            "manage_offload",
            "guard",
        ];
        let report = &mut *self.report;
        let meant = report.known_keys(table, &KEYS, " of an interface");
        let text = |report: &mut Report<'_>, key: &str| {
            let value = table.get(key)?;
            let example = format!("`{key} = \"eth1\"`");
            report
                .string(value, &format!("`{key}` of an interface"), &example)
                .map(str::to_owned)
        };
        let device = text(report, "device");
        let name = text(report, "name");
        if let Some(value) = table.get("device")
            && let Some(device) = &device
            && (device.is_empty()
                || device.len() > 15
                || matches!(device.as_str(), "." | "..")
                || device.contains(|c: char| {
                    matches!(c, '/' | ':') || c.is_whitespace() || c.is_control()
                }))
        {
            report.error(
                &value.span(),
                format!("{} cannot be the name of a device", quoted(device)),
                "`ip link` shows the names: 1 to 15 bytes, without `/`, `:` and spaces",
            );
        }
        if let Some(value) = table.get("name")
            && name.as_deref() == Some("")
        {
            report.error(
                &value.span(),
                "`name` of an interface is empty",
                "give it the name that policies use, or remove the key",
            );
        }
        let mode = table.get("mode").and_then(|value| {
            let words = [
                ("auto", Mode::Auto),
                ("native", Mode::Native),
                ("generic", Mode::Generic),
                ("tc", Mode::Tc),
            ];
            let synonyms = [("driver", "native"), ("drv", "native"), ("skb", "generic")];
            report.word(value, "`mode` of an interface", &words, &synonyms)
        });
        let drop_unknown = table.get("unknown_vlans").and_then(|value| {
            let words = [("pass", false), ("drop", true)];
            report.word(value, "`unknown_vlans` of an interface", &words, &[])
        });
        let manage_offload = table.get("manage_offload").and_then(|value| {
            let what = "`manage_offload` of an interface";
            report.boolean(value, what, "`manage_offload = true`")
        });
        let guard = table
            .get("guard")
            .and_then(|value| report.boolean(value, "`guard` of an interface", "`guard = false`"));
        if let (Some(Mode::Tc), Some(false), Some(value)) = (mode, guard, table.get("guard")) {
            report.error(
                &value.span(),
                "without its guard, nothing polices an interface with `mode = \"tc\"`",
                "remove `guard = false`, or choose another mode",
            );
        }
        if !table.contains_key("device") && !meant.contains(&"device") {
            report.error(
                &value.span(),
                "an interface has no `device`",
                "name it as `ip link` does, for example `device = \"eth1\"`",
            );
        }
        let device = device?;
        Some(Interface {
            name: name.unwrap_or_else(|| device.clone()),
            device,
            mode: mode.unwrap_or_default(),
            drop_unknown: drop_unknown.unwrap_or_default(),
            manage_offload: manage_offload.unwrap_or_default(),
            guard: guard.unwrap_or(true),
        })
    }
}
