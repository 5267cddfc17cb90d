//! Opening a log: what is left of it after a stop at any moment, and where to go on.
//!
//! Apart from the writer because it is another question. The writer knows what it did; this finds out, from a
//! checkpoint, a few tiles and the newest records. It repairs only what a crash can have done behind the newest
//! checkpoint. Whatever the checkpoint covers and is not there is damage, and is not touched.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use tlog_tiles::record_hash;

use super::{
    checkpoint::{HISTORY, History, Keys, NEWEST, Signed, history},
    error::LogError,
    files,
    log::{Log, Opened, lock},
    tree::Edge,
};

impl Log {
    /// Opens the log in `folder`, and makes it (folder, keys, a checkpoint of nothing) if there is none.
    ///
    /// `origin` names the log in its checkpoints and is the name of its key; C2SP asks for a URL without its scheme,
    /// such as `recorder-7.example.org/kordon`. A new record file begins when one has `file_size` bytes. `tail` is how
    /// many of the last records are wanted.
    ///
    /// It reads the newest checkpoint, a few tiles, and the records from the file on that the checkpoint ends in. The
    /// rest is for [`super::verify`].
    ///
    /// # Errors
    ///
    /// [`LogError::Locked`] if it is open elsewhere, [`LogError::Damaged`] if the end of the log is not what its
    /// checkpoint says, [`LogError::Origin`], [`LogError::Io`].
    pub fn open(
        folder: &Path,
        origin: &str,
        file_size: u64,
        tail: usize,
    ) -> Result<(Self, Opened), LogError> {
        open(folder, origin, file_size, tail)
    }
}

fn open(
    folder: &Path,
    origin: &str,
    file_size: u64,
    tail: usize,
) -> Result<(Log, Opened), LogError> {
    fs::create_dir_all(folder).map_err(LogError::io("make", folder))?;
    let lock = lock(folder)?;
    let newest = folder.join(NEWEST);
    let text = files::read_text(&newest).map_err(LogError::io("read", &newest))?;
    let (firsts, _) = files::list(folder).map_err(LogError::io("list", folder))?;

    // The first file is made before the first checkpoint.
    let bare = firsts.iter().all(|first| {
        fs::metadata(folder.join(files::name(*first))).is_ok_and(|file| *first + file.len() == 0)
    });
    let keys = Keys::open(folder, origin, text.is_none() && bare)?;
    let signed = match text {
        Some(text) => Some(known(&keys, &text).map_err(|what| LogError::damaged(&newest, what))?),
        None if bare => None,
        None => {
            return Err(LogError::damaged(
                &newest,
                "is missing, and there are records",
            ));
        }
    };
    let size = signed.as_ref().map_or(0, |signed| signed.size);
    let edge = edge(folder, signed.as_ref())?;

    let mut opened = Opened::default();
    let Ends {
        first,
        length,
        edge,
    } = ends(folder, firsts, edge, &mut opened)?;
    if edge.size() < size {
        let what = format!(
            "the checkpoint is for {size} records, here they end at {}",
            edge.size()
        );
        return Err(LogError::damaged(&folder.join(files::name(first)), what));
    }
    let path = folder.join(files::name(first));
    let file = OpenOptions::new()
        .append(true)
        .create(signed.is_none())
        .open(&path)
        .map_err(LogError::io("open", &path))?;
    let (remembered, forgetful) =
        repair(folder, signed.as_ref()).map_err(LogError::io("repair", &folder.join(HISTORY)))?;

    let mut log = Log {
        folder: folder.to_owned(),
        _lock: lock,
        keys,
        file_size,
        file,
        first,
        length,
        spoiled: false,
        edge,
        signed,
        unsynced: Vec::new(),
        remembered,
        forgetful,
    };
    if log.signed.is_none() {
        // From here on a folder without a checkpoint is one from which it was removed.
        log.checkpoint()?;
    }
    let (firsts, _) = files::list(folder).map_err(LogError::io("list", folder))?;
    opened.tail = files::tail(folder, &firsts, tail).map_err(LogError::io("read", folder))?;
    Ok((log, opened))
}

fn known(keys: &Keys, text: &str) -> Result<Signed, String> {
    let signed = Signed::parse(text).map_err(|fault| fault.to_string())?;
    signed
        .check(&keys.public)
        .map_err(|fault| fault.to_string())?;
    Ok(signed)
}

/// The edge of the signed tree, from its partial tiles.
fn edge(folder: &Path, signed: Option<&Signed>) -> Result<Edge, LogError> {
    let Some(signed) = signed else {
        return Ok(Edge::default());
    };
    let edge = Edge::load(folder, signed.size)
        .map_err(|(path, error)| LogError::damaged(&folder.join(path), error.to_string()))?;
    if edge.root() == signed.root {
        Ok(edge)
    } else {
        Err(LogError::damaged(
            &folder.join("tile"),
            "does not give the root that was signed",
        ))
    }
}

/// Where the log ends.
struct Ends {
    /// First record of the newest file.
    first: u64,
    /// Bytes in it.
    length: u64,
    /// With all records.
    edge: Edge,
}

/// Reads the records that come after the checkpoint, and cuts off or sets aside what does not follow.
fn ends(
    folder: &Path,
    mut firsts: Vec<u64>,
    mut edge: Edge,
    opened: &mut Opened,
) -> Result<Ends, LogError> {
    let signed = edge.size();
    if let Some(last) = firsts.iter().rposition(|first| *first <= signed) {
        firsts.drain(..last);
    } else if let Some(first) = firsts.first() {
        let path = folder.join(files::name(*first));
        return Err(LogError::damaged(&path, "the file before it is missing"));
    } else if signed > 0 {
        return Err(LogError::damaged(folder, "there are no record files"));
    }
    let mut rest = firsts.into_iter().peekable();
    let mut end = (rest.next().unwrap_or(0), 0);
    let mut next = end.0;
    loop {
        let path = folder.join(files::name(end.0));
        let mut torn = 0;
        if path.exists() {
            let mut settled = |line: &[u8], whole: bool| -> io::Result<()> {
                if !whole {
                    torn = line.len() as u64;
                    return Ok(());
                }
                if next >= signed {
                    edge.push(record_hash(line));
                }
                next += 1;
                Ok(())
            };
            end.1 = files::lines(&path, &mut settled).map_err(LogError::io("read", &path))?;
        }
        if next < signed {
            let what = format!("ends before record {next}, the checkpoint is for {signed} records");
            return Err(LogError::damaged(&path, what));
        }
        if torn > 0 {
            opened.torn = torn;
            cut(&path, end.1).map_err(LogError::io("shorten", &path))?;
        }
        match rest.peek() {
            Some(first) if *first == next && torn == 0 => end = (*first, 0),
            Some(_) => {
                set_aside(folder, rest, opened)?;
                break;
            }
            None => break,
        }
        rest.next();
    }
    Ok(Ends {
        first: end.0,
        length: end.1,
        edge,
    })
}

fn cut(path: &Path, length: u64) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.set_len(length)
}

/// After a loss of power the end of one file may be gone, and the next one be there. None of that was signed.
fn set_aside(
    folder: &Path,
    firsts: impl Iterator<Item = u64>,
    opened: &mut Opened,
) -> Result<(), LogError> {
    for first in firsts {
        let name = files::name(first);
        let aside = folder.join(format!("{name}{}", files::LOST));
        fs::rename(folder.join(name), &aside).map_err(LogError::io("set aside as", &aside))?;
        opened.lost.push(aside);
    }
    Ok(())
}

/// Cuts half a checkpoint off `checkpoints`. Returns how many it has, and whether the newest is not among them.
fn repair(folder: &Path, signed: Option<&Signed>) -> io::Result<(usize, bool)> {
    let Some(History { notes, bytes }) = history(folder)? else {
        return Ok((0, signed.is_some()));
    };
    let path: PathBuf = folder.join(HISTORY);
    if File::open(&path)?.metadata()?.len() > bytes as u64 {
        cut(&path, bytes as u64)?;
    }
    let last = notes.last().map(|(_, text)| text.as_str());
    Ok((
        notes.len(),
        signed.is_some_and(|signed| Some(signed.text.as_str()) != last),
    ))
}
