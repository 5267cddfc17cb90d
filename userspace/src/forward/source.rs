//! Reads the log behind whoever writes it: whole lines, in order, from file to file, and what is
//! missing between them.
//!
//! A line is read when its `\n` is there, so what a writer takes back, or what a loss of power has
//! torn, is never seen.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
};

use crate::evidence::files;
pub(super) use crate::evidence::files::name;

/// Numbers of the first records of all files, in order.
pub(super) fn firsts(folder: &Path) -> io::Result<Vec<u64>> {
    files::list(folder).map(|(firsts, _)| firsts)
}

/// One record, without `\n`; `None`: the log has it not.
pub(super) fn line(folder: &Path, number: u64) -> io::Result<Option<Vec<u8>>> {
    let mut source = Source::new(folder, number);
    match source.next() {
        Ok(Some(Item::Record(_, line))) => Ok(Some(line)),
        Ok(_) | Err(Trouble::Changed) => Ok(None),
        Err(Trouble::Io(e)) => Err(e),
    }
}

/// How many records there have been.
pub(super) fn size(folder: &Path) -> io::Result<u64> {
    let Some(&last) = firsts(folder)?.last() else {
        return Ok(0);
    };
    let mut file = Lines::open(folder, last)?;
    let mut size = last;
    while file.next()?.is_some() {
        size += 1;
    }
    Ok(size)
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A record and its number.
    Record(u64, Vec<u8>),
    /// Records that are there no more.
    Gap(Range<u64>),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What was read before is not in the log any more, so nobody knows what comes next.
    #[error("the log is another than before")]
    Changed,
}

/// A place in the log.
#[derive(Debug)]
pub(super) struct Source {
    folder: PathBuf,
    next: u64,
    file: Option<Lines>,
}

impl Source {
    pub(super) fn new(folder: &Path, next: u64) -> Self {
        let folder = folder.to_owned();
        Self {
            folder,
            next,
            file: None,
        }
    }

    /// What comes next; `None`: nothing yet.
    pub(super) fn next(&mut self) -> Result<Option<Item>, Trouble> {
        let Some(file) = &mut self.file else {
            return self.open();
        };
        if let Some(line) = file.next()? {
            return Ok(Some(self.record(line)));
        }
        let first = file.first;
        let newer = firsts(&self.folder)?
            .into_iter()
            .find(|newer| *newer > first);
        let Some(newer) = newer else {
            return Ok(None);
        };
        // It may have grown before that one began.
        match file.next()? {
            Some(line) => Ok(Some(self.record(line))),
            None => self.begin(newer),
        }
    }

    fn record(&mut self, line: Vec<u8>) -> Item {
        let number = self.next;
        self.next += 1;
        Item::Record(number, line)
    }

    /// Finds the file that the next record is in.
    fn open(&mut self) -> Result<Option<Item>, Trouble> {
        let firsts = firsts(&self.folder)?;
        let after = firsts.partition_point(|first| *first <= self.next);
        match (
            after.checked_sub(1).and_then(|at| firsts.get(at)),
            firsts.first(),
        ) {
            (Some(first), _) => self.begin(*first),
            (None, Some(oldest)) => self.begin(*oldest),
            (None, None) => Ok(None),
        }
    }

    fn begin(&mut self, first: u64) -> Result<Option<Item>, Trouble> {
        let mut file = match Lines::open(&self.folder, first) {
            Ok(file) => file,
            // It was removed since the folder was read.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.file = None;
                return Ok(None);
            }
            Err(e) => return Err(e.into()),
        };
        if first > self.next {
            let gap = self.next..first;
            self.next = first;
            self.file = Some(file);
            return Ok(Some(Item::Gap(gap)));
        }
        for _ in first..self.next {
            if file.next()?.is_some() {
                continue;
            }
            // Less than was read before: lost, or removed from its end.
            let is_last = firsts(&self.folder)?.last() == Some(&first);
            if is_last {
                return Err(Trouble::Changed);
            }
            break;
        }
        self.file = Some(file);
        self.next()
    }
}

/// Lines of a file that may still grow.
#[derive(Debug)]
struct Lines {
    first: u64,
    reader: BufReader<File>,
    /// Bytes of the lines that were read.
    at: u64,
}

impl Lines {
    fn open(folder: &Path, first: u64) -> io::Result<Self> {
        let file = File::open(folder.join(name(first)))?;
        let reader = BufReader::with_capacity(1 << 16, file);
        Ok(Self {
            first,
            reader,
            at: 0,
        })
    }

    fn next(&mut self) -> Result<Option<Vec<u8>>, io::Error> {
        let mut line = Vec::new();
        let read = self.reader.read_until(b'\n', &mut line)?;
        if line.pop_if(|last| *last == b'\n').is_some() {
            self.at += read as u64;
            return Ok(Some(line));
        }
        if read > 0 {
            // The rest may come, or something else in its place.
            self.reader.seek(SeekFrom::Start(self.at))?;
        }
        Ok(None)
    }

    fn is_shorter(&self) -> io::Result<bool> {
        Ok(self.reader.get_ref().metadata()?.len() < self.at)
    }
}

impl Source {
    /// To be asked now and then: whether somebody has shortened what is being read.
    pub(super) fn check(&self) -> Result<(), Trouble> {
        match &self.file {
            Some(file) if file.is_shorter()? => Err(Trouble::Changed),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    fn write(folder: &Path, first: u64, text: &str) {
        let path = folder.join(name(first));
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rest(source: &mut Source) -> Vec<Item> {
        std::iter::from_fn(|| source.next().unwrap()).collect()
    }

    fn records(from: u64, lines: &[&str]) -> Vec<Item> {
        let numbered = (from..).zip(lines);
        numbered
            .map(|(number, line)| Item::Record(number, line.as_bytes().to_vec()))
            .collect()
    }

    #[test]
    fn follows_a_log_that_grows() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let mut source = Source::new(folder, 0);
        assert_eq!(rest(&mut source), []);
        write(folder, 0, "a\nb\nto");
        assert_eq!(rest(&mut source), records(0, &["a", "b"]));
        write(folder, 0, "rn\n");
        assert_eq!(rest(&mut source), records(2, &["torn"]));
        // The rest of a line is taken back, and another one is written.
        write(folder, 0, "half");
        assert_eq!(rest(&mut source), []);
        let path = folder.join(name(0));
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(9).unwrap();
        write(folder, 0, "whole\n");
        assert_eq!(rest(&mut source), records(3, &["whole"]));
        write(folder, 4, "e\n");
        write(folder, 5, "f\n");
        fs::write(folder.join("x.jsonl"), "no\n").unwrap();
        assert_eq!(rest(&mut source), records(4, &["e", "f"]));
        assert_eq!(size(folder).unwrap(), 6);
        assert_eq!(line(folder, 3).unwrap().unwrap(), b"whole");
        assert_eq!(line(folder, 6).unwrap(), None);
        for from in 0..=6 {
            assert_eq!(
                rest(&mut Source::new(folder, from)).len(),
                6 - from as usize
            );
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, 3, "d\n");
        write(folder, 7, "h\n");
        let mut source = Source::new(folder, 0);
        let mut all = vec![Item::Gap(0..3)];
        all.extend(records(3, &["d"]));
        all.push(Item::Gap(4..7));
        all.extend(records(7, &["h"]));
        assert_eq!(rest(&mut source), all);
        let path = folder.join(name(7));
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(0).unwrap();
        assert!(matches!(source.check(), Err(Trouble::Changed)));
        let mut source = Source::new(folder, 8);
        assert!(matches!(source.next(), Err(Trouble::Changed)));
    }
}
