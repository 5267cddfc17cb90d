//! What an administrator is told of the live policy is what the kernel does: `explain` and the
//! counters beside each other.

use std::{net::IpAddr, process::Command, thread, time::Duration};

use anyhow::{Result, ensure};
use kordon_tests::{
    controller::{Controller, Metrics, binary},
    lab::Wire,
    router::{Router, policy},
};

/// What the kernel does with ten packets of a VLAN, by the counters.
fn done(router: &Router, vlan: u16) -> Result<&'static str> {
    let count = |action| -> Result<u64> {
        let metrics = Metrics::scrape(&router.wire.namespace)?;
        let by = [("action", action)];
        Ok(metrics.sum("kordon_packets_total", &by)
            + metrics.sum("kordon_interface_packets_total", &by))
    };
    let (drop, pass) = (count("drop")?, count("pass")?);
    let (from, to): (IpAddr, IpAddr) = ("10.20.0.5".parse()?, "198.51.100.9".parse()?);
    router.wire.send(&Wire::packet(vlan, from, to), 10)?;
    thread::sleep(Duration::from_millis(50));
    Ok(match (count("drop")? - drop, count("pass")? - pass) {
        (10, 0) => "drop",
        (0, 10 | 0) => "pass",
        other => anyhow::bail!("{other:?} of 10"),
    })
}

#[test]
fn explain_says_what_the_kernel_does() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("explained", binary)?;
    let named = policy("64500").replace("vlans", "interfaces = [\"trunk\"]\nvlans");
    router.write("policy.toml", named)?;
    for unknown in ["pass", "drop"] {
        let configuration = std::fs::read_to_string(router.path("kordon.toml"))?;
        let interface = format!("mode = \"native\"\nunknown_vlans = \"{unknown}\"\n");
        router.write(
            "kordon.toml",
            configuration.replace("mode = \"native\"\n", &interface),
        )?;
        let (controller, _) = Controller::start(&router.place())?;
        let status = controller.cli(&["status"])?;
        assert_eq!(status["interfaces"][0]["unknown_vlans"], unknown);
        for vlan in [20, 99] {
            let done = done(&router, vlan)?;
            let vlan = vlan.to_string();
            let packet = [
                "--src",
                "10.20.0.5",
                "--dst",
                "198.51.100.9",
                "--vlan",
                &vlan,
            ];
            // By nothing, by its name, and by its device.
            for interface in [&[][..], &["--interface", "trunk"], &["--interface", "in"]] {
                let said = controller.cli(&[&["explain"], &packet[..], interface].concat())?;
                ensure!(said["action"] == done, "{interface:?}: {done}, {said}");
                ensure!(said["interface"] == "trunk", "{said}");
            }
            let wrong = [&["explain"], &packet[..], &["--interface", "nosuch"]].concat();
            let output = controller.command(&wrong).output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.code() == Some(1), "{said}");
            ensure!(
                said.contains("interfaces are: `trunk` (device `in`)"),
                "{said}"
            );
            println!("unknown_vlans {unknown}, VLAN {vlan}: {done}");
        }
        // A stop leaves what is in the kernel; the next start replaces it.
        drop(controller);
        let configuration = configuration.replace(&interface, "mode = \"native\"\n");
        router.write("kordon.toml", configuration)?;
    }
    Ok(())
}

#[test]
fn interfaces_that_are_not_there_are_named_with_their_place() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("misnamed", binary)?;
    let (controller, _) = Controller::start(&router.place())?;
    for (name, cure) in [
        ("trank", "did you mean `trunk`"),
        ("in", "`in` is its device: did you mean `trunk`"),
        ("uplink", "interfaces are: `trunk` (device `in`)"),
    ] {
        let named = policy("64500").replace("vlans", &format!("interfaces = [\"{name}\"]\nvlans"));
        router.write("misnamed.toml", named)?;
        let path = router.path("misnamed.toml").to_string_lossy().into_owned();
        let output = controller.command(&["apply", &path]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1), "{said}");
        ensure!(said.contains(cure) && said.contains("`--yes`"), "{said}");
        ensure!(said.contains("misnamed.toml:2:"), "{said}");
    }
    Ok(())
}

/// Which file differs, and what a rollback led to and left.
#[test]
fn what_is_not_as_somebody_thinks_is_named() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("otherfile", binary.clone())?;
    let (controller, _) = Controller::start(&router.place())?;
    router.write("p2.toml", policy("64501"))?;
    let path = |name: &str| router.path(name).to_string_lossy().into_owned();
    let words = |arguments: &[&str]| -> Result<String> {
        let mut command = Command::new(&binary);
        command
            .args(arguments)
            .arg("--socket")
            .arg(router.path("kordon.sock"));
        Ok(String::from_utf8_lossy(&command.output()?.stdout).into_owned())
    };
    controller.cli(&["apply", &path("p2.toml")])?;
    let differs = format!("the configured {} differs", path("policy.toml"));
    let said = words(&["status"])?;
    ensure!(said.contains(&differs), "{said}");
    controller.cli(&["block", "AS64502", "--zone", "cameras"])?;
    let said = words(&["rollback"])?;
    for part in [
        format!("back to policy 1 ({}) of ", path("policy.toml")),
        "an entry of `block` and `allow` stayed".to_owned(),
        "`kordon block AS64502 --zone cameras`, which is still live: `kordon unblock`".to_owned(),
    ] {
        ensure!(said.contains(&part), "no {part:?} in {said}");
    }
    let said = words(&["status"])?;
    ensure!(!said.contains("differs"), "{said}");
    Ok(())
}
