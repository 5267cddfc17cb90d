//! What the program is not shown is noticed, named and mended: tags beside the frame, frames
//! that go past it, devices without tags, other names, a guard that somebody removed.

use std::{
    net::{Ipv4Addr, UdpSocket},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use kordon::datapath::{
    interface::{self, Kind},
    offload::keep_tags,
    system::detach_link,
};
use kordon_tests::{
    controller::{Controller, Metrics, binary},
    lab::{
        Namespace,
        programs::{Tags, overtake, tag_host},
    },
    router::Router,
};
use serde_json::Value;

/// AS64500, which cameras may not reach.
const BLOCKED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
/// AS64501, which they may.
const GOOD: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
/// A tick is a second; a machine under load takes longer, above all to load a program.
const PATIENCE: Duration = Duration::from_secs(60);

/// A camera behind `out`, of which the device, not the sender, writes the tags.
struct Camera<'a> {
    router: &'a Router,
    socket: UdpSocket,
}

impl<'a> Camera<'a> {
    fn new(router: &'a Router) -> Result<Self> {
        let namespace = &router.wire.namespace;
        tag_host(
            namespace,
            "out",
            Tags {
                outer: 20,
                inner: 0,
            },
        )?;
        // Neither end answers anything by itself, so that each packet is the test's.
        namespace.sysctl(&[
            ("ipv6/conf/in/disable_ipv6", "1"),
            ("ipv6/conf/out/disable_ipv6", "1"),
        ])?;
        let mut lines = "address add 10.20.0.5/24 dev out\n".to_owned();
        for server in [BLOCKED, GOOD] {
            lines += &format!(
                "route add {server}/32 dev out\n\
                 neighbour add {server} lladdr 02:00:00:00:00:04 dev out nud permanent\n"
            );
        }
        namespace.ip(&lines)?;
        let socket = namespace.run(|| {
            UdpSocket::bind((Ipv4Addr::new(10, 20, 0, 5), 4000)).context("cannot bind a socket")
        })?;
        Ok(Self { router, socket })
    }

    fn send(&self, to: Ipv4Addr, packets: usize) -> Result<()> {
        for _ in 0..packets {
            self.socket
                .send_to(b"video", (to, 4000))
                .context("cannot send")?;
        }
        thread::sleep(Duration::from_millis(20));
        Ok(())
    }

    /// Whether the device writes tags into frames, or leaves them beside.
    fn hides_tags(&self, hides: bool) -> Result<()> {
        let word = if hides { "on" } else { "off" };
        let settings = ["txvlan", word, "tx-vlan-stag-hw-insert", word];
        ethtool(&self.router.wire.namespace, "out", &settings)
    }

    /// How many packets are dropped of some that are sent to the blocked address.
    fn dropped(&self) -> Result<u64> {
        let count = || -> Result<u64> {
            let metrics = Metrics::scrape(&self.router.wire.namespace)?;
            Ok(metrics.sum("kordon_packets_total", &[("action", "drop")]))
        };
        let before = count()?;
        self.send(BLOCKED, 10)?;
        Ok(count()? - before)
    }
}

fn ethtool(namespace: &Namespace, device: &str, settings: &[&str]) -> Result<()> {
    let mut command = Command::new("ethtool");
    command.args(["-K", device]).args(settings);
    namespace.output(&mut command).map(drop)
}

fn status(controller: &Controller) -> Result<Value> {
    let output = controller.command(&["status"]).output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Waits for it, meanwhile doing something; returns how long that took.
fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<Duration> {
    let start = Instant::now();
    while !holds()? {
        ensure!(start.elapsed() < PATIENCE, "still not: {what}");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(start.elapsed())
}

/// What is wrong, and what somebody should look at.
fn reasons(controller: &Controller) -> Result<String> {
    let said = status(controller)?;
    Ok(format!("{} {}", said["reasons"], said["notices"]))
}

/// Whether the program is known not to see all; the guard may enforce all the same.
fn is_blind(controller: &Controller) -> Result<bool> {
    Ok(status(controller)?["interfaces"][0]["attached"] == false)
}

/// The guard is ready to judge: loading what it calls takes a while.
fn guard_judges(controller: &Controller) -> Result<()> {
    let judges = || Ok(status(controller)?["interfaces"][0]["guard_judges"] == true);
    until("the guard judges", judges).map(drop)
}

/// Whether the guard enforces where the program cannot.
fn stood_in_for(controller: &Controller) -> Result<bool> {
    let said = status(controller)?;
    let interface = &said["interfaces"][0];
    Ok(interface["by"] == "tc" && interface["attached"] == false && said["enforcing"] == true)
}

fn enforces(controller: &Controller) -> Result<bool> {
    Ok(status(controller)?["enforcing"] == true)
}

fn lines_with(router: &Router, part: &str) -> Result<usize> {
    let log = std::fs::read_to_string(router.path("kordon.log"))?;
    Ok(log.lines().filter(|line| line.contains(part)).count())
}

/// Calls the policed device `renamed`, and waits until that is known.
fn rename(namespace: &Namespace, controller: &Controller) -> Result<()> {
    namespace.ip("link set in name renamed")?;
    until("the other name is shown", || {
        let notices = &status(controller)?["notices"];
        Ok(notices.to_string().contains("`renamed`"))
    })?;
    Ok(())
}

/// Three ticks: long enough for anything to be noticed.
fn some_ticks() {
    thread::sleep(Duration::from_secs(3));
}

#[test]
fn hidden_tags_are_noticed_and_the_cure_works() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("hidden", binary)?;
    let camera = Camera::new(&router)?;
    let (controller, _) = Controller::start(&router.place())?;
    assert_eq!(camera.dropped()?, 10);
    camera.send(GOOD, 5)?;
    some_ticks();
    assert!(enforces(&controller)?);
    assert_eq!(status(&controller)?["interfaces"][0]["guard"], "tcx");

    // The first packet of which the tag is hidden.
    guard_judges(&controller)?;
    camera.hides_tags(true)?;
    assert_eq!(camera.dropped()?, 10, "by the guard, from the first one on");
    let took = until("it is noticed", || stood_in_for(&controller))?;
    println!("noticed after {took:?}");
    assert!(enforces(&controller)?);
    let said = status(&controller)?["notices"].to_string();
    println!("{said}");
    assert!(
        said.contains("hidden from the program on `in`") && said.contains("0x8100"),
        "{said}"
    );
    let cure = "ethtool -K out txvlan off tx-vlan-stag-hw-insert off";
    assert!(said.contains(cure), "{said}");
    assert_eq!(camera.dropped()?, 10, "as before");
    // What the policy lets pass goes on.
    camera.send(GOOD, 5)?;
    let metrics = Metrics::scrape(&router.wire.namespace)?;
    assert_eq!(metrics.sum("kordon_enforcing", &[]), 1);
    assert_eq!(metrics.sum("kordon_interface_attached", &[]), 0);
    let stopped = [("interface", "trunk"), ("tag", "0x8100")];
    assert_eq!(
        metrics.sum("kordon_guard_dropped_packets_total", &stopped),
        20
    );
    let of_zone = [("interface", "trunk"), ("zone", "cameras")];
    assert_eq!(metrics.sum("kordon_missed_packets_total", &of_zone), 20);
    let by_rule = [("action", "drop")];
    assert_eq!(metrics.sum("kordon_rule_packets_total", &by_rule), 30);
    until("what is missed is counted", || {
        let metrics = Metrics::scrape(&router.wire.namespace)?;
        let how = [("how", "hidden-tag"), ("interface", "trunk")];
        Ok(metrics.sum("kordon_interface_missed_packets_total", &how) == 25)
    })?;
    some_ticks();
    assert!(stood_in_for(&controller)?, "silence is no cure");
    assert_eq!(lines_with(&router, "are hidden from the program")?, 1);

    // Without a daemon, and while the next one starts, the guard goes on.
    controller.kill()?;
    camera.send(BLOCKED, 7)?;
    let (controller, _) = Controller::start(&router.place())?;
    camera.send(BLOCKED, 6)?;
    let dropped = Metrics::scrape(&router.wire.namespace)?;
    assert_eq!(dropped.sum("kordon_packets_total", &by_rule), 43);
    some_ticks();
    camera.send(BLOCKED, 1)?;
    until("the next daemon notices", || stood_in_for(&controller))?;

    let words: Vec<&str> = cure.split(' ').skip(3).collect();
    ethtool(&router.wire.namespace, "out", &words)?;
    until("it is cured", || {
        camera.send(GOOD, 1)?;
        Ok(status(&controller)?["interfaces"][0]["by"] == "xdp")
    })?;
    assert_eq!(camera.dropped()?, 10);
    let metrics = Metrics::scrape(&router.wire.namespace)?;
    assert_eq!(metrics.sum("kordon_interface_attached", &[]), 1);
    Ok(())
}

#[test]
fn tags_that_are_hidden_from_the_start() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("hidden0", binary)?;
    let camera = Camera::new(&router)?;
    camera.hides_tags(true)?;
    let (controller, _) = Controller::start(&router.place())?;
    let took = until("it is noticed", || {
        camera.send(GOOD, 1)?;
        is_blind(&controller)
    })?;
    println!("noticed after {took:?}");
    assert!(reasons(&controller)?.contains("hidden from the program on `in`"));
    Ok(())
}

/// Without XDP: whatever the tags are, all is judged and counted, also over a daemon's end.
#[test]
fn the_guard_polices_alone() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("alone", binary)?;
    let camera = Camera::new(&router)?;
    let namespace = &router.wire.namespace;
    let native = std::fs::read_to_string(router.path("kordon.toml"))?;
    router.write("kordon.toml", native.replace("native", "tc"))?;
    let (mut controller, _) = Controller::start(&router.place())?;
    let on_it = || namespace.run(|| Ok(interface::query("in")?.and_then(|found| found.xdp)));
    assert_eq!(on_it()?, None);
    let (mut drops, mut passes) = (0, 0);
    for round in 0..4 {
        camera.hides_tags(round % 2 == 1)?;
        if round == 2 {
            controller.kill()?;
            // Nobody is there, and it goes on.
            camera.send(BLOCKED, 3)?;
            drops += 3;
            controller = Controller::start(&router.place())?.0;
        }
        let said = status(&controller)?;
        assert_eq!(said["enforcing"], true, "{}", said["reasons"]);
        let interface = &said["interfaces"][0];
        assert_eq!(
            (&interface["mode"], &interface["by"]),
            (&"tc".into(), &"tc".into())
        );
        assert_eq!(interface["attached"], true);
        camera.send(BLOCKED, 5)?;
        camera.send(GOOD, 7)?;
        (drops, passes) = (drops + 5, passes + 7);
        let metrics = Metrics::scrape(namespace)?;
        let sum = |action| metrics.sum("kordon_packets_total", &[("action", action)]);
        assert_eq!((sum("drop"), sum("pass")), (drops, passes), "round {round}");
        assert_eq!(metrics.sum("kordon_guard_dropped_packets_total", &[]), 0);
    }
    // Under another name, too, for this daemon and the next.
    rename(namespace, &controller)?;
    for _ in 0..2 {
        some_ticks();
        let said = status(&controller)?;
        assert_eq!(said["enforcing"], true, "{}", said["reasons"]);
        assert_eq!(said["interfaces"][0]["by"], "tc");
        camera.send(BLOCKED, 2)?;
        drops += 2;
        controller.kill()?;
        controller = Controller::start(&router.place())?.0;
    }
    namespace.ip("link set renamed name in")?;
    // Somebody's program before it ends what comes behind.
    let overtaken = |said: &Value| said["reasons"].to_string().contains("before the guard");
    let other = overtake(namespace, "in")?;
    until("it is noticed", || Ok(overtaken(&status(&controller)?)))?;
    assert_eq!(status(&controller)?["enforcing"], false);
    drop(other);
    until("it is over", || {
        Ok(status(&controller)?["enforcing"] == true)
    })?;
    // A change of rules is in force at once.
    controller.cli(&["block", "AS64501", "--zone", "cameras"])?;
    camera.send(GOOD, 4)?;
    let metrics = Metrics::scrape(namespace)?;
    assert_eq!(
        metrics.sum("kordon_packets_total", &[("action", "drop")]),
        drops + 4
    );
    controller.cli(&["detach", "--yes"])?;
    for left in std::fs::read_dir(router.place().bpffs)? {
        // The kernel's own.
        let name = left?.file_name();
        assert!(name.to_string_lossy().ends_with(".debug"), "{name:?}");
    }
    Ok(())
}

#[test]
fn frames_that_go_past_the_program() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("past", binary)?;
    let camera = Camera::new(&router)?;
    let (controller, _) = Controller::start(&router.place())?;
    camera.send(GOOD, 5)?;
    some_ticks();
    assert!(enforces(&controller)?);
    // Redirected into the interface behind the driver, where the program is.
    let namespace = &router.wire.namespace;
    namespace
        .ip("link add name side type veth peer name aside\nlink set side up\nlink set aside up")?;
    for arguments in [
        "qdisc add dev side clsact",
        "filter add dev side ingress prio 7 u32 match u32 0 0 action mirred ingress redirect dev in",
    ] {
        namespace.output(Command::new("tc").args(arguments.split(' ')))?;
    }
    let sender = kordon_tests::lab::raw::RawSender::open(namespace, "aside")?;
    let frame = kordon_tests::lab::Wire::packet(20, "10.20.0.5".parse()?, BLOCKED.into());
    let took = until("it is noticed", || {
        sender.send(&frame)?;
        is_blind(&controller)
    })?;
    println!("noticed after {took:?}: {}", reasons(&controller)?);
    assert!(reasons(&controller)?.contains("get past the program on `in`"));
    // What can be judged is, also after what is tried to cure it, once it is seen again.
    until("it is attached anew", || {
        sender.send(&frame)?;
        Ok(lines_with(&router, "attaching it anew")? >= 1)
    })?;
    until("it is judged", || {
        // Nobody is answered while a program is loaded.
        Ok(camera.dropped().is_ok_and(|dropped| dropped == 10))
    })?;
    until("it has ended", || {
        camera.send(GOOD, 1)?;
        Ok(!is_blind(&controller)?)
    })?;
    Ok(())
}

/// They come back to it from its own device, which no driver shows to XDP.
#[test]
fn what_the_router_sends_to_groups_is_not_taken_for_received() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("group", binary)?;
    let camera = Camera::new(&router)?;
    let own = Ipv4Addr::new(10, 20, 0, 1);
    let group = Ipv4Addr::new(239, 1, 2, 3);
    let namespace = &router.wire.namespace;
    namespace.ip(&format!(
        "address add {own}/24 dev in\nroute add {group}/32 dev in"
    ))?;
    let socket = namespace.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 5353))?;
        socket.join_multicast_v4(&group, &own)?;
        socket.set_multicast_loop_v4(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    })?;
    let (controller, _) = Controller::start(&router.place())?;
    some_ticks();
    for _ in 0..5 {
        for _ in 0..40 {
            socket.send_to(b"hello", (group, 5353))?;
            assert_eq!(socket.recv(&mut [0; 8])?, 5);
        }
        thread::sleep(Duration::from_millis(1100));
        let said = status(&controller)?;
        assert_eq!(said["enforcing"], true, "{}", said["reasons"]);
    }
    // What is hidden from it is noticed all the same.
    camera.hides_tags(true)?;
    until("it is noticed", || {
        camera.send(GOOD, 1)?;
        is_blind(&controller)
    })?;
    Ok(())
}

#[test]
fn another_mode_than_asked_for_stays_a_reason() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("mode", binary)?;
    let native = std::fs::read_to_string(router.path("kordon.toml"))?;
    router.write("kordon.toml", native.replace("native", "generic"))?;
    let (controller, _) = Controller::start(&router.place())?;
    controller.kill()?;
    router.write("kordon.toml", native)?;
    let controller = Controller::spawn(&router.place())?;
    until("it answers", || Ok(status(&controller).is_ok()))?;
    until("it is a reason", || {
        Ok(reasons(&controller)?.contains("in generic mode, another was asked for"))
    })?;
    some_ticks();
    let said = reasons(&controller)?;
    assert!(said.contains("another was asked for"), "{said}");
    Ok(())
}

#[test]
fn a_bridge_is_refused_with_its_ports() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("bridge", binary)?;
    router
        .wire
        .namespace
        .ip("link add br0 type bridge\nlink set in master br0\nlink set br0 up")?;
    let configuration = std::fs::read_to_string(router.path("kordon.toml"))?;
    for mode in ["auto", "generic", "native"] {
        let mode = format!("mode = \"{mode}\"");
        let text = configuration
            .replace("device = \"in\"", "device = \"br0\"")
            .replace("mode = \"native\"", &mode);
        router.write("kordon.toml", text)?;
        let controller = Controller::spawn(&router.place())?;
        until("it answers", || Ok(status(&controller).is_ok()))?;
        until("it is refused", || {
            Ok(reasons(&controller)?.contains("on `br0`"))
        })?;
        let said = reasons(&controller)?;
        println!("{said}");
        assert!(said.contains("a bridge") && said.contains("`in`"), "{said}");
        let found = router
            .wire
            .namespace
            .run(|| interface::query("br0")?.context("it is there"))?;
        assert_eq!((found.kind, found.xdp), (Kind::Bridge, None));
        controller.kill()?;
    }
    Ok(())
}

#[test]
fn another_name_and_down_and_up() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("name", binary)?;
    let camera = Camera::new(&router)?;
    let namespace = &router.wire.namespace;
    let (controller, _) = Controller::start(&router.place())?;
    assert_eq!(camera.dropped()?, 10);

    rename(namespace, &controller)?;
    some_ticks();
    let said = status(&controller)?;
    assert_eq!(said["enforcing"], true, "{}", said["reasons"]);
    assert_eq!(said["interfaces"][0]["attached"], true);
    assert_eq!(camera.dropped()?, 10);
    // The next daemon finds it by what is pinned.
    controller.kill()?;
    let (controller, _) = Controller::start(&router.place())?;
    assert_eq!(camera.dropped()?, 10);
    // Tags that are hidden are noticed under any name.
    some_ticks();
    camera.hides_tags(true)?;
    camera.send(GOOD, 1)?;
    until("it is noticed", || is_blind(&controller))?;
    camera.hides_tags(false)?;
    until("it is cured", || {
        camera.send(GOOD, 1)?;
        Ok(!is_blind(&controller)?)
    })?;
    namespace.ip("link set renamed name in")?;
    until("the name is right", || {
        Ok(status(&controller)?["notices"]
            .as_array()
            .is_some_and(Vec::is_empty))
    })?;

    for _ in 0..3 {
        namespace.ip("link set in down\nlink set in up")?;
    }
    until("the route is back", || {
        let lines = format!("route replace {BLOCKED}/32 dev out\nroute replace {GOOD}/32 dev out");
        Ok(namespace.ip(&lines).is_ok() && camera.send(GOOD, 1).is_ok())
    })?;
    some_ticks();
    assert_eq!(camera.dropped()?, 10);
    camera.send(GOOD, 10)?;
    some_ticks();
    assert!(enforces(&controller)?, "{}", reasons(&controller)?);

    // Another device takes the name: that is the one to police.
    namespace.ip("link set in name old\nlink add in type veth peer name new\nlink set in up")?;
    until("the other device is attached", || {
        let on_it = |name| namespace.run(move || Ok(interface::query(name)?.and_then(|i| i.xdp)));
        Ok(on_it("in")?.is_some() && on_it("old")?.is_none() && enforces(&controller)?)
    })?;
    assert_eq!(lines_with(&router, "`old`, which was `in`")?, 1);
    Ok(())
}

#[test]
fn a_guard_that_is_removed_comes_back() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("guard", binary)?;
    let camera = Camera::new(&router)?;
    let namespace = &router.wire.namespace;
    let (controller, _) = Controller::start(&router.place())?;
    let pin = router.place().bpffs.join("guards").join("in");
    let removals: [fn(&std::path::Path) -> std::io::Result<()>; 2] =
        [detach_link, |pin| std::fs::remove_file(pin)];
    for remove in removals {
        remove(&pin)?;
        // Without its pin it stays: the controller has it.
        until("it is put back", || {
            Ok(lines_with(&router, "took the guard off `in`")? == 1 && pin.exists())
        })?;
        some_ticks();
        camera.send(GOOD, 3)?;
        some_ticks();
        assert!(enforces(&controller)?, "{}", reasons(&controller)?);
        camera.hides_tags(true)?;
        camera.send(GOOD, 1)?;
        until("it notices again", || is_blind(&controller))?;
        camera.hides_tags(false)?;
        until("it is cured", || {
            camera.send(GOOD, 1)?;
            Ok(!is_blind(&controller)?)
        })?;
    }
    // A device that is no longer configured has no guard, either; nor after a detach.
    controller.cli(&["detach", "--yes"])?;
    let count = |namespace: &Namespace| {
        namespace.run(|| {
            let ingress = aya::programs::TcAttachType::Ingress;
            let (_, programs) = aya::programs::SchedClassifier::query_tcx("in", ingress)?;
            Ok(programs.len())
        })
    };
    assert_eq!(count(namespace)?, 0);
    assert!(!router.place().bpffs.join("guards").exists());
    Ok(())
}

#[test]
fn offloads_are_read_and_switched_off() -> Result<()> {
    let wire = kordon_tests::lab::Wire::new("offload")?;
    let namespace = &wire.namespace;
    // A veth has the switches of a card.
    let card = namespace.run(|| {
        let found = interface::query("in")?.context("it is there")?;
        Ok(interface::Interface {
            kind: Kind::Other,
            ..found
        })
    })?;
    for (switch, other) in [
        ("rxvlan", "rx-vlan-stag-hw-parse"),
        ("rx-vlan-stag-hw-parse", "rxvlan"),
    ] {
        ethtool(namespace, "in", &[switch, "on", other, "off"])?;
        let error = namespace.run(|| Ok(keep_tags(&card, false).map_err(|e| e.to_string())))?;
        let error = error.err().context("it is on")?;
        println!("{error}");
        let (_, cure) = error.split_once("run `ethtool -K in ").context("a cure")?;
        assert!(error.contains("manage_offload"), "{error}");
        assert!(cure.starts_with(switch), "{error}");
        assert!(namespace.run(|| Ok(keep_tags(&card, true)?))?);
        assert!(!namespace.run(|| Ok(keep_tags(&card, false)?))?);
        // The cure of the message does the same.
        ethtool(namespace, "in", &[switch, "on"])?;
        let words: Vec<&str> = cure.trim_end_matches('`').split(' ').collect();
        ethtool(namespace, "in", &words)?;
        assert!(!namespace.run(|| Ok(keep_tags(&card, false)?))?);
    }
    Ok(())
}

#[test]
fn a_zone_that_falls_silent() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("silent", binary)?;
    let camera = Camera::new(&router)?;
    let configuration = std::fs::read_to_string(router.path("kordon.toml"))?;
    router.write(
        "kordon.toml",
        format!("silent_after = \"2s\"\n{configuration}"),
    )?;
    let (controller, _) = Controller::start(&router.place())?;
    some_ticks();
    let silent = || -> Result<bool> {
        let said = status(&controller)?;
        assert_eq!(said["enforcing"], true, "it is no reason");
        let metrics = Metrics::scrape(&router.wire.namespace)?;
        let metric = metrics.sum("kordon_zone_silent", &[("zone", "cameras")]) == 1;
        Ok(said["zones"][0]["silent"] == true
            && said["notices"].to_string().contains("zone `cameras`")
            && metric)
    };
    assert!(!silent()?, "it never had a packet");
    camera.send(GOOD, 3)?;
    until("it is silent", silent)?;
    until("it is heard", || {
        camera.send(GOOD, 1)?;
        Ok(!silent()?)
    })?;
    Ok(())
}
