//! Numbers, times and reasons as people read them.

use std::borrow::Cow;

use jiff::Timestamp;
use unicode_width::UnicodeWidthChar as _;

use super::model::Count;
use crate::diagnostic::is_harmful;

/// `1,204,233`
pub(super) fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A sign and its text, by `words`.
pub(super) fn signed(count: i64, words: impl Fn(u64) -> String) -> String {
    let sign = if count < 0 { "\u{2212}" } else { "" };
    format!("{sign}{}", words(count.unsigned_abs()))
}

/// `1 packet`, `1,204 packets`
pub(super) fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{} {what}s", number(count)),
    }
}

/// The word for one, or that for another number.
pub(super) fn either<'w>(count: u64, one: &'w str, many: &'w str) -> &'w str {
    if count == 1 { one } else { many }
}

/// `1 packet (60 B)`
pub(super) fn packets(count: Count) -> String {
    format!(
        "{} ({})",
        counted(count.packets, "packet"),
        bytes(count.bytes)
    )
}

/// `512 B`, `1.5 KiB`, `3.0 GiB`
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // To tenths and rounded, in whole numbers. 1023.96 KiB is 1.0 MiB, and no 1024.0 KiB.
    let tenths = |unit: usize| {
        let size = 1u128 << (10 * (unit + 1));
        (u128::from(count) * 10 + size / 2) / size
    };
    let unit = (0..UNITS.len()).find(|unit| tenths(*unit) < 10_240);
    let unit = unit.unwrap_or(UNITS.len() - 1);
    let tenths = tenths(unit);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// `4 s`, `2 min 3 s`, `3 h`, `2 d 4 h`: the greatest unit and the one below it, rounded down.
pub(super) fn duration(seconds: f64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    if seconds > 0.0 && seconds < 1.0 {
        return "less than 1 s".to_owned();
    }
    // What is negative or not a number becomes 0: nothing that is not so is said of it.
    let seconds = seconds.round() as u64;
    let Some(first) = UNITS.iter().position(|(unit, _)| seconds >= *unit) else {
        return "0 s".to_owned();
    };
    let (unit, name) = UNITS[first];
    let rest = UNITS.get(first + 1).map(|(below, name)| {
        let count = seconds % unit / below;
        (count, name)
    });
    match rest {
        Some((count @ 1.., below)) => format!("{} {name} {count} {below}", seconds / unit),
        _ => format!("{} {name}", seconds / unit),
    }
}

/// How long it was between two moments.
pub(super) fn between(from: Timestamp, to: Timestamp) -> String {
    duration(to.duration_since(from).as_secs_f64())
}

/// `2026-11-30 19:35:49`, in UTC: what shows it says so.
pub(super) fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Why a packet got its action, in words. What is not known here is shown as it came.
pub(super) fn reason(word: &str) -> &str {
    match word {
        "rule" => "blocked by a rule",
        "default" => "no rule lets it pass",
        "no-zone" => "of no known zone",
        "not-ip" => "not IP",
        "infrastructure" => "keeps a link alive",
        "unparsable" => "could not be read",
        "vlan-depth" => "too many VLAN tags",
        "ethertype" => "unknown kind of frame (ethertype)",
        "truncated" => "shorter than it says",
        "bad-header" => "impossible header",
        "martian" => "impossible destination",
        "header-chain" => "too many IPv6 headers",
        "source-route" => "the sender chose the route (IPv4 source route)",
        "routing-header" => "the sender chose the route (IPv6 routing header)",
        "tunnel" => "a tunnel hides where it goes",
        "spoofed-source" => "a source address that the zone cannot have",
        other => other,
    }
}

/// Text from outside, not longer than `most` columns. A character of East Asia takes two.
pub(super) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    let mut columns = 0;
    let is_over = |(_, c): &(usize, char)| {
        columns += c.width().unwrap_or(0);
        columns > most
    };
    match text.char_indices().find(is_over) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// The same page with harmful characters as escapes that everybody sees. It goes over the finished page, as
/// no template has such a character: so no text from outside can be forgotten.
pub(super) fn visible(page: String) -> String {
    let is_harmful = |c: char| is_harmful(c) && c != '\n' && c != '\t';
    if !page.contains(is_harmful) {
        return page;
    }
    let mut out = String::with_capacity(page.len() + 64);
    for c in page.chars() {
        if is_harmful(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}
