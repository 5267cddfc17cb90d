//! The commands of `kordon`.
//!
//! - [`arguments`]: what can be typed; [`given`]: of packets.
//! - [`offline`], [`packets`]: commands that work on files and touch nothing; [`at`]: by files of the past.
//! - [`online`]: commands that ask the daemon, and [`status`]; [`view`] shows its answers.
//!   [`unattended`]: `status` where no daemon runs.
//! - [`doctor`]: what could keep enforcement from working. [`bootguard`]: what is held until it does.
//! - [`output`]: where all of it goes; [`failure`]: what a command fails with; [`instance`]: which
//!   kordon of this machine is meant.
//! - [`live`]: what is seen at this moment; [`filter`]: which of it, there and in [`flows`].
//! - [`past`]: a period of it, for [`flows`] and reports.
//! - [`report`], [`verify`], [`evidence`]: what the log of evidence says, whether it can be believed, and proofs of its records.
//! - [`generate`]: manual pages and completions, for packages.
//! - [`database`]: `asndb`, with files, a state directory or the daemon.
//!
//! Architecture invariant: what the daemon does is done there. Here is only what
//! it is asked, and how answers look.
//!
//! Exit codes: 0 done; 1 refused, wrong, failed or not enforcing; 2 wrong usage; 3 no daemon; 4 of
//! `doctor`: nothing worse than warnings; of `report --verify`: sound, and nobody outside says so.

mod arguments;
mod at;
mod bootguard;
mod database;
mod doctor;
mod evidence;
mod failure;
mod filter;
mod flows;
mod generate;
mod given;
mod instance;
mod live;
mod offline;
mod online;
mod output;
mod packets;
mod past;
mod report;
mod status;
mod unattended;
mod verify;
mod view;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;

use self::{
    arguments::{Arguments, Command},
    failure::{Failure, WRONG_USAGE},
    output::Output,
};
use crate::control::protocol::Request;

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
        Command::Explain(arguments) => packets::explain(*arguments, output),
        Command::Replay(arguments) => packets::replay(&arguments, output),
        Command::Asndb { command } => database::asndb(command, output),
        Command::Status(arguments) => status::status(&arguments, output),
        Command::Doctor(arguments) => doctor::run(arguments, output),
        Command::Apply(arguments) => online::apply(arguments, output),
        Command::Confirm(instance) => online::confirm(&instance, output),
        Command::Rollback(instance) => online::rollback(&instance, output),
        Command::History(instance) => online::history(&instance, output),
        Command::Watch(arguments) => live::watch(*arguments, output),
        Command::Top(arguments) => live::top(&arguments),
        Command::Flows(arguments) => flows::flows(*arguments, output),
        Command::Evidence { command } => evidence::evidence(&command, output),
        Command::Report(arguments) => report::report(&arguments, output),
        Command::Block(arguments) => online::entry(arguments, Request::Block, output),
        Command::Allow(arguments) => online::entry(arguments, Request::Allow, output),
        Command::Unblock(arguments) => online::entry(arguments.into(), Request::Unblock, output),
        Command::Detach(arguments) => online::detach(&arguments, output),
        Command::ReleaseGuard => bootguard::release(output),
        Command::BootGuard(instance) => bootguard::write(&instance),
        Command::Generate(arguments) => generate::generate(&arguments, output),
    }
}
