//! Reads what `cargo test -- --show-output` prints, a line at a time.

use crate::vm::Outcome;

/// What has been counted so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Tests that passed, those that skipped themselves included.
    pub(super) passed: u64,
    pub(super) failed: u64,
    /// Tests that libtest was told to leave out.
    ignored: Vec<String>,
    /// `test: why`, one for each test that skipped itself.
    skips: Vec<String>,
    /// The test whose output is being read, and whether it has said SKIPPED.
    test: Option<(String, bool)>,
    in_successes: bool,
}

impl Tally {
    /// Takes one line; whether a reader wants to see it.
    pub(super) fn line(&mut self, line: &str) -> bool {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += number_before(result, " passed");
            self.failed += number_before(result, " failed");
            self.test = None;
            self.in_successes = false;
            return true;
        }
        match line {
            "successes:" => {
                self.in_successes = true;
                self.test = None;
                return false;
            }
            "failures:" => {
                self.in_successes = false;
                self.test = None;
                return true;
            }
            _ => {}
        }
        if let Some(name) = header(line) {
            self.test = Some((name.to_owned(), false));
        } else if let Some(why) = line.strip_prefix("SKIPPED:") {
            self.skip(why.trim());
        } else if let Some(name) = ignored(line) {
            self.ignored.push(name.to_owned());
        }
        !self.in_successes
    }

    fn skip(&mut self, why: &str) {
        match &mut self.test {
            Some((name, said)) => {
                if !*said {
                    self.skips.push(format!("{name}: {why}"));
                }
                *said = true;
            }
            // From a process of a test: not captured, so that nothing says whose.
            None => self.skips.push(why.to_owned()),
        }
    }

    /// Takes what virtual machines came to.
    pub(super) fn machines(&mut self, outcome: Outcome) {
        // Those that skipped themselves count as passed until they are reported.
        self.passed += outcome.passed + outcome.skips.len() as u64;
        self.failed += outcome.failed;
        self.skips.extend(outcome.skips);
    }

    /// Why tests skipped themselves.
    pub(super) fn skips(&self) -> impl Iterator<Item = &str> {
        self.skips.iter().map(String::as_str)
    }

    /// Tests that did not do their work.
    pub(super) fn skipped(&self) -> u64 {
        (self.skips.len() + self.ignored.len()) as u64
    }

    /// Who skipped and why, and the closing line.
    pub(super) fn report(&self) -> Vec<String> {
        let mut lines = Vec::new();
        lines.extend(self.skips.iter().map(|skip| format!("SKIPPED: {skip}")));
        lines.extend(self.ignored.iter().map(|name| format!("IGNORED: {name}")));
        let passed = self.passed.saturating_sub(self.skips.len() as u64);
        lines.push(format!(
            "{passed} passed, {} failed, {} skipped",
            self.failed,
            self.skipped()
        ));
        lines
    }
}

/// `5` of `ok. 5 passed; 0 failed; …` before ` passed`.
fn number_before(text: &str, word: &str) -> u64 {
    text.split_once(word)
        .and_then(|(before, _)| before.rsplit(' ').next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// The test of `---- the::test stdout ----`.
fn header(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

/// The test of `test the::test ... ignored, because`.
fn ignored(line: &str) -> Option<&str> {
    let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
    outcome.starts_with("ignored").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::Tally;

    /// Two programs: one passes with a test that skips and one that is ignored, one fails.
    const OUTPUT: &str = "
running 4 tests
test alone ... ok
test chatty ... ok
test needs_root ... ok
test slow ... ignored, takes an hour

successes:

---- chatty stdout ----
a number: 7

---- needs_root stdout ----
SKIPPED: not root
SKIPPED: and no table either

successes:
    alone
    chatty
    needs_root

test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s


running 2 tests
test broken ... FAILED
test good ... ok

successes:

successes:
    good

failures:

---- broken stdout ----
thread 'broken' panicked at tests/x.rs:3:5:
assertion failed


failures:
    broken

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    #[test]
    fn sums_and_names_what_was_skipped() {
        let mut tally = Tally::default();
        for line in OUTPUT.lines() {
            tally.line(line);
        }
        assert_eq!(
            tally.report(),
            [
                "SKIPPED: needs_root: not root",
                "IGNORED: slow",
                "3 passed, 1 failed, 2 skipped",
            ]
        );
    }

    #[test]
    fn shows_failures_and_hides_what_passing_tests_said() {
        let mut tally = Tally::default();
        let shown: Vec<&str> = OUTPUT.lines().filter(|line| tally.line(line)).collect();
        assert!(shown.contains(&"assertion failed"));
        assert!(shown.contains(&"test chatty ... ok"));
        assert!(!shown.contains(&"a number: 7"));
    }

    #[test]
    fn machines_are_counted_with_the_tests() {
        let mut tally = Tally::default();
        let mut outcome = crate::vm::Outcome::default();
        (outcome.passed, outcome.failed) = (15, 1);
        outcome.skips.push("Linux 6.12: no network".to_owned());
        tally.machines(outcome);
        assert_eq!(
            tally.report(),
            [
                "SKIPPED: Linux 6.12: no network",
                "15 passed, 1 failed, 1 skipped",
            ]
        );
    }
}
