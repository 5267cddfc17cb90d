//! Counters by network, which come out of flows: exact for every network that there is, whatever else is in
//! the policy, and where neither lines nor the ring have room.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use kordon_tests::{
    controller::{Controller, Metrics, binary},
    lab::frame::{Ethernet, udp},
    router::{Router, policy},
};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Networks, a /24 for each.
const NETWORKS: u32 = 20_000;
const FIRST: u32 = 0x0b00_0000;
const ZONES: u16 = 64;

/// Packets by zone, network and action.
type Sent = BTreeMap<(String, String, &'static str), u64>;

fn frame(vlan: u16, from: Ipv4Addr, to: Ipv4Addr, port: u16) -> Vec<u8> {
    let mac = [
        2,
        0,
        from.octets()[1],
        from.octets()[2],
        from.octets()[3],
        1,
    ];
    Ethernet::new(mac, [4; 6]).tag(0x8100, vlan).packet(&udp(
        from.into(),
        IpAddr::from(to),
        (40_000, port),
        b"x",
    ))
}

/// What the page says of packets by network: zone, network, action.
fn counted(metrics: &Metrics) -> BTreeMap<(String, String, String), u64> {
    let label = |labels: &str, name: &str| {
        let start = labels.find(&format!("{name}=\""))? + name.len() + 2;
        Some(labels[start..].split('"').next()?.to_owned())
    };
    let lines = metrics.0.lines();
    let series = lines.filter_map(|line| {
        let rest = line.strip_prefix("kordon_asn_packets_total{")?;
        let (labels, value) = rest.split_once("} ")?;
        let of = |name| label(labels, name);
        let value: f64 = value.parse().ok()?;
        Some(((of("zone")?, of("asn")?, of("action")?), value as u64))
    });
    series.filter(|(_, value)| *value > 0).collect()
}

fn ensure_equal(metrics: &Metrics, sent: &Sent) -> Result<()> {
    let counted = counted(metrics);
    let sent = sent.iter().map(|((zone, asn, action), packets)| {
        let of = (zone.clone(), asn.clone(), (*action).to_owned());
        (of, *packets)
    });
    let sent: BTreeMap<_, _> = sent.collect();
    let all: BTreeSet<_> = counted.keys().chain(sent.keys()).collect();
    let of = |packets: &BTreeMap<_, u64>, key| packets.get(key).copied().unwrap_or(0);
    let wrong = all.into_iter().filter_map(|key| {
        let (counted, sent) = (of(&counted, key), of(&sent, key));
        (counted != sent).then(|| format!("{key:?}: {counted}, sent {sent}"))
    });
    let wrong: Vec<String> = wrong.take(10).collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

#[test]
fn no_packet_is_for_others() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("networks", binary)?;
    let mut database = String::new();
    for number in 0..NETWORKS {
        let net = Ipv4Addr::from(FIRST + (number << 8));
        let last = Ipv4Addr::from(FIRST + (number << 8) + 255);
        writeln!(database, "{net},{last},{},Network {number}", number + 1)?;
    }
    router.write("asn.csv", database)?;
    // One drops all that it is not told of, one audits all, and there are others.
    let mut rules = String::from(
        "[zone.deny]\nvlans = [100]\ndefault = \"drop\"\n[zone.audit]\nvlans = [101]\n\
         [[rule]]\nname = \"all\"\nfrom = \"audit\"\nto = \"any\"\naction = \"audit\"\n",
    );
    for number in 2..ZONES {
        let vlan = 100 + number;
        write!(
            rules,
            "[zone.z{number}]\nvlans = [{vlan}]\ndefault = \"drop\"\n"
        )?;
    }
    router.write("policy.toml", rules)?;
    let configuration = std::fs::read_to_string(router.path("kordon.toml"))?;
    router.write("kordon.toml", configuration + "max_asns = 100000\n")?;
    let (mut controller, _) = Controller::start(&router.place())?;
    controller.wait_until_enforcing()?;

    let mut random = fastrand::Rng::with_seed(3);
    let mut sent = Sent::new();
    let mut send = |packets: u32, zone: &str, vlan: u16, action: &'static str| -> Result<()> {
        for packet in 0..packets {
            let number = match packets {
                NETWORKS => packet,
                _ => random.u32(0..NETWORKS),
            };
            let to = Ipv4Addr::from(FIRST + (number << 8) + random.u32(1..255));
            let from = Ipv4Addr::new(10, 20, 0, 1);
            router.wire.send(&frame(vlan, from, to, 443), 1)?;
            let network = (number + 1).to_string();
            *sent.entry((zone.to_owned(), network, action)).or_default() += 1;
        }
        Ok(())
    };
    send(NETWORKS, "deny", 100, "drop")?;
    send(3000, "audit", 101, "audit")?;
    for number in 2..ZONES {
        send(20, &format!("z{number}"), 100 + number, "drop")?;
    }
    std::thread::sleep(Duration::from_millis(500));
    let start = Instant::now();
    let metrics = Metrics::scrape(&router.wire.namespace)?;
    let took = start.elapsed();
    ensure_equal(&metrics, &sent)?;

    controller.signal(Signal::SIGKILL)?;
    drop(controller.ended());
    let (mut controller, _) = Controller::start(&router.place())?;
    controller.wait_until_enforcing()?;
    ensure_equal(&Metrics::scrape(&router.wire.namespace)?, &sent)?;
    println!(
        "{} pairs of zone and network, {} lines of metrics in {took:?}",
        sent.len(),
        metrics.0.lines().count()
    );
    Ok(())
}

/// More flows than lines and ring hold.
const FLOWS: u32 = 250_000;
/// Flows before these.
const EARLIER: u32 = 2000;

#[test]
fn what_finds_no_room_is_stated() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("full", binary)?;
    router.write("policy.toml", policy("64500, 64501, 64502, 64503"))?;
    let (mut controller, _) = Controller::start(&router.place())?;
    controller.wait_until_enforcing()?;
    let mut sent = Sent::new();
    let of = |asn: &str| ("cameras".to_owned(), asn.to_owned(), "drop");
    // What was said of these stays so when others announce it, and the ring has no room for them.
    for number in 0..EARLIER {
        let [_, _, middle, low] = number.to_be_bytes();
        let (from, to) = (
            Ipv4Addr::new(10, 20, middle, low),
            Ipv4Addr::new(192, 0, 2, 1),
        );
        router.wire.send(&frame(20, from, to, 443), 1)?;
        *sent.entry(of("64502")).or_default() += 1;
    }
    ensure_equal(&Metrics::scrape(&router.wire.namespace)?, &sent)?;
    let database = std::fs::read_to_string(router.path("asn.csv"))?;
    router.write("asn.csv", database.replace("64502,Other", "64503,New"))?;
    controller.cli(&["asndb", "update", "--accept"])?;
    controller.signal(Signal::SIGKILL)?;
    drop(controller.ended());
    let nets = [
        ([198, 51, 100], "64500"),
        ([203, 0, 113], "64501"),
        ([192, 0, 2], "64503"),
    ];
    // Each from a source of its own, so that none has used up its budget.
    for number in 0..FLOWS {
        let ([a, b, c], asn) = nets[number as usize % nets.len()];
        let [_, high, middle, low] = number.to_be_bytes();
        let from = Ipv4Addr::new(10, 20, middle, low);
        let to = Ipv4Addr::new(a, b, c, 1 + number as u8 % 9);
        router.wire.send(&frame(20, from, to, high.into()), 1)?;
        let of = ("cameras".to_owned(), asn.to_owned(), "drop");
        *sent.entry(of).or_default() += 1;
    }
    let (mut controller, _) = Controller::start(&router.place())?;
    controller.wait_until_enforcing()?;
    let status = controller.command(&["status"]).output()?;
    let status: Value = serde_json::from_slice(&status.stdout)?;
    let book = &status["books"]["cameras"]["drop"];
    let packets = |name: &str| book[name]["packets"].as_u64().unwrap_or(0);
    let [counted, recorded, unrecorded] = ["counted", "recorded", "unrecorded"].map(packets);
    println!("{counted} counted, {recorded} recorded, {unrecorded} found no room");
    ensure!(counted == u64::from(EARLIER + FLOWS), "{book}");
    ensure!(recorded + unrecorded == counted, "{book}");
    ensure!(recorded > 100_000 && unrecorded > 10_000, "{book}");
    let metrics = Metrics::scrape(&router.wire.namespace)?;
    let lost = metrics.sum("kordon_ledger_lost_packets_total", &[]);
    ensure!(lost == unrecorded, "{lost} are said to be lost, {book}");
    ensure_equal(&metrics, &sent)
}

/// Whoever asks while the database changes is told the same for ever after: a flow that is always there, and
/// gives its line to others all the time, is under one network or the other, and not under both.
#[test]
fn an_update_moves_no_counter() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("toggle", binary)?;
    router.write("policy.toml", policy("64500, 64501, 64502, 64503"))?;
    // What is in the way of pins goes out of it.
    std::fs::create_dir_all(router.place().bpffs.join("books-2/x"))?;
    let database = std::fs::read_to_string(router.path("asn.csv"))?;
    let other = database.replace("64502,Other", "64503,New");
    let (mut controller, _) = Controller::start(&router.place())?;
    controller.wait_until_enforcing()?;
    let mut random = fastrand::Rng::with_seed(15);
    let mut sent = 0;
    for round in 0..6 {
        let database = if round % 2 == 0 { &other } else { &database };
        router.write("asn.csv", database)?;
        std::thread::scope(|scope| -> Result<()> {
            let traffic = scope.spawn(|| -> Result<u64> {
                for number in 0..40_000 {
                    let [a, b, c, _] = random.u32(..).to_be_bytes();
                    let (from, to) = match number % 20 {
                        0 => (Ipv4Addr::new(10, 20, 0, 1), Ipv4Addr::new(192, 0, 2, 1)),
                        _ => (Ipv4Addr::new(10, 20, a, b), Ipv4Addr::new(198, 51, 100, c)),
                    };
                    router.wire.send(&frame(20, from, to, 443), 1)?;
                }
                Ok(40_000)
            });
            let ask = || Metrics::scrape(&router.wire.namespace).map(drop);
            ask()?;
            controller.cli(&["asndb", "update", "--accept"])?;
            while !traffic.is_finished() {
                ask()?;
            }
            sent += traffic.join().map_err(|_| anyhow::anyhow!("panicked"))??;
            Ok(())
        })?;
        std::thread::sleep(Duration::from_millis(500));
        let metrics = Metrics::scrape(&router.wire.namespace)?;
        let counted = metrics.sum("kordon_asn_packets_total", &[]);
        ensure!(counted == sent, "round {round}: {counted}, sent {sent}");
    }
    Ok(())
}
