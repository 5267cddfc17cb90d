//! The program in the kernel and the library say the same.

use kordon::{
    asn,
    compile::table::Tier,
    datapath::probe::Prober,
    judge::{Engine, Judge, Router},
    policy::{self, Bundle, Context, Overlay},
};

const POLICY: &str = r#"
[zone.cameras]
vlans = [20, "100.5"]
[zone.cameras.unparsable]
tunnels = "inspect"
[set.hostile]
asns = [64500]
prefixes = ["2001:db8:bad::/48"]
[set.time]
prefixes = ["192.0.2.123/32"]
[[rule]]
name = "time"
from = "cameras"
to = "time"
proto = "udp"
ports = [123]
action = "pass"
[[rule]]
name = "hostile"
from = "cameras"
to = ["hostile", "time"]
action = "drop"
"#;

fn frame(vlan: u16, src: [u8; 4], dst: [u8; 4], port: u16) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([0x81, 0]);
    frame.extend(vlan.to_be_bytes());
    frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(src);
    frame.extend(dst);
    frame.extend([0x30, 0x39]);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 8, 0, 0]);
    frame
}

#[test]
fn kernel_and_library_agree() {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("asn.csv");
    std::fs::write(
        &csv,
        "198.51.100.0,198.51.100.255,64500,Bad\n203.0.113.0,203.0.113.255,64501,Good\n",
    )
    .unwrap();
    let (db, _) = asn::import(&[csv], &[]).unwrap();
    let (policy, found) = policy::parse(
        &Bundle::from_text("p.toml", POLICY),
        &Overlay::default(),
        &Context::now(Some(&db)),
    );
    let policy = policy.unwrap_or_else(|| panic!("{found:?}"));
    let mut judge = Judge::new(&policy, &db, &Router::default(), Engine::Kernel).unwrap();
    let mut say = |frame: &[u8]| {
        let (row, _) = judge.row(frame).unwrap();
        format!(
            "{:?} {} {} {:?} {:?}",
            row.zone, row.action, row.reason, row.rule, row.asn
        )
    };
    let me = [10, 20, 0, 5];
    assert_eq!(
        say(&frame(20, me, [198, 51, 100, 9], 80)),
        r#"Some("cameras") drop rule Some("hostile") Some(64500)"#
    );
    assert_eq!(
        say(&frame(20, me, [203, 0, 113, 9], 80)),
        r#"Some("cameras") pass default None Some(64501)"#
    );
    assert_eq!(
        say(&frame(30, me, [198, 51, 100, 9], 80)),
        "None pass no-zone None None"
    );
    assert_eq!(
        say(&frame(20, me, [192, 0, 2, 123], 123)),
        r#"Some("cameras") pass rule Some("time") None"#
    );
    assert_eq!(
        say(&frame(20, me, [192, 0, 2, 123], 124)),
        r#"Some("cameras") drop rule Some("hostile") None"#
    );
    assert_eq!(
        say(&frame(20, [198, 51, 100, 1], [203, 0, 113, 9], 80)),
        r#"Some("cameras") drop spoofed-source None Some(64501)"#
    );
    assert_eq!(
        say(&frame(20, me, [127, 0, 0, 1], 80)),
        r#"Some("cameras") drop martian None None"#
    );
    let whole = frame(20, me, [198, 51, 100, 9], 80);
    for length in 0..whole.len() {
        say(&whole[..length]);
    }
}

#[test]
fn the_kernel_accepts_every_tier() {
    for tier in Tier::ALL {
        let prober = Prober::load(tier).unwrap();
        assert_eq!(prober.tier(), tier);
    }
}
