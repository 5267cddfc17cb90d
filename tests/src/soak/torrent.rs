//! Frames by the million in a router of the tests, of six kinds. Of each it is known exactly how many
//! the policed interface took (its own count says), and how many arrived behind all that judges;
//! so what the counters of zones, rules, reasons and ASNs have to say is known as well.

use std::{
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ipnet::Ipv4Net;

use crate::{
    controller::Metrics,
    lab::{
        Wire,
        counters::{Counters, Received},
        flood::{BATCH, Flood},
        frame,
        programs::{Arrivals, Arrived},
        raw::RawSender,
    },
};

/// Frames of one kind in a row: those that the kernel makes, in a call that costs more than some
/// thousand of them, and those that come from a socket. Where there is no hurry, a part of them.
const TURN: (usize, usize) = (1024 * BATCH, 2048);
const PART: usize = 8;
/// Bytes of a frame: Ethernet, tag, IP, UDP, data.
const FRAME: usize = 14 + 4 + 20 + 8 + 64;
/// Of so many frames at most one is between two programs while rules change.
const RARE: u64 = 100_000;
/// What was not taken or lost by then never will be, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What becomes of a kind of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// None arrives.
    Drop,
    /// All arrive.
    Pass,
    /// All arrive, and are marked.
    Audit,
    /// All arrive or none, as the policy or the routes are at that moment.
    Changes,
}

/// One kind of frames.
pub struct Kind {
    /// For messages.
    pub name: &'static str,
    /// Whose they are.
    pub zone: &'static str,
    /// Who decides when they are dropped or marked: a rule and an ASN, or a reason.
    pub by: Result<(&'static str, u32), &'static str>,
    /// What becomes of them.
    pub fate: Fate,
    /// Turns of a round.
    pub share: usize,
    to: Ipv4Net,
    /// One to each destination; the next is the one with this number.
    frames: Vec<Vec<u8>>,
    next: usize,
    /// Sends those of which none goes on to the stack.
    flood: Option<Flood>,
    /// Taken by the interface.
    taken: u64,
    /// Found no room in its queue.
    lost: u64,
}

impl Kind {
    fn new(
        wire: &Wire,
        (vlan, source, to): (u16, [u8; 4], &str),
        kind: (&'static str, &'static str, Fate, usize),
        by: Result<(&'static str, u32), &'static str>,
    ) -> Result<Self> {
        let (name, zone, fate, share) = kind;
        let to: Ipv4Net = to.parse()?;
        let frame = |to: Ipv4Addr| {
            let packet = frame::udp(
                Ipv4Addr::from(source).into(),
                to.into(),
                (40_000, 443),
                &[0; 64],
            );
            let link = frame::Ethernet::new([2; 6], [4; 6]).tag(0x8100, vlan);
            link.packet(&packet)
        };
        let frames: Vec<_> = to.hosts().map(frame).collect();
        let flood = if fate == Fate::Drop {
            let mut flood = Flood::new()?;
            let interface = wire.namespace.ifindex("out")?;
            let all: Vec<_> = to.hosts().map(|host| host.octets()).collect();
            flood.aim(interface, frame(to.addr()), 18, all.into_iter())?;
            Some(flood)
        } else {
            None
        };
        Ok(Self {
            name,
            zone,
            by,
            fate,
            share,
            to,
            frames,
            next: 0,
            flood,
            taken: 0,
            lost: 0,
        })
    }
}

/// In zone `cameras` (VLAN 20): blocked by rule `hostile` on AS64500; never named; with a source that
/// is not the zone's; blocked by rule `extra` on AS64501, while the policy has that rule; of
/// 192.0.2.128/25, whoever has it. In zone `office` (VLAN 30): marked by rule `watch`.
///
/// # Errors
/// If a sender cannot be loaded.
pub fn kinds(wire: &Wire) -> Result<Vec<Kind>> {
    let (camera, desk, stranger) = ([10, 20, 0, 5], [10, 30, 0, 5], [10, 99, 0, 5]);
    Ok(vec![
        Kind::new(
            wire,
            (20, camera, "198.51.100.0/25"),
            ("blocked", "cameras", Fate::Drop, 8),
            Ok(("hostile", 64500)),
        )?,
        Kind::new(
            wire,
            (20, camera, "192.0.2.0/25"),
            ("passes", "cameras", Fate::Pass, 2),
            Err("default"),
        )?,
        Kind::new(
            wire,
            (20, stranger, "203.0.113.128/25"),
            ("spoofed", "cameras", Fate::Drop, 1),
            Err("spoofed-source"),
        )?,
        Kind::new(
            wire,
            (30, desk, "198.51.100.128/25"),
            ("marked", "office", Fate::Audit, 1),
            Ok(("watch", 64500)),
        )?,
        Kind::new(
            wire,
            (20, camera, "203.0.113.0/25"),
            ("by policy", "cameras", Fate::Changes, 1),
            Ok(("extra", 64501)),
        )?,
        Kind::new(
            wire,
            (20, camera, "192.0.2.128/25"),
            ("by BGP", "cameras", Fate::Changes, 1),
            Ok(("hostile", 64500)),
        )?,
    ])
}

/// What became of frames that were sent in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Taken by the interface.
    pub taken: u64,
    /// Of these arrived.
    pub arrived: u64,
}

/// What a sum over samples has to be.
struct Sum {
    name: &'static str,
    labels: Vec<(&'static str, String)>,
    value: u64,
}

/// See the module. Lives in a thread inside the router's namespace.
pub struct Torrent<'a> {
    kinds: &'a mut [Kind],
    sender: &'a RawSender,
    counters: &'a Counters,
    arrivals: &'a Arrivals,
    /// Which kind is next.
    turn: usize,
}

impl<'a> Torrent<'a> {
    /// Of these kinds, onto a wire whose sender, counters and arrivals these are.
    #[must_use]
    pub fn new(
        kinds: &'a mut [Kind],
        sender: &'a RawSender,
        counters: &'a Counters,
        arrivals: &'a Arrivals,
    ) -> Self {
        Self {
            kinds,
            sender,
            counters,
            arrivals,
            turn: 0,
        }
    }

    /// Frames that the interface took of all kinds.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.taken).sum()
    }

    /// Frames that found no room in the interface's queue, of all kinds.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.lost).sum()
    }

    /// Sends the next thousands of one kind, or fewer.
    ///
    /// # Errors
    /// If the interface does not take them.
    pub fn flow(&mut self, gently: bool) -> Result<()> {
        let round: usize = self.kinds.iter().map(|kind| kind.share).sum();
        let mut at = self.turn % round;
        self.turn += 1;
        let next = self.kinds.iter().position(|kind| {
            let here = at < kind.share;
            at = at.saturating_sub(kind.share);
            here
        });
        let next = next.context("there are kinds")?;
        let turn = match self.kinds[next].flood {
            Some(_) => TURN.0,
            None => TURN.1,
        };
        self.send(next, if gently { turn / PART } else { turn })
    }

    fn send(&mut self, index: usize, count: usize) -> Result<()> {
        let before = self.counters.of("in")?;
        let kind = self.kinds.get_mut(index).context("there is that kind")?;
        match &mut kind.flood {
            Some(flood) => flood.send(count)?,
            None => {
                for frame in kind.frames.iter().cycle().skip(kind.next).take(count) {
                    self.sender.send(frame)?;
                }
                kind.next = (kind.next + count) % kind.frames.len();
            }
        }
        let end = Instant::now() + PATIENCE;
        let done = loop {
            let now = self.counters.of("in")?;
            let done = Received {
                packets: now.packets - before.packets,
                lost: now.lost - before.lost,
            };
            if done.packets + done.lost >= count as u64 {
                break done;
            }
            ensure!(
                Instant::now() < end,
                "of {count} frames of `{}` the interface took {done:?}",
                kind.name
            );
            thread::yield_now();
        };
        ensure!(
            done.packets + done.lost == count as u64,
            "of {count} frames of `{}` the interface took {done:?}: somebody else sends",
            kind.name
        );
        kind.taken += done.packets;
        kind.lost += done.lost;
        Ok(())
    }

    /// Sends some of one kind, and says what became of them.
    ///
    /// # Errors
    /// If the interface does not take them.
    pub fn ask(&mut self, name: &str, count: usize) -> Result<Told> {
        let index = self.kinds.iter().position(|kind| kind.name == name);
        let index = index.with_context(|| format!("no kind `{name}`"))?;
        let (to, taken) = (self.kinds[index].to, self.kinds[index].taken);
        let before = self.settled(to, 0)?.packets;
        self.send(index, count)?;
        let taken = self.kinds[index].taken - taken;
        let after = self.settled(to, before + taken)?.packets;
        Ok(Told {
            taken,
            arrived: after - before,
        })
    }

    /// What arrived for a prefix: once that is as much as may come, or nothing more comes.
    fn settled(&self, to: Ipv4Net, most: u64) -> Result<Arrived> {
        let mut last = self.arrivals.within(to)?;
        loop {
            if last.packets == most {
                return Ok(last);
            }
            thread::sleep(Duration::from_millis(5));
            let now = self.arrivals.within(to)?;
            if now == last {
                return Ok(now);
            }
            last = now;
        }
    }

    /// That counters and arrivals are what was sent, each to the frame and to the byte; `begin` are
    /// the counters before anything was, `read` reads them.
    ///
    /// # Errors
    /// All that is not so.
    pub fn check(&self, begin: &Metrics, read: impl FnOnce() -> Result<Metrics>) -> Result<()> {
        let mut wrong = Vec::new();
        let mut expected: Vec<Sum> = Vec::new();
        let mut expect = |name: &'static str, labels: &[(&'static str, &str)], value: u64| {
            let labels: Vec<_> = labels.iter().map(|(l, v)| (*l, (*v).to_owned())).collect();
            let is_known = |sum: &&mut Sum| sum.name == name && sum.labels == labels;
            match expected.iter_mut().find(is_known) {
                Some(sum) => sum.value += value,
                None => expected.push(Sum {
                    name,
                    labels,
                    value,
                }),
            }
        };
        let settled = |kind: &Kind| Ok(self.settled(kind.to, kind.taken)?.packets);
        let arrived: Vec<u64> = self.kinds.iter().map(settled).collect::<Result<_>>()?;
        let now = &read()?;
        for (kind, arrived) in self.kinds.iter().zip(arrived.iter().copied()) {
            let right = match kind.fate {
                Fate::Drop => arrived == 0,
                Fate::Pass | Fate::Audit => arrived == kind.taken,
                Fate::Changes => arrived <= kind.taken,
            };
            if !right {
                wrong.push(format!(
                    "of {} frames of `{}` {arrived} arrived",
                    kind.taken, kind.name
                ));
            }
            let size = FRAME as u64;
            let stopped = kind.taken - arrived;
            let through = match kind.fate {
                Fate::Audit => "audit",
                _ => "pass",
            };
            for (action, packets) in [("drop", stopped), (through, arrived)] {
                let zone = [("zone", kind.zone), ("action", action)];
                expect("kordon_packets_total", &zone, packets);
                expect("kordon_bytes_total", &zone, packets * size);
                match kind.by {
                    Ok((rule, asn)) if action != "pass" => {
                        let asn = asn.to_string();
                        let rule = [zone[0], ("rule", rule), zone[1]];
                        let asn = [zone[0], ("asn", asn.as_str()), zone[1]];
                        expect("kordon_rule_packets_total", &rule, packets);
                        expect("kordon_rule_bytes_total", &rule, packets * size);
                        expect("kordon_asn_packets_total", &asn, packets);
                        expect("kordon_asn_bytes_total", &asn, packets * size);
                        // All of that action.
                        expect("kordon_asn_packets_total", &zone, packets);
                        expect("kordon_asn_bytes_total", &zone, packets * size);
                    }
                    _ => {
                        let why = kind.by.err().filter(|_| action == "drop");
                        let reason = [zone[0], ("reason", why.unwrap_or("default")), zone[1]];
                        expect("kordon_reason_packets_total", &reason, packets);
                    }
                }
            }
        }
        // The rules may change under a packet that is between the program, which passed it, and the
        // guard, which drops it: none is let through, but it is counted by both.
        let stopped = "kordon_guard_dropped_packets_total";
        let twice = now.sum(stopped, &[]) - begin.sum(stopped, &[]);
        if twice > 0 {
            println!("{twice} passed by the program and dropped by the guard, by later rules");
        }
        if twice * RARE > self.taken() {
            wrong.push(format!("{twice} were dropped by the guard"));
        }
        let size = FRAME as u64;
        let pass = [("zone", "cameras"), ("action", "pass")];
        let default = [pass[0], ("reason", "default"), pass[1]];
        expect("kordon_packets_total", &pass, twice);
        expect("kordon_bytes_total", &pass, twice * size);
        expect("kordon_reason_packets_total", &default, twice);
        for by in ["xdp", "guard"] {
            expect(
                "kordon_interface_passed_packets_total",
                &[("by", by)],
                twice,
            );
        }
        for by in ["xdp", "guard"] {
            expect(
                "kordon_interface_passed_packets_total",
                &[("by", by)],
                arrived.iter().sum(),
            );
        }
        for nothing in [
            "kordon_interface_packets_total",
            "kordon_interface_unpoliced_packets_total",
            "kordon_interface_missed_packets_total",
        ] {
            expect(nothing, &[], 0);
        }
        for sum in &expected {
            let labels: Vec<_> = sum.labels.iter().map(|(l, v)| (*l, v.as_str())).collect();
            let of = |metrics: &Metrics| metrics.sum(sum.name, &labels);
            // A daemon that starts counts some from zero.
            let counted = of(now).saturating_sub(of(begin));
            if counted != sum.value {
                wrong.push(format!(
                    "{}{labels:?}: {counted}, not {}",
                    sum.name, sum.value
                ));
            }
        }
        // Rules and reasons make up the zone.
        for zone in ["cameras", "office"] {
            for action in ["drop", "pass", "audit"] {
                let of = |name: &str| now.sum(name, &[("zone", zone), ("action", action)]);
                let parts = of("kordon_rule_packets_total") + of("kordon_reason_packets_total");
                if parts != of("kordon_packets_total") {
                    wrong.push(format!("{zone} {action}: rules and reasons are {parts}"));
                }
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    }

    /// What was sent, by kind.
    #[must_use]
    pub fn summary(&self) -> String {
        let of = |kind: &Kind| format!("{} `{}`", kind.taken, kind.name);
        let all: Vec<_> = self.kinds.iter().map(of).collect();
        all.join(", ")
    }
}
