//! The verifier: whether a log is the one that was signed, and if not, what was done to it and where.
//!
//! It trusts nothing in the folder. All hashes are computed again from the records, and three things are compared with
//! them: the checkpoints (what was signed), the tiles (what was hashed then, line by line) and checkpoints that
//! somebody else holds. If the root over the records is the one signed, the records are right, and a tile that differs
//! is itself the wrong one. If it is not, the tiles say which lines differ; the module `accuse` says how.
//!
//! What it cannot see without a checkpoint from outside: a log, its tiles, its history and its key all replaced at
//! once, or all rolled back to an earlier state. [`Verdict::witnessed`] says whether there was one.
//!
//! While a daemon writes: records after the newest checkpoint are counted as unsigned. A last line without `\n` in the
//! newest file is a record that is being written, or was when the process died: if the checkpoint does not cover it, it
//! is counted in [`Verdict::torn`] and is no finding. In any other file it is one.

use std::{fs, path::Path};

use tlog_tiles::EMPTY_HASH;

use super::{
    accuse::accuse,
    checkpoint::{HISTORY, Key, NEWEST, PUBLIC, Signed, history},
    files,
    finding::Finding,
    tree::{Edge, tile_path},
    walk::Walk,
};

/// How often it is begun again if the writer replaced a file meanwhile.
const TRIES: usize = 4;
/// Findings that are kept. Whoever has found so many does not need more.
const MOST: usize = 1_000;

/// What was found out about a log.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// There are no findings.
    pub ok: bool,
    /// Records that were read, signed or not.
    pub records: u64,
    /// Those of them that come after the newest checkpoint.
    pub unsigned: u64,
    /// Records before the first file, which the log has removed itself and said so.
    pub forgotten: u64,
    /// Bytes of a last line that is not whole and not signed.
    pub torn: u64,
    /// What is wrong, in the order it was found; at most about 1,000.
    pub findings: Vec<Finding>,
    /// A checkpoint from outside has a true signature, and the records before it give its root. Without findings, all up
    /// to [`Self::witnessed_size`] is as it was when that checkpoint was given away.
    pub witnessed: bool,
    /// Records that the greatest such checkpoint covers.
    pub witnessed_size: u64,
    /// Records that the newest checkpoint covers; 0 if there is none.
    pub size_of_checkpoint: u64,
}

/// A checkpoint, and where it was found.
struct Held {
    file: String,
    line: Option<u64>,
    signed: Signed,
    /// By its signature.
    valid: bool,
}

/// Verifies the log in `folder`. `outside` are checkpoints, as whole texts, that were kept elsewhere.
///
/// It never fails: what cannot be read is a finding. It takes no lock, writes nothing, and needs time for all bytes of
/// the log but memory for little more than one record file's hashes.
#[must_use]
pub fn verify(folder: &Path, outside: &[String]) -> Verdict {
    let mut result = attempt(folder, outside);
    for _ in 1..TRIES {
        if !result.1 {
            break;
        }
        result = attempt(folder, outside);
    }
    let mut verdict = result.0;
    let more = verdict.findings.len().saturating_sub(MOST);
    if more > 0 {
        verdict.findings.truncate(MOST);
        verdict
            .findings
            .push(Finding::new("", None, format!("{more} more findings")));
    }
    verdict.ok = verdict.findings.is_empty();
    verdict
}

/// Reads a checkpoint; what is wrong with it becomes a finding.
fn hold(
    file: &str,
    line: Option<u64>,
    text: &str,
    key: Option<&Key>,
    findings: &mut Vec<Finding>,
) -> Option<Held> {
    let signed = match Signed::parse(text) {
        Ok(signed) => signed,
        Err(fault) => {
            findings.push(Finding::new(file, line, fault.to_string()));
            return None;
        }
    };
    // Without a key nothing is valid, and the missing key is a finding already.
    let checked = key.map(|key| signed.check(key));
    if let Some(Err(fault)) = &checked {
        findings.push(Finding::new(file, line, fault.to_string()));
    }
    Some(Held {
        file: file.to_owned(),
        line,
        signed,
        valid: checked.is_some_and(|checked| checked.is_ok()),
    })
}

/// Verifies once. The flag says that the writer was at work: a file that should have been there was gone, and the
/// checkpoint is another by now.
fn attempt(folder: &Path, outside: &[String]) -> (Verdict, bool) {
    let mut findings = Vec::new();
    let key = match fs::read_to_string(folder.join(PUBLIC)) {
        Ok(text) => Key::parse(&text).map_err(|error| error.to_string()),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
    .map_err(|what| findings.push(Finding::new(PUBLIC, None, what)))
    .ok();
    let key = key.as_ref();

    // The history first: the writer changes it last, so the newest checkpoint is never older.
    let past = past(folder, key, &mut findings);
    let text = files::read_text(&folder.join(NEWEST)).unwrap_or_default();
    if text.is_none() {
        findings.push(Finding::new(NEWEST, None, "is missing"));
    }
    let newest = text
        .as_deref()
        .and_then(|text| hold(NEWEST, None, text, key, &mut findings));
    compare(&past, newest.as_ref(), &mut findings);
    let outside: Vec<Held> = outside
        .iter()
        .enumerate()
        .filter_map(|(number, text)| {
            hold(&format!("outside {number}"), None, text, key, &mut findings)
        })
        .collect();

    // A checkpoint that was rolled back or forged is no reason not to look at what the one before it covers.
    let known = newest.iter().chain(&past).filter(|held| held.valid);
    let reference = known
        .max_by_key(|held| held.signed.size)
        .or(newest.as_ref());
    let reference = fitting(folder, reference, past.last(), &mut findings);
    let size = reference.map_or(0, |held| held.signed.size);
    let mut gone = false;
    let signed = Edge::load(folder, size).unwrap_or_else(|(path, error)| {
        gone = true;
        let what = format!("cannot be used: {error}");
        findings.push(Finding::new(path.display().to_string(), None, what));
        Edge::default()
    });

    let (firsts, strays) = files::list(folder).unwrap_or_else(|error| {
        findings.push(Finding::new(
            "",
            None,
            format!("the folder cannot be read: {error}"),
        ));
        Default::default()
    });
    for stray in strays {
        findings.push(Finding::new(
            stray,
            None,
            "is not named as the log names its files",
        ));
    }
    let held = || past.iter().chain(&newest).chain(&outside);
    let wanted = held().map(|held| held.signed.size).collect();
    let mut walk = Walk::new(folder, size, &signed, wanted);
    walk.all(&firsts);

    findings.append(&mut walk.findings);
    let root = reference.map_or(EMPTY_HASH, |held| held.signed.root);
    let sound = walk.roots.get(&size) == Some(&root);
    if sound {
        for (level, n, width) in &walk.differing {
            let path = tile_path(*level, *n, *width).display().to_string();
            findings.push(Finding::new(
                path,
                None,
                "does not fit the records, which are as they were signed",
            ));
        }
        findings.extend(walk.sequences.drain(..).map(|(_, finding)| finding));
    } else {
        accuse(&mut walk, &firsts, root, &mut findings);
    }
    let forgotten = forgotten(&walk, &firsts, &mut findings);
    judge(&past, &walk, sound, &mut findings);
    let witnessed_size = witness(&outside, &walk, &mut findings);

    let moved = || files::read_text(&folder.join(NEWEST)).unwrap_or_default() != text;
    let again = (gone || walk.vanished) && moved();
    let verdict = Verdict {
        ok: false,
        records: walk.records,
        unsigned: walk.unsigned,
        forgotten,
        torn: walk.torn,
        findings,
        witnessed: witnessed_size > 0,
        witnessed_size,
        size_of_checkpoint: size,
    };
    (verdict, again)
}

/// All checkpoints that the log has kept.
fn past(folder: &Path, key: Option<&Key>, findings: &mut Vec<Finding>) -> Vec<Held> {
    match history(folder) {
        // What is behind the last whole one is being written, or was when the process died.
        Ok(Some(found)) => found
            .notes
            .iter()
            .filter_map(|(line, text)| hold(HISTORY, Some(*line), text, key, findings))
            .collect(),
        Ok(None) => {
            findings.push(Finding::new(HISTORY, None, "is missing"));
            Vec::new()
        }
        Err(error) => {
            findings.push(Finding::new(
                HISTORY,
                None,
                format!("cannot be read: {error}"),
            ));
            Vec::new()
        }
    }
}

/// Compares the checkpoints with each other.
fn compare(past: &[Held], newest: Option<&Held>, findings: &mut Vec<Finding>) {
    for (before, after) in past.iter().zip(past.iter().skip(1)) {
        if after.signed.size <= before.signed.size {
            let (to, from) = (after.signed.size, before.signed.size);
            let what = format!("goes back: it is for {to} records, the one before for {from}");
            findings.push(Finding::new(HISTORY, after.line, what));
        }
    }
    let (Some(last), Some(newest)) = (past.last(), newest) else {
        return;
    };
    let (ours, theirs) = (newest.signed.size, last.signed.size);
    if ours < theirs {
        let what =
            format!("was rolled back: it is for {ours} records, `{HISTORY}` has one for {theirs}");
        findings.push(Finding::new(NEWEST, None, what));
    } else if ours == theirs && newest.signed != last.signed {
        let what = format!("was replaced: `{HISTORY}` has another one for {ours} records");
        findings.push(Finding::new(NEWEST, None, what));
    }
}

/// What the log is measured by: the greatest checkpoint, unless it is one more than the history has and the tiles are
/// those of the history's last. Then it was put there. Otherwise a crash came before it was added to the history.
fn fitting<'a>(
    folder: &Path,
    greatest: Option<&'a Held>,
    last: Option<&'a Held>,
    findings: &mut Vec<Finding>,
) -> Option<&'a Held> {
    let fits = |held: &Held| {
        Edge::load(folder, held.signed.size).is_ok_and(|edge| edge.root() == held.signed.root)
    };
    if let (Some(greatest), Some(last)) = (greatest, last)
        && greatest.signed.size > last.signed.size
        && last.valid
        && !fits(greatest)
        && fits(last)
    {
        let what = format!("was replaced: neither `{HISTORY}` nor the tiles are for its records");
        findings.push(Finding::new(greatest.file.clone(), greatest.line, what));
        return Some(last);
    }
    greatest
}

/// Records before the first file are missing; whether the log itself has said so.
fn forgotten(walk: &Walk<'_>, firsts: &[u64], findings: &mut Vec<Finding>) -> u64 {
    let first = firsts.first().copied().unwrap_or(0);
    if first > walk.forgot {
        let from = walk.forgot;
        let what = format!(
            "was removed or renamed: records {from} to {} are missing, and no record says that the log removed them",
            first - 1
        );
        findings.push(Finding::new(files::name(from), None, what));
        return from;
    }
    first
}

/// Compares the roots of earlier checkpoints with those of the records.
fn judge(past: &[Held], walk: &Walk<'_>, sound: bool, findings: &mut Vec<Finding>) {
    let differs = |held: &&Held| walk.roots.get(&held.signed.size) != Some(&held.signed.root);
    if sound {
        for held in past.iter().filter(differs) {
            let what = format!(
                "is for other records: its root at {} is not theirs",
                held.signed.size
            );
            findings.push(Finding::new(held.file.clone(), held.line, what));
        }
        return;
    }
    // All that come after what was changed differ. The last that does not is worth knowing.
    let fits = past.iter().filter(|held| held.valid && !differs(held));
    let last = fits.map(|held| held.signed.size).max().unwrap_or(0);
    let what = format!(
        "the records still are as signed up to {last} of them; later checkpoints do not fit"
    );
    findings.push(Finding::new(HISTORY, None, what));
}

/// Compares with what others hold. Returns how many records the greatest that fits covers.
fn witness(outside: &[Held], walk: &Walk<'_>, findings: &mut Vec<Finding>) -> u64 {
    let mut greatest = 0;
    for held in outside.iter().filter(|held| held.valid) {
        let size = held.signed.size;
        match walk.roots.get(&size) {
            Some(root) if *root == held.signed.root => greatest = greatest.max(size),
            Some(_) => {
                let what = format!("is for other records: its root at {size} is not theirs");
                findings.push(Finding::new(held.file.clone(), None, what));
            }
            None => {
                let has = walk.records;
                let what = format!(
                    "is for {size} records, the log has {has} of them unbroken at most: it was cut or rolled back"
                );
                findings.push(Finding::new(held.file.clone(), None, what));
            }
        }
    }
    greatest
}
