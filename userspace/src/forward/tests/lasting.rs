//! Nothing is lost, and nothing blocks: whatever happens to the destination, the log, or the daemon.

use std::{
    fs,
    io::{Read as _, Write as _},
    thread,
    time::{Duration, Instant},
};

use super::{Got, Inbox, Log, PACE, Server, spawn, to, wait};
use crate::forward::{Forwarder, config::Start};

const ANY: &str = "127.0.0.1:0";

fn position(log: &Log) -> std::path::PathBuf {
    let mut files = fs::read_dir(log.path()).unwrap().map(|e| e.unwrap().path());
    files
        .find(|path| path.to_string_lossy().contains("/forward-"))
        .unwrap()
}

#[test]
fn down_and_up() {
    let mut log = Log::new();
    let inbox = Inbox::default();
    let server = Server::tcp(ANY, &inbox);
    let at = server.at;
    drop(server);
    log.write(100);
    let forwarder = spawn(&log, &to("tcp", at));
    wait("a trouble", || !forwarder.troubles().is_empty());
    assert!(
        forwarder.troubles()[0].contains("refused"),
        "{:?}",
        forwarder.troubles()
    );
    log.rotate();
    log.write(100);
    for _ in 0..5 {
        let server = Server::tcp(&at.to_string(), &inbox);
        log.write(20);
        wait("what was written", || {
            inbox.fresh().last() == Some(&(log.next - 1))
        });
        log.write(20);
        drop(server);
        log.write(20);
    }
    let _server = Server::tcp(&at.to_string(), &inbox);
    inbox.has_all(0, 500);
    wait("its end", || forwarder.troubles().is_empty());
}

/// A server that dies has read some of what its kernel took. All that comes again.
#[test]
fn what_was_taken_and_not_read_comes_again() {
    let mut log = Log::new();
    log.write(500);
    let inbox = Inbox::default();
    let server = Server::new(ANY, &inbox, |mut stream, _, _| {
        let _ = stream.read(&mut [0; 3000]);
        thread::sleep(Duration::from_millis(100));
    });
    let at = server.at;
    let forwarder = spawn(&log, &to("tcp", at));
    thread::sleep(Duration::from_millis(500));
    drop(server);
    let _server = Server::tcp(&at.to_string(), &inbox);
    inbox.has_all(0, 500);
    drop(forwarder);
}

#[test]
fn one_that_never_reads() {
    let mut log = Log::new();
    let inbox = Inbox::default();
    let hung = Server::new(ANY, &inbox, |stream, _, is_over| {
        while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(10));
        }
        drop(stream);
    });
    let server = Server::tcp(ANY, &inbox);
    // More than sockets take.
    for _ in 0..300 {
        log.write_as("flow", 50_000);
    }
    let destinations = [to("tcp", hung.at), to("tcp", server.at)];
    let forwarder = Forwarder::spawn_at(log.path(), &destinations, &PACE).unwrap();
    inbox.has_all(0, 300);
    wait("a trouble", || !forwarder.troubles().is_empty());
    let troubles = forwarder.troubles();
    assert_eq!(troubles.len(), 1);
    assert!(
        troubles[0].contains("takes nothing") || troubles[0].contains("timed out"),
        "{troubles:?}"
    );
    let begun = Instant::now();
    drop(forwarder);
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn goes_on_after_a_restart() {
    let mut log = Log::new();
    let inbox = Inbox::default();
    let server = Server::tcp(ANY, &inbox);
    let destination = to("tcp", server.at);
    for round in 1..=5 {
        log.write(50);
        let forwarder = spawn(&log, &destination);
        inbox.has_all(0, round * 50);
        drop(forwarder);
    }
    // It was ended, so nothing came twice.
    assert_eq!(inbox.len(), 250);
    // What is written last is sent.
    let forwarder = spawn(&log, &destination);
    thread::sleep(Duration::from_millis(300));
    log.write_as("stop", 0);
    drop(forwarder);
    inbox.has_all(0, 251);
    let text = fs::read_to_string(position(&log)).unwrap();
    assert!(text.contains("\"next\":251"), "{text}");
    // Killed: an old position means that some come twice.
    let old = text.clone();
    log.write(10);
    let forwarder = spawn(&log, &destination);
    inbox.has_all(0, 261);
    drop(forwarder);
    fs::write(position(&log), old).unwrap();
    let forwarder = spawn(&log, &destination);
    log.write(1);
    inbox.has_all(0, 262);
    assert_eq!(inbox.len(), 272);
    drop(forwarder);
}

#[test]
fn torn_lines_wait() {
    let mut log = Log::new();
    let inbox = Inbox::default();
    let server = Server::tcp(ANY, &inbox);
    log.write(3);
    let whole = log.record("flow", 10).to_string();
    log.raw(&whole.as_bytes()[..40]);
    let _forwarder = spawn(&log, &to("tcp", server.at));
    inbox.has_all(0, 3);
    thread::sleep(Duration::from_millis(200));
    assert_eq!(inbox.len(), 3);
    log.raw(&whole.as_bytes()[40..]);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(inbox.len(), 3);
    log.raw(b"\n");
    log.next += 1;
    inbox.has_all(0, 4);
    assert_eq!(inbox.all()[3].body, whole);
}

#[test]
fn retention_says_what_was_never_sent() {
    let mut log = Log::new();
    let inbox = Inbox::default();
    let server = Server::tcp(ANY, &inbox);
    let at = server.at;
    log.write(10);
    let forwarder = spawn(&log, &to("tcp", at));
    inbox.has_all(0, 10);
    drop(forwarder);
    drop(server);
    log.rotate();
    log.write(100);
    log.rotate();
    log.write(100);
    for first in [0, 10] {
        fs::remove_file(log.file(first)).unwrap();
    }
    let forwarder = spawn(&log, &to("tcp", at));
    let _server = Server::tcp(&at.to_string(), &inbox);
    wait("the last", || inbox.fresh().last() == Some(&209));
    let all = inbox.all();
    assert_eq!(all[10].text.split(' ').nth(5), Some("gap"));
    assert_eq!(all[10].value["kordon"]["never_sent"].as_u64(), Some(100));
    assert_eq!(inbox.fresh(), (0..10).chain(110..210).collect::<Vec<u64>>());
    let troubles = forwarder.troubles();
    assert!(
        troubles
            .iter()
            .any(|t| t.contains("records 10 to 109, 100 of them, were removed")),
        "{troubles:?}"
    );
    drop(forwarder);
    // Once sent, it is not said again.
    let forwarder = spawn(&log, &to("tcp", at));
    log.write(1);
    wait("the last", || inbox.fresh().last() == Some(&210));
    assert_eq!(
        inbox
            .all()
            .iter()
            .filter(|got| got.number().is_none())
            .count(),
        1
    );
    assert_eq!(forwarder.troubles(), [""; 0]);
}

/// Removed while it is being read, and while the destination is slow.
#[test]
fn retention_beside_it() {
    let mut log = Log::new();
    let inbox = Inbox::default();
    let server = Server::tcp(ANY, &inbox);
    log.write(10);
    let _forwarder = spawn(&log, &to("tcp", server.at));
    inbox.has_all(0, 10);
    for round in 0..5 {
        let old = log.file(round * 10);
        log.rotate();
        log.write(10);
        fs::remove_file(old).unwrap();
        inbox.has_all(0, 20 + round * 10);
    }
}

#[test]
fn a_position_that_is_damaged() {
    for text in ["", "{", "{\"version\":9,\"next\":1,\"anchors\":[]}"] {
        let mut log = Log::new();
        let inbox = Inbox::default();
        let server = Server::tcp(ANY, &inbox);
        log.write(10);
        let forwarder = spawn(&log, &to("tcp", server.at));
        inbox.has_all(0, 10);
        drop(forwarder);
        fs::write(position(&log), text).unwrap();
        let forwarder = spawn(&log, &to("tcp", server.at));
        wait("a trouble", || !forwarder.troubles().is_empty());
        let troubles = forwarder.troubles();
        assert!(troubles[0].contains("nobody knows how far"), "{troubles:?}");
        assert!(troubles[0].contains("from record 0 on"), "{troubles:?}");
        log.write(5);
        wait("the last", || inbox.fresh().last() == Some(&14));
        assert_eq!(inbox.fresh(), (0..15).collect::<Vec<_>>());
    }
}

#[test]
fn a_log_that_was_replaced() {
    for sum in [5, 20, 200] {
        let mut log = Log::new();
        let inbox = Inbox::default();
        let server = Server::tcp(ANY, &inbox);
        log.write(100);
        let forwarder = spawn(&log, &to("tcp", server.at));
        inbox.has_all(0, 100);
        drop(forwarder);
        fs::remove_file(log.file(0)).unwrap();
        log.next = 0;
        log.write(sum);
        let forwarder = spawn(&log, &to("tcp", server.at));
        wait("a trouble", || !forwarder.troubles().is_empty());
        assert!(
            forwarder.troubles()[0].contains("the log is another one"),
            "{:?}",
            forwarder.troubles()
        );
        log.write(3);
        let sum = sum + 3;
        wait("the last", || inbox.all().len() >= 100 + sum as usize);
        let all = inbox.all().split_off(100);
        let numbers: Vec<_> = all.iter().filter_map(Got::number).collect();
        assert_eq!(numbers, (0..sum).collect::<Vec<_>>());
    }
}

/// A loss of power takes the end of a log, which then goes on.
#[test]
fn a_log_that_has_lost_its_end() {
    let mut log = Log::new();
    let inbox = Inbox::default();
    let server = Server::tcp(ANY, &inbox);
    // Positions in between are kept.
    for round in 1..=5 {
        log.write(20);
        let forwarder = spawn(&log, &to("tcp", server.at));
        inbox.has_all(0, round * 20);
        drop(forwarder);
    }
    let kept: String = log.lines()[..70]
        .iter()
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(log.file(0), kept).unwrap();
    log.next = 70;
    log.write_as("start", 0);
    log.write(100);
    let forwarder = spawn(&log, &to("tcp", server.at));
    wait("the last", || {
        inbox.all().last().unwrap().number() == Some(170)
    });
    assert!(
        forwarder.troubles()[0].contains("has lost its end"),
        "{:?}",
        forwarder.troubles()
    );
    let again: Vec<_> = inbox.all().split_off(100);
    let numbers: Vec<_> = again.iter().filter_map(Got::number).collect();
    assert_eq!(numbers, Vec::from_iter(numbers[0]..=170));
    assert!(numbers[0] <= 70 && numbers[0] > 0, "{numbers:?}");
    // And while it is being read.
    let kept: String = log.lines()[..150]
        .iter()
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(log.file(0), kept).unwrap();
    log.next = 150;
    thread::sleep(Duration::from_millis(500));
    log.write(1);
    wait("the new one", || {
        inbox.all().last().unwrap().number() == Some(150)
    });
}

#[test]
fn only_some() {
    let mut log = Log::new();
    let inbox = Inbox::default();
    let server = Server::tcp(ANY, &inbox);
    for _ in 0..50 {
        log.write_as("heartbeat", 0);
        log.write_as("flow", 0);
        log.write_as("state", 0);
    }
    log.raw(b"no record\n");
    log.next += 1;
    let mut destination = to("tcp", server.at);
    destination.only = Some(vec!["state".into(), "start".into()]);
    // Not JSON, so no parser of ours would take it.
    let lines = log.lines();
    fs::write(log.file(0), lines[..150].join("\n") + "\n").unwrap();
    log.next -= 1;
    let forwarder = spawn(&log, &destination);
    wait("all", || inbox.len() == 50);
    assert_eq!(
        inbox.fresh(),
        (0..50).map(|n| n * 3 + 2).collect::<Vec<u64>>()
    );
    let ids: Vec<_> = inbox
        .all()
        .iter()
        .map(|got| got.text.contains("sequenceId=\"50\""))
        .collect();
    assert!(ids[49] && !ids[48]);
    thread::sleep(Duration::from_millis(400));
    drop(forwarder);
    let text = fs::read_to_string(position(&log)).unwrap();
    assert!(text.contains("\"next\":150"), "{text}");
}

#[test]
fn begins_with_what_comes() {
    let mut log = Log::new();
    let inbox = Inbox::default();
    let server = Server::tcp(ANY, &inbox);
    log.write(20);
    let mut destination = to("tcp", server.at);
    destination.start = Start::Newest;
    let forwarder = spawn(&log, &destination);
    wait("a position", || {
        fs::read_dir(log.path()).unwrap().count() == 2
    });
    drop(forwarder);
    log.write(5);
    let _forwarder = spawn(&log, &destination);
    inbox.has_all(20, 25);
}

/// What says something, or closes at once.
#[test]
fn odd_servers() {
    let mut log = Log::new();
    log.write(10);
    let inbox = Inbox::default();
    let closes = Server::new(ANY, &inbox, |stream, _, _| drop(stream));
    let forwarder = spawn(&log, &to("tcp", closes.at));
    wait("a trouble", || !forwarder.troubles().is_empty());
    drop(forwarder);
    let talks = Server::new(ANY, &inbox, |mut stream, inbox, is_over| {
        let _ = stream.write_all(&[b'x'; 100_000]);
        super::take_apart(stream, inbox, is_over);
    });
    let forwarder = spawn(&log, &to("tcp", talks.at));
    inbox.has_all(0, 10);
    drop(forwarder);
}
