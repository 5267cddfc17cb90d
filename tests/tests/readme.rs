//! The README as a newcomer follows it: each command as it is printed, with the files that are
//! printed, on a router of the lab. Only where things are is another place, and a server of
//! the lab stands in for the one of the database, with the same format.

use std::{
    fs,
    io::Write as _,
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use kordon_tests::{
    controller::binary,
    router::Router,
    server::{Mood, Server},
};

const README: &str = include_str!("../../README.md");
/// Rows of real ASNs.
const ROWS: [&str; 2] = [
    include_str!("../data/asn-ipv4.csv"),
    include_str!("../data/asn-ipv6.csv"),
];

/// The block of a language that has these words in it.
fn block(language: &str, words: &str) -> Result<&'static str> {
    let start = format!("```{language}\n");
    let blocks = README.split(start.as_str()).skip(1);
    let mut blocks = blocks.filter_map(|block| Some(block.split_once("\n```")?.0));
    let found = blocks.find(|block| block.contains(words));
    found.with_context(|| format!("README.md has no {language} with {words:?}"))
}

/// The commands of a block, without comments.
fn commands(block: &str) -> Vec<Vec<String>> {
    let joined = block.replace("\\\n", " ");
    let lines = joined
        .lines()
        .filter_map(|line| line.strip_prefix("$ kordon "));
    lines
        .map(|line| line.split(" #").next().unwrap_or(line))
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect()
}

/// As iptoasn.com writes it.
fn database() -> Result<Vec<u8>> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"0.0.0.0\t0.255.255.255\t0\tNone\tNot routed\n")?;
    for row in ROWS.iter().flat_map(|rows| rows.lines()) {
        let fields: Vec<&str> = row.splitn(4, ',').collect();
        let [start, end, asn, name] = fields[..] else {
            bail!("a row of another shape: {row}");
        };
        let name = name.trim_matches('"');
        writeln!(packed, "{start}\t{end}\t{asn}\tNone\t{name}")?;
    }
    Ok(packed.finish()?)
}

/// Ends it whatever becomes of the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_command_works_as_printed() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("readme", binary)?;
    let place = router.place();
    let server = Server::start(place.namespace, Mood::Serve(database()?))?;
    router.write("policy.toml", block("toml", "[zone.cameras]")?)?;
    let printed = block("toml", "[[interface]]")?;
    let (url, device) = ("\"https://iptoasn.com/", "device = \"eth1\"");
    ensure!(
        printed.contains(url) && printed.contains(device),
        "{printed}"
    );
    let (state, path) = (router.path("state"), router.path("kordon.toml"));
    let configuration = format!(
        "state_dir = \"{}\"\nbpffs = \"{}\"\n{}\n[control]\nsocket = \"{}\"\n",
        state.display(),
        place.bpffs.display(),
        printed
            .replace(url, &format!("\"{}", server.url("")))
            .replace(device, "device = \"in\""),
        router.path("kordon.sock").display(),
    );
    router.write("kordon.toml", configuration)?;

    let command = |arguments: &[String]| {
        let mut command = Command::new(place.binary);
        command.args(arguments.iter().map(|argument| {
            argument
                .replace("/etc/kordon", &place.directory.display().to_string())
                .replace("/var/lib/kordon", &state.display().to_string())
        }));
        let fixed = ["check", "run"].contains(&arguments[0].as_str());
        if !fixed {
            command.arg("--config").arg(&path);
        }
        command.current_dir(place.directory).stdin(Stdio::null());
        command
    };
    let run = |arguments: &[String]| -> Result<Output> {
        let mut command = command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(place.namespace.spawn(&mut command)?.wait_with_output()?)
    };
    let all = commands(block("console", "kordon check")?);
    let mut daemon = None;
    for arguments in &all {
        let name = arguments.join(" ");
        if arguments[0] == "run" {
            let log = fs::File::create(router.path("kordon.log"))?;
            let mut command = command(arguments);
            command.stdout(log.try_clone()?).stderr(log);
            daemon = Some(Daemon(place.namespace.spawn(&mut command)?));
            // The next command may be typed before it listens.
            let end = Instant::now() + Duration::from_secs(20);
            let status = ["status".to_owned()];
            while !String::from_utf8_lossy(&run(&status)?.stdout).starts_with("enforcing") {
                let log = fs::read_to_string(router.path("kordon.log"))?;
                ensure!(Instant::now() < end, "it does not enforce: {log}");
                sleep(Duration::from_millis(100));
            }
            continue;
        }
        let output = run(arguments)?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{name}: {output:?}");
        println!("$ kordon {name}\n{said}");
        match arguments[0].as_str() {
            "explain" => {
                ensure!(
                    said.starts_with("drop: rule `no-hostile-networks`"),
                    "{said}"
                );
                ensure!(said.contains("AS12389"), "{said}");
            }
            "asndb" => ensure!(said.contains("(iptoasn)"), "{said}"),
            _ => {}
        }
    }
    ensure!(daemon.is_some() && all.len() >= 6, "{all:?}");
    // And with a daemon.
    server.requests();
    let output = run(&["asndb".to_owned(), "update".to_owned()])?;
    ensure!(output.status.success(), "{output:?}");
    let asked = server.requests().remove(0).to_lowercase();
    ensure!(asked.contains("if-none-match: "), "{asked}");
    Ok(())
}
