//! What people write who have not written TOML before, and what they mean by it. The
//! parser says what it expected, which is no cure for who does not know its words.

use super::values;
use crate::diagnostic::{Problem, quoted};

/// Quotes that word processors and chats make of straight ones.
const CURLY: [char; 8] = [
    '\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}', '\u{201a}', '\u{ab}', '\u{bb}',
];
/// Values that are words, written in small letters.
const WORDS: [&str; 11] = [
    "drop", "pass", "audit", "any", "tcp", "udp", "icmp", "closed", "open", "native", "generic",
];

/// What is meant by a line that is no TOML at this byte; `None`: nobody knows.
pub(super) fn meant(line: &str, at: usize) -> Option<Problem> {
    curly(line)
        .or_else(|| header(line))
        .or_else(|| value(line, at))
}

/// A value without quotes.
pub(super) fn word(text: &str, line: &str) -> Problem {
    let lower = text.to_lowercase();
    let written = match WORDS.contains(&lower.as_str()) {
        true => &lower,
        false => text,
    };
    let must = || {
        Problem::new(
            format!("{} must be quoted", quoted(text)),
            format!("write `\"{written}\"`"),
        )
    };
    curly(line).unwrap_or_else(must)
}

fn curly(line: &str) -> Option<Problem> {
    let found = line.split('#').next()?.find(CURLY)?;
    let quote: String = line[found..].chars().take(1).collect();
    Some(Problem::new(
        format!("{} is no quote of TOML", quoted(&quote)),
        "write straight quotes: `\"`",
    ))
}

/// `[zone cameras]`.
fn header(line: &str) -> Option<Problem> {
    let inner = line.split('#').next()?.trim();
    let inner = inner.strip_prefix('[')?.strip_suffix(']')?.trim();
    let (kind, name) = inner.split_once(char::is_whitespace)?;
    let name = name.trim();
    let name = name.trim_matches('"');
    (["zone", "set"].contains(&kind) && values::name(name, "it").is_ok()).then(|| {
        Problem::new(
            format!("{} is no header of a section", quoted(line.trim())),
            format!("write `[{kind}.{name}]`"),
        )
    })
}

/// An address, a prefix or a number with zeros in front, where it is no number of TOML.
fn value(line: &str, at: usize) -> Option<Problem> {
    let ends = |c: char| c.is_whitespace() || "=,[]{}\"'#".contains(c);
    let (before, after) = (line.get(..at)?, line.get(at..)?);
    let start = before.rfind(ends).map_or(0, |found| found + 1);
    let end = after.find(ends).map_or(line.len(), |found| at + found);
    let text = line.get(start..end)?;
    if !line.get(..start)?.contains('=') {
        return None;
    }
    if text.contains(['.', ':']) && values::network(text).is_some() {
        return Some(Problem::new(
            format!("{} must be quoted", quoted(text)),
            format!("write `\"{text}\"`"),
        ));
    }
    let number = text.trim_start_matches('0');
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits && number != text).then(|| {
        let number = if number.is_empty() { "0" } else { number };
        Problem::new(
            format!("{} has zeros in front", quoted(text)),
            format!("write `{number}`"),
        )
    })
}
