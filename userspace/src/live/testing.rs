//! Rows for tests.

use super::{Action, Row};

/// A flow of its own for each number.
pub(crate) fn row(number: u32) -> Row {
    Row {
        zone: "cameras".to_owned(),
        interface: Some("trunk".to_owned()),
        mac: Some(format!(
            "02:00:00:00:{:02x}:{:02x}",
            number / 256 % 256,
            number % 256
        )),
        src: Some(format!("10.20.{}.{}", number / 256 % 256, number % 256)),
        dst: Some("198.51.100.3".to_owned()),
        judged: Some("198.51.100.3".to_owned()),
        asn: Some(64500),
        country: Some("RU".to_owned()),
        name: Some("Bad Networks".to_owned()),
        proto: Some("tcp".to_owned()),
        dport: Some(443),
        action: Action::Drop,
        reason: "rule".to_owned(),
        rule: Some("hostile".to_owned()),
        packets: 1,
        bytes: 100,
        first: "2026-11-29T17:02:40.000Z".to_owned(),
        last: "2026-11-29T17:02:41.000Z".to_owned(),
        by: "xdp".to_owned(),
        others: false,
    }
}

/// The same with counters.
pub(crate) fn counted(number: u32, packets: u64, bytes: u64) -> Row {
    Row {
        packets,
        bytes,
        ..row(number)
    }
}
