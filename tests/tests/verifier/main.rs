//! A verifier that others wrote, the package `aics-tlog` for Python, says the same of a log as [`verify`] does: of one that is
//! sound, and of what was done to one. What it shares with kordon are the RFC and the C2SP's texts, and no line.
//!
//! It is not part of the repository: `pip install aics-tlog` (Python 3.12 or later), and `KORDON_TLOG_PYTHON`.
//!
//! A program of its own: what starts others has their copies of locks for a moment, and no log can be opened meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "a test that cannot go on fails"
)]

#[path = "../evidence/support.rs"]
#[expect(dead_code, reason = "made for others, too")]
mod support;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use kordon::evidence::{
    proof::{check, prove},
    verify::verify,
};
use serde_json::Value;

use support::*;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/verifier/external.py");

/// An interpreter that has the package.
struct Others(
    OsString,
    #[expect(dead_code, reason = "held")] MutexGuard<'static, ()>,
);

/// One at a time.
static TURN: Mutex<()> = Mutex::new(());

impl Others {
    fn find() -> Option<Self> {
        let python =
            std::env::var_os("KORDON_TLOG_PYTHON").unwrap_or_else(|| OsString::from("python3"));
        let asked = Command::new(&python)
            .args(["-c", "import aics_tlog"])
            .output();
        if asked.is_ok_and(|asked| asked.status.success()) {
            return Some(Self(
                python,
                TURN.lock().unwrap_or_else(PoisonError::into_inner),
            ));
        }
        println!(
            "SKIPPED: no aics-tlog for Python; set KORDON_TLOG_PYTHON to an interpreter that has it"
        );
        None
    }

    /// What it says of each thing.
    #[track_caller]
    fn say(&self, folder: &Path, proofs: &[PathBuf]) -> Value {
        let output = Command::new(&self.0)
            .arg(SCRIPT)
            .arg(folder)
            .args(proofs)
            .output()
            .unwrap();
        let said: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let code = if said["ok"] == true { 0 } else { 1 };
        assert_eq!(output.status.code(), Some(code), "{said}");
        said
    }

    /// Both say that something is wrong, and the others that it is this: the rest holds for them. `what` are the names of
    /// things with a part of why.
    #[track_caller]
    fn disagree(&self, folder: &Path, what: &[(&str, &str)], case: &str) {
        assert!(!verify(folder, &[]).ok, "{case}: it is sound to kordon");
        let said = self.say(folder, &[]);
        for thing in ["checkpoint", "records", "tiles", "history"] {
            let why = what.iter().find(|(name, _)| *name == thing);
            let fits = match (said[thing].as_str(), why) {
                (None, None) => said[thing].is_null(),
                (Some(said), Some((_, why))) => said.contains(why),
                _ => false,
            };
            assert!(fits, "{case}: {thing} in {said:#}");
        }
    }

    /// Nothing is wrong, to both.
    #[track_caller]
    fn agree(&self, folder: &Path, proofs: &[PathBuf], case: &str) {
        let verdict = verify(folder, &[]);
        assert_eq!(verdict.findings, [], "{case}");
        let said = self.say(folder, proofs);
        assert_eq!(said["ok"], true, "{case}: {said:#}");
        assert_eq!(said["signed"], verdict.size_of_checkpoint, "{case}");
        assert_eq!(said["read"], verdict.records, "{case}");
        assert_eq!(said["proofs"].as_object().unwrap().len(), proofs.len());
    }
}

/// Proofs of these records, in files.
fn proven(folder: &Path, to: &Path, indexes: impl IntoIterator<Item = u64>) -> Vec<PathBuf> {
    let one = |index| {
        let path = to.join(format!("{index}.proof"));
        fs::write(&path, prove(folder, index).unwrap()).unwrap();
        path
    };
    indexes.into_iter().map(one).collect()
}

/// The nth record is looked for in all files, as if they were one.
fn place(folder: &Path, nth: u64) -> (PathBuf, usize) {
    let path = files(folder)
        .into_iter()
        .rfind(|path| name(path)[..20].parse::<u64>().unwrap() <= nth)
        .unwrap();
    let first: u64 = name(&path)[..20].parse().unwrap();
    (path, usize::try_from(nth - first).unwrap())
}

#[test]
fn what_is_sound() {
    let Some(others) = Others::find() else { return };
    for size in [0, 1, 2, 7, 255, 256, 257, 600, 70_000] {
        let (log, proofs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut writer = filled(
            log.path(),
            size,
            100_000,
            &[1, 3, 100, 256, 300, 65_536, 65_537],
        );
        let mut asked = vec![0, 1, size / 3, 255, 256, 65_535, size.saturating_sub(1)];
        asked.retain(|index| *index < size);
        asked.sort_unstable();
        asked.dedup();
        let proofs = proven(log.path(), proofs.path(), asked);
        others.agree(log.path(), &proofs, &size.to_string());
        // With records that are not signed yet, of which the last is half of one.
        writer.append(&record(size)).unwrap();
        drop(writer);
        let last = files(log.path()).pop().unwrap();
        let torn = [fs::read(&last).unwrap(), record(size + 1)].concat();
        fs::write(&last, torn).unwrap();
        others.agree(log.path(), &proofs, &format!("{size}, torn"));
        println!("{size} records, {} proofs: they agree", proofs.len());
    }
}

#[test]
fn what_was_done_to_records() {
    let Some(others) = Others::find() else { return };
    let mut times = 0;
    for size in [1, 7, 256, 600] {
        let (log, proofs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = log.path();
        drop(filled(folder, size, 20_000, &[3, 256, 300]));
        let mut indexes = vec![0, size / 2, size - 1];
        indexes.dedup();
        let proofs = proven(folder, proofs.path(), indexes.clone());
        for index in indexes {
            let (path, line) = place(folder, index);
            let before = fs::read(&path).unwrap();
            let mut after = |what: &str, why: &str, change: &dyn Fn(&mut Vec<Vec<u8>>)| {
                rewrite(&path, change);
                let case = format!("{what} {index} of {size}");
                // Tiles and checkpoints are as they were, and so is what can be proven with them alone.
                others.disagree(folder, &[("records", why)], &case);
                let said = others.say(folder, &proofs);
                let holds = |proof: &PathBuf| said["proofs"][proof.to_str().unwrap()].is_null();
                assert!(proofs.iter().all(holds), "{case}: {said:#}");
                fs::write(&path, &before).unwrap();
                times += 1;
            };
            after("changed", "another root", &|all| {
                all[line] = String::from_utf8(all[line].clone())
                    .unwrap()
                    .replace("verdict", "verdicT")
                    .into_bytes();
            });
            after("another end of", "another root", &|all| {
                let end = all[line].len() - 1;
                all[line].insert(end, b'\r');
            });
            after("removed", "are signed", &|all| drop(all.remove(line)));
            after("inserted", "another root", &|all| {
                all.insert(line, [record(size), b"\n".to_vec()].concat());
            });
        }
        others.agree(folder, &proofs, "put back");
    }
    println!("{times} times they disagree with a log, and with the same part of it");
}

#[test]
fn what_was_done_to_checkpoints_and_tiles() {
    let Some(others) = Others::find() else { return };
    let log = tempfile::tempdir().unwrap();
    let folder = log.path();
    drop(filled(folder, 600, 20_000, &[256, 300]));
    let (newest, history) = (folder.join("checkpoint"), folder.join("checkpoints"));
    let good = fs::read_to_string(&newest).unwrap();
    let past = fs::read_to_string(&history).unwrap();
    let unbelieved = |why| {
        let rest = "the checkpoint is not believed";
        [
            ("checkpoint", why),
            ("records", rest),
            ("tiles", rest),
            ("history", rest),
        ]
    };

    // The same records, of another recorder that has the same name.
    let other = tempfile::tempdir().unwrap();
    drop(filled(other.path(), 600, 20_000, &[256, 300]));
    others.agree(other.path(), &[], "another recorder");
    let theirs = fs::read_to_string(other.path().join("checkpoint")).unwrap();
    let body = |text: &str| text.split_once("\n\n").unwrap().0.to_owned();
    assert_eq!(body(&theirs), body(&good));
    fs::write(&newest, &theirs).unwrap();
    others.disagree(
        folder,
        &unbelieved("no signature from log key"),
        "another key's",
    );
    // Our key's name and number, with their signature.
    let signature = |text: &str| {
        let line = text.lines().last().unwrap().rsplit_once(' ').unwrap();
        BASE64_STANDARD.decode(line.1).unwrap()
    };
    let mixed = [&signature(&good)[..4], &signature(&theirs)[4..]].concat();
    let encode = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    let forged = good.replace(&encode(&signature(&good)), &encode(&mixed));
    assert_ne!(forged, good);
    fs::write(&newest, forged).unwrap();
    others.disagree(folder, &unbelieved("failed verification"), "forged");
    fs::write(&newest, good.replace("\n600\n", "\n599\n")).unwrap();
    others.disagree(folder, &unbelieved("failed verification"), "shorter");
    fs::write(&newest, &good).unwrap();

    // The same key has signed other records: each checkpoint is true, and they do not follow each other.
    let fork = tempfile::tempdir().unwrap();
    for file in ["key", "key.pub"] {
        fs::copy(folder.join(file), fork.path().join(file)).unwrap();
    }
    let mut writer = open(fork.path(), 20_000);
    for index in 0..400 {
        let second = 1_700_000_000 + i64::try_from(index).unwrap();
        writer
            .append(&at(index, second, "other", "boot-1"))
            .unwrap();
    }
    let forked = writer.checkpoint().unwrap().text;
    drop(writer);
    others.agree(fork.path(), &[], "the fork by itself");
    let without = past.strip_suffix(&good).unwrap();
    fs::write(&history, [without, &forked, &good].concat()).unwrap();
    others.disagree(
        folder,
        &[("history", "300 records are not how 400 begin")],
        "forked",
    );
    fs::write(&history, past.replace("\n300\n", "\n301\n")).unwrap();
    others.disagree(
        folder,
        &[("history", "failed verification")],
        "an older one forged",
    );
    fs::write(&history, &past).unwrap();
    // All of it is of the fork, save for the records.
    fs::write(&newest, &forked).unwrap();
    let said = others.say(folder, &[]);
    assert!(said["checkpoint"].is_null() && said["records"].is_string());
    assert!(!verify(folder, &[]).ok);
    fs::write(&newest, &good).unwrap();

    // Hashes in a full tile, and at the edge.
    for tile in ["tile/0/000", "tile/0/002.p/88", "tile/1/000.p/2"] {
        let path = folder.join(tile);
        let before = fs::read(&path).unwrap();
        let mut after = before.clone();
        after[40] ^= 1;
        fs::write(&path, after).unwrap();
        assert!(!verify(folder, &[]).ok, "{tile}");
        let said = others.say(folder, &[]);
        assert!(said["tiles"].is_string(), "{tile}: {said:#}");
        assert!(said["records"].is_null() && said["checkpoint"].is_null());
        fs::write(&path, before).unwrap();
    }
    others.agree(folder, &[], "put back");
}

#[test]
fn what_was_done_to_proofs() {
    let Some(others) = Others::find() else { return };
    let (log, proofs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(filled(log.path(), 600, 20_000, &[]));
    let other = tempfile::tempdir().unwrap();
    drop(filled(other.path(), 600, 20_000, &[]));
    let key = fs::read_to_string(log.path().join("key.pub")).unwrap();
    let good = prove(log.path(), 300).unwrap();
    let hash = good.lines().nth(3).unwrap();
    let extra = |index| BASE64_STANDARD.encode(record(index));
    let cases = [
        good.clone(),
        good.replace(&extra(300), &extra(301)),
        good.replace("\nindex 300\n", "\nindex 301\n"),
        good.replace("\nindex 300\n", "\nindex 600\n"),
        good.replace(&format!("{hash}\n"), ""),
        good.replace(hash, &BASE64_STANDARD.encode([7; 32])),
        good.replace("\n600\n", "\n601\n"),
        good.replacen("\n\n", "\n", 1),
        prove(other.path(), 300).unwrap(),
        String::new(),
    ];
    let paths: Vec<PathBuf> = (0..cases.len())
        .map(|number| proofs.path().join(number.to_string()))
        .collect();
    for (number, (path, text)) in paths.iter().zip(&cases).enumerate() {
        assert!(
            number == 0 || *text != good,
            "case {number} changes nothing"
        );
        assert_eq!(check(text, &key).is_ok(), number == 0, "case {number}");
        fs::write(path, text).unwrap();
    }
    let said = others.say(log.path(), &paths);
    assert!(said["records"].is_null() && said["ok"] == false);
    for (number, path) in paths.iter().enumerate() {
        let why = &said["proofs"][path.to_str().unwrap()];
        println!("{number}: {why}");
        assert_eq!(why.is_null(), number == 0, "case {number}: {why}");
    }
}
