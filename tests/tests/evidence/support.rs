//! What the tests share: a log with records, and a second computation of its tree that knows nothing of the crate's.

use std::{
    fs,
    path::{Path, PathBuf},
};

use kordon::evidence::{finding::Finding, log::Log, verify::verify};

pub(crate) const ORIGIN: &str = "recorder.example/evidence";

/// A record as the daemon writes them.
pub(crate) fn record(index: u64) -> Vec<u8> {
    at(
        index,
        1_700_000_000 + i64::try_from(index).unwrap(),
        "verdict",
        "boot-1",
    )
}

pub(crate) fn at(index: u64, second: i64, action: &str, boot: &str) -> Vec<u8> {
    let time = jiff::Timestamp::from_second(second).unwrap();
    format!(r#"{{"@timestamp":"{time}","event":{{"sequence":{index},"action":"{action}"}},"kordon":{{"boot":"{boot}"}}}}"#)
        .into_bytes()
}

pub(crate) fn open(folder: &Path, file_size: u64) -> Log {
    Log::open(folder, ORIGIN, file_size, 0).unwrap().0
}

/// A log of so many records, with a checkpoint at each of the sizes and at the end.
pub(crate) fn filled(folder: &Path, size: u64, file_size: u64, checkpoints: &[u64]) -> Log {
    let mut log = open(folder, file_size);
    for index in 0..size {
        if checkpoints.contains(&index) {
            log.checkpoint().unwrap();
        }
        assert_eq!(log.append(&record(index)).unwrap(), index);
    }
    log.checkpoint().unwrap();
    log
}

/// Record files, in order.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .collect();
    found.sort();
    found
}

pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

pub(crate) fn lines(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

pub(crate) fn findings(folder: &Path) -> Vec<Finding> {
    verify(folder, &[]).findings
}

/// A finding for this file and line that says this must be among them.
#[track_caller]
pub(crate) fn names(findings: &[Finding], file: &str, line: Option<u64>, what: &str) {
    assert!(
        findings
            .iter()
            .any(|found| found.file == file && found.line == line && found.what.contains(what)),
        "no {file}:{line:?} {what} in {findings:#?}"
    );
}

/// Four files or so of 10 records, checkpoints at 10, 20 and 37, then 3 records that are not signed.
pub(crate) fn sample() -> (tempfile::TempDir, Log) {
    let folder = tempfile::tempdir().unwrap();
    let mut log = filled(folder.path(), 37, 1_200, &[10, 20]);
    for index in 37..40 {
        log.append(&record(index)).unwrap();
    }
    (folder, log)
}

pub(crate) fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut all = lines(path);
    change(&mut all);
    fs::write(path, all.concat()).unwrap();
}
