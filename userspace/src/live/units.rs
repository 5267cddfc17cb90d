//! Numbers in few cells.

/// `12345`, `123k`, `12M`: at most six cells.
pub fn count(count: u64) -> String {
    match count {
        0..100_000 => count.to_string(),
        100_000..10_000_000 => format!("{}k", count / 1000),
        10_000_000..10_000_000_000 => format!("{}M", count / 1_000_000),
        10_000_000_000..10_000_000_000_000 => format!("{}G", count / 1_000_000_000),
        _ => format!("{}T", count / 1_000_000_000_000),
    }
}

/// A rate in packets: `0`, `0.4`, `12`, `120k`.
pub fn rate(rate: f64) -> String {
    match rate {
        ..0.05 => "0".to_owned(),
        0.05..9.95 => format!("{rate:.1}"),
        _ => count(rate.round() as u64),
    }
}

/// A rate in bytes, as bits: `1.2 Mbit/s`, at most ten cells; `0` where there is none.
pub fn bits(bytes: f64) -> String {
    let rate = bytes * 8.0;
    match rate {
        ..0.5 => "0".to_owned(),
        ..999.5 => format!("{rate:.0} bit/s"),
        ..999.5e3 => format!("{:.0} kbit/s", rate / 1e3),
        ..9.95e6 => format!("{:.1} Mbit/s", rate / 1e6),
        ..999.5e6 => format!("{:.0} Mbit/s", rate / 1e6),
        _ => format!("{:.1} Gbit/s", rate / 1e9),
    }
}

/// `9999 B`, `12 kB`, as elsewhere in kordon.
pub fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{} kB", count / 1000),
        10_000_000..10_000_000_000 => format!("{} MB", count / 1_000_000),
        _ => format!("{} GB", count / 1_000_000_000),
    }
}

/// `1 packet`, `2 packets`.
pub fn of(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_few_cells() {
        for (number, text) in [
            (0, "0"),
            (99_999, "99999"),
            (100_000, "100k"),
            (u64::MAX, "18446744T"),
        ] {
            assert_eq!(count(number), text);
        }
        for (number, text) in [
            (0.0, "0"),
            (0.25, "0.2"),
            (9.96, "10"),
            (123_456.0, "123k"),
            (f64::NAN, "0"),
        ] {
            assert_eq!(rate(number), text);
        }
        for (number, text) in [
            (0.0, "0"),
            (124.9, "999 bit/s"),
            (124_900.0, "999 kbit/s"),
            (150_000.0, "1.2 Mbit/s"),
            (1_500_000.0, "12 Mbit/s"),
            (1.25e9, "10.0 Gbit/s"),
        ] {
            assert_eq!(bits(number), text);
        }
        assert_eq!(bytes(10_000), "10 kB");
        assert_eq!(of(1, "packet"), "1 packet");
    }
}
