//! Pages and the server.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use kordon_ebpf::layout::Reason;

use tokio::net::TcpListener;

use super::*;

fn counter(packets: u64) -> Counter {
    Counter {
        packets,
        bytes: packets * 100,
    }
}

fn sample() -> Snapshot {
    let zone = || "cameras".to_owned();
    Snapshot {
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
        ],
        zones: vec![zone()],
        rules: vec![(zone(), "never".into(), Action::Audit)],
        countries: [(12695, Country(*b"RU"))].into(),
        enforcing: true,
        policy_hash: Some("ab12".into()),
        policy_applied: Some(1_700_000_000),
        apply: Some(Duration::from_millis(25)),
        applies: (2, 0),
        prefixes: (10, 20),
        database_age: Some(60),
        database_old: Some(false),
        interfaces: vec![("trunk".into(), "native", true)],
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
        r#"kordon_reason_packets_total{action="drop",reason="tunnel",zone="cameras"} 7"#,
        r#"kordon_unparsable_packets_total{action="drop",reason="tunnel",zone="cameras"} 7"#,
        r#"kordon_unparsable_packets_total{action="pass",reason="truncated",zone="cameras"} 2"#,
        r#"kordon_interface_packets_total{action="drop",interface="trunk",reason="no-zone"} 6"#,
        r#"kordon_policy_applies_total{result="failed"} 0"#,
        r#"kordon_policy_info{hash="ab12"} 1"#,
        r#"kordon_interface_attached{interface="trunk",mode="native"} 1"#,
        "kordon_policy_apply_seconds 0.025",
        "kordon_asndb_age_seconds 60",
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
    let mut shown: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .filter(|name| name.starts_with("kordon_"))
        .collect();
    let mut named: Vec<&str> = docs
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next())
        .filter(|name| name.starts_with("kordon_"))
        .collect();
    shown.sort_unstable();
    named.sort_unstable();
    assert_eq!(shown, named);
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

fn exchange(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn served() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let good = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_good = Arc::clone(&good);
    let source = move || {
        if is_good.load(std::sync::atomic::Ordering::SeqCst) {
            Ok("kordon_enforcing 1\n".to_owned())
        } else {
            Err("cannot read the counters".to_owned())
        }
    };
    // It ends with the test's process.
    std::thread::spawn(move || runtime.block_on(serve(listener, Arc::new(source))));
    let ask = |method: &str, path: &str| {
        exchange(
            address,
            &format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        )
    };
    let page = ask("GET", "/metrics");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(
        page.contains("content-type: text/plain; version=0.0.4"),
        "{page}"
    );
    assert!(page.ends_with("kordon_enforcing 1\n"), "{page}");
    assert!(ask("GET", "/metrics?x=1").starts_with("HTTP/1.1 200"));
    assert!(ask("GET", "/").starts_with("HTTP/1.1 404"));
    assert!(ask("POST", "/metrics").starts_with("HTTP/1.1 405"));
    let long = "x".repeat(64 << 10);
    let refused = ask("GET", &format!("/{long}"));
    assert!(refused.starts_with("HTTP/1.1 414") || refused.starts_with("HTTP/1.1 431"));
    good.store(false, std::sync::atomic::Ordering::SeqCst);
    let failed = ask("GET", "/metrics");
    assert!(failed.starts_with("HTTP/1.1 500"), "{failed}");
    assert!(failed.ends_with("cannot read the counters\n"));
    // Who never finishes the request is not waited for.
    let start = Instant::now();
    exchange(address, "GET /metrics HTTP/1.1\r\nHo");
    assert!(start.elapsed() < Duration::from_secs(15));
}
