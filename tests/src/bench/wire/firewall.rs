//! What administrators use otherwise: nftables and ipset, by their own commands, with the
//! same prefixes; and xdp-filter, which knows single addresses only.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData, PerCpuHashMap, PerCpuValues};
use ipnet::IpNet;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use super::super::internet::Input;
use crate::lab::Namespace;
use crate::lab::namespace::{folder, run};

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
            for (v6, family) in [(false, "inet"), (true, "inet6")] {
                let create = format!("hash:net family {family} maxelem 2097152");
                line(
                    &mut text,
                    format_args!("create blocked{} {create}", suffix(v6)),
                );
            }
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
}

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

fn ipset_elements(set: &str, nets: &[IpNet], verb: &str) -> String {
    let mut text = String::new();
    let (verb, flags) = verb.split_once(' ').unwrap_or((verb, ""));
    for v6 in [false, true] {
        for net in of_family(nets, v6) {
            line(
                &mut text,
                format_args!("{verb} {set}{} {net} {flags}", suffix(v6)),
            );
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

/// Addresses that xdp-filter 1.3 has room for.
pub(in super::super) const XDP_FILTER_ROOM: usize = 8192;

/// `MAP_FLAG_DST` of xdp-filter: the address is one of destinations.
const FILTER_DESTINATION: u64 = 1 << 1;

/// Puts xdp-filter on a device, with as many of these addresses as it has room for. Its
/// command takes one at a time; the rest go into its map as the first did.
pub(in super::super) fn xdp_filter(
    namespace: &Namespace,
    device: &str,
    addresses: &[Input],
) -> Result<usize> {
    let addresses: HashSet<[u8; 4]> = addresses
        .iter()
        .filter_map(|address| address.first_chunk().copied())
        .collect();
    let addresses: Vec<[u8; 4]> = addresses.into_iter().take(XDP_FILTER_ROOM).collect();
    namespace.run(|| {
        // It pins its maps, in a BPF file system that goes with this thread; the
        // program stays on the device.
        unshare(CloneFlags::CLONE_NEWNS).context("cannot have mounts of one's own")?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .context("cannot keep mounts to oneself")?;
        let pins = Path::new("/sys/fs/bpf");
        mount(Some("bpf"), pins, Some("bpf"), MsFlags::empty(), none)
            .context("cannot mount a BPF file system")?;
        let filter = |words: &[&str]| run(Command::new("xdp-filter").args(words));
        filter(&["load", "--features", "ipv4", "--mode", "native", device])
            .context("cannot load xdp-filter (Debian package xdp-tools)")?;
        if let Some([a, b, c, d]) = addresses.first() {
            filter(&["ip", "--mode", "dst", &format!("{a}.{b}.{c}.{d}")])?;
        }
        let map = MapData::from_pin(pins.join("xdp-filter/filter_ipv4"))
            .context("cannot open the map of xdp-filter")?;
        let mut map: PerCpuHashMap<_, [u8; 4], u64> = Map::PerCpuHashMap(map).try_into()?;
        let processors = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        for address in &addresses {
            let value = PerCpuValues::try_from(vec![FILTER_DESTINATION; processors])?;
            map.insert(address, value, 0)
                .context("cannot add an address to xdp-filter")?;
        }
        Ok(())
    })?;
    Ok(addresses.len())
}

/// Counts what got past everything, in a table of its own behind all others.
pub(in super::super) struct Late<'a>(&'a Namespace);

impl<'a> Late<'a> {
    /// Begins to count.
    pub(in super::super) fn begin(namespace: &'a Namespace) -> Result<Self> {
        let mut ready = Script(vec![Step::input(
            "nft",
            &["-f"],
            "table inet kordon_late {\ncounter arrived { }\n\
             chain late { type filter hook prerouting priority 100; counter name arrived\n}\n}\n"
                .to_owned(),
        )])
        .ready()?;
        ready.run(namespace)?;
        Ok(Self(namespace))
    }

    /// Packets so far.
    pub(in super::super) fn packets(&self) -> Result<u64> {
        let words = "list counter inet kordon_late arrived".split(' ');
        let text = self.0.output(Command::new("nft").args(words))?;
        let mut words = text
            .split_whitespace()
            .skip_while(|word| *word != "packets");
        words
            .nth(1)
            .and_then(|count| count.parse().ok())
            .context("`nft` does not say what a counter has")
    }

    /// Ends it: a packet that is measured must not pay for it.
    pub(in super::super) fn end(self) -> Result<()> {
        let words = "delete table inet kordon_late".split(' ');
        self.0.output(Command::new("nft").args(words)).map(drop)
    }
}
