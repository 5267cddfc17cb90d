//! What is held, as a file that `nft` reads: for each policed interface a table of its own, so that
//! one is released in one step. What crosses a bridge is held in a second file: a kernel may have
//! no bridges, and takes a file whole or not at all.
//!
//! Which devices the router will have over an interface is known for sure only while they are there.
//! Their names are learned then, and kept in comments of the file; for what was never seen
//! the usual names stand in.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::tables::table;
use crate::{
    config::{Config, Fail, Interface},
    policy::model::{Policy, VlanMatch},
};

/// The file's name in the state folder.
pub const FILE: &str = "boot-guard.nft";
/// That of the rules for what crosses a bridge.
pub const FILE_OF_BRIDGES: &str = "boot-guard-bridge.nft";
/// Begins the line with the names that were learned of a device.
const LEARNED: &str = "# learned ";

/// Names of devices over each configured one, by its name.
pub type Learned = BTreeMap<String, BTreeSet<String>>;

/// Which frames of an interface are policed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Scope {
    /// All of them, as far as is known.
    whole: bool,
    untagged: bool,
    /// Outer tag, and the inner one where it matters.
    tags: BTreeSet<(u16, Option<u16>)>,
}

impl Scope {
    /// What a policy has for an interface. `None`: which policy is not known, so everything.
    fn of(interface: &Interface, policy: Option<&Policy>) -> Self {
        let Some(policy) = policy else {
            return Self {
                whole: true,
                ..Self::default()
            };
        };
        let mut scope = Self::default();
        for zone in &policy.zones {
            if !zone.interfaces.is_empty() && !zone.interfaces.contains(&interface.name) {
                continue;
            }
            scope.whole |= zone.vlans.is_empty();
            for vlan in &zone.vlans {
                match *vlan {
                    VlanMatch::Untagged => scope.untagged = true,
                    VlanMatch::Outer(vid) => scope.tags.extend([(vid, None)]),
                    VlanMatch::Pair(outer, inner) => scope.tags.extend([(outer, Some(inner))]),
                }
            }
        }
        scope
    }

    /// What devices over this one are called as a rule.
    fn usual(&self, device: &str, known: bool) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        if self.whole || self.untagged {
            names.insert(device.to_owned());
        }
        for (outer, inner) in &self.tags {
            names.insert(match inner {
                Some(inner) => format!("{device}.{outer}.{inner}"),
                None => format!("{device}.{outer}"),
            });
            // On other trunks they may be somebody else's: only where nothing is known.
            if !known && inner.is_none() {
                names.insert(format!("vlan{outer}"));
                names.insert(format!("vlan{outer:04}"));
            }
        }
        names
    }
}

/// The two files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// [`FILE`].
    pub forwarded: String,
    /// [`FILE_OF_BRIDGES`].
    pub bridged: String,
}

impl Rules {
    /// Those of a configuration. `policy`: `None` where it cannot be read.
    #[must_use]
    pub fn new(config: &Config, policy: Option<&Policy>, learned: &Learned) -> Self {
        let mut rules = Self {
            forwarded:
                "# What is held from policed VLANs at boot, until kordon enforces. Written by \
                        kordon,\n# loaded by kordon-boot-guard.service; `kordon release-guard` \
                        lifts it.\n"
                    .to_owned(),
            bridged: "# As boot-guard.nft, for what crosses a bridge.\n".to_owned(),
        };
        if config.fail == Fail::Open {
            for file in [&mut rules.forwarded, &mut rules.bridged] {
                *file += "# Nothing: kordon.toml says `fail = \"open\"`.\n";
            }
            return rules;
        }
        for interface in &config.interfaces {
            rules.add(
                &interface.device,
                &Scope::of(interface, policy),
                learned.get(&interface.device),
            );
        }
        rules
    }

    fn add(&mut self, device: &str, scope: &Scope, learned: Option<&BTreeSet<String>>) {
        let none = BTreeSet::new();
        let learned = learned.unwrap_or(&none);
        if *scope == Scope::default() || !is_sayable(device) {
            return;
        }
        let mut names = scope.usual(device, !learned.is_empty());
        names.extend(learned.iter().cloned());
        names.retain(|name| is_sayable(name));
        if !learned.is_empty() {
            let learned: Vec<&str> = learned.iter().map(String::as_str).collect();
            let _ = writeln!(self.forwarded, "{LEARNED}{device}: {}", learned.join(" "));
        }
        let mut forwarded = vec![one_of(&names)];
        if scope.whole {
            forwarded.push(format!("iifname \"{device}.*\""));
        }
        chain(&mut self.forwarded, "inet", device, &forwarded);
        // Which frames a port takes from its VLAN shows in the tag, unless there are two or none.
        let pairs = scope.tags.iter().any(|(_, inner)| inner.is_some());
        let mut bridged = Vec::new();
        if scope.whole || scope.untagged || pairs {
            bridged.push(format!("iifname \"{device}\""));
        } else {
            let vids: Vec<String> = scope.tags.iter().map(|(vid, _)| vid.to_string()).collect();
            let vids = vids.join(", ");
            bridged.push(format!("iifname \"{device}\" vlan id {{ {vids} }}"));
        }
        bridged.push(one_of(&names));
        chain(&mut self.bridged, "bridge", device, &bridged);
    }
}

fn one_of(names: &BTreeSet<String>) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    format!("iifname {{ {} }}", names.join(", "))
}

fn chain(file: &mut String, family: &str, device: &str, matches: &[String]) {
    let table = table(device);
    // Made, so that it can be deleted, so that nothing is there twice.
    let _ = write!(
        file,
        "table {family} {table}\ndelete table {family} {table}\ntable {family} {table} {{\n\
         \tchain forward {{\n\t\ttype filter hook forward priority -350; policy accept;\n"
    );
    for found in matches {
        let _ = writeln!(file, "\t\t{found} counter drop");
    }
    *file += "\t}\n}\n";
}

/// Strings of nftables know no escapes, and an asterisk stands for others there.
fn is_sayable(name: &str) -> bool {
    !name.contains(['"', '*', '\\']) && !name.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// What was learned when a file was written.
#[must_use]
pub fn learned(file: &str) -> Learned {
    let lines = file.lines().filter_map(|line| line.strip_prefix(LEARNED));
    let one = |line: &str| {
        let (device, names) = line.split_once(": ")?;
        let names = names.split(' ').map(str::to_owned).collect();
        Some((device.to_owned(), names))
    };
    lines.filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::policy::{Bundle, Context, Overlay, parse};

    const CONFIG: &str = "[[interface]]\ndevice = \"eth1\"\nname = \"trunk\"\n\
                          [[interface]]\ndevice = \"cam\\\"s\"\nname = \"odd\"\n";

    fn rules(config: &str, policy: Option<&str>, learned: &Learned) -> Rules {
        let (config, found) = crate::config::parse(Path::new("kordon.toml"), config);
        let config = config.unwrap_or_else(|| panic!("{found:?}"));
        let policy = policy.map(|text| {
            let bundle = Bundle::from_text("p.toml", text);
            let (policy, found) = parse(&bundle, &Overlay::default(), &Context::now(None));
            policy.unwrap_or_else(|| panic!("{found:?}"))
        });
        Rules::new(&config, policy.as_ref(), learned)
    }

    #[test]
    fn policed_vlans_are_held_and_no_others() {
        let zone = "[zone.z]\nvlans = [20, \"100.5\"]\ndefault = \"drop\"\n";
        let none = Learned::new();
        let first = rules(CONFIG, Some(zone), &none);
        assert!(first.forwarded.contains(
            "iifname { \"eth1.100.5\", \"eth1.20\", \"vlan0020\", \"vlan20\" } counter drop"
        ));
        // A pair cannot be told by one tag.
        assert!(first.bridged.contains("iifname \"eth1\" counter drop"));
        let seen = Learned::from([("eth1".to_owned(), BTreeSet::from(["cam20".to_owned()]))]);
        let then = rules(CONFIG, Some(zone), &seen);
        assert!(
            then.forwarded
                .contains("iifname { \"cam20\", \"eth1.100.5\", \"eth1.20\" } counter drop")
        );
        assert_eq!(learned(&then.forwarded), seen);
        let one = rules(
            CONFIG,
            Some("[zone.z]\nvlans = [20, 30]\ndefault = \"drop\"\n"),
            &seen,
        );
        assert!(
            one.bridged
                .contains("iifname \"eth1\" vlan id { 20, 30 } counter drop")
        );
        // Another interface's zone, a name that cannot be written, and everything.
        let other = "[zone.z]\nvlans = [20]\ninterfaces = [\"odd\"]\ndefault = \"drop\"\n";
        assert!(!rules(CONFIG, Some(other), &none).forwarded.contains("drop"));
        for all in [
            None,
            Some("[zone.z]\ninterfaces = [\"trunk\"]\ndefault = \"drop\"\n"),
        ] {
            let all = rules(CONFIG, all, &none).forwarded;
            assert!(all.contains("iifname { \"eth1\" } counter drop"), "{all}");
            assert!(all.contains("iifname \"eth1.*\" counter drop"), "{all}");
        }
        let open = rules(&format!("fail = \"open\"\n{CONFIG}"), Some(zone), &seen);
        assert!(!open.forwarded.contains("drop") && !open.bridged.contains("drop"));
    }
}
