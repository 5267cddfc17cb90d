//! `kordon report`: what the log of evidence says, and whether it can be believed. It reads files, and needs no daemon.

use std::{fs, io::Write as _, path::PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{failure::Failure, instance::Instance, output::Output};
use crate::{
    diagnostic::printable_lines,
    evidence::{
        checkpoint::Signed,
        gaps::{Gap, gaps},
        read,
        verify::{Verdict, verify},
    },
};

/// Findings that people see; `--json` has all.
const SHOWN: usize = 20;

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 sound, and a checkpoint from outside says so; 4 sound, but nobody outside holds a checkpoint; 1 something is missing, altered, cut or out of order."
)]
pub(super) struct Report {
    /// Whether anything of the log of evidence is missing, altered, cut or out of order.
    #[arg(long, required = true)]
    verify: bool,
    /// A checkpoint that somebody else holds: only that shows that the whole log was not replaced.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// The log's folder, instead of the configured one.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    instance: Instance,
}

pub(super) fn report(arguments: &Report, output: &mut Output) -> Result<(), Failure> {
    let folder = match &arguments.folder {
        Some(folder) => folder.clone(),
        None => arguments.instance.resolve()?.evidence,
    };
    let mut outside = Vec::new();
    for file in &arguments.checkpoint {
        let wrong = |why: String| {
            let words = format!("{} is no checkpoint: {why}", file.display());
            Failure::new(
                words,
                "name a file with one checkpoint, as the log has signed it, and nothing else",
            )
        };
        let text = fs::read_to_string(file).map_err(|e| wrong(e.to_string()))?;
        // As mail brings it.
        let text = text.replace("\r\n", "\n").trim_end_matches('\n').to_owned() + "\n";
        Signed::parse(&text).map_err(|e| wrong(format!("it {e}")))?;
        outside.push(text);
    }
    let is_none = fs::read_dir(&folder)
        .map(|_| read::firsts(&folder).is_empty() && !folder.join("checkpoint").exists());
    let none = match is_none {
        Ok(false) => None,
        Ok(true) => Some(format!(
            "there is no log of evidence in {}",
            folder.display()
        )),
        Err(e) => Some(format!(
            "no log of evidence can be read in {}: {e}",
            folder.display()
        )),
    };
    if let Some(none) = none {
        let cure = "`[evidence]` in kordon.toml begins one, which root can read; `--folder` names another place";
        return Err(Failure::new(none, cure));
    }
    let mut verdict = verify(&folder, &outside);
    for finding in &mut verdict.findings {
        let number = finding
            .file
            .strip_prefix("outside ")
            .and_then(|number| number.parse::<usize>().ok());
        if let Some(file) = number.and_then(|number| arguments.checkpoint.get(number)) {
            finding.file = file.display().to_string();
        }
    }
    let gaps = gaps(&folder);
    match output.json {
        true => writeln!(output.out, "{}", answer(&verdict, &gaps))?,
        // Names of files are whatever somebody called them.
        false => write!(output.out, "{}", printable_lines(&words(&verdict, &gaps)))?,
    }
    match (verdict.ok, verdict.witnessed) {
        (true, true) => Ok(()),
        (true, false) => Err(Failure::look()),
        (false, _) => Err(Failure::said()),
    }
}

fn answer(verdict: &Verdict, gaps: &[Gap]) -> Value {
    let findings = verdict
        .findings
        .iter()
        .map(|finding| json!({ "file": finding.file, "line": finding.line, "what": finding.what }));
    let gaps = gaps
        .iter()
        .map(|gap| json!({ "from": gap.from, "to": gap.to, "why": gap.why }));
    json!({
        "ok": verdict.ok,
        "records": verdict.records,
        "unsigned": verdict.unsigned,
        "gaps": gaps.collect::<Vec<_>>(),
        "findings": findings.collect::<Vec<_>>(),
        "witnessed": verdict.witnessed,
        "witnessed_records": verdict.witnessed_size,
    })
}

fn words(verdict: &Verdict, gaps: &[Gap]) -> String {
    let mut text = match (verdict.ok, verdict.witnessed) {
        (true, true) => "SOUND      nothing is missing, altered, cut or out of order, and a checkpoint from outside says so\n",
        (true, false) => {
            "SOUND, BUT NOBODY OUTSIDE HOLDS A CHECKPOINT\n           whoever can write here and has the key could have \
             replaced the whole log; give `--checkpoint` one that was sent off this machine\n"
        }
        (false, _) => "NOT SOUND  something was done to the log\n",
    }
    .to_owned();
    text += &format!("records    {}", verdict.records);
    if verdict.unsigned > 0 {
        text += &format!(", the last {} not signed yet", verdict.unsigned);
    }
    text.push('\n');
    if verdict.witnessed {
        let size = verdict.witnessed_size;
        text += &format!(
            "outside    the first {size} are those of then; for others this router's key alone speaks\n"
        );
    }
    for gap in gaps {
        text += &format!("gap        {} to {}: {}\n", gap.from, gap.to, gap.why);
    }
    for finding in verdict.findings.iter().take(SHOWN) {
        let line = finding.line.map(|line| format!(":{line}"));
        let (file, line) = (&finding.file, line.unwrap_or_default());
        text += &format!("FOUND      {file}{line}: {}\n", finding.what);
    }
    let more = verdict.findings.len().saturating_sub(SHOWN);
    if more > 0 {
        text += &format!("           and {more} more (`--json` shows them)\n");
    }
    text
}
