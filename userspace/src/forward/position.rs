//! How far a destination has got, in a small file beside the log.
//!
//! A number alone would not do: a log may be moved away and another one begun, and a loss of power
//! may take the end of one. So the file also has hashes of some records before that number, the
//! older the fewer. The newest that the log still has is where it goes on; where it has none of
//! them, it is another log.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::source;
use crate::evidence::files;

const VERSION: u32 = 1;

/// A record that was sent: its number, and what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Anchor {
    number: u64,
    hash: String,
}

impl Anchor {
    pub(super) fn new(number: u64, line: &[u8]) -> Self {
        let hash = hex::encode(Sha256::digest(line));
        Self { number, hash }
    }
}

/// How far it has got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Position {
    version: u32,
    /// Number of the first record that may not have arrived.
    pub(super) next: u64,
    /// Some before that, oldest first.
    anchors: Vec<Anchor>,
}

/// What the file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Position(Position),
    /// There is none.
    Nothing,
    /// Nobody can read it, and why.
    Damaged(String),
}

/// Where a log is gone on with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Where it was left.
    Same,
    /// The log has less than was sent: from this number on.
    Back(u64),
    /// It is another log.
    Other,
}

impl Position {
    pub(super) fn at(next: u64) -> Self {
        Self {
            version: VERSION,
            next,
            anchors: Vec::new(),
        }
    }

    pub(super) fn load(path: &Path) -> Kept {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Kept::Nothing,
            Err(e) => return Kept::Damaged(e.to_string()),
        };
        match serde_json::from_slice::<Self>(&text) {
            Ok(kept) if kept.version != VERSION => {
                Kept::Damaged(format!("it is of version {}", kept.version))
            }
            Ok(kept) if kept.anchors.iter().any(|anchor| anchor.number >= kept.next) => {
                Kept::Damaged("it contradicts itself".into())
            }
            Ok(kept) => Kept::Position(kept),
            Err(e) => Kept::Damaged(e.to_string()),
        }
    }

    /// There is either the old or the new one, whatever happens: a file that is empty after a loss
    /// of power would mean that nobody knows what was sent.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let text = serde_json::to_string(self)? + "\n";
        files::replace(folder, &name.to_string_lossy(), text.as_bytes(), 0o640)
    }

    /// All before `next` has arrived; `last` is of these.
    pub(super) fn advance(&mut self, next: u64, last: Option<Anchor>) {
        self.next = next;
        self.anchors.extend(last);
        self.anchors.retain(|anchor| anchor.number < next);
        // One goes where those on both sides of it will do: the older one is at most twice as far
        // back as the newer one. So there are few, and always some to go back to.
        let mut kept: Vec<Anchor> = Vec::new();
        let mut all = self.anchors.drain(..).rev().peekable();
        while let Some(anchor) = all.next() {
            let back = |anchor: &Anchor| next - anchor.number;
            let is_between = (kept.last().zip(all.peek()))
                .is_some_and(|(newer, older)| back(older) <= back(newer).saturating_mul(2));
            if !is_between {
                kept.push(anchor);
            }
        }
        drop(all);
        kept.reverse();
        self.anchors = kept;
    }

    /// Finds it in the log.
    pub(super) fn find(&self, folder: &Path) -> io::Result<Place> {
        let oldest = source::firsts(folder)?.first().copied();
        let Some(oldest) = oldest.filter(|_| self.next > 0) else {
            let is_same = self.next == 0;
            return Ok(if is_same { Place::Same } else { Place::Other });
        };
        for (back, anchor) in self.anchors.iter().rev().enumerate() {
            // What was removed because it is old cannot be compared. A log that begins anew has its
            // first record.
            let is_there = anchor.number < oldest
                || source::line(folder, anchor.number)?
                    .is_some_and(|line| Anchor::new(anchor.number, &line) == *anchor);
            match is_there {
                true if back == 0 => {
                    // Records after it may have been removed from the end.
                    let is_whole = anchor.number + 1 >= self.next
                        || anchor.number < oldest
                        || source::size(folder)? >= self.next;
                    return Ok(if is_whole {
                        Place::Same
                    } else {
                        Place::Back(anchor.number + 1)
                    });
                }
                // What is removed was sent, whatever was lost after it.
                true => return Ok(Place::Back(oldest.max(anchor.number + 1))),
                false => {}
            }
        }
        // Without anything to compare: it began with the newest, and nothing came since.
        let can_be = self.anchors.is_empty() && source::size(folder)? >= self.next;
        Ok(if can_be { Place::Same } else { Place::Other })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(folder: &Path, first: u64, lines: std::ops::Range<u64>, word: &str) {
        let text: String = lines.map(|number| format!("{word} {number}\n")).collect();
        fs::write(folder.join(source::name(first)), text).unwrap();
    }

    fn position(until: u64) -> Position {
        let mut position = Position::at(0);
        for number in 0..until {
            let anchor = Anchor::new(number, format!("r {number}").as_bytes());
            position.advance(number + 1, Some(anchor));
        }
        position
    }

    #[test]
    fn kept_and_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("forward-x");
        assert_eq!(Position::load(&path), Kept::Nothing);
        let position = position(1000);
        assert!(position.anchors.len() < 24, "{position:?}");
        assert_eq!(position.anchors.last().unwrap().number, 999);
        position.save(&path).unwrap();
        assert_eq!(Position::load(&path), Kept::Position(position));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let whole = fs::read_to_string(&path).unwrap();
        for text in [
            "",
            "{}",
            "null",
            &whole[..whole.len() / 2],
            &whole.replace("\"version\":1", "\"version\":2"),
            &whole.replace("\"next\":1000", "\"next\":10"),
        ] {
            fs::write(&path, text).unwrap();
            assert!(matches!(Position::load(&path), Kept::Damaged(_)), "{text}");
        }
    }

    #[test]
    fn found_again() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert_eq!(Position::at(0).find(folder).unwrap(), Place::Same);
        assert_eq!(position(5).find(folder).unwrap(), Place::Other);
        log(folder, 0, 0..100, "r");
        assert_eq!(position(5).find(folder).unwrap(), Place::Same);
        assert_eq!(position(100).find(folder).unwrap(), Place::Same);
        assert_eq!(Position::at(100).find(folder).unwrap(), Place::Same);
        assert_eq!(Position::at(101).find(folder).unwrap(), Place::Other);
        // A loss of power took the end, and the log goes on.
        let Place::Back(next) = position(200).find(folder).unwrap() else {
            panic!()
        };
        assert!((1..=100).contains(&next), "{next}");
        log(folder, 100, 100..300, "other");
        assert_eq!(position(200).find(folder).unwrap(), Place::Back(next));
        // The first is gone, and with it what could be compared.
        fs::remove_file(folder.join(source::name(0))).unwrap();
        assert_eq!(position(50).find(folder).unwrap(), Place::Same);
        // The end is lost, and the beginning is gone.
        log(folder, 100, 100..150, "other");
        assert_eq!(position(140).find(folder).unwrap(), Place::Back(100));
        // It is another one.
        log(folder, 0, 0..100, "other");
        assert_eq!(position(50).find(folder).unwrap(), Place::Other);
    }
}
