//! Opening files under names that are known beforehand: what is there may be something
//! else by now. A FIFO would block its reader for ever, a device may never end. So
//! nothing is waited for, and what is no regular file is refused, by its kind.

use std::{
    fs::{File, FileType, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

use memmap2::{Mmap, MmapOptions};

/// What is there instead of a file.
fn kind(found: FileType) -> &'static str {
    if found.is_dir() {
        "a folder"
    } else if found.is_fifo() {
        "a FIFO"
    } else if found.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// Opens a regular file with these options. Waits for nobody.
///
/// # Errors
/// As the system says; [`io::ErrorKind::InvalidInput`], or `IsADirectory`, where it is
/// something else.
pub fn open_with(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // The kind first: to open some devices does something.
    let check = |found: FileType| {
        if found.is_file() {
            return Ok(());
        }
        let kind_of_error = match found.is_dir() {
            true => io::ErrorKind::IsADirectory,
            false => io::ErrorKind::InvalidInput,
        };
        let words = format!("it is {}, not a file", kind(found));
        Err(io::Error::new(kind_of_error, words))
    };
    if let Ok(metadata) = path.metadata() {
        check(metadata.file_type())?;
    }
    let file = options.custom_flags(libc::O_NONBLOCK).open(path)?;
    check(file.metadata()?.file_type())?;
    Ok(file)
}

/// Whether there is no such file: nothing has its name, or what is to be its folder is none.
#[must_use]
pub fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

/// Opens a regular file to read.
///
/// # Errors
/// As [`open_with`].
pub fn open(path: &Path) -> io::Result<File> {
    open_with(OpenOptions::new().read(true), path)
}

/// All of a regular file.
///
/// # Errors
/// As [`open_with`], and where it cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// All of a regular file, which is text.
///
/// # Errors
/// As [`read`]; [`io::ErrorKind::InvalidData`] where it is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    io::read_to_string(open(path)?)
}

/// All of a regular file, without a copy, and at once: it is going to be read to its end. Only for
/// files that nobody writes to, but replaces by renaming: one that is cut meanwhile ends the
/// process (SIGBUS).
///
/// # Errors
/// As [`open_with`], and where it cannot be mapped.
pub fn map(path: &Path) -> io::Result<Mmap> {
    let file = open(path)?;
    // SAFETY: the mapping is private, and who may write the file replaces it instead.
    unsafe { MmapOptions::new().populate().map_copy_read_only(&file) }
}

/// Whether a regular file begins with these bytes. Looks at nothing else: from a pipe they would
/// be gone.
#[must_use]
pub fn starts_with(path: &Path, magic: &[u8]) -> bool {
    let mut found = vec![0; magic.len()];
    open(path).is_ok_and(|mut file| file.read_exact(&mut found).is_ok()) && found == magic
}

/// The same failure to write has the same words, whatever name the file had that is gone again.
#[must_use]
pub fn nameless(e: io::Error) -> io::Error {
    match e.to_string().rsplit_once(" at path ") {
        Some((words, _)) => io::Error::new(e.kind(), words),
        None => e,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, time::Duration};

    /// With a limit: what blocks must fail the test, not hang it.
    fn opened(path: &Path) -> io::Result<Vec<u8>> {
        let (send, receive) = mpsc::channel();
        let path = path.to_owned();
        std::thread::spawn(move || send.send(read(&path)));
        receive.recv_timeout(Duration::from_secs(5)).expect("hangs")
    }

    #[test]
    fn nothing_but_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "x").unwrap();
        std::fs::create_dir(path("folder")).unwrap();
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        std::os::unix::fs::symlink(path("fifo"), path("link")).unwrap();
        assert_eq!(opened(&path("file")).unwrap(), b"x");
        for (name, words) in [
            ("folder", "a folder"),
            ("fifo", "a FIFO"),
            ("link", "a FIFO"),
            ("socket", "a socket"),
            ("/dev/zero", "a device"),
        ] {
            let error = opened(&path(name)).unwrap_err().to_string();
            assert!(error.contains(words), "{name}: {error}");
        }
        let none = opened(&path("none")).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_failure_has_the_same_words_each_time() {
        // Nobody can make a file there.
        let fails = || tempfile::NamedTempFile::new_in("/proc").err().map(nameless);
        let words = || fails().map(|e| e.to_string()).unwrap();
        assert_eq!(words(), words());
        assert!(words().contains("os error"), "{}", words());
        assert_eq!(
            nameless(io::Error::from_raw_os_error(2)).raw_os_error(),
            Some(2)
        );
    }
}
