//! The archive that a kernel unpacks as its first root, in the format `newc`
//! (`Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel). A
//! program is static: there is no library.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::architecture::Architecture;
use crate::command::{Failed, run};

/// Files by path, without the slash in front.
#[derive(Clone, Debug, Default)]
pub(super) struct Archive {
    files: BTreeMap<String, (u32, Vec<u8>)>,
}

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

impl Archive {
    /// Adds a static program, without what only debuggers read.
    pub(super) fn program(
        &mut self,
        name: &str,
        from: &Path,
        architecture: Architecture,
    ) -> Result<(), Failed> {
        let stripped = from.with_file_name(format!("{name}-{}.stripped", std::process::id()));
        let mut strip = Command::new(architecture.gnu("strip"));
        run(strip.arg("-o").arg(&stripped).arg(from))?;
        let bytes = read(&stripped);
        let _ = fs::remove_file(&stripped);
        self.add(name, PROGRAM, bytes?);
        Ok(())
    }

    /// Adds the files of a folder.
    pub(super) fn folder(&mut self, name: &str, from: &Path) -> Result<(), Failed> {
        let entries = fs::read_dir(from)
            .map_err(|error| Failed::new(format!("cannot read `{}`: {error}", from.display())))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            self.file(name, &path)?;
        }
        Ok(())
    }

    /// Adds a file under its own name.
    pub(super) fn file(&mut self, folder: &str, from: &Path) -> Result<(), Failed> {
        let name = from.file_name().unwrap_or_default().display();
        self.add(&format!("{folder}/{name}"), FILE, read(from)?);
        Ok(())
    }

    fn add(&mut self, path: &str, mode: u32, bytes: Vec<u8>) {
        let path = path.trim_start_matches('/');
        for (at, _) in path.match_indices('/') {
            self.files
                .entry(path[..at].to_owned())
                .or_insert((FOLDER, Vec::new()));
        }
        self.files.insert(path.to_owned(), (mode, bytes));
    }

    /// The archive's bytes. Folders come before what is in them, as their names do.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, (path, (mode, bytes))) in (1..).zip(&self.files) {
            entry(&mut out, number, path, *mode, bytes);
        }
        entry(&mut out, 0, "TRAILER!!!", 0, &[]);
        out
    }
}

fn entry(out: &mut Vec<u8>, number: usize, path: &str, mode: u32, bytes: &[u8]) {
    let fields = [
        number,
        mode as usize,
        // User, group, links, time, size, four device numbers, name with its end, sum.
        0,
        0,
        1,
        0,
        bytes.len(),
        0,
        0,
        0,
        0,
        path.len() + 1,
        0,
    ];
    out.extend(b"070701");
    for field in fields {
        out.extend(format!("{field:08x}").bytes());
    }
    out.extend(path.bytes());
    out.push(0);
    pad(out);
    out.extend(bytes);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

fn read(path: &Path) -> Result<Vec<u8>, Failed> {
    fs::read(path)
        .map_err(|error| Failed::new(format!("cannot read `{}`: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::{Archive, FILE};

    #[test]
    fn an_archive_is_what_the_format_says() {
        let mut archive = Archive::default();
        archive.add("/a/b", FILE, b"hello".to_vec());
        let bytes = archive.bytes();
        let text = String::from_utf8(bytes).expect("it is ASCII here");
        let folder = "070701\
            00000001000041ed0000000000000000000000010000000000000000\
            00000000000000000000000000000000000000020000000\
            0a\0";
        assert!(text.starts_with(folder), "{text}");
        assert!(text.contains("a/b\0\0\0hello\0\0\x00070701"), "{text:?}");
        assert!(text.ends_with("TRAILER!!!\0\0\0\0"), "{text:?}");
        assert_eq!(text.len() % 4, 0);
    }
}
