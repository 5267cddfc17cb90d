//! What the log of evidence, its history and reports say of the past, against the senders' own counts.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Child, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use kordon::history::{fill::Filler, store::Store};
use kordon_tests::router::Router;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{Count, Sent, count, sum};

/// Lines of an answer.
fn ask(router: &Router, name: &str, arguments: &[&str]) -> Result<Vec<Value>> {
    let arguments = [arguments, &["--json"]].concat();
    let mut command = router.command(name, &arguments);
    let output = router.wire.namespace.run(move || Ok(command.output()?))?;
    ensure!(
        output.status.success(),
        "{name} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = std::str::from_utf8(&output.stdout)?.lines();
    lines
        .map(|line| serde_json::from_str(line).context("a line is an object"))
        .collect()
}

/// `kordon watch`, while cameras send.
pub(super) struct Watched {
    child: Child,
    /// It waits for nobody who reads.
    reader: Option<JoinHandle<std::io::Result<String>>>,
}

impl Watched {
    pub(super) fn start(router: &Router) -> Result<Self> {
        let mut command = router.command("watch", &["--all", "--every", "1", "--json"]);
        let mut child = router
            .wire
            .namespace
            .spawn(command.stdout(Stdio::piped()))?;
        let out = child.stdout.take().context("its output")?;
        let reader = thread::spawn(move || std::io::read_to_string(out));
        Ok(Self {
            child,
            reader: Some(reader),
        })
    }

    /// Its lines add up to what was sent.
    pub(super) fn agrees(mut self, sent: &Sent) -> Result<()> {
        // Whatever came last is told by then.
        thread::sleep(Duration::from_millis(2500));
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT)?;
        ensure!(self.child.wait()?.success(), "it did not end in order");
        let reader = self.reader.take().context("it reads")?;
        let text = reader
            .join()
            .map_err(|_| anyhow::anyhow!("it panicked"))??;
        let rows = text.lines().map(|line| {
            let mut row: Value = serde_json::from_str(line)?;
            for name in ["packets", "bytes"] {
                row[name] = row[format!("new_{name}")].clone();
            }
            Ok(row)
        });
        let rows: Vec<Value> = rows.collect::<Result<_>>()?;
        let cameras = by(&rows, "mac");
        for (name, of) in &sent.cameras {
            let found = cameras.get(&**name).copied().unwrap_or_default();
            ensure!(found == *of, "{name}: watched {found:?}, sent {of:?}");
        }
        Ok(())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn by<'a>(rows: &'a [Value], name: &str) -> BTreeMap<&'a str, Count> {
    let mut sums: BTreeMap<&str, Count> = BTreeMap::new();
    for row in rows {
        let sum = sums
            .entry(row[name].as_str().unwrap_or_default())
            .or_default();
        let of = count(row);
        *sum = (sum.0 + of.0, sum.1 + of.1);
    }
    sums
}

/// Every frame is in the past once: by camera, by flow, by hour, in both parts of any period, and in a report's books.
pub(super) fn agrees(router: &Router, sent: &Sent) -> Result<()> {
    let report = agree(router, sent)?;
    ensure!(
        report["unknown"] == Value::Array(Vec::new()),
        "{}",
        report["unknown"]
    );
    Ok(())
}

/// Likewise, and the report says that nobody was asked.
pub(super) fn agrees_without_a_daemon(router: &Router, sent: &Sent) -> Result<()> {
    let report = agree(router, sent)?;
    let unknown = report["unknown"].as_array().context("a list")?;
    ensure!(
        unknown.len() == 1
            && unknown[0]
                .as_str()
                .is_some_and(|words| words.contains("was not asked")),
        "{unknown:?}"
    );
    Ok(())
}

fn agree(router: &Router, sent: &Sent) -> Result<Value> {
    let rows = ask(router, "flows", &[])?;
    let cameras = by(&rows, "mac");
    for (name, of) in &sent.cameras {
        let found = cameras.get(&**name).copied().unwrap_or_default();
        ensure!(found == *of, "{name}: {found:?} in the past, sent {of:?}");
    }
    ensure!(cameras.len() == sent.cameras.len(), "{cameras:?}");
    for ((name, from, to, proto, port), of) in &sent.flows {
        let found = sum(rows.iter().filter(|row| {
            row["mac"] == **name
                && row["src"] == **from
                && row["dst"] == **to
                && row["proto"] == **proto
                && row["dport"].as_u64() == port.map(u64::from)
        }));
        ensure!(
            found == *of,
            "{name} {from} {to} {proto} {port:?}: {found:?}, sent {of:?}"
        );
    }
    let all = sum(rows.iter());
    for by in ["camera", "network", "hour"] {
        let sums = ask(router, "flows", &["--sum", by])?;
        ensure!(
            sum(sums.iter()) == all,
            "by {by}: {:?}, not {all:?}",
            sum(sums.iter())
        );
    }
    // Anywhere a period is cut in two, each packet is in one half.
    let middle = (Timestamp::now() - jiff::SignedDuration::from_secs(2)).to_string();
    let earlier = ask(router, "flows", &["--until", &middle])?;
    let later = ask(router, "flows", &["--since", &middle])?;
    let (earlier, later) = (sum(earlier.iter()), sum(later.iter()));
    let both = (earlier.0 + later.0, earlier.1 + later.1);
    ensure!(both == all, "{earlier:?} and {later:?}, not {all:?}");
    let few = ask(router, "flows", &["--action", "drop", "--asn", "AS64500"])?;
    ensure!(
        !few.is_empty()
            && few
                .iter()
                .all(|row| row["action"] == "drop" && row["asn"] == 64500)
    );

    let report = ask(router, "report", &[])?;
    let report = report.first().context("a report")?;
    let books = report["books"]["cameras"]
        .as_object()
        .context("books of the zone")?;
    let mut counted = (0, 0);
    for (action, book) in books {
        ensure!(count(&book["unrecorded"]) == (0, 0), "{action}: {book}");
        ensure!(book["counted"] == book["recorded"], "{action}: {book}");
        let recorded = sum(rows.iter().filter(|row| row["action"] == **action));
        ensure!(
            count(&book["recorded"]) == recorded,
            "{action}: {book}, {recorded:?} in flows"
        );
        let of = count(&book["counted"]);
        counted = (counted.0 + of.0, counted.1 + of.1);
    }
    let total = (sent.cameras.values()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    ensure!(counted == total, "counted {counted:?}, sent {total:?}");
    ensure!(
        report["summary"]["cameras"] == sent.cameras.len(),
        "{}",
        report["summary"]
    );
    let of_cameras = report["cameras"].as_array().context("cameras")?;
    for camera in of_cameras {
        let name = camera["mac"].as_str().context("a camera")?;
        let of = ["drop", "audit", "pass"].map(|action| count(&camera["actions"][action]));
        let all = of.iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        ensure!(all == sent.cameras[name], "{camera}");
    }
    Ok(report.clone())
}

/// The verdict of then is found again, by what was in force then.
pub(super) fn is_explained(router: &Router, at: &str, action: &str) -> Result<()> {
    let packet = ["--vlan", "20", "--src", "10.20.0.1", "--dst", "203.0.113.1"];
    let arguments = [&packet[..], &["--at", at, "--engine", "reference"]].concat();
    let answer = ask(router, "explain", &arguments)?;
    let answer = answer.first().context("an answer")?;
    ensure!(answer["action"] == action, "at {at}: {answer}");
    Ok(())
}

/// What the history has become is what it is when it is made anew from the log, byte for byte.
pub(super) fn is_rebuilt(folder: &Path) -> Result<()> {
    let copy = tempfile::tempdir()?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().context("a name")?;
        if path.extension().is_some_and(|ending| ending == "jsonl") || name == "key.pub" {
            fs::copy(&path, copy.path().join(name))?;
        }
    }
    let whole = |of: &Path, name: &str| -> Result<Vec<u8>> {
        let key = fs::read_to_string(folder.join("key.pub"))?;
        let store = Store::open(of, key.trim())?;
        println!("{name}: {} records at first", store.next()?);
        let mut filler = Filler::new(&store)?;
        while filler.fill(&store, of, u64::MAX)? {}
        let file = copy.path().join(name);
        store.copy_to(&file)?;
        Ok(fs::read(file)?)
    };
    let became = whole(folder, "became")?;
    let rebuilt = whole(copy.path(), "rebuilt")?;
    ensure!(became.len() > 10_000, "{}", became.len());
    ensure!(
        became == rebuilt,
        "{} bytes, rebuilt {}",
        became.len(),
        rebuilt.len()
    );
    Ok(())
}
