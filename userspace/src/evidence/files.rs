//! The files with the records: their names, their lines, and how something is written so that it stays.
//!
//! Nothing here knows of hashes or JSON. A record file is named by the index of its first record, so the names alone
//! say which records a file must hold, and a file that is missing or renamed shows.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use memchr::memchr_iter;

/// What record files end with.
const ENDING: &str = ".jsonl";
/// Digits of the index in a name: as many as the greatest `u64` has.
const DIGITS: usize = 20;
/// Bytes that are read at once, backwards.
const BLOCK: u64 = 64 << 10;

/// Name of the file whose first record is `first`.
pub(crate) fn name(first: u64) -> String {
    format!("{first:0DIGITS$}{ENDING}")
}

/// First records of all record files, in order, and the names of files that look like record files but are none.
pub(crate) fn list(folder: &Path) -> io::Result<(Vec<u64>, Vec<String>)> {
    let (mut firsts, mut strays) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder)? {
        let found = entry?.file_name().to_string_lossy().into_owned();
        let Some((digits, ending)) = found.split_once(ENDING) else {
            continue;
        };
        match digits.parse() {
            Ok(first) if name(first) == found => firsts.push(first),
            // Set aside when the log was opened after a loss of power.
            _ if ending == LOST => {}
            _ => strays.push(found),
        }
    }
    firsts.sort_unstable();
    strays.sort_unstable();
    Ok((firsts, strays))
}

/// Added to the name of a file whose records do not follow what the loss of power has left.
pub(crate) const LOST: &str = ".lost";

/// Hands each line of a file, without its `\n`, to `each`. The flag says whether there was a `\n`: only the last line
/// can be without. Returns the bytes of the lines that had one.
pub(crate) fn lines<E: From<io::Error>>(
    path: &Path,
    mut each: impl FnMut(&[u8], bool) -> Result<(), E>,
) -> Result<u64, E> {
    let mut file = BufReader::with_capacity(1 << 16, File::open(path)?);
    let mut line = Vec::new();
    let mut whole = 0;
    loop {
        line.clear();
        let read = file.read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(whole);
        }
        if line.pop_if(|last| *last == b'\n').is_some() {
            whole += read as u64;
            each(&line, true)?;
        } else {
            each(&line, false)?;
        }
    }
}

/// The last `most` lines of all files, oldest first. Reads from the end, so it costs what the lines are long.
pub(crate) fn tail(folder: &Path, firsts: &[u64], most: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut found = VecDeque::new();
    for &first in firsts.iter().rev() {
        if found.len() >= most {
            break;
        }
        let mut file = File::open(folder.join(name(first)))?;
        let mut at = file.metadata()?.len();
        let mut bytes = Vec::new();
        // One `\n` more than lines, to know where the first of them begins.
        while at > 0 && memchr_iter(b'\n', &bytes).count() <= most - found.len() {
            let block = at.min(BLOCK.max(bytes.len() as u64));
            at -= block;
            file.seek(SeekFrom::Start(at))?;
            let mut before = Vec::new();
            (&mut file).take(block).read_to_end(&mut before)?;
            before.append(&mut bytes);
            bytes = before;
        }
        let lines = bytes.strip_suffix(b"\n").unwrap_or_default();
        if !bytes.is_empty() {
            for line in lines.rsplit(|byte| *byte == b'\n').take(most - found.len()) {
                found.push_front(line.to_owned());
            }
        }
    }
    Ok(found.into())
}

/// Writes a file so that after a crash there is either the old or the new one, and not readable by others if `mode` says so.
pub(crate) fn replace(folder: &Path, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let new = folder.join(format!("{name}.new"));
    let write = || {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(mode);
        let mut file = options.open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, folder.join(name))?;
        sync(folder)
    };
    write().inspect_err(|_| {
        // On a full disk the rest of it is in the way of everything else. It may not be there at all.
        let _ = fs::remove_file(&new);
    })
}

/// Makes a file, or the names in a folder, survive the loss of power.
pub(crate) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Reads a text file; `None` if there is none. What is not UTF-8 becomes U+FFFD: it will not verify, and can be shown.
pub(crate) fn read_text(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
