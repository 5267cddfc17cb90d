//! Each manipulation is found, and named with its file and line; what was not touched is sound.

use std::fs;

use super::support::*;
use kordon::evidence::{log::Log, verify::verify};

#[test]
fn untouched_is_sound() {
    for size in [0, 1, 2, 255, 256, 257, 1000, 70_000] {
        let folder = tempfile::tempdir().unwrap();
        let log = filled(
            folder.path(),
            size,
            100_000,
            &[1, 100, 256, 300, 65_536, 65_537],
        );
        let kept = log.signed().unwrap().text.clone();
        let verdict = verify(folder.path(), &[kept]);
        assert_eq!(verdict.findings, [], "{size}");
        assert!(verdict.ok && verdict.witnessed == (size > 0), "{size}");
        assert_eq!((verdict.records, verdict.unsigned), (size, 0));
        assert_eq!(verdict.size_of_checkpoint, size);
        println!(
            "{size} records: sound, {} files",
            files(folder.path()).len()
        );
    }
    let (folder, _log) = sample();
    let verdict = verify(folder.path(), &[]);
    assert_eq!(
        (verdict.findings, verdict.unsigned, verdict.records),
        (vec![], 3, 40)
    );
    assert!(!verdict.witnessed);
}

#[test]
fn a_line_changed_in_any_place() {
    let (folder, _log) = sample();
    let mut index = 0;
    for path in files(folder.path()) {
        for number in 0..lines(&path).len() {
            if index >= 37 {
                continue;
            }
            let before = fs::read(&path).unwrap();
            rewrite(&path, |all| {
                let text = String::from_utf8(all[number].clone()).unwrap();
                all[number] = text.replace("verdict", "VERDICT").into_bytes();
            });
            let found = findings(folder.path());
            names(&found, &name(&path), Some(number as u64 + 1), "was changed");
            assert!(found.len() <= 2, "{found:#?}");
            fs::write(&path, before).unwrap();
            index += 1;
        }
    }
    assert_eq!(findings(folder.path()), []);
    println!("{index} lines changed one by one: each named");
}

#[test]
fn a_line_removed_inserted_or_moved() {
    let (folder, _log) = sample();
    let path = &files(folder.path())[1];
    let file = name(path);
    let before = fs::read(path).unwrap();

    rewrite(path, |all| drop(all.remove(3)));
    names(
        &findings(folder.path()),
        &file,
        Some(4),
        "was removed before this line",
    );
    fs::write(path, &before).unwrap();

    rewrite(path, |all| {
        all.insert(3, b"{\"event\":{\"sequence\":1}}\n".to_vec())
    });
    names(&findings(folder.path()), &file, Some(4), "was inserted");
    fs::write(path, &before).unwrap();

    rewrite(path, |all| all.swap(3, 4));
    let found = findings(folder.path());
    assert!(
        found.iter().any(|one| one.file == file
            && matches!(one.line, Some(4 | 5))
            && one.what.contains("is out of order")),
        "{found:#?}"
    );
    fs::write(path, &before).unwrap();

    rewrite(path, |all| {
        let line = all.remove(1);
        all.insert(7, line);
    });
    names(&findings(folder.path()), &file, Some(8), "is out of order");
    fs::write(path, &before).unwrap();

    // Of a file in the middle, the end of its last line only.
    fs::write(path, &before[..before.len() - 1]).unwrap();
    names(
        &findings(folder.path()),
        &file,
        Some(lines(path).len() as u64),
        "has no end of line",
    );
    fs::write(path, &before).unwrap();

    rewrite(path, |all| drop(all.pop()));
    let rest = lines(path).len() as u64;
    names(
        &findings(folder.path()),
        &file,
        Some(rest),
        "was cut at the end",
    );
    fs::write(path, &before).unwrap();
    assert_eq!(findings(folder.path()), []);
}

#[test]
fn cut_at_the_end() {
    let (folder, log) = sample();
    drop(log);
    let path = files(folder.path()).pop().unwrap();
    let all = lines(&path);
    let first: u64 = name(&path)[..20].parse().unwrap();
    // The unsigned ones may go, whole or in part; the signed ones not.
    let signed = usize::try_from(37 - first).unwrap();
    fs::write(&path, all[..signed].concat()).unwrap();
    assert_eq!(findings(folder.path()), []);
    let mut torn = all[..signed].concat();
    torn.extend_from_slice(&all[signed][..5]);
    fs::write(&path, &torn).unwrap();
    let verdict = verify(folder.path(), &[]);
    assert_eq!((verdict.findings, verdict.torn), (vec![], 5));
    fs::write(&path, all[..signed - 1].concat()).unwrap();
    names(
        &findings(folder.path()),
        &name(&path),
        Some(signed as u64 - 1),
        "was cut at the end",
    );
    let short = all[..signed].concat();
    fs::write(&path, &short[..short.len() - 1]).unwrap();
    names(
        &findings(folder.path()),
        &name(&path),
        Some(signed as u64 - 1),
        "was cut at the end",
    );
    // The writer does not go on as if nothing had happened.
    let error = Log::open(folder.path(), ORIGIN, 1_200, 0).unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
    println!("opening a log that was cut: {error}");
}

#[test]
fn a_file_removed_or_renamed() {
    let (folder, _log) = sample();
    for number in 0..files(folder.path()).len() {
        let path = &files(folder.path())[number];
        let bytes = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        let found = findings(folder.path());
        let last =
            number + 1 > files(folder.path()).len() - 1 && number == files(folder.path()).len();
        if last {
            // There is nothing after it: it is the same as if the end was cut.
            assert!(
                found
                    .iter()
                    .any(|one| one.what.contains("was cut at the end")),
                "{found:#?}"
            );
        } else {
            names(&found, &name(path), None, "was removed or renamed");
        }
        fs::write(path, bytes).unwrap();
    }
    let path = &files(folder.path())[2];
    let first: u64 = name(path)[..20].parse().unwrap();
    let other = folder.path().join(format!("{:020}.jsonl", first + 1));
    fs::rename(path, &other).unwrap();
    let found = findings(folder.path());
    names(&found, &name(path), None, "was removed or renamed");
    names(&found, &name(&other), Some(1), "has the sequence");
    fs::rename(&other, folder.path().join("5.jsonl")).unwrap();
    let found = findings(folder.path());
    names(
        &found,
        "5.jsonl",
        None,
        "is not named as the log names its files",
    );
    names(&found, &name(path), None, "was removed or renamed");
}

#[test]
fn checkpoints() {
    let (folder, mut log) = sample();
    let folder = folder.path();
    let newest = folder.join("checkpoint");
    let history = folder.join("checkpoints");
    let (good, past) = (
        fs::read_to_string(&newest).unwrap(),
        fs::read_to_string(&history).unwrap(),
    );
    let notes: Vec<String> = past
        .split_inclusive("=\n")
        .collect::<Vec<_>>()
        .chunks(2)
        .map(|two| two.concat())
        .collect();
    assert_eq!(notes.concat(), past);
    assert_eq!(notes.last().unwrap(), &good);

    // Rolled back.
    fs::write(&newest, &notes[1]).unwrap();
    names(&findings(folder), "checkpoint", None, "was rolled back");
    // Forged: another number of records under the same signature.
    fs::write(&newest, good.replace("\n37\n", "\n36\n")).unwrap();
    names(
        &findings(folder),
        "checkpoint",
        None,
        "has a false signature",
    );
    fs::write(&newest, "nonsense").unwrap();
    names(
        &findings(folder),
        "checkpoint",
        None,
        "is not a signed checkpoint",
    );
    fs::remove_file(&newest).unwrap();
    names(&findings(folder), "checkpoint", None, "is missing");
    fs::write(&newest, &good).unwrap();
    // In the history.
    fs::write(&history, past.replace("\n20\n", "\n21\n")).unwrap();
    names(
        &findings(folder),
        "checkpoints",
        Some(11),
        "has a false signature",
    );
    fs::remove_file(&history).unwrap();
    names(&findings(folder), "checkpoints", None, "is missing");
    fs::write(
        &history,
        [&notes[..1], &notes[2..], &notes[1..2]].concat().concat(),
    )
    .unwrap();
    names(&findings(folder), "checkpoints", Some(16), "goes back");
    fs::write(&history, &past).unwrap();

    // Outside.
    let verdict = verify(folder, &notes);
    assert!(
        verdict.ok && verdict.witnessed && verdict.witnessed_size == 37,
        "{verdict:#?}"
    );
    let later = { log.checkpoint().unwrap().text };
    assert!(verify(folder, std::slice::from_ref(&later)).witnessed);
    // Rolled back as a whole: all fits, only the outside knows.
    let old = tempfile::tempdir().unwrap();
    drop(log);
    let key = fs::read(folder.join("key")).unwrap();
    let public = fs::read(folder.join("key.pub")).unwrap();
    fs::write(old.path().join("key"), key).unwrap();
    fs::write(old.path().join("key.pub"), public).unwrap();
    drop(filled(old.path(), 20, 1_200, &[10]));
    assert!(verify(old.path(), &[]).ok);
    let verdict = verify(old.path(), std::slice::from_ref(&later));
    names(
        &verdict.findings,
        "outside 0",
        None,
        "it was cut or rolled back",
    );
    assert!(!verdict.witnessed);
    // Made again with the same key and other records.
    let mut log = open(old.path(), 1_200);
    for index in 20..50 {
        log.append(&at(index, 1_700_000_000 + index as i64, "other", "boot-1"))
            .unwrap();
    }
    log.checkpoint().unwrap();
    let verdict = verify(old.path(), &[later.clone(), notes[1].clone()]);
    names(&verdict.findings, "outside 0", None, "is for other records");
    assert!(verdict.witnessed && verdict.witnessed_size == 10);
    // Replaced by one that the same key has signed: tiles and records agree, the history does not.
    fs::copy(old.path().join("checkpoint"), &newest).unwrap();
    names(&findings(folder), "checkpoint", None, "was replaced");
    assert_eq!(findings(folder).len(), 1);
    println!(
        "replaced by a true one of other records: {:#?}",
        findings(folder)
    );
    fs::write(&newest, &later).unwrap();
    assert_eq!(findings(folder), []);
}

#[test]
fn a_wrong_key() {
    let (folder, log) = sample();
    let kept = log.signed().unwrap().text.clone();
    let other = tempfile::tempdir().unwrap();
    drop(filled(other.path(), 37, 1_200, &[10, 20]));
    // The same records, all signed again by another key: only the outside knows.
    assert!(verify(other.path(), &[]).ok);
    let verdict = verify(other.path(), &[kept]);
    names(&verdict.findings, "outside 0", None, "is not signed by");
    assert!(!verdict.ok && !verdict.witnessed);
    fs::copy(other.path().join("key.pub"), folder.path().join("key.pub")).unwrap();
    names(
        &findings(folder.path()),
        "checkpoint",
        None,
        "is not signed by",
    );
    drop(log);
    let error = Log::open(folder.path(), ORIGIN, 1_200, 0).unwrap_err();
    assert!(
        error.to_string().contains("is not the other half of `key`"),
        "{error}"
    );
    fs::write(folder.path().join("key.pub"), "rubbish\n").unwrap();
    names(&findings(folder.path()), "key.pub", None, "malformed");
}
