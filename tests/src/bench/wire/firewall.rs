//! What administrators use otherwise: nftables and ipset, by their own commands, with the
//! same prefixes.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use tempfile::TempDir;

use super::paced::SOURCES;
use crate::lab::Namespace;
use crate::lab::namespace::folder;

/// A firewall with a set of destinations that it drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Firewall {
    /// nftables, family netdev, ingress of the device.
    NftIngress,
    /// nftables, family inet, before routing and connection tracking.
    NftPrerouting,
    /// ipset, and iptables (the one of nftables) in the table `raw`.
    Ipset,
}

/// Destinations by family, as text.
fn of_family(nets: &[IpNet], v6: bool) -> Vec<String> {
    let nets = nets.iter().filter(|net| net.addr().is_ipv6() == v6);
    nets.map(IpNet::to_string).collect()
}

impl Firewall {
    /// In names of cases.
    pub(in super::super) fn name(self) -> &'static str {
        match self {
            Self::NftIngress => "nft-ingress",
            Self::NftPrerouting => "nft-prerouting",
            Self::Ipset => "ipset",
        }
    }

    /// Table, as `nft` has it in every command.
    fn table(self) -> &'static str {
        match self {
            Self::NftIngress => "netdev kordon_peer",
            Self::NftPrerouting | Self::Ipset => "inet kordon_peer",
        }
    }

    /// Commands that set it up with these prefixes.
    pub(in super::super) fn load(self, device: &str, nets: &[IpNet]) -> Script {
        let mut text = String::new();
        if self == Self::Ipset {
            text += &ipset_sets("blocked");
            text += &ipset_elements("blocked", nets, "add");
            let rule = |command: &'static str, set: &'static str| {
                let words = "-t raw -A PREROUTING -m set --match-set";
                let words = words.split(' ').chain([set, "dst", "-j", "DROP"]);
                Step::command(command, words)
            };
            return Script(vec![
                Step::input("ipset", &["restore"], text),
                rule("iptables-nft", "blocked4"),
                rule("ip6tables-nft", "blocked6"),
            ]);
        }
        let table = self.table();
        let hook = match self {
            Self::NftIngress => format!("hook ingress device \"{device}\" priority 0"),
            _ => "hook prerouting priority raw".to_owned(),
        };
        let (v4, v6) = (elements(nets, false), elements(nets, true));
        line(
            &mut text,
            format_args!(
                "table {table} {{\n\
                 set blocked4 {{ type ipv4_addr; flags interval; {v4} }}\n\
                 set blocked6 {{ type ipv6_addr; flags interval; {v6} }}\n\
                 chain drops {{ type filter {hook};\n\
                 ip daddr @blocked4 drop\nip6 daddr @blocked6 drop\n}}\n}}"
            ),
        );
        Script(vec![Step::input("nft", &["-f"], text)])
    }

    /// Commands that block some more prefixes.
    pub(in super::super) fn add(self, nets: &[IpNet]) -> Script {
        self.elements("add", nets)
    }

    /// Commands that take prefixes out again.
    pub(in super::super) fn remove(self, nets: &[IpNet]) -> Script {
        match self {
            Self::Ipset => self.elements("del", nets),
            _ => self.elements("delete", nets),
        }
    }

    fn elements(self, verb: &str, nets: &[IpNet]) -> Script {
        if self == Self::Ipset {
            let text = ipset_elements("blocked", nets, verb);
            return Script(vec![Step::input("ipset", &["restore"], text)]);
        }
        let text = self.nft_elements(verb, nets);
        Script(vec![Step::input("nft", &["-f"], text)])
    }

    fn nft_elements(self, verb: &str, nets: &[IpNet]) -> String {
        let mut text = String::new();
        for v6 in [false, true] {
            let (table, set) = (self.table(), suffix(v6));
            let some = of_family(nets, v6).join(", ");
            if !some.is_empty() {
                line(
                    &mut text,
                    format_args!("{verb} element {table} blocked{set} {{ {some} }}"),
                );
            }
        }
        text
    }

    /// Commands that put other prefixes in the place of all there are, with no moment in
    /// between: one transaction of nftables; with ipset new sets, which are swapped.
    pub(in super::super) fn replace(self, nets: &[IpNet]) -> Script {
        let mut text = String::new();
        if self == Self::Ipset {
            text += &ipset_sets("fresh");
            text += &ipset_elements("fresh", nets, "add");
            for set in ["4", "6"] {
                line(
                    &mut text,
                    format_args!("swap fresh{set} blocked{set}\ndestroy fresh{set}"),
                );
            }
            return Script(vec![Step::input("ipset", &["restore"], text)]);
        }
        for set in ["4", "6"] {
            let table = self.table();
            line(&mut text, format_args!("flush set {table} blocked{set}"));
        }
        text += &self.nft_elements("add", nets);
        Script(vec![Step::input("nft", &["-f"], text)])
    }

    /// Commands of ipset that empty the sets and fill them again, as scripts do that were
    /// written in a hurry.
    pub(in super::super) fn refill(nets: &[IpNet]) -> Script {
        let text = "flush blocked4\nflush blocked6\n".to_owned();
        let text = text + &ipset_elements("blocked", nets, "add");
        Script(vec![Step::input("ipset", &["restore"], text)])
    }
}

/// Families, as part of names of sets.
fn suffix(v6: bool) -> &'static str {
    if v6 { "6" } else { "4" }
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    writeln!(text, "{content}").expect("writing to a string cannot fail");
}

fn elements(nets: &[IpNet], v6: bool) -> String {
    match of_family(nets, v6).join(", ") {
        none if none.is_empty() => none,
        some => format!("elements = {{ {some} }}"),
    }
}

fn ipset_sets(name: &str) -> String {
    let mut text = String::new();
    for (v6, family) in [(false, "inet"), (true, "inet6")] {
        let set = suffix(v6);
        line(
            &mut text,
            format_args!("create {name}{set} hash:net family {family} maxelem 2097152"),
        );
    }
    text
}

fn ipset_elements(set: &str, nets: &[IpNet], verb: &str) -> String {
    let mut text = String::new();
    for v6 in [false, true] {
        for net in of_family(nets, v6) {
            line(&mut text, format_args!("{verb} {set}{} {net}", suffix(v6)));
        }
    }
    text
}

/// Commands, to be run one after the other.
pub(in super::super) struct Script(Vec<Step>);

/// A program with what it is given; its last argument is a file where there is input.
struct Step {
    program: &'static str,
    arguments: Vec<String>,
    input: Option<String>,
}

impl Step {
    fn command<'a>(program: &'static str, words: impl Iterator<Item = &'a str>) -> Self {
        Self {
            program,
            arguments: words.map(str::to_owned).collect(),
            input: None,
        }
    }

    fn input(program: &'static str, words: &[&str], input: String) -> Self {
        Self {
            input: Some(input),
            ..Self::command(program, words.iter().copied())
        }
    }
}

/// Commands whose input lies ready: what is timed is running them.
pub(in super::super) struct Ready {
    commands: Vec<Command>,
    _folder: TempDir,
}

impl Script {
    /// Writes input to files.
    pub(in super::super) fn ready(self) -> Result<Ready> {
        let folder = folder()?;
        let mut commands = Vec::new();
        for (number, step) in self.0.into_iter().enumerate() {
            let mut command = Command::new(step.program);
            command.args(step.arguments);
            if let Some(input) = step.input {
                let path: PathBuf = folder.path().join(number.to_string());
                fs::write(&path, input).context("cannot write commands to a file")?;
                if step.program == "ipset" {
                    command.arg("-file");
                }
                command.arg(path);
            }
            commands.push(command);
        }
        Ok(Ready {
            commands,
            _folder: folder,
        })
    }
}

impl Ready {
    /// Runs them where the firewall is.
    pub(in super::super) fn run(&mut self, namespace: &Namespace) -> Result<()> {
        for command in &mut self.commands {
            namespace.output(command)?;
        }
        Ok(())
    }
}

/// Counts what got past everything, by sender, in a table of its own behind all others.
pub(in super::super) struct Late<'a>(&'a Namespace);

impl<'a> Late<'a> {
    /// Begins to count.
    pub(in super::super) fn begin(namespace: &'a Namespace) -> Result<Self> {
        let [first, second] = SOURCES.map(Ipv4Addr::from);
        let table = format!(
            "table inet kordon_late {{\ncounter first {{ }}\ncounter second {{ }}\n\
             chain late {{ type filter hook prerouting priority 100;\n\
             ip saddr {first} counter name first\nip saddr {second} counter name second\n}}\n}}\n"
        );
        let mut ready = Script(vec![Step::input("nft", &["-f"], table)]).ready()?;
        ready.run(namespace)?;
        Ok(Self(namespace))
    }

    /// Packets of each of [`SOURCES`] so far.
    pub(in super::super) fn packets(&self) -> Result<[u64; 2]> {
        let words = "list table inet kordon_late".split(' ');
        let text = self.0.output(Command::new("nft").args(words))?;
        let mut words = text.split_whitespace();
        let mut next = || {
            let count = words.by_ref().skip_while(|word| *word != "packets").nth(1);
            count
                .and_then(|count| count.parse().ok())
                .context("`nft` does not say what a counter has")
        };
        Ok([next()?, next()?])
    }

    /// Ends it: a packet that is measured must not pay for it.
    pub(in super::super) fn end(self) -> Result<()> {
        let words = "delete table inet kordon_late".split(' ');
        self.0.output(Command::new("nft").args(words)).map(drop)
    }
}
