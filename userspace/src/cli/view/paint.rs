//! Colours of a page, by its own words: green for what is well, red for what is not enforced, yellow for
//! what somebody should look at.

const RED: &str = "\x1b[1;31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// What is not enforced, or not known to be.
const BAD: [&str; 5] = [
    "NOT ENFORCING",
    "NOT ATTACHED",
    "NOT KNOWN",
    "NO ANSWER",
    "NO DAEMON",
];

/// What lines begin with that somebody should look at.
const LOOK: [&str; 8] = [
    "NOTICE",
    "NOT KEPT",
    "REPAIRED",
    "DAMAGED",
    "HELD BACK",
    "WARNING",
    "FAILED",
    "BEHIND",
];

/// The page with colours. It had no escapes before.
pub(in crate::cli) fn painted(page: &str) -> String {
    let mut out = String::new();
    for line in page.lines() {
        match place(line) {
            Some((colour, start, end)) => {
                let (before, rest) = line.split_at(start);
                let (words, after) = rest.split_at(end - start);
                out += &format!("{before}{colour}{words}{PLAIN}{after}\n");
            }
            None => out += &format!("{line}\n"),
        }
    }
    out
}

/// What of a line has a colour: which, from where to where.
fn place(line: &str) -> Option<(&'static str, usize, usize)> {
    let label = line.split("  ").next().unwrap_or_default().trim_end();
    let all_of_it = |colour| Some((colour, 0, label.len()));
    if BAD.contains(&label) || label == "because" {
        return all_of_it(RED);
    }
    if LOOK.contains(&label) {
        return all_of_it(YELLOW);
    }
    if label == "enforcing" {
        return all_of_it(GREEN);
    }
    if let Some(start) = BAD.iter().find_map(|bad| line.find(bad)) {
        return Some((RED, start, line.len()));
    }
    let start = line.strip_suffix("  enforcing")?.len();
    Some((GREEN, start, line.len()))
}

/// Characters that a line takes on a terminal, without its colours.
pub(in crate::cli) fn width(line: &str) -> usize {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap_or_default().chars().count();
    let after = |part: &str| {
        let text = part.split_once('m').map_or("", |(_, text)| text);
        text.chars().count()
    };
    first + parts.map(after).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_well_stands_out() {
        let page = "NOT ENFORCING\nbecause     x is not\nNOTICE      look\nzone        z: drop 1\n\
                    enforcing   by a daemon\ntrunk  eth1  native  missed 0  enforcing\n\
                    up  eth2  -  missed 1  NOT ENFORCING: why\n";
        let painted = painted(page);
        let colours: Vec<&str> = painted
            .lines()
            .map(|line| [RED, YELLOW, GREEN].into_iter().find(|c| line.contains(c)))
            .map(Option::unwrap_or_default)
            .collect();
        assert_eq!(colours, [RED, RED, YELLOW, "", GREEN, GREEN, RED]);
        assert!(painted.starts_with(&format!("{RED}NOT ENFORCING{PLAIN}\n{RED}because{PLAIN}  ")));
        let plain: String = painted
            .replace(RED, "")
            .replace(YELLOW, "")
            .replace(GREEN, "")
            .replace(PLAIN, "");
        assert_eq!(plain, page);
        let widths = painted.lines().map(width).zip(page.lines());
        assert!(widths.into_iter().all(|(width, line)| width == line.len()));
    }
}
