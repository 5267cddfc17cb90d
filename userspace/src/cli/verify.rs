//! `kordon report --verify`: whether the log of evidence can be believed. It reads files, and needs no daemon.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{failure::Failure, output::Output};
use crate::{
    diagnostic::printable_lines,
    evidence::{
        checkpoint::Signed,
        gaps::{Gap, gaps},
        verify::{Verdict, verify as verdict_of},
    },
};

/// Findings that people see; `--json` has all.
const SHOWN: usize = 20;

/// `files`: checkpoints that others hold.
pub(super) fn verify(folder: &Path, files: &[PathBuf], output: &mut Output) -> Result<(), Failure> {
    let mut outside = Vec::new();
    for file in files {
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
    let mut verdict = verdict_of(folder, &outside);
    for finding in &mut verdict.findings {
        let number = finding
            .file
            .strip_prefix("outside ")
            .and_then(|number| number.parse::<usize>().ok());
        if let Some(file) = number.and_then(|number| files.get(number)) {
            finding.file = file.display().to_string();
        }
    }
    let gaps = gaps(folder);
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
            "SOUND, BUT NO CHECKPOINT FROM OUTSIDE SAYS SO\n           whoever can write here and has the key could have \
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
