//! `cargo xtask test`: formatting, lints, the build, all tests, other kernels in
//! virtual machines, and a tally in which a test that could not do its work is not hidden among those that did.
//!
//! A test that lacks something prints a line that starts with `SKIPPED:` and says
//! why. With `CI=true` that fails the run, unless the line names a thing in
//! [`OPTIONAL`].
//!
//! The binary under test is built as tests are, with checks of overflow and assertions: a release takes a machine with
//! two processors ten minutes more. `KORDON_TEST_RELEASE=1` tests that one.

mod tally;

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read};
use std::process::Stdio;

use crate::command::{Failed, display, run, say};
use crate::workspace::{KORDON_BINARY, Profile, Workspace};
use crate::{vm, workspace};
use tally::Tally;

/// What a CI may lack: a skip that names one of these is never a failure. The whole
/// Internet's table is not part of the repository, QEMU has the card igb from 8.0 on, containers may have no loop devices, and
/// what verifies a log there wants a newer Python than Debian 12 has.
const OPTIONAL: &[&str] = &[
    "KORDON_TEST_DATA",
    "igb",
    "loop device",
    "KORDON_TLOG_PYTHON",
];

/// Runs all of it; the last line printed is the tally.
pub(crate) fn run_all(workspace: &Workspace, filter: &[OsString]) -> Result<(), Failed> {
    run(workspace.cargo().args(["fmt", "--all", "--check"]))
        .map_err(|failed| Failed::new(format!("{failed}; `cargo fmt --all` cures it")))?;
    // In the profile of the tests, so that both share the BPF programs that the
    // build scripts compile, which takes longer than the rest of clippy's work.
    run(workspace
        .cargo()
        .args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--profile",
            "test",
        ])
        .args(["--", "-D", "warnings"]))?;
    let kordon = if std::env::var_os("KORDON_TEST_RELEASE").is_some() {
        workspace.build("kordon", "kordon", Profile::Release)?
    } else if filter.is_empty() {
        run(workspace.cargo().args(["test", "--workspace", "--no-run"]))?;
        workspace.left_by_tests("kordon")
    } else {
        workspace.build("kordon", "kordon", Profile::Test)?
    };

    let mut command = workspace.cargo();
    command
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(filter)
        // libtest keeps back what a passing test prints, and with it every SKIPPED.
        .args(["--", "--show-output"])
        .env(KORDON_BINARY, kordon)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    say(display(&command));
    let mut child = command
        .spawn()
        .map_err(|error| Failed::new(format!("cannot start `{}`: {error}", display(&command))))?;
    let mut tally = Tally::default();
    if let Some(output) = child.stdout.take() {
        count(output, &mut tally)?;
    }
    let status = child
        .wait()
        .map_err(|error| Failed::new(format!("cannot wait for the tests: {error}")))?;
    let mut succeeded = status.success();
    // A filter asks for some tests, and the machines take minutes.
    if filter.is_empty() {
        let outcome = vm::all(workspace)?;
        succeeded &= outcome.failed == 0;
        tally.machines(outcome);
    }
    let verdict = judge(&mut tally, succeeded, workspace::in_ci());
    for line in tally.report() {
        println!("{line}");
    }
    verdict
}

/// Passes the output on, without what passing tests said.
fn count(output: impl Read, tally: &mut Tally) -> Result<(), Failed> {
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader
            .read_until(b'\n', &mut line)
            .map_err(|error| Failed::new(format!("cannot read what the tests print: {error}")))?;
        if read == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches('\n');
        if tally.line(text) {
            println!("{text}");
        }
    }
}

/// What the run comes to.
fn judge(tally: &mut Tally, succeeded: bool, in_ci: bool) -> Result<(), Failed> {
    if !succeeded {
        // It did not compile, or a test program died before its result line.
        tally.failed = tally.failed.max(1);
        return Err(Failed::new("tests failed"));
    }
    if tally.passed == 0 && tally.skipped() == 0 {
        return Err(Failed::new("no test was run; is the filter right?"));
    }
    let required = required(tally.skips());
    if in_ci && required > 0 {
        return Err(Failed::new(format!(
            "required tests were skipped ({required}), which with CI=true is a failure"
        )));
    }
    Ok(())
}

/// How many of these skips a CI may not have.
pub(crate) fn required<'a>(skips: impl Iterator<Item = &'a str>) -> usize {
    skips
        .filter(|skip| !OPTIONAL.iter().any(|name| skip.contains(name)))
        .count()
}

#[cfg(test)]
mod tests {
    use super::{Tally, judge};

    fn tally(output: &str) -> Tally {
        let mut tally = Tally::default();
        for line in output.lines() {
            tally.line(line);
        }
        tally
    }

    const SKIPPING: &str = "\
successes:

---- needs_root stdout ----
SKIPPED: not root

successes:
    needs_root

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    #[test]
    fn a_required_skip_fails_only_in_ci() {
        assert!(judge(&mut tally(SKIPPING), true, false).is_ok());
        let failed = judge(&mut tally(SKIPPING), true, true).expect_err("it was required");
        assert!(failed.to_string().contains("skipped (1)"), "{failed}");
    }

    #[test]
    fn the_whole_table_may_be_absent() {
        let output = SKIPPING.replace("not root", "no table; set KORDON_TEST_DATA");
        assert!(judge(&mut tally(&output), true, true).is_ok());
    }

    #[test]
    fn a_program_that_died_counts_as_a_failure() {
        let mut tally = tally("running 2 tests\n");
        assert!(judge(&mut tally, false, false).is_err());
        assert_eq!(tally.failed, 1);
    }

    #[test]
    fn nothing_run_is_no_success() {
        assert!(judge(&mut Tally::default(), true, false).is_err());
    }
}
