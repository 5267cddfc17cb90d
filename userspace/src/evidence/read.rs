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

/// Records from this number on, each with its number, which its place in its file says. What cannot be read ends a file;
/// what is missing is not there.
pub fn records(folder: &Path, from: u64) -> impl Iterator<Item = (u64, String)> {
    let firsts = firsts(folder);
    // The file that it is in begins at or before it.
    let begin = firsts.partition_point(|first| *first <= from);
    let firsts = firsts.into_iter().skip(begin.saturating_sub(1));
    firsts.flat_map(move |first| {
        let file = File::open(folder.join(files::name(first))).ok();
        let lines = file.map(|file| {
            let mut reader = BufReader::with_capacity(1 << 16, file);
            std::iter::from_fn(move || {
                let mut line = Vec::new();
                reader.read_until(b'\n', &mut line).ok()?;
                line.pop_if(|last| *last == b'\n')?;
                Some(String::from_utf8_lossy(&line).into_owned())
            })
        });
        let lines = lines.into_iter().flatten();
        let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        (first..).zip(lines).skip(skip)
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
        // After a hole, numbers go on as files say, and what is no text is a record all the same.
        fs::write(
            folder.path().join("00000000000000000009.jsonl"),
            b"\xff\ng\n",
        )
        .unwrap();
        let behind: Vec<_> = records(folder.path(), 4).skip(1).collect();
        assert_eq!(behind, [(9, "\u{fffd}".to_owned()), (10, "g".to_owned())]);
        fs::remove_file(folder.path().join("00000000000000000009.jsonl")).unwrap();
        write("x.jsonl", "no\n");
        write("checkpoint", "no\n");
        let all = ["a", "b", "c", "d", "e"];
        for from in 0..7 {
            let found: Vec<_> = records(folder.path(), from as u64).collect();
            let wanted = (from as u64..).zip(&all[from.min(5)..]);
            let wanted: Vec<_> = wanted
                .map(|(number, text)| (number, (*text).to_owned()))
                .collect();
            assert_eq!(found, wanted, "{from}");
        }
    }
}
