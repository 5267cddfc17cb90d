//! The demo: in a few seconds, on one machine, that kordon keeps its word.
//!
//! - [`story`]: what is done and measured, step by step.
//! - [`report`]: claims, the summary, the JSON line.
//! - [`stage`]: the lab, its directory, and what stays with `--keep`.

mod report;
mod stage;
mod story;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use report::Report;
use stage::Stage;

use crate::lab::namespace;

/// Shows kordon at work in a network of namespaces that has no way out of this machine.
#[derive(Debug, Parser)]
#[command(subcommand_negates_reqs = true)]
struct Arguments {
    /// The kordon binary to show.
    #[arg(long, value_name = "PATH", required_unless_present = "down")]
    kordon: Option<PathBuf>,
    /// Print the story to standard error and one JSON object, a boolean for each claim, at the end.
    #[arg(long)]
    json: bool,
    /// Leave the network and the controller up, and say how to play with them.
    #[arg(long)]
    keep: bool,
    /// Take down what `--keep` left up.
    #[arg(long, conflicts_with = "keep")]
    down: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// A server of a network that is kept: runs inside its namespace.
    #[command(hide = true)]
    Serve {
        /// What it says to an HTTP GET.
        greeting: String,
    },
}

/// The whole program. 0: every claim holds. 1: one does not, or something failed.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments {
        Arguments {
            role: Some(Role::Serve { greeting }),
            ..
        } => stage::serve(greeting).map(|()| true),
        Arguments { down: true, .. } => stage::down().map(|()| true),
        Arguments {
            kordon: Some(kordon),
            ..
        } => demo(kordon, &arguments),
        Arguments { kordon: None, .. } => unreachable!("the parser asks for `--kordon`"),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(kordon: &Path, arguments: &Arguments) -> Result<bool> {
    let kordon = kordon
        .canonicalize()
        .with_context(|| format!("cannot find the binary {}", kordon.display()))?;
    let keep = arguments.keep;
    namespace::on_signals(move || {
        if keep {
            stage::down()
        } else {
            namespace::remove_own().map(drop)
        }
    })?;
    let mut report = Report::new(arguments.json);
    let outcome = tell(&kordon, arguments.keep, &mut report);
    report.finish(&outcome);
    outcome.map(|_| report.ok())
}

/// Returns how to play with what is left up, if anything is.
fn tell(kordon: &Path, keep: bool, report: &mut Report) -> Result<Option<String>> {
    let mut stage = Stage::new(keep)?;
    let controller = story::tell(&stage, kordon, report)?;
    keep.then(|| stage.keep(controller)).transpose()
}
