//! Verdicts on single frames, with all that was behind them: what `replay` and
//! `explain` show, offline and on a running router.
//!
//! The program in the kernel decides; the library decides the same frame beside
//! it, because only the library can be watched (addresses, classes, what was
//! ignored). Where the two differ that is an error, never a row. [`Edition`]: what verdicts depended on, to be kept.

mod edition;
mod explain;
mod image;
mod ports;
mod query;

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use kordon_ebpf::{
    layout::{Action, Judged, NO_CLASS, ProbeOutput, Reason},
    packet::{Address, Ip, Tags},
    verdict::{NO_SLOT, Observer, Verdict, Work, decide},
};
use serde::Serialize;

pub use self::{
    edition::Edition, explain::explain, image::Image, ports::ports, query::ExplainQuery,
};
use crate::{
    asn::model::AsnDb,
    compile::{
        directory::{Directory, Identity},
        generation::{Environment, PortSpec},
    },
    datapath::probe::Prober,
    diagnostic::{Problem, quoted},
    policy::model::Policy,
};

/// Lengths of frames that the kernel runs. The upper bound is above every IP packet
/// with tags; `BPF_PROG_TEST_RUN` has room for little more.
const RUNNABLE: std::ops::RangeInclusive<usize> = 14..=(1 << 16) + 128;

/// Who decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// The program in the kernel.
    #[default]
    Kernel,
    /// The library in this process.
    Reference,
}

/// What is known offline of the router.
#[derive(Clone, Debug, Default)]
pub struct Router {
    /// The interface that frames arrive on, or all that it may be; none: one without a name.
    pub ports: Vec<PortSpec>,
    /// The router's own addresses.
    pub addresses: Vec<IpAddr>,
    /// By zone, prefixes for `sources = "connected"`; absent: unchecked.
    pub connected: BTreeMap<String, Vec<IpNet>>,
}

impl Router {
    /// The same connected prefixes for every zone of a policy; none: unchecked.
    #[must_use]
    pub fn connected_everywhere(
        policy: &Policy,
        prefixes: &[IpNet],
    ) -> BTreeMap<String, Vec<IpNet>> {
        let zones = policy.zones.iter().filter(|_| !prefixes.is_empty());
        zones
            .map(|zone| (zone.name.clone(), prefixes.to_vec()))
            .collect()
    }
}

/// One judged frame. The fields are those of `replay --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Name of the zone.
    pub zone: Option<String>,
    /// `pass`, `audit` or `drop`.
    pub action: &'static str,
    /// A reason's word.
    pub reason: &'static str,
    /// Name of the rule.
    pub rule: Option<String>,
    /// Source.
    pub src: Option<IpAddr>,
    /// Destination.
    pub dst: Option<IpAddr>,
    /// The address that decided.
    pub judged: Option<IpAddr>,
    /// Its first origin.
    pub asn: Option<u32>,
    /// All its origins.
    pub origins: Vec<u32>,
    /// Its country: of the block, else of the registration.
    pub country: Option<String>,
    /// `reference` where the kernel was asked and cannot run the frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<&'static str>,
}

/// A policy and a database, ready to judge frames.
pub struct Judge<'a> {
    db: &'a AsnDb,
    ports: Vec<PortSpec>,
    image: Image,
    directory: Directory,
    prober: Option<Prober>,
    work: Work,
}

/// What the library saw on its way to a verdict.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The frame's tags, where a zone was found.
    pub tags: Option<Tags>,
    /// The packet's headers.
    pub ip: Option<Ip>,
    /// Headers of the packet inside a tunnel.
    pub inner: Option<Ip>,
    /// Every address that was judged.
    pub judged: Vec<(Judged, Address, u32, Action)>,
    /// Reasons that were met and ignored.
    pub noted: Vec<Reason>,
}

impl Observer for Trace {
    fn zone(&mut self, _id: u32, tags: &Tags) {
        self.tags = Some(*tags);
    }
    fn ip(&mut self, ip: &Ip) {
        self.ip = Some(*ip);
    }
    fn inner(&mut self, ip: &Ip) {
        self.inner = Some(*ip);
    }
    fn judged(&mut self, judged: Judged, address: Address, class: u32, action: Action) {
        self.judged.push((judged, address, class, action));
    }
    fn noted(&mut self, reason: Reason) {
        if !self.noted.contains(&reason) {
            self.noted.push(reason);
        }
    }
}

/// An address as the standard library has it.
#[must_use]
pub fn ip_addr(address: Address) -> IpAddr {
    if address.v6 {
        IpAddr::V6((u128::from(address.hi) << 64 | u128::from(address.lo)).into())
    } else {
        IpAddr::V4((address.lo as u32).into())
    }
}

impl<'a> Judge<'a> {
    /// Compiles a policy for the interfaces that frames may arrive on.
    ///
    /// # Errors
    /// When the policy does not fit, or the kernel cannot load the program.
    pub fn new(
        policy: &Policy,
        db: &'a AsnDb,
        router: &Router,
        engine: Engine,
    ) -> anyhow::Result<Self> {
        let mut ports = router.ports.clone();
        if ports.is_empty() {
            ports.push(PortSpec::default());
        }
        let environment = Environment {
            router: router.addresses.clone(),
            connected: router.connected.clone(),
            ports: ports.clone(),
        };
        let mut directory = Directory::default();
        let image = Image::compile(policy, db, &environment, &mut directory)?;
        let prober = match engine {
            Engine::Reference => None,
            Engine::Kernel => {
                let mut prober = Prober::load(image.tier)?;
                prober.install(&image.rules, &image.table)?;
                Some(prober)
            }
        };
        Ok(Self {
            db,
            ports,
            image,
            directory,
            prober,
            work: Work::default(),
        })
    }

    /// Judges one frame.
    ///
    /// # Errors
    /// When the kernel cannot run it, or says something else than the library, and when its
    /// verdict depends on which of several interfaces it arrived on ([`Problem`]).
    pub fn row(&mut self, frame: &[u8]) -> anyhow::Result<(Row, Trace)> {
        let first = self.row_on(0, frame)?;
        let mut rows = vec![first.0.clone()];
        for port in 1..self.ports.len() as u32 {
            rows.push(self.row_on(port, frame)?.0);
        }
        if rows.iter().all(|row| *row == first.0) {
            return Ok(first);
        }
        let words = self.ports.iter().zip(&rows).map(|(port, row)| {
            let why = match &row.rule {
                Some(rule) => format!("rule {}", quoted(rule)),
                None => row.reason.to_owned(),
            };
            format!("{}: {} ({why})", ports::word(port), row.action)
        });
        let words: Vec<String> = words.collect();
        let message = format!("the verdict depends on the interface; {}", words.join(", "));
        let help = "`--interface NAME` says which one is meant";
        Err(Problem::new(message, help).into())
    }

    fn row_on(&mut self, port: u32, frame: &[u8]) -> anyhow::Result<(Row, Trace)> {
        let mut trace = Trace::default();
        let verdict = decide(frame, port, &self.image, &mut self.work, &mut trace);
        let mut engine = None;
        match &mut self.prober {
            Some(prober) if RUNNABLE.contains(&frame.len()) => {
                let said = prober.run(frame, port)?;
                let library = ProbeOutput::from(&verdict);
                anyhow::ensure!(
                    said == library,
                    "the kernel says {said:?}, the library {library:?}"
                );
            }
            Some(_) => engine = Some("reference"),
            None => {}
        }
        Ok((self.describe(&verdict, &trace, engine), trace))
    }

    fn describe(&self, verdict: &Verdict, trace: &Trace, engine: Option<&'static str>) -> Row {
        let mut row = Row {
            zone: None,
            action: verdict.action.as_str(),
            reason: Reason::NoZone.as_str(),
            rule: None,
            src: None,
            dst: None,
            judged: None,
            asn: None,
            origins: Vec::new(),
            country: None,
            engine,
        };
        let mut show_addresses = true;
        match self.directory.identity(verdict.slot) {
            Some(Identity::Zone(zone, reason, _)) => {
                row.zone = Some(zone);
                row.reason = reason.as_str();
                show_addresses = reason != Reason::NotIp;
            }
            Some(Identity::Rule(zone, rule, _)) => {
                row.zone = Some(zone);
                row.reason = Reason::Rule.as_str();
                row.rule = Some(rule);
            }
            Some(Identity::Port(_, reason, _)) => {
                row.reason = reason.as_str();
                show_addresses = false;
            }
            _ => show_addresses = false,
        }
        if let Some(ip) = trace.ip.filter(|ip| show_addresses && ip.readable) {
            row.src = Some(ip_addr(ip.src));
            row.dst = Some(ip_addr(ip.dst));
            let decided = trace
                .judged
                .iter()
                .find(|(judged, ..)| *judged == verdict.judged && verdict.class != NO_CLASS);
            let judged = decided.map_or(ip.dst, |(_, address, ..)| *address);
            row.judged = Some(ip_addr(judged));
            let answer = self.db.lookup(ip_addr(judged));
            row.asn = answer.asn;
            row.origins = answer.origins;
            row.country = answer.country.map(|country| country.to_string());
        }
        debug_assert!(verdict.slot == NO_SLOT || row.zone.is_some() || !show_addresses);
        row
    }

    /// The image that decides.
    #[must_use]
    pub fn image(&self) -> &Image {
        &self.image
    }
}
