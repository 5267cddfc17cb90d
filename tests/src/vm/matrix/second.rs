//! A second trunk with the VLAN of a zone, on a router of which `status` says that it enforces: there
//! it must not, until the second trunk is gone, is policed, or is no place of the zone.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkVlan};
use serde_json::{Value, json};

use super::{
    super::{
        checks::Said,
        daemon::{ALLOWED, BLOCKED, Daemon, SENT},
        link,
    },
    server::{Arrived, Server, packet},
};
use crate::{generate::build, lab::raw::RawSender};

/// No cell's.
const VID: u16 = 77;
const PORT: u16 = 9977;
/// A change of the router is in `status` after that, on a processor that is emulated.
const SOON: Duration = Duration::from_secs(5);

/// One end of a cable with a sub-interface, and who sends at the other.
struct Trunk {
    device: &'static str,
    sub: String,
    mac: [u8; 6],
    sender: RawSender,
}

impl Trunk {
    fn new(device: &'static str, peer: &str) -> Result<Self> {
        let sender = link::pair(device, peer)?;
        let sub = format!("{device}.{VID}");
        let message = LinkVlan::new(&sub, link::index(device)?, VID).build();
        link::make(&sub, message)?;
        link::set(&sub, LinkMessageBuilder::up)?;
        let text = fs::read_to_string(format!("/sys/class/net/{device}/address"))?;
        let mut mac = [0; 6];
        for (byte, digits) in mac.iter_mut().zip(text.trim().split(':')) {
            *byte = u8::from_str_radix(digits, 16).context("an address of hardware")?;
        }
        Ok(Self {
            device,
            sub,
            mac,
            sender,
        })
    }

    /// What arrives of frames that are sent there.
    fn arrived(&self, server: &Server) -> Result<Arrived> {
        server.take()?;
        for to in [BLOCKED, ALLOWED] {
            let mut frame = build::ip_frame(&[(0x8100, VID)], &packet(to, PORT));
            frame[..6].copy_from_slice(&self.mac);
            for _ in 0..SENT {
                self.sender.send(&frame)?;
            }
        }
        std::thread::sleep(Duration::from_millis(500));
        Ok(server.take()?.get(&PORT).copied().unwrap_or_default())
    }
}

pub(super) fn run(server: &Server) -> Result<Said> {
    let first = Trunk::new("t0", "t1")?;
    let second = Trunk::new("s0", "s1")?;
    let interface = |trunk: &Trunk| {
        let device = trunk.device;
        format!("name = \"i-{device}\"\ndevice = \"{device}\"\n")
    };
    let zone = |only: &str| {
        format!(
            "[zone.cameras]\nvlans = [{VID}]\n{only}sources = [\"10.20.0.0/16\"]\n\
             [set.hostile]\nasns = [64500]\n[[rule]]\nname = \"hostile\"\nfrom = \"*\"\n\
             to = \"hostile\"\naction = \"drop\"\n"
        )
    };
    let place = Path::new("/tmp/second");
    let mut daemon = Daemon::start(place, &zone(""), &[interface(&first)], false)?;
    let mut took = Vec::new();
    let mut until = |daemon: &mut Daemon<'_>, what: &str, is_covered: bool| {
        let start = Instant::now();
        let status = daemon.until(what, |status| status["enforcing"] == is_covered)?;
        let seconds = start.elapsed();
        println!("    {what}: {seconds:?}, {}", status["reasons"]);
        took.push(seconds);
        anyhow::Ok(status)
    };

    // It is a reason of its own, beside an interface that enforces.
    let status = daemon.until("the second trunk is said, and nothing else", |status| {
        status["interfaces"][0]["enforcing"] == true && is_only_gap(status)
    })?;
    ensure!(status["enforcing"] == false, "{status}");
    let reason = status["reasons"].to_string();
    for words in [
        "`s0`",
        "`s0.77`",
        "device = \\\"s0\\\"",
        "interfaces = [\\\"i-t0\\\"]",
    ] {
        ensure!(reason.contains(words), "{words}: {reason}");
    }
    let by_first = first.arrived(server)?;
    ensure!(
        (by_first.blocked, by_first.allowed) == (0, SENT),
        "{by_first:?}"
    );
    let by_second = second.arrived(server)?;
    ensure!(
        (by_second.blocked, by_second.allowed) == (SENT, SENT),
        "{by_second:?}"
    );

    link::set(&second.sub, LinkMessageBuilder::down)?;
    until(&mut daemon, "its sub-interface is down", true)?;
    let by_second = second.arrived(server)?;
    ensure!(by_second.blocked + by_second.allowed == 0, "{by_second:?}");
    link::set(&second.sub, LinkMessageBuilder::up)?;
    until(&mut daemon, "and up again", false)?;

    // The zone is on the first one only: what comes in by the second is none of its frames.
    fs::write(place.join("other.toml"), zone("interfaces = [\"i-t0\"]\n"))?;
    daemon.run(&["apply", "/tmp/second/other.toml"])?;
    until(&mut daemon, "the zone is elsewhere", true)?;
    fs::write(place.join("other.toml"), zone(""))?;
    daemon.run(&["apply", "/tmp/second/other.toml"])?;
    until(&mut daemon, "the zone is everywhere", false)?;
    // By a bridge that keeps VLANs apart it is no more than possible, and only if it lets this one in.
    link::set(&second.sub, LinkMessageBuilder::down)?;
    link::make("vb", LinkBridge::new("vb").vlan_filtering(true).build())?;
    link::join(second.device, "vb")?;
    let sub = format!("vb.{VID}");
    link::make(&sub, LinkVlan::new(&sub, link::index("vb")?, VID).build())?;
    for device in ["vb", &sub] {
        link::set(device, LinkMessageBuilder::up)?;
    }
    for vid in [1000, VID - 1, VID + 1, VID] {
        until(&mut daemon, "the bridge keeps it out", true)?;
        ensure!(daemon.status()?["gaps"] == json!([]), "before VLAN {vid}");
        link::allow(second.device, vid)?;
    }
    let status = daemon.until("the bridge lets it in", |status| {
        status["gaps"] != json!([])
    })?;
    let gap = &status["gaps"][0];
    ensure!(gap["device"] == "s0" && gap["certain"] == false, "{gap}");
    ensure!(status["enforcing"] == true, "{status}");
    link::set(&sub, LinkMessageBuilder::down)?;
    link::set("vb", LinkMessageBuilder::down)?;
    link::set(second.device, |port| port.controller(0))?;
    link::set(&second.sub, LinkMessageBuilder::up)?;
    until(&mut daemon, "it is a trunk again", false)?;

    let slowest = took.iter().max().copied().unwrap_or_default();
    ensure!(slowest < SOON, "{took:?}");

    // Or it is policed, too.
    drop(daemon);
    let both = [interface(&first), interface(&second)];
    let mut daemon = Daemon::start(place, &zone(""), &both, false)?;
    daemon.until("both are policed", |status| status["enforcing"] == true)?;
    let by_second = second.arrived(server)?;
    ensure!(
        (by_second.blocked, by_second.allowed) == (0, SENT),
        "{by_second:?}"
    );
    daemon.run(&["detach", "--yes"])?;
    Ok(Said::Done(format!(
        "{SENT} of {SENT} blocked frames got around kordon, and it was said; what changed was said \
         after {:.1} s at most",
        slowest.as_secs_f64()
    )))
}

fn is_only_gap(status: &Value) -> bool {
    let reasons = status["reasons"].as_array();
    reasons.is_some_and(|reasons| reasons.len() == 1) && status["gaps"][0]["device"] == "s0"
}
