//! Emulated network cards, whose drivers do what virtual cables never do: take tags out of
//! frames when they are told to, and forget the program that they were given.
//!
//! One daemon polices all of them, so that it is waited for once. Each card has a hub of its
//! own with one other card, which sends; see `xtask/src/vm/machine.rs`.

use std::{
    fs,
    net::Ipv4Addr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rtnetlink::LinkMessageBuilder;
use serde_json::Value;

use super::{
    checks::{Report, Said},
    daemon::{ALLOWED, BLOCKED, Daemon, SENT, dropped, frame},
    link,
};
use crate::lab::raw::RawSender;

/// What the cards are called and policed as, by their hubs. The last one is an e1000e of which
/// kordon may change what it does with tags.
const CARDS: [&str; 4] = ["virtio", "e1000e", "vmxnet3", "managed"];
/// What is to be noticed within a second, on a processor that takes as long for the answer.
const SOON: Duration = Duration::from_secs(10);
/// How long a card may take until it has its link.
const LINK: Duration = Duration::from_secs(30);
/// The first series in which the driver of vmxnet3 runs programs.
const VMXNET3_RUNS: (u32, u32) = (6, 6);

/// Runs all checks that need them.
pub(super) fn run(report: &Report) {
    let place = Path::new("/tmp/cards");
    let mut lab = None;
    report("cards, one daemon on all", &mut || {
        let (all, said) = Lab::new(place)?;
        lab = Some(all);
        Ok(Said::Done(said))
    });
    let Some(mut lab) = lab else { return };
    report("cards, virtio", &mut || lab.drops("virtio"));
    for card in ["e1000e", "vmxnet3"] {
        report(&format!("cards, {card}, tags taken out"), &mut || {
            lab.notices_tags(card)
        });
    }
    report("cards, e1000e, tags by kordon's leave", &mut || {
        lab.switches_off("managed")
    });
    for card in ["virtio", "e1000e", "vmxnet3"] {
        report(&format!("cards, {card}, down and up"), &mut || {
            lab.outlives_a_reset(card)
        });
    }
}

struct Card {
    name: &'static str,
    far: RawSender,
}

struct Lab<'a> {
    cards: Vec<Card>,
    daemon: Daemon<'a>,
}

impl<'a> Lab<'a> {
    fn new(place: &'a Path) -> Result<(Self, String)> {
        let mut cards = Vec::new();
        let mut interfaces = Vec::new();
        for (hub, name) in CARDS.into_iter().enumerate() {
            let far = format!("{name}-far");
            for (end, called) in [(0, name), (1, far.as_str())] {
                let address = format!("52:54:00:00:{hub:02x}:{end:02x}");
                link::set(&device(&address)?, |link| link.name(called))?;
                // Frames are to nobody's address, and tags are not registered.
                link::set(called, |link| link.promiscuous(true).up())?;
            }
            let managed = name == "managed";
            if managed {
                ensure!(
                    link::takes_tags(name)?,
                    "`{name}` begins without the offload"
                );
            } else if name != "virtio" {
                link::take_tags(name, false)?;
            }
            for end in [name, &far] {
                wait_for_link(end)?;
            }
            let far = RawSender::here(&far)?;
            cards.push(Card { name, far });
            interfaces.push(format!(
                "name = \"{name}\"\ndevice = \"{name}\"\nmanage_offload = {managed}\n"
            ));
        }
        let mut daemon = Daemon::start(place, &interfaces, false)?;
        let status = daemon.until("it enforces", |status| status["enforcing"] == true)?;
        let native = series()? >= VMXNET3_RUNS;
        let modes = [
            "native",
            "generic",
            if native { "native" } else { "generic" },
            "generic",
        ];
        let mut said = Vec::new();
        for (index, name) in CARDS.iter().enumerate() {
            let interface = &status["interfaces"][index];
            let (mode, guard) = (&interface["mode"], &interface["guard"]);
            ensure!(mode == modes[index], "`{name}` is attached in mode {mode}");
            ensure!(guard.is_string(), "`{name}` has no guard");
            said.push(format!("{name} {}", modes[index]));
        }
        Ok((Self { cards, daemon }, said.join(", ")))
    }

    fn send(&self, card: &str) -> Result<()> {
        let far = far_end(&self.cards, card)?;
        for _ in 0..SENT {
            far.send(&frame(BLOCKED))?;
        }
        Ok(())
    }

    /// Now.
    fn status(&mut self) -> Result<Value> {
        self.daemon.until("it answers", |_| true)
    }

    /// All that is sent to it is dropped, and nothing is wrong.
    fn drops(&mut self, card: &str) -> Result<Said> {
        let before = dropped(&self.status()?);
        self.send(card)?;
        let status = self
            .daemon
            .until("all is dropped", |status| dropped(status) == before + SENT)?;
        ensure!(status["enforcing"] == true, "{}", status["reasons"]);
        Ok(Said::Done(format!("{SENT} of {SENT} dropped")))
    }

    /// The card takes tags out of frames for a while.
    fn notices_tags(&mut self, card: &str) -> Result<Said> {
        self.drops(card)?;
        link::take_tags(card, true)?;
        let start = Instant::now();
        // Before any frame.
        let offload = format!(
            "cannot see the VLAN tags on `{card}`: rx-vlan-offload is on: the hardware takes the \
             tags away before XDP"
        );
        let cure = format!("`ethtool -K {card} rxvlan off`");
        self.daemon.until("it notices the offload", |status| {
            is_stood_in_for(status, card) && is_among(status, &[&offload, &cure])
        })?;
        let took = start.elapsed();
        ensure!(took < SOON, "noticed only after {took:?}");
        link::take_tags(card, false)?;
        wait_for_link(card)?;
        self.under_fire(card, ALLOWED, "it is content by itself", |status| {
            interface(status, card)["by"] == "xdp"
        })?;

        link::take_tags(card, true)?;
        wait_for_link(card)?;
        let hidden = format!("are hidden from the program on `{card}`");
        let status = self.under_fire(card, ALLOWED, "it notices hidden tags", |status| {
            is_among(status, &[&offload]) || is_among(status, &[&hidden, "0x8100"])
        })?;
        ensure!(is_stood_in_for(&status, card), "{status}");
        // The guard drops what the program does not see. The driver of vmxnet3 takes none of these
        // frames in native mode, so there is nothing to see there.
        if interface(&status, card)["mode"] != "native" {
            let before = dropped(&status);
            let drops = |status: &Value| dropped(status) > before;
            self.under_fire(card, BLOCKED, "the guard drops", drops)?;
        }
        link::take_tags(card, false)?;
        wait_for_link(card)?;
        self.recovers(card)?;
        Ok(Said::Done(format!(
            "noticed after {:.1} s, the guard stands in, and cured by what it says",
            took.as_secs_f64()
        )))
    }

    /// The card takes tags out of frames, and kordon may put an end to that.
    fn switches_off(&mut self, card: &str) -> Result<Said> {
        // It did so before it attached: the card began with it.
        ensure!(!link::takes_tags(card)?, "tags are taken out still");
        self.drops(card)?;
        let start = Instant::now();
        link::take_tags(card, true)?;
        let mut is_on = Ok(true);
        self.daemon.until("it switches it off", |_| {
            is_on = link::takes_tags(card);
            !matches!(is_on, Ok(true))
        })?;
        is_on?;
        let took = start.elapsed();
        ensure!(took < SOON, "switched off only after {took:?}");
        let said = "switched rx-vlan-offload off";
        let times = self.daemon.log()?.matches(said).count();
        ensure!(times == 2, "logged {times} times: {said}");
        wait_for_link(card)?;
        self.recovers(card)?;
        Ok(Said::Done(format!(
            "switched off after {:.1} s",
            took.as_secs_f64()
        )))
    }

    /// Its link goes and comes back. What is not dropped then is at least said.
    fn outlives_a_reset(&mut self, card: &str) -> Result<Said> {
        self.drops(card)?;
        link::set(card, LinkMessageBuilder::down)?;
        link::set(card, LinkMessageBuilder::up)?;
        wait_for_link(card)?;
        let before = dropped(&self.status()?);
        self.send(card)?;
        let start = Instant::now();
        let past = format!("frames get past the program on `{card}`");
        let is_said = |status: &Value| {
            interface(status, card)["attached"] == false && is_among(status, &[&past])
        };
        let status = self
            .daemon
            .until("it drops them or says that it does not", |status| {
                dropped(status) == before + SENT || is_said(status)
            })?;
        if !is_said(&status) {
            return Ok(Said::Done(format!("{SENT} of {SENT} dropped")));
        }
        let took = start.elapsed();
        self.recovers(card)?;
        Ok(Said::Done(format!(
            "the driver forgot its program: said after {:.1} s, and cured",
            took.as_secs_f64()
        )))
    }

    /// As frames come in, it sees that they are judged again.
    fn recovers(&mut self, card: &str) -> Result<()> {
        self.under_fire(card, ALLOWED, "it is content with what it sees", |status| {
            status["enforcing"] == true && interface(status, card)["by"] == "xdp"
        })?;
        self.drops(card).map(drop)
    }

    /// Waits, and sends a frame with each look at the status.
    fn under_fire(
        &mut self,
        card: &str,
        to: Ipv4Addr,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let far = far_end(&self.cards, card)?;
        let frame = frame(to);
        let mut sent = Ok(());
        let status = self.daemon.until(what, |status| {
            let holds = holds(status);
            if !holds {
                sent = far.send(&frame);
            }
            holds || sent.is_err()
        })?;
        sent?;
        // The last one may still be on its way.
        thread::sleep(Duration::from_secs(1));
        Ok(status)
    }
}

/// Where frames to a card are sent from.
fn far_end<'a>(cards: &'a [Card], name: &str) -> Result<&'a RawSender> {
    let found = cards.iter().find(|known| known.name == name);
    Ok(&found.context("there is no such card")?.far)
}

/// What is said of a card.
fn interface<'a>(status: &'a Value, card: &str) -> &'a Value {
    let all = status["interfaces"].as_array();
    let mut of = all.into_iter().flatten();
    of.find(|of| of["name"] == card).unwrap_or(&Value::Null)
}

/// Whether the guard enforces, behind the program or in its place.
fn is_stood_in_for(status: &Value, card: &str) -> bool {
    status["enforcing"] == true && interface(status, card)["by"] == "tc"
}

/// Whether one reason, or notice, has all parts.
fn is_among(status: &Value, parts: &[&str]) -> bool {
    let all = [&status["reasons"], &status["notices"]];
    let mut said = all.iter().flat_map(|said| said.as_array()).flatten();
    said.any(|reason| {
        let reason = reason.as_str().unwrap_or_default();
        parts.iter().all(|part| reason.contains(part))
    })
}

/// The device with a hardware address.
fn device(address: &str) -> Result<String> {
    for entry in fs::read_dir("/sys/class/net")? {
        let entry = entry?;
        let its = fs::read_to_string(entry.path().join("address")).unwrap_or_default();
        if its.trim() == address {
            return Ok(entry.file_name().to_string_lossy().into_owned());
        }
    }
    bail!("there is no card with the address {address}");
}

/// A card that begins anew says that it has a link, loses it, and has it again.
fn wait_for_link(device: &str) -> Result<()> {
    let file = format!("/sys/class/net/{device}/carrier");
    let end = Instant::now() + LINK;
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_secs(2) {
        // It cannot be read of a card that is down.
        if fs::read_to_string(&file).ok().as_deref() != Some("1\n") {
            since = Instant::now();
        }
        ensure!(since < end, "`{device}` has no link");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Of the kernel.
fn series() -> Result<(u32, u32)> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split('.').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(second))) => Ok((first, second)),
        _ => bail!("the kernel is of no series: {release}"),
    }
}
