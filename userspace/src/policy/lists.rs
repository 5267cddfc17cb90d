//! List files, line by line; `#` and `;` start comments.

use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::entries;
use super::text::Report;
use crate::diagnostic::{Diagnostics, Problem};

/// Bad lines that are told one by one: a file that is something else
/// altogether should not fill the screen and the socket.
const MAX_ERRORS: usize = 1000;

/// What a list file says.
#[derive(Debug, Default)]
pub(super) struct List {
    pub(super) asns: Vec<RangeInclusive<u32>>,
    pub(super) prefixes: Vec<IpNet>,
}

/// Every good line, and an error for every bad one.
pub(super) fn parse(file: &str, text: &str) -> (List, Diagnostics) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut report = Report::new(file, text);
    let mut list = List::default();
    let mut bad = 0_usize;
    let mut start = 0;
    for line in text.split('\n') {
        // What a CR hides in a comment would be lost in silence.
        let bare = line.strip_suffix('\r').unwrap_or(line);
        let entry = if bare.contains('\r') || entries::is_object(bare) {
            bare
        } else {
            bare.split(['#', ';']).next().unwrap_or_default()
        };
        let indent = entry.len() - entry.trim_start().len();
        let entry = entry.trim();
        let span = start + indent..start + indent + entry.len();
        start += line.len() + 1;
        if entry.is_empty() {
            continue;
        }
        let read = if entry.contains('\r') {
            Err(Problem::new(
                "a carriage return stands inside of this line",
                "lines end with LF or CRLF: convert the file, for example with `mac2unix`",
            ))
        } else {
            entries::read(entry)
        };
        match read {
            Ok(entry) => {
                list.asns.extend(entry.asns);
                list.prefixes.extend(entry.prefixes);
            }
            Err(problem) => {
                bad += 1;
                if bad <= MAX_ERRORS {
                    report.problem(&span, problem);
                } else if bad == MAX_ERRORS + 1 {
                    report.error(
                        &span,
                        format!("more than {MAX_ERRORS} lines are neither an ASN nor a prefix"),
                        "check that this is the file that was meant",
                    );
                }
            }
        }
    }
    (list, report.found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_line_is_named() {
        let text = "\u{feff}# head\r\nAS12389\r\n 12695 # why\r\n\r\n203.0.113.0/24\n\
                    2001:db8::/32\n64512-64520\n  203.0.113.1/24\nbläh # ü\nAS0\n1.10\n10.0.0.1";
        let (list, found) = parse("lists/x.txt", text);
        assert_eq!(list.asns, [12389..=12389, 12695..=12695, 64512..=64520]);
        let prefixes: Vec<String> = list.prefixes.iter().map(ToString::to_string).collect();
        assert_eq!(prefixes, ["203.0.113.0/24", "2001:db8::/32", "10.0.0.1/32"]);
        let errors: Vec<_> = found
            .errors
            .iter()
            .map(|e| {
                (
                    e.line,
                    e.column,
                    e.text.as_str(),
                    e.help.as_deref().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            errors,
            [
                (8, 3, "203.0.113.1/24", "the network is `203.0.113.0/24`"),
                (
                    9,
                    1,
                    "bläh",
                    "write one ASN or prefix in each line, as in `AS12389` or `203.0.113.0/24`"
                ),
                (
                    10,
                    1,
                    "AS0",
                    "ASNs are 1 to 4294967295; space that nobody announces is the built-in set `unrouted`"
                ),
                (11, 1, "1.10", "as a plain number it is `AS65546`"),
            ]
        );
        assert!(found.errors.iter().all(|e| e.file == "lists/x.txt"));
    }

    #[test]
    fn lists_of_others() {
        let text = "; Spamhaus DROP List\r\n; Expires: soon\r\n1.4.0.0/17 ; SBL256893\r\n\
                    192.0.2.0 - 192.0.3.255 # a range\n{\"cidr\":\"1.10.16.0/20\",\"x\":\"#;\"}\n\
                    {\"type\":\"metadata\",\"records\":2}\n{\"asn\":213371}\n";
        let (list, found) = parse("drop.txt", text);
        assert!(found.ok(), "{found:?}");
        assert_eq!(list.asns, [213371..=213371]);
        let prefixes: Vec<String> = list.prefixes.iter().map(ToString::to_string).collect();
        assert_eq!(prefixes, ["1.4.0.0/17", "192.0.2.0/23", "1.10.16.0/20"]);
    }

    #[test]
    fn nothing_is_lost_between_carriage_returns() {
        let (list, found) = parse("x", "AS1 # one\rAS2\rAS3\r");
        assert!(list.asns.is_empty() && found.errors.len() == 1, "{found:?}");
        assert!(found.errors[0].message.starts_with("a carriage return"));
    }

    #[test]
    fn a_file_that_is_no_list_is_not_told_line_by_line_for_ever() {
        let (_, found) = parse("x", &"junk\n".repeat(5000));
        assert_eq!(found.errors.len(), MAX_ERRORS + 1);
    }
}
