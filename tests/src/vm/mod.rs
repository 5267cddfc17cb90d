//! The outermost ring: kordon under other kernels, in virtual machines that
//! `cargo xtask vm` boots.
//!
//! One program with two lives. On this machine, [`prepare`] writes what the guest gets:
//! a [`capture`], policies and databases, and what this machine's kordon says of them.
//! In the guest it is the first process ([`guest`]), and the [`checks`] are all that
//! ever runs there. Nothing else is in the guest: no shell, no tools, so that another
//! architecture needs nothing but a kernel and static binaries. One guest is another: a Debian
//! with systemd, in which the real [`package`] is installed, switched off and on ([`power`]), and purged.
//! The [`matrix`] is of emulated network cards.

mod capture;
mod checks;
mod daemon;
mod guest;
mod link;
mod matrix;
mod package;
mod power;
mod prepare;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

/// Name of the capture in the guest's data.
const CAPTURE: &str = "frames.pcap";
/// Databases by which the capture is judged: `NAME.db`, `NAME.toml`, `NAME.expected`.
const DATABASES: [&str; 2] = ["small", "whole"];

/// What goes into a virtual machine.
#[derive(Debug, Parser)]
#[command(name = "kordon-vm")]
enum Arguments {
    /// Write what the guest is to find in its `/data`.
    Prepare {
        /// The binary that says what is right.
        #[arg(long)]
        kordon: PathBuf,
        /// The folder; what is in it goes.
        #[arg(long)]
        into: PathBuf,
    },
    /// As a service of a guest with systemd: check the package, and cut its power.
    Package,
}

/// Runs what the command line says; as the first process of a machine, the checks.
#[must_use]
pub fn main() -> ExitCode {
    if std::process::id() == 1 {
        guest::main();
    }
    let outcome = match Arguments::parse() {
        Arguments::Prepare { kordon, into } => prepare::prepare(&kordon, &into),
        Arguments::Package => guest::service(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
