//! The commands of `kordon`.
//!
//! - [`arguments`]: what can be typed.
//! - [`offline`], [`packets`]: commands that work on files and touch nothing.
//! - [`online`]: commands that ask the daemon; [`view`] shows its answers. [`unattended`]:
//!   `status` where no daemon runs.
//! - [`database`]: `asndb`, with files, a state directory or the daemon.
//!
//! Architecture invariant: what the daemon does is done there. Here is only what
//! it is asked, and how answers look.
//!
//! Exit codes: 0 done; 1 refused, wrong, failed or not enforcing; 2 wrong usage; 3 no daemon.

mod arguments;
mod database;
mod failure;
mod instance;
mod offline;
mod online;
mod packets;
mod unattended;
mod view;

use std::{
    fmt,
    io::{self, IsTerminal as _, Write},
    process::ExitCode,
};

use clap::Parser as _;
use serde_json::Value;

use self::{
    arguments::{Arguments, Command},
    failure::{Failure, WRONG_USAGE},
};
use crate::diagnostic::printable;

/// Where output goes, and in which form.
struct Output {
    out: Box<dyn Write>,
    json: bool,
}

impl Output {
    /// An answer: its JSON on one line, or what `human` makes of it.
    fn answer(&mut self, value: &Value, human: impl FnOnce(&Value) -> String) -> io::Result<()> {
        if self.json {
            writeln!(self.out, "{value}")
        } else {
            write!(self.out, "{}", human(&harmless(value.clone())))
        }
    }
}

/// An answer whose words cannot drive a terminal: names and notes come from sources,
/// routers and colleagues.
fn harmless(value: Value) -> Value {
    match value {
        Value::String(text) => printable(&text).into(),
        Value::Array(values) => values.into_iter().map(harmless).collect(),
        Value::Object(fields) => {
            let field = |(name, value): (String, Value)| (printable(&name).into(), harmless(value));
            Value::Object(fields.into_iter().map(field).collect())
        }
        other => other,
    }
}

/// For people, on standard error. Nobody reads it where it cannot be written.
fn say(words: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{words}");
}

/// Whether what is written to standard error may have colours.
fn colour() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    io::stderr().is_terminal()
        && set("NO_COLOR").is_none()
        && set("TERM").is_some_and(|term| term != "dumb")
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(e) => {
            // Help that is asked for goes to standard output and is no error.
            if !e.use_stderr() {
                let _ = e.print();
                return ExitCode::SUCCESS;
            }
            let e = arguments::without_environment(e);
            let _ = e.print();
            // What was typed could not be read, but who typed it is known by this.
            if std::env::args_os().any(|argument| argument == "--json") {
                let text = e.render().to_string();
                let message = text.trim_start_matches("error: ").trim_end();
                let failure = Failure::usage(message, "`kordon help` says what there is");
                failure.print_json(&mut io::stdout());
            }
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let mut output = Output {
        out: Box::new(io::BufWriter::new(io::stdout().lock())),
        json: arguments.json,
    };
    let result = run(arguments.command, &mut output);
    let result = result.and_then(|()| Ok(output.out.flush()?));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Rows that were printed come before what ended them.
            let _ = output.out.flush();
            if output.json {
                failure.print_json(&mut output.out);
                let _ = output.out.flush();
            }
            failure.print();
            ExitCode::from(failure.code())
        }
    }
}

fn run(command: Command, output: &mut Output) -> Result<(), Failure> {
    match command {
        Command::Run(arguments) => online::run(arguments),
        Command::Check(arguments) => offline::check(&arguments, output),
        Command::Lookup(arguments) => offline::lookup(arguments, output),
        Command::Explain(arguments) => packets::explain(arguments, output),
        Command::Replay(arguments) => packets::replay(&arguments, output),
        Command::Asndb { command } => database::asndb(command, output),
        Command::Status(arguments) => online::status(&arguments, output),
        Command::Apply(arguments) => online::apply(arguments, output),
        Command::Confirm(instance) => online::confirm(&instance, output),
        Command::Rollback(instance) => online::rollback(&instance, output),
        Command::History(instance) => online::history(&instance, output),
        Command::Block(arguments) => online::block(arguments, output),
        Command::Allow(arguments) => online::allow(arguments, output),
        Command::Unblock(arguments) => online::unblock(arguments, output),
        Command::Detach(arguments) => online::detach(&arguments, output),
    }
}
