//! Packets that arrive on an interface: what one costs the processor that receives it,
//! with kordon on the interface, with others, and with nothing.
//!
//! Each has a cable ([`link`]) of its own, and first judges a sample ([`paced`]); all are up at once and take turns. Packets
//! carry one tag. Those that pass end in the receiving stack, which has no route for
//! them; as there need not be a VLAN device, a tc program takes the tag off before it, for
//! everyone alike.

pub(super) mod filter;
pub(super) mod firewall;
pub(super) mod link;
pub(super) mod paced;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use fastrand::Rng;
use ipnet::IpNet;
use kordon::datapath::programs::program;
use kordon_ebpf::layout::{Action, mode};

use super::Wanted;
use super::internet::{Input, Internet};
use super::measured::{Measured, Values};
use super::packet::Family;
use super::processors::Processors;
use super::subject::{Bench, Held, Kordon, Recorded};
use crate::lab::flood::DESTINATIONS;
use filter::{XDP_FILTER_ROOM, xdp_filter};
use firewall::{Firewall, Late};
use link::{Flow, Link, Sender};
use paced::SAMPLE;

/// How long each case is sent to in each round.
const TIME: Duration = Duration::from_millis(60);

/// How cases end with as many flows as some cameras have.
const CAMERAS: &str = "/cameras";
/// How many these are.
const FLOWS: usize = 1024;

/// Who judges the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// Nobody: they all end in the stack.
    Stack,
    /// A program that drops everything.
    XdpDrop,
    /// One that drops what has a destination, for which it has to read the packet.
    XdpRead,
    /// A program that passes everything.
    XdpPass,
    /// With the ledger, as kordon is where nothing is said.
    Kordon,
    /// Without it: `record = "off"`.
    Off,
    /// With its guard behind it, as a router has it.
    Guarded,
    /// The guard alone.
    Tc,
    Lpm,
    Dir,
    Firewall(Firewall),
    XdpFilter,
}

impl Peer {
    const ALL: [Self; 14] = [
        Self::Stack,
        Self::XdpDrop,
        Self::XdpRead,
        Self::XdpPass,
        Self::Kordon,
        Self::Off,
        Self::Guarded,
        Self::Tc,
        Self::Lpm,
        Self::Dir,
        Self::Firewall(Firewall::NftIngress),
        Self::Firewall(Firewall::NftPrerouting),
        Self::Firewall(Firewall::Ipset),
        Self::XdpFilter,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Stack => "stack",
            Self::XdpDrop => "xdp-drop",
            Self::XdpRead => "xdp-read",
            Self::XdpPass => "xdp-pass",
            Self::Kordon => "kordon",
            Self::Off => "kordon-off",
            Self::Guarded => "kordon-guard",
            Self::Tc => "kordon-tc",
            Self::Lpm => "lpm",
            Self::Dir => "dir-24-8",
            Self::Firewall(firewall) => firewall.name(),
            Self::XdpFilter => "xdp-filter",
        }
    }

    /// Cases: name, fate of the packets, whether they have a tag. The programs of our own
    /// that are compared look only at frames with a tag.
    fn cases(self) -> Vec<(String, Action, bool)> {
        let name = self.name();
        let mut cases = self.cases_of(name);
        if matches!(
            self,
            Self::Kordon
                | Self::Off
                | Self::Dir
                | Self::XdpRead
                | Self::Firewall(Firewall::NftIngress)
        ) {
            let some = cases.clone().into_iter().filter(|(.., tagged)| *tagged);
            cases.extend(some.map(|(case, action, tagged)| (case + CAMERAS, action, tagged)));
        }
        cases
    }

    fn cases_of(self, name: &str) -> Vec<(String, Action, bool)> {
        let both = |suffix: &str, tagged| {
            [Action::Drop, Action::Pass].map(|action| {
                let case = format!("{name}/{}{suffix}", action.as_str());
                (case, action, tagged)
            })
        };
        match self {
            Self::Stack => vec![
                (name.to_owned(), Action::Pass, true),
                (format!("{name}/untagged"), Action::Pass, false),
            ],
            Self::XdpDrop | Self::XdpRead => vec![(name.to_owned(), Action::Drop, true)],
            Self::XdpPass => vec![(name.to_owned(), Action::Pass, true)],
            Self::Lpm | Self::Dir => both("", true).to_vec(),
            _ => [both("", true), both("/untagged", false)].concat(),
        }
    }

    /// Whether it is no program of ours.
    fn is_foreign(self) -> bool {
        matches!(self, Self::Firewall(_) | Self::XdpFilter)
    }

    /// Whether what it drops never gets to where tags are taken off. nftables' ingress comes
    /// after that, and must not pay for it: it finds the address behind a tag, too.
    fn drops_early(self) -> bool {
        !matches!(
            self,
            Self::Stack | Self::XdpPass | Self::Firewall(Firewall::NftPrerouting | Firewall::Ipset)
        )
    }
}

/// One that is set up.
struct Candidate {
    peer: Peer,
    link: Link,
    cases: Vec<(String, Action, bool)>,
    /// What is attached goes with these.
    kordon: Option<Kordon>,
    _guard: Option<Ebpf>,
    _bench: Option<Bench>,
}

/// Destinations of each fate.
struct Flows {
    drop: Vec<Input>,
    pass: Vec<Input>,
}

impl Flows {
    fn of(internet: &Internet) -> Result<Self> {
        let some = |action| {
            let pool = internet.pool(Family::V4, action);
            ensure!(!pool.is_empty(), "no IPv4 prefix is to {}", action.as_str());
            Ok(pool[..pool.len().min(DESTINATIONS)].to_vec())
        };
        Ok(Self {
            drop: some(Action::Drop)?,
            pass: some(Action::Pass)?,
        })
    }

    /// Those that a case of a peer is measured with: xdp-filter has single addresses, and few.
    fn to(&self, peer: Peer, action: Action, case: &str) -> &[Input] {
        let all = self.all(peer, action);
        match case.ends_with(CAMERAS) {
            true => &all[..all.len().min(FLOWS)],
            false => all,
        }
    }

    fn all(&self, peer: Peer, action: Action) -> &[Input] {
        match (peer, action) {
            (Peer::XdpFilter, Action::Drop) => &self.drop[..self.drop.len().min(XDP_FILTER_ROOM)],
            (_, Action::Drop) => &self.drop,
            _ => &self.pass,
        }
    }
}

/// Prefixes that are dropped.
pub(super) fn blocked(internet: &Internet) -> Vec<IpNet> {
    let dropped = internet
        .prefixes
        .iter()
        .filter(|(.., action)| *action == Action::Drop);
    dropped.map(|(net, ..)| *net).collect()
}

fn set_up(
    peer: Peer,
    sender: &mut Sender,
    internet: &Internet,
    flows: &Flows,
    processors: Processors,
) -> Result<Candidate> {
    let mut link = sender.link(processors)?;
    let (mut kordon, mut guard, mut bench) = (None, None, None);
    match peer {
        Peer::Stack => {}
        Peer::Kordon | Peer::Off | Peer::Guarded | Peer::Tc => {
            let recorded = match peer {
                Peer::Off => Recorded::Nothing,
                _ => Recorded::Everything,
            };
            let mut loaded = Kordon::load(internet, mode::LIVE, recorded)?;
            if peer != Peer::Tc {
                link.attach(program(&mut loaded.ebpf, "kordon")?)?;
            }
            if matches!(peer, Peer::Guarded | Peer::Tc) {
                let mut ebpf = loaded.guard(peer == Peer::Tc)?;
                let program = ebpf.program_mut("guard").context("it is in the object")?;
                link.attach_tc(program.try_into()?)?;
                guard = Some(ebpf);
            }
            kordon = Some(loaded);
        }
        Peer::XdpDrop | Peer::XdpRead | Peer::XdpPass | Peer::Lpm | Peer::Dir => {
            let name = match peer {
                Peer::XdpDrop => "xdp_drop",
                Peer::XdpRead => "xdp_read",
                Peer::XdpPass => "xdp_pass",
                Peer::Lpm => "lpm",
                _ => "dir_24_8",
            };
            let mut loaded = Bench::load(internet, Held::Blocked)?;
            link.attach(program(&mut loaded.ebpf, name)?)?;
            bench = Some(loaded);
        }
        Peer::Firewall(firewall) => {
            let mut script = firewall.load(&link.device, &blocked(internet)).ready()?;
            script.run(&link.namespace)?;
        }
        Peer::XdpFilter => {
            let room = xdp_filter(&link.namespace, &link.device, flows.all(peer, Action::Drop))?;
            eprintln!(
                "wire: xdp-filter takes no prefixes; it has {room} of the addresses that are \
                 blocked, and `xdp-filter/drop` is sent to these alone"
            );
        }
    }
    Ok(Candidate {
        peer,
        link,
        cases: peer.cases(),
        kordon,
        _guard: guard,
        _bench: bench,
    })
}

/// Sets one up, and makes sure that it does what is measured.
fn verified(
    peer: Peer,
    sender: &mut Sender,
    internet: &Internet,
    flows: &Flows,
    processors: Processors,
) -> Result<Candidate> {
    let mut candidate = set_up(peer, sender, internet, flows, processors)
        .with_context(|| format!("cannot set up `{}`", peer.name()))?;
    verify(&mut candidate, flows).with_context(|| format!("cannot verify `{}`", peer.name()))?;
    Ok(candidate)
}

/// That a candidate drops what it is to drop and nothing else, on a sample.
fn verify(candidate: &mut Candidate, flows: &Flows) -> Result<()> {
    let Candidate {
        peer, link, cases, ..
    } = candidate;
    link.untag(true)?;
    for (case, action, tagged) in cases {
        let destinations = flows.to(*peer, *action, case);
        let destinations = &destinations[..destinations.len().min(SAMPLE)];
        let late = Late::begin(&link.namespace)?;
        let flow = Flow {
            destinations,
            tagged: *tagged,
        };
        link.each(flow)?;
        let [arrived, _] = late.packets()?;
        late.end()?;
        let right = match action {
            Action::Drop => 0,
            _ => destinations.len() as u64,
        };
        ensure!(
            arrived == right,
            "`{case}`: {arrived} of {} packets passed, where {right} should: what they cost \
             means nothing",
            destinations.len()
        );
    }
    Ok(())
}

/// Measures all cases whose names contain a text.
pub(super) fn measure(internet: &Internet, wanted: Wanted<'_>) -> Result<Vec<Measured>> {
    let Wanted {
        rounds,
        part,
        processors,
        ..
    } = wanted;
    if processors.first == processors.last {
        eprintln!("wire: sender and receiver share the only processor there is");
    }
    let flows = Flows::of(internet)?;
    let mut sender = Sender::new()?;
    let mut candidates = Vec::new();
    for peer in Peer::ALL {
        // `stack` and kordon are what the others are compared with.
        let compared = peer == Peer::Stack && peer_passes(part);
        if !compared && !peer.cases().iter().any(|(case, ..)| case.contains(part)) {
            continue;
        }
        match verified(peer, &mut sender, internet, &flows, processors) {
            Ok(candidate) => candidates.push(candidate),
            // A firewall need not be on this machine; we must.
            Err(error) if peer.is_foreign() => {
                eprintln!("SKIPPED: wire: `{}`: {error:#}", peer.name());
            }
            Err(error) => return Err(error),
        }
    }
    let mut order: Vec<(usize, usize)> = candidates
        .iter()
        .enumerate()
        .flat_map(|(index, candidate)| (0..candidate.cases.len()).map(move |case| (index, case)))
        .collect();
    let mut rng = Rng::with_seed(4);
    let mut rows: Vec<(String, f64)> = Vec::new();
    for _ in 0..rounds {
        rng.shuffle(&mut order);
        for (index, case) in &order {
            let Candidate {
                peer,
                link,
                cases,
                kordon,
                ..
            } = &mut candidates[*index];
            // What a router's controller does meanwhile.
            if let Some(kordon) = kordon {
                kordon.empty();
            }
            let (name, action, tagged) = &cases[*case];
            link.untag(!(*action == Action::Drop && peer.drops_early()))?;
            let flow = Flow {
                destinations: flows.to(*peer, *action, name),
                tagged: *tagged,
            };
            let took = sender
                .flood(link, flow, TIME, processors)
                .with_context(|| format!("case `{name}`"))?;
            rows.push((name.clone(), took));
        }
    }
    Ok(told(rows, order.len(), part))
}

/// Whether cases of passing packets may be asked for, which are compared with `stack`.
fn peer_passes(part: &str) -> bool {
    part.contains("pass")
}

/// Each case; packets in a second of the processor; and what judging adds to those
/// that pass, over the stack in the same round.
fn told(rows: Vec<(String, f64)>, in_round: usize, part: &str) -> Vec<Measured> {
    let mut names: Vec<String> = Vec::new();
    for peer in Peer::ALL {
        names.extend(peer.cases().into_iter().map(|(name, ..)| name));
    }
    let mut values = Values::default();
    for name in &names {
        for (_, took) in rows.iter().filter(|(case, _)| case == name) {
            values.note(name, "ns", *took);
        }
    }
    for name in &names {
        for round in rows.chunks(in_round.max(1)) {
            let of = |wanted: &str| round.iter().find(|(case, _)| case == wanted);
            let stack = if name.ends_with("/untagged") {
                "stack/untagged"
            } else {
                "stack"
            };
            if let (true, Some((_, took)), Some((_, stack))) =
                (name.contains("/pass"), of(name), of(stack))
            {
                values.note(format!("{name}/added"), "ns", took - stack);
            }
        }
    }
    for name in &names {
        for (_, took) in rows.iter().filter(|(case, _)| case == name) {
            values.note(format!("{name}/rate"), "Mpps", 1e3 / took);
        }
    }
    let mut rows = values.measured("wire");
    rows.retain(|row| row.case.contains(part));
    rows
}
