//! `kordon doctor` on routers of the lab that are broken on purpose: it names what is broken and
//! what cures it, the cure cures it, and nothing is changed unless it is asked to.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use kordon_tests::{
    controller::{Controller, binary},
    lab::{Wire, programs::Witness},
    router::Router,
    traffic::BLOCKED,
};
use serde_json::Value;

/// A tick is a second; a machine under load takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the doctor says, and how it ends.
struct Said {
    value: Value,
    code: Option<i32>,
}

impl Said {
    /// Findings of a check that are at least warnings, or what is said of it at all.
    fn of(&self, check: &str) -> Vec<&Value> {
        let all = self.value["findings"].as_array().into_iter().flatten();
        all.filter(|finding| finding["check"] == check).collect()
    }

    /// Whether one is of this level and has these words in what was found or in its cure.
    fn has(&self, level: &str, check: &str, words: &[&str]) -> bool {
        self.of(check).into_iter().any(|finding| {
            let text = format!("{} {}", finding["found"], finding["cure"]);
            finding["level"] == level && words.iter().all(|word| text.contains(word))
        })
    }
}

fn doctor(router: &Router, more: &[&str]) -> Result<Said> {
    let mut command = router.command("doctor", &[&["--json"], more].concat());
    let output = router.wire.namespace.run(|| Ok(command.output()?))?;
    let value =
        serde_json::from_slice(&output.stdout).with_context(|| format!("no JSON: {output:?}"))?;
    Ok(Said {
        value,
        code: output.status.code(),
    })
}

/// Waits until the doctor says it: a machine under load takes its time, which is said as well.
fn wait(router: &Router, what: &str, is_so: impl Fn(&Said) -> bool) -> Result<Said> {
    let end = Instant::now() + PATIENCE;
    loop {
        let said = doctor(router, &[])?;
        if is_so(&said) {
            return Ok(said);
        }
        ensure!(
            Instant::now() < end,
            "still not: {what}: {:?} {:#}",
            said.code,
            said.value
        );
        thread::sleep(Duration::from_millis(100));
    }
}

/// A packet that the zone has.
fn camera(router: &Router, vlan: u16, source: &str) -> Result<()> {
    let packet = Wire::packet(vlan, source.parse()?, BLOCKED.parse()?);
    router.wire.send(&packet, 10)
}

/// One way to break a router that is enforced by a daemon.
struct Case {
    name: &'static str,
    breaks: fn(&Router) -> Result<()>,
    /// Level, check, and words of finding and cure.
    said: (&'static str, &'static str, &'static [&'static str]),
    /// `None`: `--fix` does it.
    cures: Option<fn(&Router) -> Result<()>>,
}

fn ip(router: &Router, lines: &str) -> Result<()> {
    router.wire.namespace.ip(lines)
}

fn ethtool(router: &Router, settings: &[&str]) -> Result<()> {
    let mut command = Command::new("ethtool");
    router
        .wire
        .namespace
        .output(command.arg("-K").args(settings))
        .map(drop)
}

const CASES: [Case; 8] = [
    Case {
        name: "the other end of the veth hides tags",
        breaks: |router| ethtool(router, &["out", "txvlan", "on"]),
        said: ("warning", "tags", &["`out`", "ethtool -K out txvlan off"]),
        cures: None,
    },
    Case {
        name: "a large MTU at the other end",
        breaks: |router| ip(router, "link set out mtu 9000"),
        said: ("note", "mtu", &["`out`", "9000", "in pieces"]),
        cures: Some(|router| ip(router, "link set out mtu 1500")),
    },
    Case {
        name: "a second device with addresses of the zone",
        breaks: |router| {
            ip(
                router,
                "link add in2 type veth peer name out2\nlink set in2 up\nlink set out2 up\n\
                 address add 10.20.9.1/24 dev in2",
            )
        },
        said: (
            "warning",
            "coverage",
            &["`in2` has the address 10.20.9.1/24", "device = \\\"in2\\\""],
        ),
        cures: Some(|router| ip(router, "link del in2")),
    },
    Case {
        name: "another port of the same bridge",
        breaks: |router| {
            ip(
                router,
                "link add br0 type bridge\nlink add in3 type veth peer name out3\n\
                 link set in3 master br0\nlink set in master br0\n\
                 link set in3 up\nlink set br0 up",
            )
        },
        said: (
            "warning",
            "coverage",
            &["`in3` is a port of the bridge `br0`"],
        ),
        cures: Some(|router| ip(router, "link set in nomaster\nlink del in3\nlink del br0")),
    },
    Case {
        name: "frames of a VLAN without a zone",
        breaks: |router| camera(router, 30, "10.30.0.5"),
        said: ("note", "no-zone", &["10 frames", "tcpdump -nei in"]),
        // Counters never go back.
        cures: Some(|_| Ok(())),
    },
    Case {
        name: "rights of the state folder",
        breaks: |router| {
            let rights = fs::Permissions::from_mode(0o500);
            Ok(fs::set_permissions(router.path("state"), rights)?)
        },
        said: ("problem", "state", &["mode 0500", "chmod u+rwx"]),
        cures: None,
    },
    Case {
        name: "a policy that was broken",
        breaks: |router| router.write("policy.toml", "[zone.cameras]\nvlans = [5000]\n"),
        said: ("warning", "policy", &["will be refused", "5000"]),
        cures: Some(|router| router.write("policy.toml", kordon_tests::router::policy("64500"))),
    },
    Case {
        name: "a configuration with an interface that is not there",
        breaks: |router| {
            let text = fs::read_to_string(router.path("kordon.toml"))?;
            router.write(
                "kordon.toml",
                format!("{text}[[interface]]\ndevice = \"im\"\n"),
            )
        },
        said: (
            "problem",
            "interface",
            &["no interface `im`", "`device` in kordon.toml"],
        ),
        cures: Some(|router| {
            let text = fs::read_to_string(router.path("kordon.toml"))?;
            router.write(
                "kordon.toml",
                text.replace("[[interface]]\ndevice = \"im\"\n", ""),
            )
        }),
    },
];

#[test]
fn a_healthy_router_and_each_way_to_break_it() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("doctor", binary)?;
    ip(&router, "address add 192.0.2.1/24 dev in")?;
    let (controller, _) = Controller::start(&router.place())?;
    camera(&router, 20, "10.20.0.5")?;

    let healthy = wait(&router, "all is well", |said| {
        said.has("ok", "zone", &["has packets"]) && said.code == Some(0)
    })?;
    println!("{:#}", healthy.value);
    ensure!(
        healthy.code == Some(0) && healthy.value["ok"] == true,
        "{:#}",
        healthy.value
    );
    let page = router
        .wire
        .namespace
        .run(|| Ok(router.command("doctor", &[]).output()?))?;
    let page = String::from_utf8(page.stdout)?;
    println!("{page}");
    ensure!(
        page.contains("all is well") && !page.contains("PROBLEM"),
        "{page}"
    );

    for case in &CASES {
        let (level, check, words) = case.said;
        ensure!(
            !doctor(&router, &[])?.has(level, check, words),
            "{} is there already",
            case.name
        );
        (case.breaks)(&router)?;
        let expected = match level {
            "problem" => Some(1),
            "warning" => Some(4),
            _ => Some(0),
        };
        let said = wait(&router, case.name, |said| {
            said.has(level, check, words) && said.code == expected
        })?;
        // Looking changes nothing.
        ensure!(
            doctor(&router, &[])?.has(level, check, words),
            "{}: gone by itself",
            case.name
        );
        let fixable = said.of(check).iter().any(|f| f["fixable"] == true);
        ensure!(
            fixable == case.cures.is_none(),
            "{}: {:#}",
            case.name,
            said.value
        );
        match case.cures {
            Some(cure) => cure(&router)?,
            None => {
                let fixed = doctor(&router, &["--fix"])?;
                let done = &fixed.value["fixed"][0];
                println!("{}: {}", case.name, done["done"]);
                ensure!(
                    done["check"] == check && done["done"].is_string(),
                    "{:#}",
                    fixed.value
                );
            }
        }
        if check != "no-zone" {
            wait(&router, "it is cured", |said| {
                !said.has(level, check, words)
            })?;
        }
    }
    wait(&router, "all is well again", |said| said.code == Some(0))?;

    camera(&router, 20, "10.99.0.5")?;
    wait(&router, "sources", |said| {
        said.has("note", "sources", &["10 of 20 packets", "kordon explain"])
    })?;
    controller.kill()?;
    let down = doctor(&router, &[])?;
    ensure!(
        down.has("warning", "daemon", &["go on", "systemctl start kordon"]),
        "{:#}",
        down.value
    );
    ensure!(
        down.has("unknown", "zone", &["no daemon"]) && down.code == Some(4),
        "{:#}",
        down.value
    );
    // The guard goes, and nobody is there to put it back.
    let pins = fs::read_dir(router.place().bpffs.join("guards"))?;
    for pin in pins {
        fs::remove_file(pin?.path())?;
    }
    wait(&router, "the guard is gone", |said| {
        said.has("warning", "guard", &["no daemon is there"])
    })?;
    Ok(())
}

#[test]
fn before_the_first_start_it_says_what_a_start_would_run_into() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("doctor-b", binary)?;
    let said = doctor(&router, &[])?;
    println!("{:#}", said.value);
    ensure!(said.code == Some(1));
    ensure!(said.has("problem", "enforcing", &["everything passes"]));
    ensure!(said.has(
        "problem",
        "daemon",
        &["no daemon answers", "systemctl start"]
    ));
    ensure!(said.has("problem", "database", &["no ASN database", "asndb"]));
    ensure!(said.has("note", "state", &["first start"]));
    ensure!(said.has("ok", "interface", &["`in`"]) && said.has("ok", "bpffs", &[]));

    // Devices that have no tags, each named with what to police instead.
    ip(
        &router,
        "link add br0 type bridge\nlink add port type veth peer name far\nlink set port master br0\n\
                 link add mv link in type macvlan mode bridge",
    )?;
    let configuration = fs::read_to_string(router.path("kordon.toml"))?;
    let devices = "[[interface]]\ndevice = \"br0\"\n[[interface]]\ndevice = \"mv\"\n";
    router.write("kordon.toml", format!("{configuration}{devices}"))?;
    let said = doctor(&router, &[])?;
    ensure!(
        said.has(
            "problem",
            "device",
            &["`br0` is a bridge", "police its ports", "`port`"]
        ),
        "{:#}",
        said.value
    );
    ensure!(
        said.has("problem", "device", &["`mv` is a macvlan", "police `in`"]),
        "{:#}",
        said.value
    );

    // Somebody else's program is named, and what takes it off takes it off.
    router.write("kordon.toml", &configuration)?;
    let witness = Witness::attach(&router.wire.namespace, "in")?;
    let said = doctor(&router, &[])?;
    ensure!(
        said.has(
            "problem",
            "foreign-xdp",
            &["on `in`: another XDP program", "bpftool link detach"]
        ),
        "{:#}",
        said.value
    );
    drop(witness);
    wait(&router, "it is off", |said| {
        said.has("ok", "foreign-xdp", &["`in`"])
    })?;

    // Nothing of the file can be read, and the rest is looked at all the same.
    router.write("kordon.toml", "[[interfaces]]\ndevice = \"in\"\n")?;
    let said = doctor(&router, &[])?;
    ensure!(
        said.has("problem", "configuration", &["interfaces", "line 1"]),
        "{:#}",
        said.value
    );
    ensure!(said.has("ok", "kernel", &[]) && said.code == Some(1));
    fs::remove_file(router.path("kordon.toml"))?;
    let said = doctor(&router, &[])?;
    ensure!(
        said.has("problem", "configuration", &["cannot be read"]),
        "{:#}",
        said.value
    );
    ensure!(
        said.has("unknown", "policy", &["no policy is known"]),
        "{:#}",
        said.value
    );
    Ok(())
}

#[test]
fn a_place_without_a_bpf_file_system_gets_one() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("doctor-c", binary)?;
    let place = router.path("pins");
    let text = place.to_str().context("it is UTF-8")?;
    // In a mount namespace of its own, so that nothing stays mounted.
    let run = |fix: &str| -> Result<Value> {
        let binary = router.place().binary.display().to_string();
        let config = router.path("kordon.toml").display().to_string();
        let arguments = format!(
            "doctor --json --config {config} --bpffs {text} --socket {text}.sock --state-dir {text}.state"
        );
        let script = format!("{binary} {arguments} {fix}; echo; {binary} {arguments}; true");
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script]);
        let said = router.wire.namespace.output(&mut command)?;
        let mut objects = serde_json::Deserializer::from_str(&said).into_iter::<Value>();
        objects.nth(1).context("two answers")?.context("JSON")
    };
    let finding = |value: &Value| {
        let all = value["findings"].as_array().into_iter().flatten();
        all.filter(|f| f["check"] == "bpffs")
            .map(|f| f["level"].to_string())
            .collect::<Vec<_>>()
    };
    let before = run("")?;
    ensure!(finding(&before) == ["\"problem\""], "{before:#}");
    ensure!(
        before
            .to_string()
            .contains(&format!("mount -t bpf bpf {text}")),
        "{before:#}"
    );
    let after = run("--fix")?;
    ensure!(finding(&after) == ["\"ok\""], "{after:#}");
    ensure!(!place.join("kordon").exists() && finding(&run("")?) == ["\"problem\""]);
    Ok(())
}

#[test]
fn who_is_not_root_is_told_what_could_not_be_looked_at() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("doctor-d", binary.clone())?;
    fs::set_permissions(router.path(""), fs::Permissions::from_mode(0o755))?;
    let own = router.path("kordon-of-users");
    fs::copy(&binary, &own)?;
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755))?;
    let (controller, _) = Controller::start(&router.place())?;
    let arguments: Vec<_> = router
        .command("doctor", &["--json", "--fix"])
        .get_args()
        .map(ToOwned::to_owned)
        .collect();
    let mut command = Command::new(own);
    command
        .args(arguments)
        .uid(65534)
        .gid(65534)
        .current_dir("/")
        .stdin(Stdio::null());
    let output = router.wire.namespace.run(|| Ok(command.output()?))?;
    let said = Said {
        value: serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?,
        code: output.status.code(),
    };
    println!("{:#}", said.value);
    ensure!(
        said.code == Some(3) && said.value["ok"].is_null(),
        "{:#}",
        said.value
    );
    for check in [
        "daemon",
        "enforcing",
        "guard",
        "flowtable",
        "zone",
        "foreign-xdp",
    ] {
        ensure!(
            said.has("unknown", check, &[]) && !said.has("ok", check, &[]),
            "{check}: {:#}",
            said.value
        );
    }
    for check in ["kernel", "interface", "tags"] {
        ensure!(said.has("ok", check, &[]), "{check}: {:#}", said.value);
    }
    controller.kill()
}
