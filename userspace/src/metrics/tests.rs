//! Pages and the server.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use kordon_ebpf::{
    layout::Reason,
    seen::{By, Kind},
};

use tokio::net::TcpListener;

use super::{
    serve::{Limits, serve_within},
    *,
};
use crate::{asn::Country, room::Size};

fn counter(packets: u64) -> Counter {
    Counter {
        packets,
        bytes: packets * 100,
    }
}

fn sample() -> Snapshot {
    let zone = || "cameras".to_owned();
    Snapshot {
        state_lost: vec![("policy", false), ("overlay", true)],
        state_repaired: 1,
        state_writable: true,
        trial: true,
        cameras: vec![
            (
                zone(),
                Some("02:00:00:00:01:1f".to_owned()),
                Action::Drop,
                counter(6),
            ),
            (zone(), None, Action::Pass, counter(8)),
        ],
        counters: vec![
            (
                Identity::Rule(zone(), "a \"b\"\\".into(), Action::Drop),
                counter(3),
            ),
            (
                Identity::Zone(zone(), Reason::Default, Action::Pass),
                counter(5),
            ),
            (
                Identity::Zone(zone(), Reason::Tunnel, Action::Drop),
                counter(7),
            ),
            (
                Identity::Noted(zone(), Reason::Truncated, Action::Pass),
                counter(2),
            ),
            (Identity::Asn(zone(), Some(12695), Action::Drop), counter(2)),
            (Identity::Asn(zone(), None, Action::Drop), counter(1)),
            (Identity::OtherAsns(zone(), Action::Drop), counter(4)),
            (
                Identity::Rule("gone".into(), "r".into(), Action::Drop),
                counter(9),
            ),
            (
                Identity::Port("trunk".into(), Reason::NoZone, Action::Drop),
                counter(6),
            ),
            (
                Identity::Seen("trunk".into(), By::NoZone, Kind::Customer),
                counter(8),
            ),
            (
                Identity::Seen("trunk".into(), By::Zone, Kind::Customer),
                counter(3),
            ),
            (
                Identity::Seen("trunk".into(), By::Guard, Kind::Customer),
                counter(12),
            ),
            (
                Identity::Seen("trunk".into(), By::GuardWhole, Kind::Customer),
                counter(5),
            ),
            (Identity::Stopped("trunk".into(), zone()), counter(3)),
            (
                Identity::Seen("trunk".into(), By::Stopped, Kind::Service),
                counter(4),
            ),
        ],
        zones: vec![zone()],
        rules: vec![(zone(), "never".into(), Action::Audit)],
        networks: [(
            12695,
            AsnInfo {
                name: "DINET \"x\"".into(),
                country: Some(Country(*b"RU")),
            },
        )]
        .into(),
        enforcing: true,
        policy_hash: Some("ab12".into()),
        policy_applied: Some(1_700_000_000),
        apply: Some(Duration::from_millis(25)),
        applies: (2, 0),
        prefixes: (10, 20),
        database_age: Some(60),
        bgp: Some(Bgp {
            sessions: 1,
            peers: [("up", 2), ("down", 0), ("stale", 1)],
            apply: Some(Duration::from_millis(2)),
            ..Bgp::default()
        }),
        ledger: Some(Ledger {
            recorded: vec![(zone(), Action::Drop, counter(5))],
            lost: vec![(zone(), Action::Drop, counter(1))],
            records: 2,
            others: 3,
            used: 4,
            all: 16,
            oldest: Some(1.5),
        }),
        evidence: Some(Evidence {
            failing: vec![("writing", true), ("signing", false)],
            records: Some(12),
            signed: Some(10),
            history: Some(8),
            last: Some(Timestamp::UNIX_EPOCH),
            missed: Some(counter(3)),
            witnessed: Some(Timestamp::UNIX_EPOCH),
            destinations: vec![("tls://log:6514".into(), Some(9), false)],
        }),
        database_held: vec![("shrunk", true), ("wide", false)],
        database_failing: vec![("fetch", true), ("read", false)],
        database_updates: [("taken", 2), ("held", 1), ("failed", 0)],
        database_old: Some(false),
        database_refused: 1,
        interfaces: vec![("trunk".into(), "native", true)],
        missed: vec![("trunk".into(), "hidden-tag", 1)],
        switched_off: vec![("trunk".into(), 2)],
        held: vec![("trunk".into(), true)],
        silent: vec![("cameras".into(), true)],
    }
}

#[test]
fn a_page() {
    let page = render(&sample()).unwrap();
    for line in [
        r#"kordon_packets_total{action="drop",zone="cameras"} 10"#,
        r#"kordon_packets_total{action="pass",zone="cameras"} 5"#,
        r#"kordon_packets_total{action="audit",zone="cameras"} 0"#,
        r#"kordon_bytes_total{action="drop",zone="cameras"} 1000"#,
        r#"kordon_packets_total{action="drop",zone="gone"} 9"#,
        r#"kordon_rule_packets_total{action="drop",rule="a \"b\"\\",zone="cameras"} 3"#,
        r#"kordon_rule_packets_total{action="audit",rule="never",zone="cameras"} 0"#,
        r#"kordon_asn_packets_total{action="drop",asn="12695",country="RU",zone="cameras"} 2"#,
        r#"kordon_asn_packets_total{action="drop",asn="none",country="",zone="cameras"} 1"#,
        r#"kordon_asn_bytes_total{action="drop",asn="other",country="",zone="cameras"} 400"#,
        r#"kordon_camera_packets_total{action="drop",camera="02:00:00:00:01:1f",zone="cameras"} 6"#,
        r#"kordon_camera_bytes_total{action="pass",camera="other",zone="cameras"} 800"#,
        r#"kordon_asn_info{asn="12695",country="RU",name="DINET \"x\""} 1"#,
        r#"kordon_asn_info{asn="none",country="",name="announced by nobody"} 1"#,
        r#"kordon_asn_info{asn="other",country="",name="all others"} 1"#,
        r#"kordon_reason_packets_total{action="drop",reason="tunnel",zone="cameras"} 7"#,
        r#"kordon_unparsable_packets_total{action="drop",reason="tunnel",zone="cameras"} 7"#,
        r#"kordon_unparsable_packets_total{action="drop",reason="spoofed-source",zone="cameras"} 0"#,
        r#"kordon_reason_packets_total{action="drop",reason="spoofed-source",zone="cameras"} 0"#,
        r#"kordon_unparsable_packets_total{action="pass",reason="truncated",zone="cameras"} 2"#,
        r#"kordon_interface_packets_total{action="drop",interface="trunk",reason="no-zone"} 6"#,
        r#"kordon_interface_unpoliced_packets_total{interface="trunk",tag="0x8100"} 8"#,
        r#"kordon_interface_passed_packets_total{by="xdp",interface="trunk",tag="0x8100"} 11"#,
        r#"kordon_interface_passed_packets_total{by="guard",interface="trunk",tag="0x8100"} 12"#,
        r#"kordon_guard_dropped_packets_total{interface="trunk",tag="0x88a8"} 4"#,
        r#"kordon_guard_dropped_packets_total{interface="trunk",tag="none"} 0"#,
        r#"kordon_interface_missed_packets_total{how="hidden-tag",interface="trunk"} 1"#,
        r#"kordon_missed_packets_total{interface="trunk",zone="cameras"} 3"#,
        r#"kordon_interface_offload_switched_off_total{interface="trunk"} 2"#,
        r#"kordon_boot_guard_holding{interface="trunk"} 1"#,
        r#"kordon_zone_silent{zone="cameras"} 1"#,
        r#"kordon_policy_applies_total{result="failed"} 0"#,
        r#"kordon_policy_info{hash="ab12"} 1"#,
        r#"kordon_interface_attached{interface="trunk",mode="native"} 1"#,
        "kordon_policy_apply_seconds 0.025",
        "kordon_asndb_age_seconds 60",
        "kordon_asndb_snapshots_refused 1",
        "kordon_asndb_update_failing{reason=\"fetch\"} 1",
        "kordon_asndb_update_failing{reason=\"read\"} 0",
        "kordon_enforcing 1",
    ] {
        assert!(page.lines().any(|l| l == line), "{line}\n{page}");
    }
    assert!(page.contains("process_resident_memory_bytes"));
}

#[test]
fn documented_and_nothing_else() {
    let page = render(&sample()).unwrap();
    let docs = include_str!("../../../docs/metrics.md");
    let shown: BTreeSet<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    // | `name` | labels | type | …
    let cells = |line: &'static str| line.split('|').map(str::trim).collect::<Vec<_>>();
    let named: BTreeSet<(&str, &str)> = docs
        .lines()
        .filter_map(|line| {
            let name = line.strip_prefix("| `")?.split('`').next()?;
            Some((name, *cells(line).get(3)?))
        })
        .collect();
    assert_eq!(shown, named);
    for (name, _) in shown {
        let start = format!("{name}{{");
        let sample = page.lines().find_map(|line| line.strip_prefix(&start));
        let labels = sample.unwrap_or_default().split_inclusive("=\"");
        let mut labels: Vec<&str> = labels
            .filter_map(|part| part.strip_suffix("=\"")?.rsplit(',').next())
            .collect();
        let row = docs
            .lines()
            .find(|l| l.starts_with(&format!("| `{name}` |")));
        let documented = cells(row.unwrap())[2].replace('`', "");
        let mut documented: Vec<&str> = documented.split(", ").filter(|l| !l.is_empty()).collect();
        labels.sort_unstable();
        documented.sort_unstable();
        assert_eq!(labels, documented, "{name}");
    }
}

#[test]
fn promtool_is_content() {
    use std::process::{Command, Stdio};
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        println!("SKIPPED: promtool is not installed: `apt install prometheus`");
        return;
    };
    let page = render(&sample()).unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(page.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && said.is_empty(),
        "{}",
        String::from_utf8_lossy(&said)
    );
}

/// A server, which ends with the test's process.
fn server(
    limits: Limits,
    page: impl Fn() -> Result<String, String> + Send + Sync + 'static,
) -> SocketAddr {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || runtime.block_on(serve_within(limits, listener, Arc::new(page))));
    address
}

/// Says `request`, and gives all that comes back until the server ends it.
fn exchange(address: SocketAddr, request: &str) -> String {
    try_exchange(address, request).unwrap()
}

fn try_exchange(address: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(request.as_bytes())?;
    try_rest(&mut stream)
}

fn rest(stream: &mut TcpStream) -> String {
    try_rest(stream).unwrap()
}

fn try_rest(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn ask(address: SocketAddr, method: &str, path: &str) -> String {
    exchange(
        address,
        &format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n"),
    )
}

#[test]
fn served() {
    let good = Arc::new(AtomicBool::new(true));
    let is_good = Arc::clone(&good);
    let address = server(Limits::default(), move || {
        if is_good.load(Ordering::SeqCst) {
            Ok("kordon_enforcing 1\n".to_owned())
        } else {
            Err("cannot read the counters".to_owned())
        }
    });
    let page = ask(address, "GET", "/metrics");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(
        page.contains("content-type: text/plain; version=0.0.4"),
        "{page}"
    );
    assert!(page.contains("connection: close"), "{page}");
    assert!(page.ends_with("\r\n\r\nkordon_enforcing 1\n"), "{page}");
    let head = ask(address, "HEAD", "/metrics");
    assert!(
        head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    assert!(ask(address, "GET", "/metrics?x=1").starts_with("HTTP/1.1 200"));
    for path in ["/", "/metrics/", "//metrics", "/../metrics"] {
        let answer = ask(address, "GET", path);
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = ask(address, method, "/metrics");
        assert!(answer.starts_with("HTTP/1.1 405"), "{method}: {answer}");
        assert!(answer.contains("allow: GET, HEAD"), "{answer}");
    }
    let long = "x".repeat(64 << 10);
    let refused = ask(address, "GET", &format!("/{long}"));
    assert!(refused.starts_with("HTTP/1.1 414") || refused.starts_with("HTTP/1.1 431"));
    good.store(false, Ordering::SeqCst);
    let failed = ask(address, "GET", "/metrics");
    assert!(failed.starts_with("HTTP/1.1 500"), "{failed}");
    assert!(failed.ends_with("\r\n\r\ncannot read the counters\n"));
}

#[test]
fn a_page_that_panics_is_no_page_and_the_next_is_tried() {
    let address = server(Limits::default(), || panic!("on purpose"));
    for _ in 0..2 {
        let answer = ask(address, "GET", "/metrics");
        assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    }
}

const QUICK: Limits = Limits {
    size: Size {
        each: 4,
        all: 8,
        stretches: false,
    },
    headers: Duration::from_millis(1000),
    taking: Duration::from_millis(1000),
    longest: Duration::from_secs(60),
};

const QUESTION: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

/// A scrape, which no other client may delay.
fn at_once(address: SocketAddr) {
    let start = Instant::now();
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    loop {
        let page = try_exchange(address, request);
        let took = start.elapsed();
        assert!(took < Duration::from_secs(4), "{took:?}: {page:.80?}");
        match page {
            Ok(page) if page.starts_with("HTTP/1.1 200") => return,
            Ok(page) if !page.is_empty() => panic!("{page:.80}"),
            // Who comes while all that a small room has are being served is turned away.
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[test]
fn silent_and_slow_clients_delay_no_scrape() {
    let address = server(Limits::default(), || Ok("x 1\n".to_owned()));
    let mut clients: Vec<TcpStream> = Vec::new();
    for n in 0..200 {
        let mut stream = TcpStream::connect(address).unwrap();
        if n % 2 == 0 {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHo").unwrap();
        }
        clients.push(stream);
    }
    at_once(address);
    // The first made way: its connection ends, or is reset where it had more to say.
    let mut answer = Vec::new();
    let _ = clients[0].read_to_end(&mut answer);
    assert!(answer.is_empty());
}

#[test]
fn who_never_finishes_asking_is_cut_off() {
    let address = server(QUICK, || Ok(String::new()));
    let start = Instant::now();
    let mut silent = TcpStream::connect(address).unwrap();
    let mut slow = TcpStream::connect(address).unwrap();
    let mut sender = slow.try_clone().unwrap();
    let dribble = std::thread::spawn(move || {
        for byte in b"GET /metrics HTTP/1.1\r\nHost: x\r\nA: "
            .iter()
            .chain(&[b'a'; 300])
        {
            if sender.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("it goes on and on");
    });
    at_once(address);
    for stream in [&mut silent, &mut slow] {
        let answer = rest(stream);
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    dribble.join().unwrap();
    assert!(start.elapsed() < Duration::from_secs(15));
}

#[test]
fn who_never_reads_the_answer_is_cut_off() {
    // More than the sockets' buffers take.
    const LONG: usize = 16 << 20;
    let address = server(QUICK, || Ok("x".repeat(LONG)));
    let mut stuck: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(QUESTION).unwrap();
            stream
        })
        .collect();
    at_once(address);
    std::thread::sleep(QUICK.taking * 4);
    for stream in &mut stuck {
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut got = Vec::new();
        // Reset, where the server had more to say.
        let _ = stream.read_to_end(&mut got);
        assert!(got.len() < LONG, "{}", got.len());
    }
}

/// However many ask, the lock over the counters is free most of the time.
#[test]
fn a_flood_of_scrapes_does_not_keep_the_counters_busy() {
    let pages = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let made = Arc::clone(&pages);
    let address = server(Limits::default(), move || {
        made.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(50));
        Ok(String::new())
    });
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while start.elapsed() < Duration::from_secs(2) {
                    assert!(ask(address, "GET", "/metrics").starts_with("HTTP/1.1 200"));
                }
            });
        }
    });
    let busy = Duration::from_millis(50) * pages.load(Ordering::SeqCst);
    assert!(
        busy < start.elapsed() / 3,
        "{busy:?} of {:?}",
        start.elapsed()
    );
}
