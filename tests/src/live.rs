//! A router that follows live BGP: what tests of it share. AS64500 is blocked.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use serde_json::Value;

use crate::{
    bmp::{self, Speaker},
    controller::{Controller, Metrics, binary},
    frr::Frr,
    lab::{Namespace, Wire},
    router::Router,
};

/// The ASN that the policy names.
pub const BLOCKED: u32 = 64500;

/// As in the documentation.
const ROUTER_FRR: &str = "\
router bgp 64496
 bgp router-id 172.31.0.1
 no bgp ebgp-requires-policy
 neighbor 172.31.0.2 remote-as 64601
 neighbor 172.31.0.2 timers connect 1
 bmp targets kordon
  bmp monitor ipv4 unicast post-policy
  bmp monitor ipv6 unicast post-policy
  bmp connect 127.0.0.1 port 11019 min-retry 100 max-retry 10000
 exit
exit
";

/// A number from the environment, for campaigns that are longer than a run of all tests
/// may be.
///
/// # Panics
/// If it is there and no number.
#[must_use]
pub fn setting(name: &str, otherwise: u32) -> u32 {
    std::env::var(name).map_or(otherwise, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("`{name}` is not a number"))
    })
}

/// Waits for something to come true.
///
/// # Errors
/// If it does not within 15 s.
pub fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(15);
    while !holds()? {
        ensure!(Instant::now() < end, "still not: {what}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Configures a router with more keys in `[asndb]` and in `[bmp]`.
///
/// # Errors
/// If the file cannot be written.
pub fn configure(router: &Router, asndb: &str, bmp: &str) -> Result<()> {
    router.write(
        "kordon.toml",
        format!(
            "policy = \"policy.toml\"\n[[interface]]\nname = \"trunk\"\ndevice = \"in\"\nmode = \"native\"\n\
             [asndb]\n{asndb}\n[metrics]\nlisten = \"127.0.0.1:9754\"\n\
             [bmp]\nlisten = \"127.0.0.1:11019\"\n{bmp}\n"
        ),
    )
}

/// A router whose daemon listens, with more keys in `[bmp]`; `None`: there is no binary.
///
/// # Errors
/// If it does not start.
pub fn start(name: &str, more: &str) -> Result<Option<(Router, Controller)>> {
    let Some(binary) = binary() else {
        return Ok(None);
    };
    let router = Router::new(name, binary)?;
    configure(&router, "sources = [\"asn.csv\"]", more)?;
    let (controller, _) = Controller::start(&router.place())?;
    Ok(Some((router, controller)))
}

/// A session with a peer that has sent all it had: nothing.
///
/// # Errors
/// If the daemon does not know it then.
pub fn speaker(namespace: &Namespace, controller: &Controller) -> Result<Speaker> {
    let mut speaker = Speaker::connect(namespace)?;
    speaker.send(&bmp::peer_up(1))?;
    // The table is there with its first route; an IPv6 default never counts.
    speaker.send(&bmp::ends(1))?;
    until("the peer is there", || {
        let status = controller.cli(&["status"])?;
        let peers = status["bgp"]["peers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        Ok(peers
            .iter()
            .any(|p| p["table"] == "post-policy" && p["state"] == "up"))
    })?;
    Ok(speaker)
}

/// A prefix that is written in a test.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn prefix(text: &str) -> IpNet {
    text.parse().expect("a prefix of a test")
}

/// What `lookup` says of live BGP at an address.
///
/// # Errors
/// If the daemon does not answer.
pub fn live(controller: &Controller, address: &str) -> Result<Value> {
    Ok(controller.cli(&["lookup", address])?["live"].clone())
}

/// Whether a camera's packets to an address are dropped, by the counters.
///
/// # Errors
/// If some are dropped and some are not.
pub fn drops(router: &Router, to: IpAddr) -> Result<bool> {
    let count = || -> Result<u64> {
        let metrics = Metrics::scrape(&router.wire.namespace)?;
        Ok(metrics.sum("kordon_packets_total", &[("action", "drop")]))
    };
    let from = match to {
        IpAddr::V4(_) => "10.20.0.5".parse()?,
        IpAddr::V6(_) => "fd00:20::5".parse()?,
    };
    let before = count()?;
    let packet = Wire::packet(20, from, to);
    router.wire.send(&packet, 10)?;
    thread::sleep(Duration::from_millis(50));
    let dropped = count()? - before;
    ensure!(dropped == 0 || dropped == 10, "{dropped} of 10 dropped");
    Ok(dropped == 10)
}

/// How long things took.
#[derive(Debug, Default)]
pub struct Times(pub Vec<Duration>);

impl Times {
    /// Half of them were faster.
    pub fn median(&mut self) -> Duration {
        self.0.sort_unstable();
        self.0[self.0.len() / 2]
    }

    /// The slowest.
    #[must_use]
    pub fn worst(&self) -> Duration {
        self.0.iter().max().copied().unwrap_or_default()
    }
}

/// The network of a peer beside the router: 172.31.0.2, the router is 172.31.0.1.
///
/// # Errors
/// If it cannot be made.
pub fn beside(router: &Router) -> Result<Namespace> {
    let peer = Namespace::create(&format!("kordon-{}-peer", std::process::id()))?;
    router.wire.namespace.ip(&format!(
        "link add bgp0 type veth peer name bgp0 netns {}\naddr add 172.31.0.1/30 dev bgp0\n\
         link set bgp0 up",
        peer.name()
    ))?;
    peer.ip("addr add 172.31.0.2/30 dev bgp0\nlink set bgp0 up\nlink set lo up")?;
    Ok(peer)
}

/// The router's own FRR: AS64496, with BMP to the daemon, and a neighbor in AS64601.
///
/// # Errors
/// If it does not start, or the daemon does not hear it.
pub fn router_frr(router: &Router, controller: &Controller) -> Result<Frr> {
    let frr = Frr::start(&router.wire.namespace, ROUTER_FRR)?;
    until("the router's FRR is heard", || {
        let status = controller.cli(&["status"])?;
        Ok(!status["bgp"]["sessions"]
            .as_array()
            .context("sessions")?
            .is_empty())
    })?;
    Ok(frr)
}
