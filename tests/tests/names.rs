//! Interfaces that get other names: no frame passes that has to be dropped, whoever notices it
//! first, and what is not policed any more is said for as long as it is so.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use kordon_tests::{
    controller::{Controller, Metrics, binary},
    router::{Router, policy},
    traffic::{BLOCKED, drops, under_traffic, until},
};
use serde_json::json;

/// Names a device of the configuration differently.
fn configure(router: &Router, from: &str, to: &str) -> Result<()> {
    let text = fs::read_to_string(router.path("kordon.toml"))?;
    let (from, to) = (format!("device = \"{from}\""), format!("device = \"{to}\""));
    ensure!(text.contains(&from), "{text}");
    router.write("kordon.toml", text.replace(&from, &to))
}

fn pins(router: &Router) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in ["links", "guards"] {
        for pin in fs::read_dir(router.place().bpffs.join(folder))? {
            names.push(pin?.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// How many frames went on to the stack from what a policy calls so.
fn passed(router: &Router, name: &str) -> Result<u64> {
    let metrics = Metrics::scrape(&router.wire.namespace)?;
    let labels = [("interface", name), ("by", "xdp")];
    Ok(metrics.sum("kordon_interface_passed_packets_total", &labels))
}

fn log(router: &Router) -> Result<String> {
    Ok(fs::read_to_string(router.path("kordon.log"))?)
}

#[test]
fn the_configuration_follows_another_name() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("follow", binary)?;
    let namespace = &router.wire.namespace;
    let (controller, _) = Controller::start(&router.place())?;
    let controller = under_traffic(&router, || {
        namespace.ip("link set in name lan")?;
        thread::sleep(Duration::from_millis(1500));
        configure(&router, "in", "lan")?;
        controller.kill()?;
        Ok(Controller::start(&router.place())?.0)
    })?;
    ensure!(pins(&router)? == ["0-lan", "lan"], "{:?}", pins(&router)?);
    let status = controller.cli(&["status"])?;
    ensure!(status["notices"] == json!([]), "{status}");
    ensure!(!log(&router)?.contains("taking the program off"));
    // Back, and another one is policed beside it: the first has the port of a new one.
    let controller = under_traffic(&router, || {
        controller.kill()?;
        namespace
            .ip("link set lan name wan\nlink add lan type veth peer name aside\nlink set lan up")?;
        configure(&router, "lan", "wan")?;
        let text = fs::read_to_string(router.path("kordon.toml"))?;
        let more = "[[interface]]\nname = \"other\"\ndevice = \"lan\"\nmode = \"native\"\n";
        router.write("kordon.toml", format!("{text}{more}"))?;
        Ok(Controller::start(&router.place())?.0)
    })?;
    let found = pins(&router)?;
    ensure!(found == ["0-wan", "1-lan", "lan", "wan"], "{found:?}");
    drop(controller);
    Ok(())
}

#[test]
fn two_interfaces_change_names() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("swap", binary)?;
    let namespace = &router.wire.namespace;
    namespace
        .ip("link add second type veth peer name aside\nlink set second up\nlink set aside up")?;
    let text = fs::read_to_string(router.path("kordon.toml"))?;
    let more = "[[interface]]\nname = \"other\"\ndevice = \"second\"\nmode = \"native\"\n";
    router.write("kordon.toml", format!("{text}{more}"))?;
    let swap =
        || namespace.ip("link set in name tmp\nlink set second name in\nlink set tmp name second");
    let (mut controller, _) = Controller::start(&router.place())?;
    let before = pins(&router)?;
    for is_running in [true, false] {
        controller = under_traffic(&router, || {
            if is_running {
                swap()?;
                thread::sleep(Duration::from_secs(2));
                return Ok(controller);
            }
            controller.kill()?;
            swap()?;
            Ok(Controller::start(&router.place())?.0)
        })
        .with_context(|| format!("running: {is_running}"))?;
        until("it enforces", || {
            Ok(controller.cli(&["status"])?["enforcing"] == true)
        })?;
        // A guard that is put anew has its pin with the next look.
        until("all is pinned as before", || Ok(pins(&router)? == before))?;
        // The frames count where the policy says now.
        let (arrives, not) = match is_running {
            true => ("other", "trunk"),
            false => ("trunk", "other"),
        };
        let counts = [passed(&router, arrives)?, passed(&router, not)?];
        under_traffic(&router, || Ok(()))?;
        let more = passed(&router, arrives)? - counts[0];
        ensure!(more >= 50, "{more} of `{arrives}`");
        ensure!(passed(&router, not)? - counts[1] < 10);
    }
    let log = log(&router)?;
    ensure!(!log.contains("taking the program off"), "{log}");
    ensure!(!log.contains("not policed any more"), "{log}");
    Ok(())
}

#[test]
fn who_lost_its_name_is_in_the_notices() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("lost", binary)?;
    let namespace = &router.wire.namespace;
    let (controller, _) = Controller::start(&router.place())?;
    let notices = || Ok::<_, anyhow::Error>(controller.cli(&["status"])?["notices"].to_string());
    let words = "`old`, which was `in`, is not policed any more";
    namespace.ip("link set in name old\nlink add in type veth peer name new\nlink set in up")?;
    until("it is a notice", || Ok(notices()?.contains(words)))?;
    thread::sleep(Duration::from_secs(3));
    ensure!(notices()?.contains(words), "{}", notices()?);
    ensure!(log(&router)?.matches(words).count() == 1);
    // It is called otherwise by now.
    namespace.ip("link set old name older")?;
    until("its name of now is said", || {
        Ok(notices()?.contains("`older`, which was `in`"))
    })?;
    // One more takes the name: both are said.
    namespace.ip("link set in name old2\nlink add in type veth peer name new3\nlink set in up")?;
    until("both are notices", || {
        let notices = notices()?;
        Ok(notices.contains("`older`, which was `in`")
            && notices.contains("`old2`, which was `in`"))
    })?;
    namespace.ip("link del in\nlink set old2 name in")?;
    until("the other one is back", || {
        let (enforces, notices) = (controller.cli(&["status"])?, notices()?);
        Ok(enforces["enforcing"] == true
            && notices.contains("`older`, which was `in`")
            && !notices.contains("`old2`"))
    })?;
    // It has the name again, and the other one never had it for long.
    namespace.ip("link set in name new2\nlink set older name in")?;
    until("no notice is left", || Ok(notices()? == "[]"))?;
    until("it is policed", || drops(&router, BLOCKED))?;
    // Or it is gone.
    namespace.ip("link set in name old\nlink set new2 name in")?;
    until("it is a notice again", || Ok(notices()?.contains(words)))?;
    namespace.ip("link del old")?;
    until("it is gone", || Ok(notices()? == "[]"))
}

/// The router's prefixes on it are those of cameras still.
#[test]
fn connected_sources_follow_another_name() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("sources", binary)?;
    let namespace = &router.wire.namespace;
    // Neither end says anything by itself, which would be of the zone, too.
    namespace.sysctl(&[
        ("ipv6/conf/in/disable_ipv6", "1"),
        ("ipv6/conf/out/disable_ipv6", "1"),
    ])?;
    namespace.ip("address add 10.20.0.1/16 dev in")?;
    let text = policy("64500").replace(
        "vlans = [20]\nsources = [\"10.20.0.0/16\", \"fd00:20::/48\"]",
        "interfaces = [\"trunk\"]\nsources = \"connected\"",
    );
    ensure!(text.contains("connected"), "{text}");
    router.write("policy.toml", text)?;
    let (controller, _) = Controller::start(&router.place())?;
    under_traffic(&router, || {
        namespace.ip("link set in name lan")?;
        thread::sleep(Duration::from_secs(2));
        // Addresses that come, too.
        namespace.ip("address add 10.99.0.1/16 dev lan")?;
        thread::sleep(Duration::from_secs(2));
        Ok(())
    })?;
    let status = controller.cli(&["status"])?;
    ensure!(status["enforcing"] == true, "{status}");
    Ok(())
}
