//! Reads the records of a log that somebody may be writing: whole lines, file by file.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use super::files;

/// Numbers of the first records of all files, in order.
#[must_use]
pub fn firsts(folder: &Path) -> Vec<u64> {
    let firsts = files::list(folder).map(|(firsts, _)| firsts);
    firsts.unwrap_or_default()
}

/// Records from this number on. What cannot be read ends them.
pub fn records(folder: &Path, from: u64) -> impl Iterator<Item = String> {
    let firsts = firsts(folder);
    // The file that it is in begins at or before it.
    let begin = firsts.partition_point(|first| *first <= from);
    let firsts = firsts.into_iter().skip(begin.saturating_sub(1));
    firsts.flat_map(move |first| {
        let file = File::open(folder.join(files::name(first))).ok();
        let lines = file.map(|file| {
            let mut reader = BufReader::new(file);
            std::iter::from_fn(move || {
                let mut line = String::new();
                reader.read_line(&mut line).ok()?;
                line.strip_suffix('\n').map(str::to_owned)
            })
        });
        let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        lines.into_iter().flatten().skip(skip)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn records_follow_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(records(folder.path(), 0).count(), 0);
        write("00000000000000000000.jsonl", "a\nb\nc\n");
        write("00000000000000000003.jsonl", "d\ne\ntorn");
        write("x.jsonl", "no\n");
        write("checkpoint", "no\n");
        let all = ["a", "b", "c", "d", "e"];
        for from in 0..7 {
            let found: Vec<_> = records(folder.path(), from as u64).collect();
            assert_eq!(found, all[from.min(5)..], "{from}");
        }
    }
}
