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
/// Begins the line with the names that were learned of a device: carriers, a bar, and the others.
const LEARNED: &str = "# learned ";
/// Bytes that the name of a device has at most.
const LONGEST: usize = 15;

/// What carries frames of a configured device, or is over it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Over {
    /// Have its frames as they are: the bond and the bridge that it is a port of, and so on.
    pub carriers: BTreeSet<String>,
    /// Have frames of a policed VLAN alone: sub-interfaces, and what those are ports of.
    pub policed: BTreeSet<String>,
}

/// What is known of each configured device, by its name.
pub type Learned = BTreeMap<String, Over>;

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
        for zone in policy
            .zones
            .iter()
            .filter(|zone| zone.is_on(&interface.name))
        {
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
    fn usual(&self, device: &str) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        if self.whole || self.untagged {
            names.insert(device.to_owned());
        }
        for (outer, inner) in &self.tags {
            names.insert(match inner {
                Some(inner) => format!("{device}.{outer}.{inner}"),
                None => format!("{device}.{outer}"),
            });
        }
        names
    }

    /// As [`Self::usual`], where that does not say of which device they are.
    fn usual_of_any(&self) -> BTreeSet<String> {
        let outer = self.tags.iter().filter(|(_, inner)| inner.is_none());
        outer
            .flat_map(|(vid, _)| [format!("vlan{vid}"), format!("vlan{vid:04}")])
            .collect()
    }

    /// What is over those, with whatever inner tag.
    fn wildcards(&self, device: &str) -> Vec<String> {
        if self.whole {
            return vec![format!("{device}.*")];
        }
        let outer = self.tags.iter().filter(|(_, inner)| inner.is_none());
        outer.map(|(vid, _)| format!("{device}.{vid}.*")).collect()
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
        // Each is held with one device: with more, all would have to enforce.
        let mut taken: BTreeSet<String> = BTreeSet::new();
        for over in learned.values() {
            taken.extend(over.carriers.union(&over.policed).cloned());
        }
        let sayable = config.interfaces.iter().filter(|i| is_sayable(&i.device));
        for interface in sayable {
            let scope = Scope::of(interface, policy);
            let over = learned.get(&interface.device);
            let mut names = scope.usual(&interface.device);
            if over.is_none() {
                for name in scope.usual_of_any() {
                    if taken.insert(name.clone()) {
                        names.insert(name);
                    }
                }
            }
            rules.add(&interface.device, &scope, names, over);
        }
        rules
    }

    fn add(
        &mut self,
        device: &str,
        scope: &Scope,
        mut names: BTreeSet<String>,
        over: Option<&Over>,
    ) {
        if *scope == Scope::default() {
            return;
        }
        let mut ports = BTreeSet::from([device.to_owned()]);
        if let Some(over) = over {
            let words = |names: &BTreeSet<String>| {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                names.join(" ")
            };
            let _ = writeln!(
                self.forwarded,
                "{LEARNED}{device}: {} | {}",
                words(&over.carriers),
                words(&over.policed)
            );
            // A bridge may take the tag off what is for itself.
            names.extend(over.carriers.union(&over.policed).cloned());
            ports.extend(over.carriers.iter().cloned());
        }
        names.retain(|name| is_sayable(name));
        ports.retain(|name| is_sayable(name));
        let mut wildcards = scope.wildcards(device);
        wildcards.retain(|name| name.len() <= LONGEST);
        let mut forwarded: Vec<String> = one_of(&names).into_iter().collect();
        forwarded.extend(wildcards.iter().map(|name| format!("iifname \"{name}\"")));
        chain(&mut self.forwarded, "inet", device, &forwarded);
        let mut bridged = Vec::new();
        for port in &ports {
            if scope.whole || scope.untagged {
                // A bridge may have put a tag on what had none.
                bridged.push(format!("iifname \"{port}\""));
                continue;
            }
            let vids: BTreeSet<u16> = scope.tags.iter().map(|(vid, _)| *vid).collect();
            let vids: Vec<String> = vids.iter().map(u16::to_string).collect();
            // Whose VID is behind other tags, or behind one that does not count, is not known.
            bridged.push(format!(
                "iifname \"{port}\" vlan id {{ 0, {} }}",
                vids.join(", ")
            ));
            bridged.push(format!(
                "iifname \"{port}\" ether type {{ 0x88a8, 0x9100 }}"
            ));
        }
        let below: BTreeSet<String> = names.difference(&ports).cloned().collect();
        bridged.extend(one_of(&below));
        chain(&mut self.bridged, "bridge", device, &bridged);
    }
}

/// `None`: of none.
fn one_of(names: &BTreeSet<String>) -> Option<String> {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    (!names.is_empty()).then(|| format!("iifname {{ {} }}", names.join(", ")))
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

/// Whether there can be such a device, and nftables can be told so: its strings know no escapes, and
/// an asterisk stands for others there. One line that is refused would cost all of them.
#[must_use]
pub fn is_sayable(name: &str) -> bool {
    (1..=LONGEST).contains(&name.len())
        && !name.contains(['"', '*', '\\'])
        && !name.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// What was learned when a file was written.
#[must_use]
pub fn learned(file: &str) -> Learned {
    let lines = file.lines().filter_map(|line| line.strip_prefix(LEARNED));
    let one = |line: &str| {
        let (device, names) = line.split_once(": ")?;
        let (carriers, policed) = names.split_once('|')?;
        let [carriers, policed] =
            [carriers, policed].map(|names| names.split_whitespace().map(str::to_owned).collect());
        Some((device.to_owned(), Over { carriers, policed }))
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
        assert!(
            first
                .forwarded
                .contains("iifname \"eth1.20.*\" counter drop")
        );
        // Whatever the inner tag is.
        let bridged = "iifname \"eth1\" vlan id { 0, 20, 100 } counter drop";
        assert!(first.bridged.contains(bridged), "{}", first.bridged);
        let over = Over {
            carriers: BTreeSet::from(["bond0".to_owned()]),
            policed: BTreeSet::from(["cam20".to_owned()]),
        };
        let seen = Learned::from([("eth1".to_owned(), over)]);
        let then = rules(CONFIG, Some(zone), &seen);
        let names = "iifname { \"bond0\", \"cam20\", \"eth1.100.5\", \"eth1.20\" } counter drop";
        assert!(then.forwarded.contains(names), "{}", then.forwarded);
        assert_eq!(learned(&then.forwarded), seen);
        for rule in [
            "iifname \"bond0\" vlan id { 0, 20, 100 } counter drop",
            "iifname \"bond0\" ether type { 0x88a8, 0x9100 } counter drop",
            "iifname { \"cam20\", \"eth1.100.5\", \"eth1.20\" } counter drop",
        ] {
            assert!(then.bridged.contains(rule), "{}", then.bridged);
        }
        // A name that no device can have would cost all the others.
        let long = CONFIG.replace("eth1", "enp130s0f1np1");
        let zone = "[zone.z]\nvlans = [20, 100]\ndefault = \"drop\"\n";
        let long = rules(&long, Some(zone), &none).forwarded;
        assert!(
            !long.contains("np1.100") && long.contains("\"vlan100\""),
            "{long}"
        );
        // One that is known to be another's, or another has, is not held twice.
        let two = format!("{CONFIG}[[interface]]\ndevice = \"eth2\"\nname = \"spare\"\n");
        for learned in [&none, &seen] {
            let two = rules(&two, Some(zone), learned).forwarded;
            assert_eq!(two.matches("\"vlan20\"").count(), 1, "{two}");
        }
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
