//! What was answered is there afterwards: torn lines, kills, a full disk; and the tree is the one of RFC 6962.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use super::support::*;
use base64::{Engine, prelude::BASE64_STANDARD};
use kordon::evidence::{
    error::LogError,
    log::Log,
    proof::{check, prove},
    verify::verify,
};

/// RFC 6962, section 2.1, as it is written there: recursive, from the records.
fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    match leaves {
        [] => Sha256::digest([]).into(),
        [one] => *one,
        more => {
            let k = 1 << (more.len() - 1).ilog2();
            let (left, right) = more.split_at(k);
            Sha256::digest([&[1][..], &root(left), &root(right)].concat()).into()
        }
    }
}

fn leaf(line: &[u8]) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::digest([&[0][..], line].concat()).into()
}

/// All tiles of a tree, by their paths, computed from nothing but the leaves.
fn tiles(leaves: &[[u8; 32]]) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut level: Vec<[u8; 32]> = leaves.to_vec();
    let mut number = 0;
    while !level.is_empty() {
        let mut above = Vec::new();
        for (n, tile) in level.chunks(256).enumerate() {
            assert!(n < 1000);
            let mut path = format!("tile/{number}/{n:03}");
            if tile.len() < 256 {
                path += &format!(".p/{}", tile.len());
            } else {
                above.push(root(tile));
            }
            found.insert(PathBuf::from(path), tile.concat());
        }
        level = above;
        number += 1;
    }
    found
}

fn on_disk(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(base: &Path, folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(base, &path, found);
            } else {
                found.insert(
                    path.strip_prefix(base).unwrap().to_owned(),
                    fs::read(&path).unwrap(),
                );
            }
        }
    }
    let mut found = BTreeMap::new();
    if folder.join("tile").exists() {
        walk(folder, &folder.join("tile"), &mut found);
    }
    found
}

#[test]
fn tiles_equal_those_of_another_computation() {
    let mut random = fastrand::Rng::with_seed(6962);
    for most in [300, 70_000] {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path(), 50_000);
        let mut leaves = Vec::new();
        let mut steps = 0;
        while leaves.len() < most {
            for _ in 0..random.usize(0..most / 8) {
                let line = record(leaves.len() as u64);
                log.append(&line).unwrap();
                leaves.push(leaf(&line));
            }
            let signed = log.checkpoint().unwrap();
            assert_eq!(
                (signed.size, signed.root.0),
                (leaves.len() as u64, root(&leaves))
            );
            assert_eq!(on_disk(folder.path()), tiles(&leaves), "{}", leaves.len());
            steps += 1;
            if random.bool() {
                drop(log);
                log = open(folder.path(), 50_000);
                assert_eq!(log.size(), leaves.len() as u64);
            }
        }
        println!(
            "{} records, {steps} checkpoints: tiles and roots equal",
            leaves.len()
        );
    }
}

#[test]
fn torn_at_every_byte() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mut log = open(folder.path(), 700);
    let mut records: Vec<Vec<u8>> = Vec::new();
    let mut cuts = 0;
    for _ in 0..25 {
        for _ in 0..random.usize(1..9) {
            let line = record(records.len() as u64);
            log.append(&line).unwrap();
            records.push(line);
        }
        if random.bool() {
            log.checkpoint().unwrap();
        }
        let signed = log.signed().unwrap().size;
        // The next record is being written when the process dies: at each of its bytes.
        let line = [record(records.len() as u64), b"\n".to_vec()].concat();
        log.append(&line[..line.len() - 1]).unwrap();
        drop(log);
        let path = files(folder.path()).pop().unwrap();
        let whole = fs::read(&path).unwrap();
        for part in 0..line.len() {
            fs::write(&path, &whole[..whole.len() - line.len() + part]).unwrap();
            let verdict = verify(folder.path(), &[]);
            assert!(verdict.ok && verdict.torn == part as u64, "{verdict:#?}");
            let (log, opened) = Log::open(folder.path(), ORIGIN, 700, 4).unwrap();
            assert_eq!(
                (log.size(), opened.torn),
                (records.len() as u64, part as u64)
            );
            assert_eq!(opened.tail, records[records.len().saturating_sub(4)..]);
            assert!(log.signed().unwrap().size == signed);
            cuts += 1;
        }
        log = open(folder.path(), 700);
    }
    log.checkpoint().unwrap();
    assert!(verify(folder.path(), &[]).ok);
    println!(
        "{cuts} torn lines, {} records, {} files",
        records.len(),
        files(folder.path()).len()
    );
}

#[test]
fn lost_with_the_power() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = filled(folder.path(), 20, 700, &[]);
    for index in 20..60 {
        log.append(&record(index)).unwrap();
    }
    drop(log);
    // The end of a file that was not waited for is gone, those after it are there.
    let all = files(folder.path());
    let lost = &all[all.len() - 3];
    let bytes = fs::read(lost).unwrap();
    fs::write(lost, &bytes[..bytes.len() - 150]).unwrap();
    let (log, opened) = Log::open(folder.path(), ORIGIN, 700, 1000).unwrap();
    assert!(opened.torn > 0 && opened.lost.len() == 2, "{opened:?}");
    assert_eq!(opened.tail.len() as u64, log.size());
    drop(log);
    let mut log = open(folder.path(), 700);
    let next = log.size();
    log.append(&record(next)).unwrap();
    log.checkpoint().unwrap();
    assert_eq!(findings(folder.path()), []);
}

#[test]
fn a_second_writer_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), 700);
    let error = Log::open(folder.path(), ORIGIN, 700, 0).unwrap_err();
    assert!(matches!(error, LogError::Locked(_)), "{error}");
    println!("{error}");
    drop(log);
    let error = Log::open(folder.path(), "other.example", 700, 0).unwrap_err();
    assert!(matches!(error, LogError::Origin { .. }), "{error}");
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(folder.path().join("key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut log = open(folder.path(), 700);
    assert!(matches!(log.append(b""), Err(LogError::Line(_))));
    assert!(matches!(log.append(b"a\nb"), Err(LogError::Line(_))));
    let before = fs::metadata(folder.path().join("checkpoint"))
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(log.checkpoint().unwrap().size, 0);
    assert_eq!(
        fs::metadata(folder.path().join("checkpoint"))
            .unwrap()
            .modified()
            .unwrap(),
        before
    );
}

#[test]
fn verified_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let mut log = open(&path, 20_000);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for index in 0..u64::MAX {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                log.append(&record(index)).unwrap();
                if index % 7 == 0 {
                    log.checkpoint().unwrap();
                }
            }
        });
        let (mut times, mut records) = (0, 0);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(3);
        while std::time::Instant::now() < until {
            let kept = fs::read_to_string(path.join("checkpoint")).unwrap();
            let verdict = verify(&path, &[kept]);
            if !verdict.ok {
                stop.store(true, Ordering::Relaxed);
            }
            assert!(verdict.ok, "{verdict:#?}");
            if verdict.size_of_checkpoint > 0 {
                let index = verdict.size_of_checkpoint - 1;
                prove(&path, index).unwrap();
            }
            (times, records) = (times + 1, verdict.records);
        }
        stop.store(true, Ordering::Relaxed);
        println!("{times} verdicts while {records} records were written");
    });
}

#[test]
fn proofs() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = filled(folder.path(), 600, 5_000, &[]);
    log.append(&record(600)).unwrap();
    let key = fs::read_to_string(folder.path().join("key.pub")).unwrap();
    for index in 0..600 {
        let proof = prove(folder.path(), index).unwrap();
        let checked = check(&proof, &key).unwrap();
        assert_eq!((checked.index, checked.record), (index, record(index)));
        assert_eq!(&checked.checkpoint, log.signed().unwrap());
    }
    assert!(
        prove(folder.path(), 600)
            .unwrap_err()
            .to_string()
            .contains("is not signed")
    );
    let proof = prove(folder.path(), 300).unwrap();
    let other = BASE64_STANDARD.encode(record(301));
    let ours = BASE64_STANDARD.encode(record(300));
    for bad in [
        proof.replace(&ours, &other),
        proof.replace("index 300", "index 301"),
        proof.replace("\n600\n", "\n601\n"),
        proof.replacen("\n\n", "\n", 1),
        String::new(),
    ] {
        assert!(check(&bad, &key).is_err(), "{bad}");
    }
    println!("{proof}");
}

/// On a file system of 256 KiB, in a mount namespace of its own: this test starts itself in there.
#[test]
fn full_disk() {
    const INSIDE: &str = "EVIDENCE_FULL_DISK";
    if std::env::var_os(INSIDE).is_some() {
        return fill();
    }
    let this = std::env::current_exe().unwrap();
    let script = "mount -t tmpfs -o size=256k none \"$1\" && exec \"$0\" --exact writing::full_disk --nocapture";
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .args([this.as_os_str(), folder.path().as_os_str()])
        .env(INSIDE, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert!(
        output.status.success() && said.contains("answered"),
        "{said}"
    );

    fn fill() {
        let disk = PathBuf::from(std::env::var_os(INSIDE).unwrap());
        let folder = disk.join("log");
        let mut log = open(&folder, 20_000);
        let mut answered = Vec::new();
        let mut failures = 0;
        let ballast = disk.join("ballast");
        fs::write(&ballast, vec![0; 40_000]).unwrap();
        let mut signed = 0;
        while failures < 400 {
            let line = record(answered.len() as u64);
            match log.append(&line) {
                Ok(index) => {
                    assert_eq!(index, answered.len() as u64);
                    answered.push(line);
                }
                Err(error) => {
                    if failures == 0 {
                        println!("{error}");
                    }
                    failures += 1;
                    assert!(verify(&folder, &[]).ok, "{:#?}", verify(&folder, &[]));
                    if failures == 200 {
                        fs::remove_file(&ballast).unwrap();
                    }
                }
            }
            if answered.len() % 50 == 0 || failures % 10 == 9 {
                match log.checkpoint() {
                    Ok(checkpoint) => signed = checkpoint.size,
                    Err(error) if failures % 100 == 9 => println!("{error}"),
                    Err(_) => {}
                }
            }
        }
        drop(log);
        let (mut log, opened) = Log::open(&folder, ORIGIN, 20_000, usize::MAX).unwrap();
        assert_eq!(opened.torn, 0);
        assert_eq!(opened.tail, answered);
        assert!(verify(&folder, &[]).ok);
        println!(
            "{} answered, {failures} refused, {signed} signed",
            answered.len()
        );
        // Room again, as after `forget_before` or a clean up: it goes on.
        Command::new("mount")
            .args(["-o", "remount,size=4m"])
            .arg(&disk)
            .status()
            .unwrap();
        log.append(&record(answered.len() as u64)).unwrap();
        assert_eq!(log.checkpoint().unwrap().size, answered.len() as u64 + 1);
        assert!(verify(&folder, &[]).ok);
    }
}
