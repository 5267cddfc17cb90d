//! The demo's steps. Each sends real packets and counts at the receiving end,
//! in the kernel of the server's namespace.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::report::{Claim, Report};
use super::stage::Stage;
use crate::controller::{Controller, Metrics};
use crate::lab::programs::Witness;
use crate::lab::traffic::{Reach, udp_send};
use crate::lab::{Host, Lab, PORT, Server, TRUNK, frame};

/// For an answer that is to come.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the verifier may take for the guards' programs.
const VERIFIER: Duration = Duration::from_secs(60);
/// For an answer that is not to come. Below the second after which TCP repeats
/// its first packet, so that one attempt is one packet.
const SILENCE: Duration = Duration::from_millis(150);
/// Datagrams beside each TCP attempt.
const DATAGRAMS: u64 = 250;
/// Packets with a spoofed source, of each kind and family.
const SPOOFED: u64 = 10;
/// What a packet with a spoofed source carries.
const PICTURE: &[u8] = &[0x42; 900];

/// What came of sending to both addresses of a server.
#[derive(Debug, Default)]
struct Outcome {
    answered: usize,
    sent: u64,
    arrived: u64,
}

/// Tells the story from the empty network to the last number. Returns the
/// controller that runs at the end.
pub(crate) fn tell(stage: &Stage, binary: &Path, report: &mut Report) -> Result<Controller> {
    let lab = &stage.lab;
    let camera = lab.host("camera")?;
    let office = lab.host("office")?;
    let allowed = lab.server("as15169")?;
    let blocked = lab.server("as12695")?;
    let further = lab.server("as12389")?;
    report.say(
        "A camera (VLAN 20), an office (VLAN 30), a switch, a router, and servers on addresses of\n\
         AS15169, AS12695 and AS12389. IPv4 and IPv6 alike; nothing leaves this machine.\n",
    );

    without_kordon(lab, report)?;

    let (controller, took) = Controller::start(&stage.place(binary))?;
    report.say(&format!(
        "      `kordon run` enforces after {} ms\n",
        took.as_millis()
    ));

    let allowed_outcome = send(lab, camera, allowed, PATIENCE)?;
    report.measured(
        "camera to AS15169",
        allowed_outcome.sent,
        allowed_outcome.arrived,
    );
    let problems = must_answer(&allowed_outcome);
    report.claim(
        Claim::AllowedAsnWorks,
        "TCP connects and is answered, IPv4 and IPv6",
        &problems,
    );

    let outcome = send(lab, camera, blocked, SILENCE)?;
    let mut to_blocked = outcome.sent;
    report.measured("camera to AS12695", outcome.sent, outcome.arrived);
    let detail = format!(
        "{} packets sent, {} arrived at the server",
        outcome.sent, outcome.arrived
    );
    report.claim(
        Claim::BlockedAsnGetsNothing,
        &detail,
        &must_be_silent(&outcome),
    );

    let outcome = send(lab, office, blocked, PATIENCE)?;
    report.measured("office to AS12695", outcome.sent, outcome.arrived);
    let problems = must_answer(&outcome);
    report.claim(
        Claim::OtherVlanReachesIt,
        "not a policed VLAN: TCP is answered",
        &problems,
    );

    let outcome = spoof(lab, camera, allowed, blocked)?;
    let spoofed = outcome.sent;
    report.measured("camera as AS12695's server", outcome.sent, outcome.arrived);
    let detail = format!(
        "{} packets to AS15169 under the server's address, {} answers delivered to it",
        outcome.sent, outcome.arrived
    );
    report.claim(
        Claim::SpoofedSourceDeliversNothing,
        &detail,
        &must_be_silent(&outcome),
    );

    let outcome = forge(lab, camera, blocked)?;
    let spoofed = spoofed + outcome.sent;
    report.measured("forged neighbour discovery", outcome.sent, outcome.arrived);
    let detail = format!(
        "{} packets that look like neighbour discovery and MLD, from AS12695's address and behind an\n      \
         unknown option: {} answers of the router delivered to it",
        outcome.sent, outcome.arrived
    );
    report.claim(
        Claim::ForgedInfrastructureDeliversNothing,
        &detail,
        &must_be_silent(&outcome),
    );

    let mut to_further = block(lab, &controller, camera, further, report)?;

    // The controller dies; a second one finds what the first left in the kernel.
    controller.kill()?;
    let mut problems = Vec::new();
    if Metrics::scrape(&lab.router).is_ok() {
        problems.push("something still serves metrics".to_owned());
    }
    let outcome = send(lab, camera, blocked, SILENCE)?;
    to_blocked += outcome.sent;
    problems.extend(must_be_silent(&outcome));
    report.measured(
        "camera to AS12695, no controller",
        outcome.sent,
        outcome.arrived,
    );
    let outcome = send(lab, camera, further, SILENCE)?;
    to_further += outcome.sent;
    problems.extend(must_be_silent(&outcome));
    report.measured(
        "camera to AS12389, no controller",
        outcome.sent,
        outcome.arrived,
    );
    let outcome = send(lab, camera, allowed, PATIENCE)?;
    problems.extend(must_answer(&outcome));
    report.measured(
        "camera to AS15169, no controller",
        outcome.sent,
        outcome.arrived,
    );
    let detail = "without it, AS15169 answers, AS12695 and AS12389 get nothing";
    report.claim(Claim::KillingTheControllerChangesNothing, detail, &problems);

    let (controller, took) = Controller::start(&stage.place(binary))?;
    report.say(&format!(
        "      a new `kordon run` takes over after {} ms\n",
        took.as_millis()
    ));
    counters(lab, (to_blocked, to_further, spoofed), report)?;
    hidden_tags(lab, &controller, report)?;
    Ok(controller)
}

/// The network by itself: what kordon is to stop does work.
fn without_kordon(lab: &Lab, report: &mut Report) -> Result<()> {
    let mut problems = Vec::new();
    let mut reached = 0;
    let witness = Witness::attach(&lab.router, TRUNK)?;
    for host in &lab.hosts {
        for server in &lab.servers {
            let outcome = send(lab, host, server, PATIENCE)?;
            reached += outcome.answered;
            problems.extend(must_answer(&outcome));
        }
    }
    let (camera, office) = (witness.tagged(20)?, witness.tagged(30)?);
    let untagged = witness.untagged()?;
    drop(witness);
    if camera == 0 || office == 0 || untagged != 0 {
        problems.push(format!(
            "tags are not inline on the trunk: {untagged} frames without"
        ));
    }
    let (allowed, blocked) = (lab.server("as15169")?, lab.server("as12695")?);
    let outcome = spoof(lab, lab.host("camera")?, allowed, blocked)?;
    if outcome.arrived == 0 {
        problems.push("spoofing does not work here, so nothing could be shown about it".to_owned());
    }
    report.measured(
        "camera as AS12695's server, no kordon",
        outcome.sent,
        outcome.arrived,
    );
    let forged = forge(lab, lab.host("camera")?, blocked)?;
    if forged.arrived == 0 {
        problems.push("forging neighbour discovery does not work here".to_owned());
    }
    report.measured(
        "forged neighbour discovery, no kordon",
        forged.sent,
        forged.arrived,
    );
    let detail = format!(
        "TCP is answered on {reached} of 12 ways; XDP on the trunk sees {camera} frames with tag 20,\n      \
         {office} with tag 30, {untagged} without; of {} packets with AS12695's address as source\n      \
         {} had their answer delivered there",
        outcome.sent, outcome.arrived
    );
    report.claim(Claim::WithoutKordonEverythingArrives, &detail, &problems);
    Ok(())
}

/// Blocks one more ASN while a connection to it is open. Returns how many
/// packets were sent to it afterwards, at least.
fn block(
    lab: &Lab,
    controller: &Controller,
    camera: &Host,
    further: &Server,
    report: &mut Report,
) -> Result<u64> {
    let mut problems = Vec::new();
    let outcome = send(lab, camera, further, PATIENCE)?;
    problems.extend(must_answer(&outcome));
    report.measured(
        "camera to AS12389, not yet blocked",
        outcome.sent,
        outcome.arrived,
    );
    let mut open = connect(camera, further.v4.into())?;
    ensure!(
        ask(&mut open, PATIENCE)?,
        "an open connection to AS12389 is not answered"
    );
    // The last acknowledgement may be held back for 40 ms.
    let before = lab.arrivals.settled(further.v4.into())?.packets;

    let start = Instant::now();
    controller.cli(&["block", "AS12389", "--zone", "cameras"])?;
    let took = start.elapsed();
    if ask(&mut open, SILENCE)? {
        problems.push("the open connection is still answered".to_owned());
    }
    let after = lab.arrivals.settled(further.v4.into())?.packets;
    if after != before {
        problems.push(format!(
            "{} packets of the open connection arrived",
            after - before
        ));
    }
    let outcome = send(lab, camera, further, SILENCE)?;
    problems.extend(must_be_silent(&outcome));
    report.measured("camera to AS12389, blocked", outcome.sent, outcome.arrived);
    let detail = format!(
        "the command took {} ms; then {} packets sent, {} arrived, an open connection fell silent",
        took.as_millis(),
        outcome.sent,
        outcome.arrived
    );
    report.claim(Claim::BlockTakesEffectAtOnce, &detail, &problems);
    Ok(outcome.sent)
}

/// Compares kordon's metrics with what was sent.
fn counters(lab: &Lab, sent: (u64, u64, u64), report: &mut Report) -> Result<()> {
    let (to_blocked, to_further, spoofed) = sent;
    let metrics = Metrics::scrape(&lab.router)?;
    let drops = [("zone", "cameras"), ("action", "drop")];
    let with = |label, value| [drops[0], drops[1], (label, value)];
    let rule = metrics.sum(
        "kordon_rule_packets_total",
        &with("rule", "no-hostile-networks"),
    );
    let blocked = metrics.sum("kordon_asn_packets_total", &with("asn", "12695"));
    let further = metrics.sum("kordon_asn_packets_total", &with("asn", "12389"));
    let spoofs = metrics.sum(
        "kordon_unparsable_packets_total",
        &with("reason", "spoofed-source"),
    );
    let mut problems = Vec::new();
    for (what, counted, sent) in [
        ("rule `no-hostile-networks`", rule, to_blocked),
        ("AS12695", blocked, to_blocked),
        ("`spoofed-source`", spoofs, spoofed),
    ] {
        if counted != sent {
            problems.push(format!(
                "{what}: {counted} drops counted, {sent} packets sent"
            ));
        }
    }
    // The connection that was open repeats itself as it likes.
    if further < to_further {
        problems.push(format!(
            "AS12389: {further} drops counted, {to_further} packets sent"
        ));
    }
    let detail = format!(
        "dropped to AS12695: {blocked}, to AS12389: {further}, with a spoofed source: {spoofs};\n      \
         as many as were sent, those without a controller included"
    );
    report.claim(Claim::CountersTellTheStory, &detail, &problems);
    Ok(())
}

/// The switch leaves tags beside its frames, as network cards and containers do, where XDP
/// does not see them: the guard has to drop, and kordon must say so.
fn hidden_tags(lab: &Lab, controller: &Controller, report: &mut Report) -> Result<()> {
    let (camera, blocked) = (lab.host("camera")?, lab.server("as12695")?);
    let mut problems = Vec::new();
    let by = || -> Result<(bool, Value, String)> {
        let said = status(controller)?;
        let by = said["interfaces"][0]["by"].clone();
        let words = format!("{} {}", said["reasons"], said["notices"]);
        Ok((said["enforcing"] == true, by, words))
    };
    // The verifier takes its time with what guards judge by, and a start does not wait for that.
    let start = Instant::now();
    while status(controller)?["interfaces"][0]["guard_judges"] != true {
        ensure!(start.elapsed() < VERIFIER, "the guard does not judge");
        thread::sleep(SILENCE / 3);
    }
    let mut hide = Command::new("ethtool");
    lab.switch
        .output(hide.args(["-K", TRUNK, "txvlan", "on"]))?;
    let outcome = send(lab, camera, blocked, SILENCE)?;
    problems.extend(must_be_silent(&outcome));
    report.measured(
        "camera to AS12695, tags hidden",
        outcome.sent,
        outcome.arrived,
    );
    let start = Instant::now();
    let mut said = by()?;
    while said.1 == "xdp" && start.elapsed() < PATIENCE {
        thread::sleep(SILENCE / 3);
        said = by()?;
    }
    let noticed = start.elapsed();
    let (enforcing, by_whom, words) = said;
    for part in ["VLAN tags (0x8100) are hidden", "txvlan off"] {
        if !words.contains(part) {
            problems.push(format!("`status` does not say `{part}`: {words}"));
        }
    }
    if !enforcing || by_whom != "tc" {
        problems.push(format!("`status` says enforcing {enforcing}, by {by_whom}"));
    }
    // The cure that it names.
    lab.switch.inline_tags(TRUNK)?;
    let end = Instant::now() + 4 * PATIENCE;
    loop {
        // It believes what it sees, not what it is told.
        send(lab, camera, lab.server("as15169")?, PATIENCE)?;
        if by()?.1 == "xdp" {
            break;
        }
        if Instant::now() > end {
            problems.push("the cure does not help".to_owned());
            break;
        }
    }
    let cured = send(lab, camera, blocked, SILENCE)?;
    problems.extend(must_be_silent(&cured));
    report.measured("camera to AS12695, cured", cured.sent, cured.arrived);
    let detail = format!(
        "the switch hides them: the guard behind the program drops, {} of {} packets arrive; after\n      \
         {} ms `status` says so, and why; cured as it says, the program judges again",
        outcome.arrived,
        outcome.sent,
        noticed.as_millis()
    );
    report.claim(Claim::HiddenTagsAreNoticed, &detail, &problems);
    Ok(())
}

fn status(controller: &Controller) -> Result<Value> {
    // Its exit code says the same.
    let output = controller.command(&["status"]).output();
    let output = output.context("cannot run `kordon status`")?;
    serde_json::from_slice(&output.stdout).context("`kordon status` printed no JSON")
}

/// One TCP attempt and some datagrams to each address of a server.
fn send(lab: &Lab, from: &Host, to: &Server, patience: Duration) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for address in to.addresses() {
        let before = lab.arrivals.settled(address)?.packets;
        if from.reach(address, patience)? == Reach::Answered {
            outcome.answered += 1;
        }
        let datagrams = usize::try_from(DATAGRAMS).context("too many datagrams")?;
        udp_send(&from.namespace, (address, PORT).into(), PICTURE, datagrams)?;
        outcome.sent += 1 + DATAGRAMS;
        outcome.arrived += lab.arrivals.settled(address)?.packets - before;
    }
    Ok(outcome)
}

/// Packets to `by` that carry the address of `victim` as their source: pings,
/// whose answers carry the payload, and some that expire at the router.
fn spoof(lab: &Lab, from: &Host, by: &Server, victim: &Server) -> Result<Outcome> {
    let raw = from.raw()?;
    let mut outcome = Outcome::default();
    for (by, victim) in by.addresses().into_iter().zip(victim.addresses()) {
        let before = lab.arrivals.settled(victim)?.packets;
        for number in 1..=SPOOFED {
            let sequence = u16::try_from(number).context("too many packets")?;
            let ping = frame::ping(victim, by, sequence, PICTURE);
            raw.send(&from.ethernet().packet(&ping))?;
            raw.send(&from.ethernet().packet(&frame::with_hop_limit(ping, 1)))?;
            outcome.sent += 2;
        }
        outcome.arrived += lab.arrivals.settled(victim)?.packets - before;
    }
    Ok(outcome)
}

/// What keeps a link alive, or looks like it, under the address of `victim` and behind an
/// option that no router knows: it says so to the sender, with the payload (RFC 8200 4.2).
fn forge(lab: &Lab, from: &Host, victim: &Server) -> Result<Outcome> {
    // Else what spoofed packets were answered with before would count.
    lab.router.sysctl(&[("ipv6/icmp/ratelimit", "0")])?;
    let raw = from.raw()?;
    let mut outcome = Outcome::default();
    let before = lab.arrivals.settled(victim.v6.into())?.packets;
    let mut router = from.v6.octets();
    router[8..].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1]);
    let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    // Destination options before a solicitation, hop-by-hop options before a query of MLD.
    for (to, header, kind) in [(router.into(), 60, 135), (all, 0, 130)] {
        let option = [frame::ICMPV6, 0, 0x80, 4, 0, 0, 0, 0];
        let message = [&[kind][..], &[0; 23], PICTURE].concat();
        let payload = [&option[..], &message].concat();
        let packet = frame::ip(victim.v6.into(), to.into(), header, &payload);
        let packet = frame::with_hop_limit(packet, 255);
        for _ in 0..SPOOFED {
            raw.send(&from.ethernet().packet(&packet))?;
            outcome.sent += 1;
        }
    }
    outcome.arrived = lab.arrivals.settled(victim.v6.into())?.packets - before;
    Ok(outcome)
}

fn must_answer(outcome: &Outcome) -> Vec<String> {
    let mut problems = Vec::new();
    if outcome.answered != 2 {
        problems.push(format!(
            "TCP was answered on {} of 2 addresses",
            outcome.answered
        ));
    }
    if outcome.arrived < outcome.sent {
        problems.push(format!(
            "{} packets sent, {} arrived",
            outcome.sent, outcome.arrived
        ));
    }
    problems
}

fn must_be_silent(outcome: &Outcome) -> Vec<String> {
    let mut problems = Vec::new();
    if outcome.answered != 0 {
        problems.push(format!(
            "TCP was answered on {} of 2 addresses",
            outcome.answered
        ));
    }
    if outcome.arrived != 0 {
        problems.push(format!("{} packets arrived", outcome.arrived));
    }
    problems
}

fn connect(from: &Host, to: IpAddr) -> Result<TcpStream> {
    from.namespace.run(|| {
        TcpStream::connect_timeout(&(to, PORT).into(), PATIENCE)
            .with_context(|| format!("cannot connect to {to}"))
    })
}

/// Whether the server still answers on a connection.
fn ask(stream: &mut TcpStream, patience: Duration) -> Result<bool> {
    stream
        .set_read_timeout(Some(patience))
        .context("cannot set a timeout")?;
    stream
        .write_all(b"still there?")
        .context("cannot write to an open connection")?;
    let answered = stream.read_exact(&mut [0; 12]).is_ok();
    // An acknowledgement on its way is not to be taken for what comes next.
    thread::sleep(SILENCE / 3);
    Ok(answered)
}
