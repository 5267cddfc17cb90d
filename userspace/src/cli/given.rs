//! What commands on packets are given: a packet, a policy, databases, and what is known of the router.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use jiff::Timestamp;

use super::{instance::Instance, past::moment};
use crate::{asn, judge::Engine};

/// Databases from files.
#[derive(Debug, Default, Args)]
pub(super) struct Databases {
    /// A source, of any format that is read, or a snapshot; the first has priority.
    #[arg(long = "asn-db", value_name = "FILE")]
    pub(super) asn: Vec<PathBuf>,
    /// As `--asn-db`, behind all of those.
    #[arg(long = "country-db", value_name = "FILE")]
    pub(super) countries: Vec<PathBuf>,
    /// Where sources disagree: `union` (any origin counts) or `priority` (the first
    /// that knows the address).
    #[arg(long, value_name = "HOW", default_value = "union")]
    pub(super) combine: asn::Combine,
    /// Peers of a collector that have to see a prefix.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(super) min_peers: u32,
    /// RPKI payloads count as announcements.
    #[arg(long)]
    pub(super) add_vrps: bool,
}

/// Who decides.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum EngineName {
    /// The program in the kernel; needs root.
    Kernel,
    /// The same library in this process.
    Reference,
}

impl From<EngineName> for Engine {
    fn from(name: EngineName) -> Self {
        match name {
            EngineName::Kernel => Self::Kernel,
            EngineName::Reference => Self::Reference,
        }
    }
}

/// What is known of the router without asking it.
#[derive(Debug, Args)]
pub(super) struct Offline {
    /// The interface that packets arrive on, by its name in `kordon.toml` or its device [default:
    /// all, if the verdict is the same on each]
    #[arg(long, value_name = "NAME")]
    pub(super) interface: Option<String>,
    /// An address of the router, for the set `router`.
    #[arg(long, value_name = "ADDR")]
    pub(super) router_addr: Vec<IpAddr>,
    /// A prefix that counts as connected, for `sources = "connected"`.
    #[arg(long, value_name = "PREFIX")]
    pub(super) connected: Vec<IpNet>,
    /// Who decides.
    #[arg(long, value_enum, default_value = "kernel")]
    pub(super) engine: EngineName,
}

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// A policy, instead of asking the daemon for its own.
    #[arg(long, value_name = "FILE")]
    pub(super) policy: Option<PathBuf>,
    #[command(flatten)]
    pub(super) databases: Databases,
    /// `20`, `100.5` (outer and inner) or `untagged`, which is the default.
    #[arg(long, value_name = "VID[.VID]")]
    pub(super) vlan: Option<String>,
    /// Source.
    #[arg(long, value_name = "ADDR")]
    pub(super) src: IpAddr,
    /// Destination.
    #[arg(long, value_name = "ADDR")]
    pub(super) dst: IpAddr,
    /// `tcp`, `udp`, `icmp` or a number.
    #[arg(long)]
    pub(super) proto: Option<String>,
    /// Destination port; of TCP unless `--proto` says otherwise.
    #[arg(long, value_name = "PORT")]
    pub(super) dport: Option<u16>,
    /// By what was in force then, out of the log of evidence and its archive: 2026-11-30T08:00:00Z, or so long ago (2h, 7d).
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with_all = ["policy", "asn", "countries"])]
    pub(super) at: Option<Timestamp>,
    /// The folder of the log, or of a copy, instead of the configured one.
    #[arg(long, value_name = "DIR", requires = "at")]
    pub(super) folder: Option<PathBuf>,
    #[command(flatten)]
    pub(super) offline: Offline,
    #[command(flatten)]
    pub(super) instance: Instance,
}

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// The policy.
    #[arg(long, value_name = "FILE")]
    pub(super) policy: PathBuf,
    #[command(flatten)]
    pub(super) databases: Databases,
    #[command(flatten)]
    pub(super) offline: Offline,
    /// Configuration, for its interfaces [default: /etc/kordon/kordon.toml, if it is there]
    #[arg(long, value_name = "FILE", env = "KORDON_CONFIG")]
    pub(super) config: Option<PathBuf>,
    /// pcap or pcapng; `-` is standard input.
    pub(super) capture: PathBuf,
}
