//! `status`: once, or anew each second (`--watch`). What it says is in [`view`], and in [`unattended`]
//! where no daemon answers.

use std::{
    io::{self, IsTerminal as _, Write as _},
    thread,
    time::Duration,
};

use serde_json::Value;

use super::{
    arguments::{Resolved, Status},
    failure::Failure,
    output::{Color, Output, bears_colours, harmless},
    unattended, view,
};
use crate::control::{
    client::{self, ClientError},
    protocol::Request,
};

/// Between two answers of `--watch`.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) fn status(arguments: &Status, output: &mut Output) -> Result<(), Failure> {
    let instance = arguments.instance.resolve()?;
    if arguments.watch {
        return watch(arguments, &instance, output);
    }
    let value = match client::ask(&instance.socket, &Request::Status) {
        Ok(value) => value,
        Err(e) => {
            let (failure, value) = unanswered(&instance, e)?;
            if let Some(value) = value {
                output.answer(&value, |value| without_daemon(arguments, value))?;
                return Err(failure.answered());
            }
            return Err(failure);
        }
    };
    output.answer(&value, |value| page(arguments, value, None))?;
    let hash = value["policy"]["hash"].as_str().unwrap_or("none");
    if let Some(expected) = &arguments.expect_policy
        && !hash.starts_with(expected)
    {
        return Err(Failure::new(
            format!("the live policy has the hash {hash}, not {expected}"),
            "`kordon apply` the right one",
        )
        .answered());
    }
    if value["enforcing"] != true {
        // The page begins with it.
        return Err(Failure::said());
    }
    Ok(())
}

/// Why there is no answer, and what the kernel goes on doing, where that can be looked at.
///
/// # Errors
/// Whether a daemon runs is not known, or it will not answer another time either.
fn unanswered(instance: &Resolved, e: ClientError) -> Result<(Failure, Option<Value>), Failure> {
    if let ClientError::Denied { .. } = e {
        return Err(e.into());
    }
    let failure = Failure::from(e);
    if !failure.no_daemon() {
        return Err(failure);
    }
    Ok(match unattended::look(instance, &failure) {
        Some(value) => (failure, Some(value)),
        None => (failure.with_help(unattended::WHOSE), None),
    })
}

/// Until somebody ends it, or reads no more. A daemon that goes away is waited for.
fn watch(arguments: &Status, instance: &Resolved, output: &mut Output) -> Result<(), Failure> {
    let has_screen = !output.json
        && io::stdout().is_terminal()
        && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
    let mut before: Option<Value> = None;
    let mut is_first = true;
    loop {
        let page = match client::ask(&instance.socket, &Request::Status) {
            Ok(value) if output.json => format!("{value}\n"),
            Ok(value) => {
                let value = harmless(value);
                let page = page(arguments, &value, before.as_ref());
                before = Some(value);
                page
            }
            Err(e) => {
                before = None;
                let (failure, value) = unanswered(instance, e)?;
                match value {
                    _ if output.json => format!("{}\n", value.unwrap_or_else(|| failure.json())),
                    Some(value) => without_daemon(arguments, &harmless(value)) + &failure.text(),
                    None => failure.text(),
                }
            }
        };
        let out = &mut output.out;
        if has_screen {
            let clear = if is_first { "\x1b[2J" } else { "" };
            write!(out, "{clear}{}", screen(&page, size()))?;
        } else if output.json || is_first {
            write!(out, "{page}")?;
        } else {
            write!(out, "\n{page}")?;
        }
        out.flush()?;
        is_first = false;
        thread::sleep(PAUSE);
    }
}

fn page(arguments: &Status, value: &Value, before: Option<&Value>) -> String {
    let page = match arguments.brief {
        true => view::brief(value),
        false => {
            let all = arguments.all;
            view::status(value, &view::Shape { all, before })
        }
    };
    let at = match arguments.watch {
        true => format!("{}, each second until Ctrl-C\n", view::moment(&value["at"])),
        false => String::new(),
    };
    at + &painted(arguments, page)
}

fn without_daemon(arguments: &Status, value: &Value) -> String {
    painted(
        arguments,
        match arguments.brief {
            true => unattended::brief(value),
            false => unattended::page(value),
        },
    )
}

/// With colours, if they were asked for.
fn painted(arguments: &Status, page: String) -> String {
    let is_wanted = match arguments.color {
        Color::Never => false,
        Color::Always => true,
        Color::Auto => io::stdout().is_terminal() && bears_colours(),
    };
    match is_wanted {
        true => view::painted(&page),
        false => page,
    }
}

/// Rows and columns of the terminal; `None`: it does not say.
fn size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_row > 1 && size.ws_col > 0).then(|| (size.ws_row.into(), size.ws_col.into()))
}

/// A page in place of the one before, and no longer than the terminal: else its beginning, which
/// says whether all is well, would be out of sight.
fn screen(page: &str, size: Option<(usize, usize)>) -> String {
    let (rows, columns) = size.unwrap_or((usize::MAX, usize::MAX));
    let height = |line: &str| view::width(line).div_ceil(columns).max(1);
    let lines: Vec<&str> = page.lines().collect();
    let fits = |lines: &[&str], room: usize| {
        let mut used = 0;
        let taken = lines.iter().take_while(|line| {
            used += height(line);
            used <= room
        });
        taken.count()
    };
    // The cursor stands in the last row.
    let room = rows - 1;
    let mut shown = fits(&lines, room);
    let mut last = String::new();
    if shown < lines.len() {
        shown = fits(&lines, room - 1);
        last = format!(
            "{} lines more in a larger window\x1b[K\n",
            lines.len() - shown
        );
    }
    let lines = lines[..shown].iter().map(|line| format!("{line}\x1b[K\n"));
    format!("\x1b[H{}{last}\x1b[J", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_stays_on_its_screen() {
        assert_eq!(
            screen("a\nb\n", Some((3, 80))),
            "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J"
        );
        assert_eq!(
            screen("a\nb\nc\n", Some((3, 80))),
            "\x1b[Ha\x1b[K\n2 lines more in a larger window\x1b[K\n\x1b[J"
        );
        // A line that is wrapped takes two rows; colours take no room.
        let page = format!("{}\nb\nc\n", "x".repeat(100));
        let shown = screen(&page, Some((4, 80)));
        assert!(shown.contains("xx\x1b[K\n2 lines more"), "{shown:?}");
        let page = format!("{}\nb\nc\n", "\x1b[1m".repeat(100));
        assert!(screen(&page, Some((4, 80))).contains("c\x1b[K\n\x1b[J"));
        assert!(screen("a\nb\n", None).contains("b\x1b[K\n\x1b[J"));
        assert_eq!(
            screen("a\nb\n", Some((2, 80))),
            "\x1b[H2 lines more in a larger window\x1b[K\n\x1b[J"
        );
    }
}
