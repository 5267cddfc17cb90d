//! `kordon evidence`: one record of the log with its proof, for somebody who is not to see the others, and whether such
//! a proof holds.

use std::{fs, io::Write as _, path::PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{failure::Failure, instance::Instance, output::Output};
use crate::evidence::proof;

#[derive(Debug, Subcommand)]
pub(super) enum Evidence {
    /// Print a record with its proof and the newest checkpoint.
    Prove(Prove),
    /// Say whether a proof holds, by the log's public key.
    Check(Check),
}

#[derive(Debug, Args)]
pub(super) struct Prove {
    /// The record's `event.sequence`.
    number: u64,
    /// The log's folder, instead of the configured one.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    instance: Instance,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// What `prove` printed.
    proof: PathBuf,
    /// The log's `key.pub`.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

pub(super) fn evidence(command: &Evidence, output: &mut Output) -> Result<(), Failure> {
    match command {
        Evidence::Prove(arguments) => prove(arguments, output),
        Evidence::Check(arguments) => check(arguments, output),
    }
}

fn prove(arguments: &Prove, output: &mut Output) -> Result<(), Failure> {
    let folder = arguments.instance.log(arguments.folder.as_ref())?;
    let proof = proof::prove(&folder, arguments.number).map_err(|e| {
        let words = format!("no proof from {}: {e}", folder.display());
        Failure::new(
            words,
            "`kordon report --verify` says whether the log is sound",
        )
    })?;
    match output.json {
        true => writeln!(output.out, "{}", json!({ "proof": proof }))?,
        false => write!(output.out, "{proof}")?,
    }
    Ok(())
}

fn check(arguments: &Check, output: &mut Output) -> Result<(), Failure> {
    let read = |path: &PathBuf| {
        fs::read_to_string(path).map_err(|e| {
            let words = format!("cannot read {}: {e}", path.display());
            Failure::new(
                words,
                "name a file that `kordon evidence prove` or the log has written",
            )
        })
    };
    let (proof, key) = (read(&arguments.proof)?, read(&arguments.key)?);
    let checked = proof::check(&proof, &key).map_err(|e| {
        let words = format!("{} proves nothing: {e}", arguments.proof.display());
        Failure::new(
            words,
            "ask for another proof, and compare the key with its owner's",
        )
    })?;
    let record = String::from_utf8_lossy(&checked.record);
    let (number, size) = (checked.index, checked.checkpoint.size);
    if output.json {
        let record: Value = serde_json::from_str(&record).unwrap_or_default();
        let answer = json!({ "ok": true, "number": number, "of": size, "record": record });
        writeln!(output.out, "{answer}")?;
    } else {
        let line = crate::diagnostic::printable(&record);
        writeln!(
            output.out,
            "HOLDS      record {number} of the {size} that were signed:\n{line}"
        )?;
    }
    Ok(())
}
