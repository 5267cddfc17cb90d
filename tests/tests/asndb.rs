//! The ASN database on bad days: whatever a source or its server does, cameras meet
//! the same verdicts as before, and the reason is shown until somebody looks.

use std::{fs, io::Write as _};

use anyhow::{Result, ensure};
use kordon_tests::{
    controller::{Controller, Metrics, binary},
    router::Router,
    server::{Mood, Server},
    traffic::{
        BLOCKED, OTHER, UNNAMED, drops, filler, refused, status, under_traffic, until, whole,
    },
};
use serde_json::Value;

/// Each disaster that users of other filters tell of.
#[test]
fn what_loses_too_much_is_held_back() -> Result<()> {
    const COUNT: u32 = 200_000;
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("gate", binary)?;
    let good = whole(COUNT);
    router.write("asn.csv", &good)?;
    let (controller, _) = Controller::start(&router.place())?;
    assert!(drops(&router, BLOCKED)? && !drops(&router, OTHER)?);
    let prefixes = status(&controller)?["prefixes_v4"].clone();

    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(good.as_bytes())?;
    let packed = packed.finish()?;
    let unreadable: String = (0..COUNT).map(|i| format!("{i};{i};{i}\n")).collect();
    let cases: [(&str, Vec<u8>, &str, &str); 10] = [
        (
            "over night",
            whole(17_500).into(),
            "shrunk",
            "shrinks from 200002",
        ),
        (
            "a block vanishes",
            format!("{}{UNNAMED}", filler(COUNT)).into(),
            "vanished",
            "AS64500 (Bad), which the policy names, loses all of its 2 prefixes",
        ),
        (
            "half of it",
            good.replace("198.51.100.0,198.51.100.255", "198.51.100.0,198.51.100.63")
                .into(),
            "halved",
            "loses 1 of its 1 IPv4 prefixes",
        ),
        (
            "a default route",
            format!("{good}0.0.0.0,255.255.255.255,64500,Bad\n").into(),
            "wide",
            "it is a default route",
        ),
        (
            "another one",
            format!("{good}::/0,64500,Bad\n")
                .replace("::/0,", "::,ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff,")
                .into(),
            "wide",
            "it is a default route",
        ),
        (
            "a prefix that is too short",
            format!("{good}64.0.0.0,95.255.255.255,64500,Bad\n").into(),
            "wide",
            "shorter than /8",
        ),
        (
            "cut short",
            good[..good.len() - 3].into(),
            "truncated",
            "no line end",
        ),
        (
            "cut short while it was compressed",
            packed[..packed.len() - 40].to_vec(),
            "truncated",
            "the gzip stream ends too early",
        ),
        (
            "mostly something else",
            format!("{good}{unreadable}{unreadable}").into(),
            "unreadable",
            "rows cannot be read",
        ),
        (
            "too much",
            whole(COUNT * 3).into(),
            "grown",
            "grows from 200002",
        ),
    ];
    under_traffic(&router, || {
        for (what, content, reason, words) in &cases {
            router.write("asn.csv", content)?;
            let said = refused(&controller, &["asndb", "update"])?;
            ensure!(said.contains("held back"), "{what}: {said}");
            ensure!(said.contains("--accept"), "{what}: no cure in {said}");
            let asndb = status(&controller)?;
            let held = asndb["update"]["held"]["concerns"].to_string();
            ensure!(held.contains(words), "{what}: no {words:?} in {held}");
            ensure!(asndb["prefixes_v4"] == prefixes, "{what}: {asndb}");
            let metrics = Metrics::scrape(&router.wire.namespace)?;
            let shown = metrics.sum("kordon_asndb_update_held", &[("reason", reason)]);
            ensure!(shown == 1, "{what}: the metric says {shown}");
            let log = fs::read_to_string(router.path("kordon.log"))?;
            ensure!(log.contains(words), "{what}: no {words:?} in the log");
        }
        Ok(())
    })?;
    println!("{} held back", cases.len());

    // What cannot be read at all is a failure, and is shown as one.
    under_traffic(&router, || {
        for (content, words) in [
            (
                "<!DOCTYPE html><html><body>Log in</body></html>\n",
                "web page",
            ),
            ("", "holds no rows"),
            (
                "10.0.0.0,what,64500\n10.0.1.0,what,64500\n",
                "cannot be read",
            ),
        ] {
            router.write("asn.csv", content)?;
            refused(&controller, &["asndb", "update"])?;
            let failure = status(&controller)?["update"]["failure"].clone();
            ensure!(failure["reason"] == "read", "{failure}");
            let message = failure["message"].to_string();
            ensure!(message.contains(words), "no {words:?} in {message}");
            let metrics = Metrics::scrape(&router.wire.namespace)?;
            let shown = metrics.sum("kordon_asndb_update_failing", &[("reason", "read")]);
            ensure!(shown == 1, "the metric says {shown}");
        }
        Ok(())
    })?;

    // What was good before is good again, and clears what was held back.
    router.write("asn.csv", &good)?;
    under_traffic(&router, || controller.cli(&["asndb", "update"]).map(drop))?;
    let asndb = status(&controller)?;
    assert_eq!(asndb["update"]["held"], Value::Null, "{asndb}");
    assert_eq!(asndb["update"]["failure"], Value::Null, "{asndb}");
    Ok(())
}

#[test]
fn what_is_held_back_can_be_looked_at_and_taken() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("accept", binary)?;
    router.write("asn.csv", whole(1000))?;
    let (controller, _) = Controller::start(&router.place())?;
    let said = refused(&controller, &["asndb", "diff"])?;
    assert!(said.contains("no update is held back"), "{said}");

    let moved = whole(1000).replace(
        "198.51.100.0,198.51.100.255,64500,Bad",
        "198.51.100.0,198.51.100.255,64777,New",
    );
    router.write("new.csv", moved)?;
    let new = router.path("new.csv");
    let new = new.to_string_lossy();
    let change = |said: &Value| said["changes"][0].clone();
    let first = change(&controller.cli(&["asndb", "diff", &new])?);
    assert_eq!(first["subject"], "AS64500");
    assert_eq!(first["lost"][0]["prefix"], "198.51.100.0/24");
    assert_eq!(first["lost"][0]["others"][0], 64777);
    // A refused import leaves nothing that a later `--accept` could take.
    under_traffic(&router, || {
        let said = refused(&controller, &["asndb", "import", &new])?;
        ensure!(said.contains("AS64500"), "{said}");
        ensure!(said.contains("asndb import --accept"), "{said}");
        Ok(())
    })?;
    assert_eq!(status(&controller)?["update"]["held"], Value::Null);
    assert!(!router.path("state/asndb.held.snapshot").exists());
    let said = refused(&controller, &["asndb", "diff"])?;
    assert!(said.contains("no update is held back"), "{said}");
    let said = refused(&controller, &["asndb", "discard"])?;
    assert!(said.contains("no update is held back"), "{said}");

    // An update is kept, and forgotten.
    fs::copy(&*new, router.path("asn.csv"))?;
    refused(&controller, &["asndb", "update"])?;
    let kept = status(&controller)?["update"]["held"].clone();
    let gone = controller.cli(&["asndb", "discard"])?;
    assert_eq!(gone["discarded"], kept);
    assert_eq!(status(&controller)?["update"]["held"], Value::Null);
    assert!(!router.path("state/asndb.held.snapshot").exists());

    let said = refused(&controller, &["asndb", "update"])?;
    let id = kept["id"].as_str().unwrap_or("none");
    assert!(said.contains(&format!("--accept={id}")), "{said}");
    let held = change(&controller.cli(&["asndb", "diff"])?);
    assert_eq!(held, first);
    fs::remove_file(router.path("asn.csv"))?;
    // What is not what somebody has looked at is not taken.
    let said = refused(&controller, &["asndb", "update", "--accept=0123456789ab"])?;
    assert!(said.contains(id), "{said}");
    assert!(drops(&router, BLOCKED)?);

    // The next daemon knows of it, and takes it without the file.
    controller.kill()?;
    let (controller, _) = Controller::start(&router.place())?;
    until("it is known", || {
        Ok(!status(&controller)?["update"]["held"].is_null())
    })?;
    assert!(drops(&router, BLOCKED)?);
    let said = controller.cli(&["asndb", "update", &format!("--accept={id}")])?;
    let taken = &said["accepted"];
    assert_eq!(taken["id"], id);
    let source = &taken["sources"][0];
    assert!(source["file"].to_string().contains("asn.csv"), "{source}");
    let hash = kordon::asn::fetch::sha256(&router.path("new.csv"))?;
    assert_eq!(source["sha256"], hash);
    assert!(source["date"].is_string(), "{source}");
    assert!(taken["concerns"].to_string().contains("AS64500"), "{taken}");
    let log = fs::read_to_string(router.path("kordon.log"))?;
    assert!(
        log.contains(&format!("accepted: database {id} of")),
        "no word in the log"
    );
    assert!(!drops(&router, BLOCKED)?);
    assert_eq!(status(&controller)?["update"]["held"], Value::Null);
    assert!(!router.path("state/asndb.held.snapshot").exists());
    Ok(())
}

/// Who is named loses one of two prefixes: that is taken, and shown until it is seen.
#[test]
fn who_loses_half_is_shown() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("half", binary)?;
    let second = "198.51.103.0,198.51.103.255,64500,Bad\n";
    let (whole, half) = (whole(1000) + second, whole(1000));
    router.write("asn.csv", &whole)?;
    let (controller, _) = Controller::start(&router.place())?;
    let warned = |controller: &Controller| -> Result<String> {
        Ok(status(controller)?["update"]["warnings"].to_string())
    };
    assert_eq!(warned(&controller)?, "null");
    router.write("asn.csv", &half)?;
    controller.cli(&["asndb", "update"])?;
    let words = "AS64500 (Bad), which the policy names, loses 1 of its 2 IPv4 prefixes";
    let said = warned(&controller)?;
    assert!(said.contains(words), "{said}");
    // The same again is no good update, and a restart is none.
    controller.cli(&["asndb", "update"])?;
    assert_eq!(warned(&controller)?, said);
    controller.kill()?;
    let (controller, _) = Controller::start(&router.place())?;
    assert_eq!(warned(&controller)?, said);
    controller.cli(&["asndb", "acknowledge"])?;
    assert_eq!(warned(&controller)?, "null");
    refused(&controller, &["asndb", "acknowledge"])?;
    // A good one clears it as well.
    router.write("asn.csv", &whole)?;
    controller.cli(&["asndb", "update"])?;
    router.write("asn.csv", &half)?;
    controller.cli(&["asndb", "update"])?;
    assert!(warned(&controller)?.contains(words));
    router.write("asn.csv", &whole)?;
    controller.cli(&["asndb", "update"])?;
    assert_eq!(warned(&controller)?, "null");
    Ok(())
}

/// The router's configuration with one source that is fetched.
fn fetching(router: &Router, url: &str, every: &str) -> Result<()> {
    let text = fs::read_to_string(router.path("kordon.toml"))?;
    let (text, _) = text.split_once("[asndb]").unwrap_or((&text, ""));
    router.write(
        "kordon.toml",
        format!(
            "{text}[asndb]\nretries = 0\ntimeout = \"2s\"\nmax_mib = 4\n\
             [[asndb.source]]\nurl = \"{url}\"\nevery = \"{every}\"\n\
             [metrics]\nlisten = \"127.0.0.1:9754\"\n"
        ),
    )
}

/// Each bad day of a server, and then a good one.
#[test]
fn downloads_that_fail_change_nothing() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("fetch", binary)?;
    let good = whole(2000).into_bytes();
    let server = Server::start(&router.wire.namespace, Mood::Serve(good.clone()))?;
    fetching(&router, &server.url("asn.csv"), "24h")?;
    let (controller, _) = Controller::start(&router.place())?;
    // Nothing was there; the daemon fetches by itself.
    until("the first download", || drops(&router, BLOCKED))?;
    assert!(!drops(&router, OTHER)?);
    let heads = server.requests();
    assert!(
        heads[0].to_lowercase().contains("user-agent: kordon/"),
        "{heads:?}"
    );

    let html = b"<!DOCTYPE html>\n<html><body>Please log in</body></html>\n";
    let cases = [
        (Mood::Status(404), "404"),
        (Mood::Status(500), "500"),
        (Mood::Status(403), "403"),
        (Mood::Silent, "timeout"),
        (Mood::Cut(good.clone()), "broke off"),
        (Mood::CutChunks(good.clone()), "broke off"),
        (Mood::Garbage, "cannot fetch"),
        (Mood::Endless, "larger than 4 MiB"),
        (Mood::Circle, "redirect"),
        (Mood::Closed, "cannot fetch"),
        (Mood::Serve(html.to_vec()), "web page"),
        (Mood::Serve(Vec::new()), "holds no rows"),
        (Mood::Serve(vec![0; 1000]), "binary"),
        (Mood::Serve(good[..good.len() - 5].to_vec()), "held back"),
    ];
    let before = status(&controller)?["prefixes_v4"].clone();
    under_traffic(&router, || {
        for (mood, words) in &cases {
            server.set(mood.clone());
            let said = refused(&controller, &["asndb", "update"])?;
            ensure!(said.contains(words), "no {words:?} in {said}");
            let asndb = status(&controller)?;
            let update = asndb["update"].to_string();
            ensure!(
                update.contains(words) || *words == "held back",
                "no {words:?} in {update}"
            );
            ensure!(asndb["prefixes_v4"] == before, "{asndb}");
            let log = fs::read_to_string(router.path("kordon.log"))?;
            ensure!(log.contains(words), "no {words:?} in the log");
        }
        Ok(())
    })?;
    let metrics = Metrics::scrape(&router.wire.namespace)?;
    let failed = metrics.sum("kordon_asndb_updates_total", &[("result", "failed")]);
    assert_eq!(failed, cases.len() as u64 - 1);

    // A good day; and the next time the server need not send it again.
    let more = whole(2010).into_bytes();
    server.set(Mood::Serve(more.clone()));
    server.requests();
    under_traffic(&router, || controller.cli(&["asndb", "update"]).map(drop))?;
    let asndb = status(&controller)?;
    assert_eq!(asndb["update"]["failure"], Value::Null);
    assert_ne!(asndb["prefixes_v4"], before);
    controller.cli(&["asndb", "update"])?;
    let heads = server.requests();
    assert!(
        heads[1].to_lowercase().contains("if-none-match: "),
        "{heads:?}"
    );

    // What is held back needs no server to be accepted.
    let moved = String::from_utf8(more)?.replace("100.255,64500,Bad", "100.255,64777,New");
    server.set(Mood::Serve(moved.clone().into_bytes()));
    under_traffic(&router, || {
        let said = refused(&controller, &["asndb", "update"])?;
        ensure!(said.contains("held back"), "{said}");
        Ok(())
    })?;
    server.set(Mood::Status(500));
    server.requests();
    controller.cli(&["asndb", "update", "--accept"])?;
    assert!(server.requests().is_empty());
    assert!(!drops(&router, BLOCKED)?);
    // And what was accepted is what the next update begins with.
    server.set(Mood::Serve(moved.into_bytes()));
    controller.cli(&["asndb", "update"])?;
    assert!(
        server.requests()[0]
            .to_lowercase()
            .contains("if-none-match: ")
    );

    // A server that is not there, and a start without one.
    controller.kill()?;
    fetching(&router, "http://127.0.0.1:1/asn.csv", "24h")?;
    let (controller, _) = Controller::start(&router.place())?;
    until("it is said", || {
        Ok(!status(&controller)?["update"]["failure"].is_null())
    })?;
    let said = refused(&controller, &["asndb", "update"])?;
    assert!(said.to_lowercase().contains("refused"), "{said}");
    assert!(!drops(&router, BLOCKED)?);
    Ok(())
}

/// On a terminal an update shows how far it is; elsewhere it does not.
#[test]
fn a_download_is_watched() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("watch", binary)?;
    let good = whole(2000).into_bytes();
    let server = Server::start(&router.wire.namespace, Mood::Serve(good.clone()))?;
    fetching(&router, &server.url("asn.csv"), "24h")?;
    let (controller, _) = Controller::start(&router.place())?;
    until("the first download", || drops(&router, BLOCKED))?;
    server.set(Mood::Slow(good));
    let socket = router.path("kordon.sock");
    let update = format!(
        "{} asndb update --socket {}",
        controller.binary().display(),
        socket.display()
    );
    // It gives a command a terminal.
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &update, "/dev/null"]);
    script.env("TERM", "xterm").env("COLUMNS", "100");
    let shown = script.stdin(std::process::Stdio::null()).output()?;
    ensure!(shown.status.success(), "{shown:?}");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    for words in [&*server.url("asn.csv"), "KiB of ", "KiB/s", "prefixes"] {
        ensure!(shown.contains(words), "no {words:?} in {shown:?}");
    }
    let mut plain = std::process::Command::new("sh");
    let plain = plain.args(["-c", &update]).output()?;
    ensure!(
        plain.status.success() && plain.stderr.is_empty(),
        "{plain:?}"
    );
    Ok(())
}

#[test]
fn sources_are_fetched_by_the_clock_and_checked() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("clock", binary)?;
    let good = whole(2000).into_bytes();
    let wrong = Mood::Wrong(good.clone(), format!("{}  asn.csv\n", "0".repeat(64)));
    let server = Server::start(&router.wire.namespace, wrong)?;
    let checksum = format!("1s\"\nchecksum_url = \"{}", server.url("sum"));
    fetching(&router, &server.url("asn.csv"), &checksum)?;
    let controller = Controller::spawn(&router.place())?;
    // The first of all, too.
    let is_held = || {
        until("the checksum is wrong", || {
            Ok(status(&controller).is_ok_and(|asndb| {
                let held = asndb["update"]["held"].to_string();
                held.contains("wrong checksum")
            }))
        })
    };
    is_held()?;
    assert!(!drops(&router, BLOCKED)?);
    let metrics = Metrics::scrape(&router.wire.namespace)?;
    let shown = [("reason", "checksum")];
    assert_eq!(metrics.sum("kordon_asndb_update_held", &shown), 1);
    let with_sum = |body: Vec<u8>| {
        use sha2::Digest as _;
        let sum = sha2::Sha256::digest(&body);
        let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        Mood::Wrong(body, format!("{sum}  asn.csv\n"))
    };
    server.set(with_sum(good));
    until("it is right", || drops(&router, BLOCKED))?;
    // The file changes, and nobody says so.
    let other = whole(2000).replace("192.0.2.255,64502,Other", "192.0.2.255,64500,Bad");
    server.set(with_sum(other.into_bytes()));
    until("the clock", || drops(&router, OTHER))?;
    // Whoever has looked at a file may take it, whatever its checksum.
    let back = whole(2000).into_bytes();
    server.set(Mood::Wrong(back, "0".repeat(64)));
    is_held()?;
    assert!(drops(&router, OTHER)?);
    controller.cli(&["asndb", "update", "--accept"])?;
    assert!(drops(&router, BLOCKED)? && !drops(&router, OTHER)?);
    Ok(())
}

/// A server that asks to be left alone for a while is, by the clock.
#[test]
fn servers_are_not_asked_before_they_want_it() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("later", binary)?;
    let server = Server::start(&router.wire.namespace, Mood::Busy("3600"))?;
    fetching(&router, &server.url("asn.csv"), "1s")?;
    let controller = Controller::spawn(&router.place())?;
    until("it is said", || {
        Ok(status(&controller).is_ok_and(|asndb| {
            asndb["update"]["failure"]
                .to_string()
                .contains("asks to be asked again")
        }))
    })?;
    // Every second otherwise.
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!(server.requests().len(), 1);
    // A person may.
    server.set(Mood::Serve(whole(1000).into_bytes()));
    controller.cli(&["asndb", "update"])?;
    assert!(drops(&router, BLOCKED)?);
    Ok(())
}

#[test]
fn bundles_are_taken_from_whom_is_trusted() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("bundle", binary)?;
    router.write("asn.csv", whole(1000))?;
    let path = |name: &str| router.path(name).to_string_lossy().into_owned();
    let kordon = |arguments: &[&str]| -> Result<Value> {
        let output = std::process::Command::new(router.place().binary)
            .args(arguments)
            .arg("--json")
            .output()?;
        ensure!(output.status.success(), "{arguments:?}: {output:?}");
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    let mine = kordon(&["asndb", "keygen", &path("mine")])?["key"].clone();
    kordon(&["asndb", "keygen", &path("other")])?;
    for name in ["mine", "other"] {
        router.write("new.csv", whole(1005))?;
        let bundle = path(&format!("{name}.bundle"));
        let (new, key) = (path("new.csv"), path(name));
        kordon(&["asndb", "export", &bundle, "--key", &key, "--asn-db", &new])?;
    }
    let text = fs::read_to_string(router.path("kordon.toml"))?;
    router.write(
        "kordon.toml",
        text.replace("[asndb]", &format!("[asndb]\nkeys = [{mine}]")),
    )?;
    let (controller, _) = Controller::start(&router.place())?;
    let whole_bundle = fs::read(path("mine.bundle"))?;
    let mut changed = whole_bundle.clone();
    changed[whole_bundle.len() / 2] ^= 1;
    router.write("changed.bundle", changed)?;
    router.write("cut.bundle", &whole_bundle[..whole_bundle.len() - 9])?;
    let before = status(&controller)?["prefixes_v4"].clone();
    under_traffic(&router, || {
        for (name, words) in [
            ("other.bundle", "not trusted"),
            ("changed.bundle", "signature"),
            ("cut.bundle", "signature"),
            ("new.csv", "not a signed bundle"),
        ] {
            let said = refused(&controller, &["asndb", "import", &path(name), "--accept"])?;
            ensure!(said.contains(words), "{name}: no {words:?} in {said}");
        }
        ensure!(status(&controller)?["prefixes_v4"] == before);
        // It was exported before this router imported what it has.
        let said = refused(&controller, &["asndb", "import", &path("mine.bundle")]);
        if let Ok(said) = said {
            ensure!(said.contains("it was made"), "{said}");
        }
        controller.cli(&["asndb", "import", &path("mine.bundle"), "--accept"])?;
        Ok(())
    })?;
    assert_ne!(status(&controller)?["prefixes_v4"], before);
    Ok(())
}
