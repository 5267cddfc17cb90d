//! Files that a client opened and sent. They are copied first: what is judged is then what
//! is used, whatever the client does with its files meanwhile, and a snapshot that is
//! mapped into memory stays as long as it is.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::{
    daemon::{
        refusal::Refusal,
        updates::{download::Names, held::Origin},
    },
    diagnostic::quoted,
};

/// Bytes of all files of one request. RIBs of the largest collectors have less than a
/// tenth, compressed.
const MOST: u64 = 2 << 30;

/// Copies of files, which go when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Received {
    files: Vec<(NamedTempFile, String)>,
    /// How many of them are ASN sources; they come first.
    asn: usize,
}

impl Received {
    /// Copies `files`, which are called `asn` and `countries`, in this order, into `folder`.
    pub(crate) fn copy(
        folder: &Path,
        asn: &[String],
        countries: &[String],
        files: Vec<File>,
    ) -> Result<Self, Refusal> {
        Self::copy_up_to(MOST, folder, asn, countries, files)
    }

    fn copy_up_to(
        most: u64,
        folder: &Path,
        asn: &[String],
        countries: &[String],
        files: Vec<File>,
    ) -> Result<Self, Refusal> {
        if files.len() != asn.len() + countries.len() {
            return Err(Refusal::new(
                format!(
                    "{} files are named, and {} came",
                    asn.len() + countries.len(),
                    files.len()
                ),
                "use the `kordon` command of the daemon's version; the daemon opens no file \
                 that a client names",
            ));
        }
        let mut left = most;
        let mut copies = Vec::new();
        for (name, file) in asn.iter().chain(countries).zip(files) {
            let cannot = |e: io::Error| {
                Refusal::new(
                    format!("cannot copy {}: {e}", quoted(name)),
                    "nothing changed; see to the file, and to the room in the state directory",
                )
            };
            // From a pipe nothing may ever come.
            let metadata = file.metadata().map_err(cannot)?;
            if !metadata.is_file() {
                return Err(Refusal::new(
                    format!("{} is not a regular file", quoted(name)),
                    "copy it into one first",
                ));
            }
            let mut copy = NamedTempFile::with_prefix_in(".fetch-", folder).map_err(cannot)?;
            let mut limited = file.take(left + 1);
            let copied = io::copy(&mut limited, copy.as_file_mut()).map_err(cannot)?;
            left = left.checked_sub(copied).ok_or_else(|| {
                Refusal::new(
                    format!("the files have more than {} MiB", most >> 20),
                    "compress them: .gz, .zst, .bz2 and .xz are read as they are",
                )
            })?;
            // Whoever accepts it is told of when it is; nothing else hangs on that.
            if let Ok(changed) = metadata.modified() {
                let _ = copy.as_file().set_modified(changed);
            }
            copies.push((copy, name.clone()));
        }
        Ok(Self {
            files: copies,
            asn: asn.len(),
        })
    }

    /// Where the ASN sources are.
    pub(crate) fn asn(&self) -> Vec<PathBuf> {
        self.paths().take(self.asn).collect()
    }

    /// Where the country sources are.
    pub(crate) fn countries(&self) -> Vec<PathBuf> {
        self.paths().skip(self.asn).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// What they are, for people.
    pub(crate) fn origins(&self) -> Vec<Origin> {
        let origins = self.files.iter();
        origins
            .map(|(file, name)| Origin::of_path(file.path()).called(name))
            .collect()
    }

    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.files.iter().map(|(file, _)| file.path().to_owned())
    }

    /// As the client calls them.
    pub(crate) fn names(&self) -> Names {
        let name = |(file, name): &(NamedTempFile, String)| (file.path().to_owned(), name.clone());
        Names(self.files.iter().map(name).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    fn copy(most: u64, names: &[&str], files: Vec<File>) -> Result<Received, Refusal> {
        let folder = std::env::temp_dir();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        Received::copy_up_to(most, &folder, &names, &[], files)
    }

    #[test]
    fn what_was_opened_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "secret\n").unwrap();
        let open = || File::open(&path).unwrap();
        let secret = path.display().to_string();

        let received = copy(7, &["mine"], vec![open()]).unwrap();
        let there = received.asn().remove(0);
        assert_eq!(std::fs::read_to_string(&there).unwrap(), "secret\n");
        // Whatever becomes of the file meanwhile.
        std::fs::write(&path, "other\n").unwrap();
        assert_eq!(std::fs::read_to_string(&there).unwrap(), "secret\n");
        let mut text = format!("`{}` is wrong", there.display());
        received.names().rename(&mut text);
        assert_eq!(text, "`mine` is wrong");
        drop(received);
        assert!(!there.exists());

        let refused = |result: Result<Received, Refusal>| result.unwrap_err().message;
        // A name alone opens nothing.
        let message = refused(copy(7, &[&secret], Vec::new()));
        assert_eq!(message, "1 files are named, and 0 came");
        let message = refused(copy(5, &["mine"], vec![open()]));
        assert_eq!(message, "the files have more than 0 MiB");
        // Who may not read the file has nothing but a name of it.
        let unread = File::options().write(true).open(&path).unwrap();
        let message = refused(copy(9, &["mine"], vec![unread]));
        assert!(message.contains("Bad file descriptor"), "{message}");
        let path_only = path_only_of(&path);
        let message = refused(copy(9, &["mine"], vec![path_only]));
        assert!(message.contains("Bad file descriptor"), "{message}");
        let (read, _write) = nix::unistd::pipe().unwrap();
        let pipe = File::from(read as OwnedFd);
        let message = refused(copy(9, &["mine"], vec![pipe]));
        assert_eq!(message, "`mine` is not a regular file");
    }

    /// Not by `File::options`, which takes the flag away where musl counts it as an access mode.
    fn path_only_of(path: &Path) -> File {
        use nix::{
            fcntl::{OFlag, open},
            sys::stat::Mode,
        };
        File::from(open(path, OFlag::O_PATH, Mode::empty()).unwrap())
    }
}
