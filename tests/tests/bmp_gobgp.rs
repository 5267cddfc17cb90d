//! The router's GoBGP, which tells of all its tables: what it refused lets nothing through.

use std::{net::Ipv4Addr, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use kordon_tests::{
    bgp::Peer,
    gobgp::{self, Gobgp},
    live::{BLOCKED, beside, drops, live, prefix, start, until},
    traffic,
};
use serde_json::json;

/// AS64496 with a neighbor in AS64601, of whom it takes nothing that is longer than /24.
const ROUTER: &str = r#"
[global.config]
  as = 64496
  router-id = "172.31.0.1"
[global.apply-policy.config]
  import-policy-list = ["refuse"]
  default-import-policy = "accept-route"
[[neighbors]]
  [neighbors.config]
    neighbor-address = "172.31.0.2"
    peer-as = 64601
  [neighbors.transport.config]
    passive-mode = true
[[bmp-servers]]
  [bmp-servers.config]
    address = "127.0.0.1"
    port = 11019
    route-monitoring-policy = "POLICY"
[[defined-sets.prefix-sets]]
  prefix-set-name = "long"
  [[defined-sets.prefix-sets.prefix-list]]
    ip-prefix = "0.0.0.0/0"
    masklength-range = "25..32"
[[policy-definitions]]
  name = "refuse"
  [[policy-definitions.statements]]
    name = "refuse-long"
    [policy-definitions.statements.conditions.match-prefix-set]
      prefix-set = "long"
      match-set-options = "any"
    [policy-definitions.statements.actions]
      route-disposition = "reject-route"
"#;

fn follow(policy: &str) -> Result<()> {
    if !gobgp::is_there() {
        return Ok(());
    }
    let Some((router, controller)) = start("gobgp", "hold_time = \"1s\"")? else {
        return Ok(());
    };
    let neighbor = beside(&router)?;
    let gobgp = Gobgp::start(&router.wire.namespace, &ROUTER.replace("POLICY", policy))?;
    until("GoBGP is heard", || {
        let status = controller.cli(&["status"])?;
        Ok(status["bgp"]["sessions"] != json!([]))
    })?;
    let addresses = [2, 1].map(|last| Ipv4Addr::new(172, 31, 0, last));
    let mut peer = Peer::connect(&neighbor, addresses[0], 64601, addresses[1])?;
    let refused = [
        ("198.51.100.0/25", 65540),
        ("198.51.100.128/25", 65541),
        ("198.51.100.9/32", 65542),
    ];
    for (net, origin) in refused {
        peer.send(&peer.announce(prefix(net), &[64601, origin]))?;
    }
    // Of whom is blocked, and refused; and one that is accepted.
    peer.send(&peer.announce(prefix("192.0.2.0/25"), &[64601, BLOCKED]))?;
    peer.send(&peer.announce(prefix("203.0.113.0/24"), &[64601, BLOCKED]))?;
    until("GoBGP has decided", || {
        let table = gobgp.show(&["global", "rib"])?;
        Ok(table.get("203.0.113.0/24").is_some())
    })?;
    let table = gobgp.show(&["global", "rib"])?;
    ensure!(table.as_object().context("a table")?.len() == 1, "{table}");
    until("what is blocked is dropped", || {
        drops(&router, "203.0.113.9".parse()?)
    })?;
    // Refused, too, but of one who is blocked: that tightens where it is told.
    let told = policy != "post-policy";
    until("what it refused tightens", || {
        Ok(drops(&router, traffic::OTHER.parse()?)? == told)
    })?;
    // Longer than the first routes of a peer and the hold time take.
    thread::sleep(Duration::from_secs(6));
    for address in ["198.51.100.9", "198.51.100.1", "198.51.100.200"] {
        ensure!(drops(&router, address.parse()?)?, "{address} is free");
        let said = live(&controller, address)?;
        ensure!(said["prefix"].is_null(), "{said}");
    }
    ensure!(drops(&router, traffic::OTHER.parse()?)? == told);
    let status = controller.cli(&["status"])?;
    println!("{policy}: {}", status["bgp"]["peers"]);
    ensure!(status["enforcing"] == true, "{status}");
    Ok(())
}

/// Whatever it tells: all its tables, only what it may have refused, only the others.
#[test]
fn what_gobgp_refused_never_loosens() -> Result<()> {
    for policy in ["all", "pre-policy", "post-policy"] {
        follow(policy).with_context(|| format!("`route-monitoring-policy = \"{policy}\"`"))?;
    }
    Ok(())
}
