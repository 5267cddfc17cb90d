//! Tiles that differ, what records say of themselves, and records that the log forgets.

use std::fs;

use super::support::*;
use kordon::evidence::{
    proof::{check, prove},
    verify::verify,
};

#[test]
fn tiles_that_differ() {
    let folder = tempfile::tempdir().unwrap();
    let log = filled(folder.path(), 70_000, 1 << 20, &[]);
    assert_eq!(log.size(), 70_000);
    for tile in [
        "tile/0/007",
        "tile/0/273.p/112",
        "tile/1/000",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    ] {
        let path = folder.path().join(tile);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[20] ^= 1;
        fs::write(&path, &bad).unwrap();
        let found = findings(folder.path());
        names(&found, tile, None, "does not fit the records");
        assert_eq!(found.len(), 1, "{found:#?}");
        fs::remove_file(&path).unwrap();
        names(&findings(folder.path()), tile, None, "cannot be used");
        fs::write(&path, good).unwrap();
    }
    assert_eq!(findings(folder.path()), []);
    // A line and its hash: the tile no longer knows what the line was, but the root does.
    let path = &files(folder.path())[0];
    rewrite(path, |all| all[5] = b"{}\n".to_vec());
    let tile = folder.path().join("tile/0/000");
    let mut bytes = fs::read(&tile).unwrap();
    bytes[5 * 32..6 * 32].copy_from_slice(&tlog_tiles::record_hash(b"{}").0);
    fs::write(&tile, bytes).unwrap();
    let found = findings(folder.path());
    println!("a line and its tile: {found:#?}");
    names(&found, "tile/0", None, "either was replaced");
    names(&found, &name(path), Some(6), "has no `event.sequence`");
}

#[test]
fn what_records_say_of_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path(), 1 << 20);
    let second = 1_700_000_000;
    for line in [
        at(0, second, "start", "a"),
        at(1, second + 10, "verdict", "a"),
        at(2, second + 9, "verdict", "a"),
        at(3, second, "clock", "a"),
        at(4, second - 5, "start", "b"),
        at(5, second - 50, "verdict", "b"),
        at(7, second, "verdict", "b"),
        b"nonsense".to_vec(),
        b"{\"event\":7}".to_vec(),
        at(9, second, "verdict", "b"),
    ] {
        log.append(&line).unwrap();
    }
    log.checkpoint().unwrap();
    let file = name(&files(folder.path())[0]);
    let found = findings(folder.path());
    println!("{found:#?}");
    names(&found, &file, Some(6), "a clock set back");
    names(&found, &file, Some(7), "has the sequence 7 and is record 6");
    names(&found, &file, Some(8), "is not JSON");
    names(&found, &file, Some(9), "is JSON that is not a record");
    names(
        &found,
        &file,
        Some(10),
        "has the sequence 9 and is record 9",
    );
    assert_eq!(found.len(), 5, "{found:#?}");
}

#[test]
fn forgetting() {
    let (folder, mut log) = sample();
    let folder = folder.path();
    let kept = log.signed().unwrap().text.clone();
    let all = files(folder);
    let first: u64 = name(&all[2])[..20].parse().unwrap();
    let statement = |sequence: u64, first: u64| {
        format!(r#"{{"@timestamp":"2023-11-15T00:00:00Z","event":{{"sequence":{sequence},"action":"forget"}},"kordon":{{"boot":"boot-1","forgot_before":{first}}}}}"#).into_bytes()
    };
    assert_eq!(log.forget_before(first + 3, statement).unwrap(), first);
    assert_eq!(log.size(), 41);
    assert_eq!(files(folder)[0], all[2]);
    let verdict = verify(folder, std::slice::from_ref(&kept));
    assert!(
        verdict.ok && verdict.witnessed && verdict.forgotten == first,
        "{verdict:#?}"
    );
    // Nothing more to forget: nothing is written.
    assert_eq!(
        log.forget_before(first + 3, |_, _| unreachable!()).unwrap(),
        first
    );
    assert_eq!(log.size(), 41);
    drop(log);
    let mut log = open(folder, 1_200);
    log.append(&at(41, 1_800_000_000, "verdict", "boot-1"))
        .unwrap();
    // More removed than was said.
    fs::remove_file(&all[2]).unwrap();
    names(
        &findings(folder),
        &name(&all[2]),
        None,
        "no record says that the log removed them",
    );
    // What is left can still be proven; what is not, not.
    let proof = prove(folder, 36).unwrap();
    let checked = check(&proof, &fs::read_to_string(folder.join("key.pub")).unwrap()).unwrap();
    assert_eq!(checked.record, record(36));
    assert!(prove(folder, 0).is_err());
}
