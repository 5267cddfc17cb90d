//! The ledger against the senders' own counts: every frame of a zone is in exactly one flow, with its
//! bytes, whatever became of it, while rules, the database and live BGP change, and when the controller is
//! killed.

mod asked;
mod disk;
mod outside;
mod past;
mod sent_on;
mod written;

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use kordon_tests::{
    bmp,
    controller::{Controller, Metrics, binary},
    lab::frame::{Ethernet, ip, ping, tcp_syn, udp},
    live::{BLOCKED, configure, prefix, speaker, until},
    router::{Router, policy},
};
use nix::sys::signal::Signal;
use serde_json::Value;

const CAMERAS: u8 = 50;

/// Packets and bytes.
type Count = (u64, u64);

/// What was sent: by camera, and of what any tool would read alike by flow.
#[derive(Default)]
struct Sent {
    cameras: BTreeMap<String, Count>,
    flows: BTreeMap<(String, String, String, String, Option<u16>), Count>,
}

fn add(to: &mut Count, bytes: usize) {
    to.0 += 1;
    to.1 += bytes as u64;
}

fn add_all(to: &mut Count, of: Count) {
    *to = (to.0 + of.0, to.1 + of.1);
}

fn mac(camera: u8) -> [u8; 6] {
    [2, 0, 0, 0, 1, camera]
}

/// A round of all cameras: plain packets of both families, fragments, and what nobody understands.
fn round(router: &Router, random: &mut fastrand::Rng, sent: &mut Sent) -> Result<()> {
    for camera in 1..=CAMERAS {
        let link = || Ethernet::new(mac(camera), [4; 6]).tag(0x8100, 20);
        let name = mac(camera).map(|byte| format!("{byte:02x}")).join(":");
        let v4 = Ipv4Addr::new(10, 20, 0, camera);
        let v6 = Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 0, camera.into());
        let host = random.u8(1..5);
        let servers4 = [
            [198, 51, 100, host],
            [203, 0, 113, host],
            [192, 0, 2, host],
            [9, 9, 9, host],
        ];
        let to4 = Ipv4Addr::from(servers4[random.usize(0..4)]);
        let net = [0xbad, 0x600d, 0x77][random.usize(0..3)];
        let to6 = Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host.into());
        let (from, to): (IpAddr, IpAddr) = match random.bool() {
            true => (v4.into(), to4.into()),
            false => (v6.into(), to6.into()),
        };
        let port = [53, 443, 554][random.usize(0..3)];
        let data = vec![7; random.usize(0..900)];
        let (packet, proto, port) = match random.u8(0..4) {
            0 => (ping(from, to, 1, &data), "icmp", None),
            1 => (tcp_syn(from, to, (40_000, port)), "tcp", Some(port)),
            _ => (udp(from, to, (40_000, port), &data), "udp", Some(port)),
        };
        let frame = link().packet(&packet);
        router.wire.send(&frame, 1)?;
        add(sent.cameras.entry(name.clone()).or_default(), frame.len());
        let flow = (
            name.clone(),
            from.to_string(),
            to.to_string(),
            proto.to_owned(),
            port,
        );
        add(sent.flows.entry(flow).or_default(), frame.len());

        let odd = match random.u8(0..7) {
            // A later fragment, cut packets, a tunnel, a stranger's source, another ethertype, ARP.
            0 => {
                let mut packet = ip(from, to, 17, &data);
                if from.is_ipv4() {
                    packet[7] = 3;
                }
                link().packet(&packet)
            }
            1 => {
                let frame = link().packet(&udp(from, to, (1, 2), &[7; 100]));
                frame[..random.usize(20..60)].to_vec()
            }
            2 => link().packet(&ip(from, to, 47, &data)),
            3 => link().packet(&udp(
                Ipv4Addr::new(10, 99, 0, 1).into(),
                to4.into(),
                (1, 2),
                b"x",
            )),
            4 => link().payload(0x1234, &[1; 50]),
            5 => link().payload(0x0806, &[1; 28]),
            _ => link().packet(&udp(v4.into(), Ipv4Addr::LOCALHOST.into(), (1, 2), b"x")),
        };
        router.wire.send(&odd, 1)?;
        add(sent.cameras.entry(name).or_default(), odd.len());
    }
    thread::sleep(Duration::from_millis(50));
    Ok(())
}

fn flows(controller: &Controller, more: &[&str]) -> Result<Vec<Value>> {
    let arguments = [&["flows", "--live"], more].concat();
    let output = controller.command(&arguments).output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = std::str::from_utf8(&output.stdout)?.lines();
    lines
        .map(|line| serde_json::from_str(line).context("a line is an object"))
        .collect()
}

fn count(row: &Value) -> Count {
    let number = |name: &str| row[name].as_u64().unwrap_or(0);
    (number("packets"), number("bytes"))
}

fn sum<'a>(rows: impl Iterator<Item = &'a Value>) -> Count {
    rows.map(count).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
}

/// Everything of the zone is in the books, by the senders' count.
fn books_are_complete(controller: &Controller, sent: &Sent) -> Result<()> {
    let status = controller.command(&["status"]).output()?;
    let status: Value = serde_json::from_slice(&status.stdout)?;
    let books = &status["books"]["cameras"];
    let mut recorded = (0, 0);
    for action in ["pass", "audit", "drop"] {
        let book = &books[action];
        ensure!(count(&book["unrecorded"]) == (0, 0), "{action}: {book}");
        ensure!(book["counted"] == book["recorded"], "{action}: {book}");
        let of = count(&book["recorded"]);
        recorded = (recorded.0 + of.0, recorded.1 + of.1);
    }
    let all = sent
        .cameras
        .values()
        .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    ensure!(recorded == all, "recorded {recorded:?}, sent {all:?}");
    Ok(())
}

#[test]
fn every_frame_is_in_one_flow() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("ledger", binary)?;
    configure(
        &router,
        "sources = [\"asn.csv\"]",
        "[evidence]\ninterval = \"5s\"\ncheckpoint = \"3s\"",
    )?;
    let (mut controller, _) = Controller::start(&router.place())?;
    controller.wait_until_enforcing()?;
    let mut random = fastrand::Rng::with_seed(15);
    let mut sent = Sent::default();
    let watched = past::Watched::start(&router)?;
    for step in 0..12 {
        round(&router, &mut random, &mut sent)?;
        match step {
            3 => {
                router.write("policy.toml", policy("64500, 64501"))?;
                controller.cli(&[
                    "apply",
                    router.path("policy.toml").to_str().context("UTF-8")?,
                    "--yes",
                ])?;
            }
            6 => {
                controller.cli(&["block", "192.0.2.0/24", "--zone", "cameras"])?;
            }
            _ => {}
        }
    }
    let rows = flows(&controller, &[])?;
    for (name, of) in &sent.cameras {
        let found = sum(rows.iter().filter(|row| row["mac"] == **name));
        ensure!(found == *of, "camera {name}: {found:?}, sent {of:?}");
    }
    for ((name, from, to, proto, port), of) in &sent.flows {
        let of_flow = |row: &&Value| {
            row["mac"] == **name
                && row["src"] == **from
                && row["dst"] == **to
                && row["proto"] == **proto
                && row["dport"].as_u64() == port.map(u64::from)
        };
        let found = sum(rows.iter().filter(of_flow));
        ensure!(
            found == *of,
            "{name} {from} {to} {proto} {port:?}: {found:?}, sent {of:?}"
        );
    }
    for row in &rows {
        ensure!(
            row["zone"] == "cameras" && row["interface"] == "trunk",
            "{row}"
        );
        let asn = match row["judged"].as_str() {
            Some(to) if to.starts_with("198.51.100.") || to.starts_with("2001:db8:bad:") => {
                Some(64500)
            }
            Some(to) if to.starts_with("203.0.113.") || to.starts_with("2001:db8:600d:") => {
                Some(64501)
            }
            Some(to) if to.starts_with("192.0.2.") => Some(64502),
            _ => None,
        };
        ensure!(row["asn"].as_u64() == asn, "{row}");
        if asn == Some(64500) && row["reason"] == "rule" {
            ensure!(row["action"] == "drop" && row["rule"] == "hostile", "{row}");
        }
        let (first, last) = (row["first"].as_str(), row["last"].as_str());
        ensure!(first <= last, "{row}");
    }
    // By networks: what the metrics say.
    let metrics = Metrics::scrape(&router.wire.namespace)?;
    for row in flows(&controller, &["--sum", "network", "--action", "drop"])? {
        let Some(asn) = row["asn"].as_u64() else {
            continue;
        };
        let of_rules = rows.iter().filter(|flow| {
            flow["asn"] == row["asn"] && flow["action"] == "drop" && flow["reason"] == "rule"
        });
        let labels = [("asn", &*asn.to_string()), ("action", "drop")];
        let counted = metrics.sum("kordon_asn_packets_total", &labels);
        let found = sum(of_rules).0;
        ensure!(
            counted == found,
            "AS{asn}: counted {counted}, in flows {found}"
        );
    }
    for camera in 1..=CAMERAS {
        let camera = format!("10.20.0.{camera}");
        let found = sum(rows.iter().filter(|row| row["src"] == *camera));
        let counted = ["packets", "bytes"].map(|what| {
            metrics.sum(
                &format!("kordon_camera_{what}_total"),
                &[("camera", &camera)],
            )
        });
        ensure!(
            counted == [found.0, found.1],
            "{camera}: counted {counted:?}, in flows {found:?}"
        );
    }
    let cameras = flows(&controller, &["--sum", "camera"])?;
    ensure!(
        sum(cameras.iter()) == sum(rows.iter()),
        "sums are of the same"
    );
    let one = flows(&controller, &["--camera", "10.20.0.7"])?;
    ensure!(!one.is_empty() && one.iter().all(|row| row["src"] == "10.20.0.7"));
    books_are_complete(&controller, &sent)?;
    past::agrees(&router, &sent)?;
    watched.agrees(&sent)?;

    // Nobody had it, and a blocked ASN announces it: what passed before is nobody's.
    let is_there = |row: &Value| {
        row["dst"]
            .as_str()
            .is_some_and(|to| to.starts_with("9.9.9."))
    };
    ensure!(
        rows.iter()
            .any(|row| is_there(row) && row["action"] == "pass")
    );
    let mut speaker = speaker(&router.wire.namespace, &controller)?;
    speaker.send(&bmp::announce(1, prefix("9.9.9.0/24"), &[64601, BLOCKED]))?;
    // Some of it was dropped before, for other reasons.
    let is_blocked = |row: &Value| is_there(row) && row["reason"] == "rule";
    let asks = Ethernet::new(mac(1), [4; 6]).tag(0x8100, 20).packet(&udp(
        Ipv4Addr::new(10, 20, 0, 1).into(),
        Ipv4Addr::new(9, 9, 9, 200).into(),
        (1, 2),
        b"x",
    ));
    until("it is blocked", || {
        router.wire.send(&asks, 1)?;
        add(
            sent.cameras
                .entry("02:00:00:00:01:01".to_owned())
                .or_default(),
            asks.len(),
        );
        thread::sleep(Duration::from_millis(50));
        let dropped = flows(&controller, &["--action", "drop"])?;
        Ok(dropped.iter().any(is_blocked))
    })?;

    // Somebody else announces it: what was counted stays where it was.
    let of =
        |metrics: &Metrics, asn: &str| metrics.sum("kordon_asn_packets_total", &[("asn", asn)]);
    let before = [of(&metrics, "64502"), of(&metrics, "64500")];
    let database = fs::read_to_string(router.path("asn.csv"))?;
    router.write("asn.csv", database.replace("64502,Other", "64503,New"))?;
    controller.cli(&["asndb", "update", "--accept"])?;
    for _ in 0..2 {
        round(&router, &mut random, &mut sent)?;
    }
    let metrics = Metrics::scrape(&router.wire.namespace)?;
    ensure!(of(&metrics, "64502") >= before[0] && of(&metrics, "64500") > before[1]);
    let rows = flows(&controller, &["--action", "drop"])?;
    let of_rows = |asn: u32| {
        sum(rows.iter().filter(|row| {
            let by_rule = row["reason"] == "rule" || row["reason"] == "default";
            row["asn"].as_u64() == Some(asn.into()) && by_rule
        }))
        .0
    };
    for asn in [64500, 64501, 64502, 64503] {
        let (counted, found) = (of(&metrics, &asn.to_string()), of_rows(asn));
        ensure!(
            counted == found,
            "AS{asn}: counted {counted}, in flows {found}"
        );
    }
    ensure!(of(&metrics, "64503") > 0, "no flow is of the new one");
    let mut announced = rows.iter().filter(|row| is_blocked(row)).peekable();
    ensure!(announced.peek().is_some() && announced.all(|row| row["asn"] == BLOCKED));
    let passed = flows(&controller, &["--action", "pass"])?;
    let mut passed = passed
        .iter()
        .filter(|row| is_there(row) && row["dst"] != "9.9.9.200");
    ensure!(passed.all(|row| row["asn"].is_null()));
    past::agrees(&router, &sent)?;

    // Nobody reads for a while.
    controller.signal(Signal::SIGKILL)?;
    drop(controller.ended());
    for _ in 0..3 {
        round(&router, &mut random, &mut sent)?;
    }
    let (mut controller, _) = Controller::start(&router.place())?;
    controller.wait_until_enforcing()?;
    let mut since = Sent::default();
    round(&router, &mut random, &mut since)?;
    // What the next one shows begins with what was in lines: no more than all, no less than its own.
    let rows = flows(&controller, &[])?;
    for (name, of) in &since.cameras {
        add_all(sent.cameras.entry(name.clone()).or_default(), *of);
        let found = sum(rows.iter().filter(|row| row["mac"] == **name));
        ensure!(
            *of <= found && found <= sent.cameras[name],
            "{name}: {found:?}"
        );
    }
    for (flow, of) in since.flows {
        add_all(sent.flows.entry(flow).or_default(), of);
    }
    books_are_complete(&controller, &sent)?;
    past::agrees(&router, &sent)?;

    // Nobody need run for it.
    controller.signal(Signal::SIGTERM)?;
    drop(controller.ended());
    let folder = router.path("state").join("evidence");
    past::is_rebuilt(&folder)?;
    past::agrees_without_a_daemon(&router, &sent)?;
    fs::remove_file(folder.join("history.db"))?;
    past::agrees_without_a_daemon(&router, &sent)
}

/// Flows that one camera makes up.
const FLOOD: u32 = 1_000_000;

#[test]
fn a_flood_costs_nobody_else() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("flood", binary)?;
    let (controller, _) = Controller::start(&router.place())?;
    let flooder: IpAddr = Ipv4Addr::new(10, 20, 1, 1).into();
    let frame_of = |source: IpAddr, number: u8, to: IpAddr| {
        Ethernet::new(mac(number), [4; 6])
            .tag(0x8100, 20)
            .packet(&udp(source, to, (40_000, 443), &[7; 20]))
    };
    let mut sent: BTreeMap<(String, String), Count> = BTreeMap::new();
    let mut flooded: Count = (0, 0);
    for number in 0..FLOOD {
        let to = Ipv4Addr::from(0x0b00_0000 + number);
        let frame = frame_of(flooder, 200, to.into());
        router.wire.send(&frame, 1)?;
        add(&mut flooded, frame.len());
        if number % 100 != 0 {
            continue;
        }
        let camera = (number / 100 % 20) as u8 + 1;
        let from: IpAddr = Ipv4Addr::new(10, 20, 0, camera).into();
        let to: IpAddr = Ipv4Addr::new(198, 51, 100, (number / 2000 % 10) as u8 + 1).into();
        let frame = frame_of(from, camera, to);
        router.wire.send(&frame, 1)?;
        add(
            sent.entry((from.to_string(), to.to_string())).or_default(),
            frame.len(),
        );
    }
    thread::sleep(Duration::from_millis(500));
    let rows = flows(&controller, &["--action", "drop"])?;
    for ((from, to), of) in &sent {
        let found = sum(rows
            .iter()
            .filter(|row| row["src"] == **from && row["dst"] == **to));
        ensure!(found == *of, "{from} to {to}: {found:?}, sent {of:?}");
    }
    let rows = flows(&controller, &["--camera", &flooder.to_string()])?;
    ensure!(
        sum(rows.iter()) == flooded,
        "{:?}, sent {flooded:?}",
        sum(rows.iter())
    );
    let others = sum(rows.iter().filter(|row| row["others"] == true)).0;
    println!(
        "{} flows of the flood are told apart, {others} of {FLOOD} packets are others",
        rows.len()
    );
    ensure!(others > u64::from(FLOOD) / 2 && rows.len() < FLOOD as usize / 2);
    let metrics = Metrics::scrape(&router.wire.namespace)?;
    ensure!(metrics.sum("kordon_ledger_others_packets_total", &[]) == others);
    ensure!(metrics.sum("kordon_ledger_lost_packets_total", &[]) == 0);
    let total: u64 = sent.values().map(|(packets, _)| packets).sum();
    let recorded = metrics.sum(
        "kordon_ledger_recorded_packets_total",
        &[("action", "drop")],
    );
    ensure!(recorded == total, "recorded {recorded} drops, sent {total}");
    Ok(())
}
