//! A disk with a Debian on it, which keeps what happens to it from one boot to the next. The
//! archive that boots it is small: a program that mounts the disk and starts what is there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{Failed, run};

/// Sparse, so that only what is used takes room.
const SIZE: &str = "1G";

/// A folder that becomes the disk's root.
pub(super) struct Root(PathBuf);

impl Root {
    /// As another one, which stays what it is.
    pub(super) fn copy_of(root: &Path, at: PathBuf) -> Result<Self, Failed> {
        let _ = fs::remove_dir_all(&at);
        run(Command::new("cp")
            .args(["--archive", "--reflink=auto"])
            .args([root, &at]))?;
        Ok(Self(at))
    }

    pub(super) fn text(&self, path: &str, text: &str) -> Result<(), Failed> {
        self.make(path, |at| fs::write(at, text))
    }

    pub(super) fn file(&self, path: &str, from: &Path) -> Result<(), Failed> {
        self.make(path, |at| fs::copy(from, at).map(drop))
    }

    pub(super) fn link(&self, path: &str, to: &str) -> Result<(), Failed> {
        self.make(path, |at| {
            let _ = fs::remove_file(at);
            std::os::unix::fs::symlink(to, at)
        })
    }

    fn make(
        &self,
        path: &str,
        make: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> Result<(), Failed> {
        let at = self.0.join(path);
        let folder = at.parent().unwrap_or(&self.0);
        fs::create_dir_all(folder)
            .and_then(|()| make(&at))
            .map_err(|error| Failed::new(format!("cannot write `{}`: {error}", at.display())))
    }

    /// Makes the disk, without mounting anything here. The folder goes.
    pub(super) fn disk(self, image: &Path) -> Result<(), Failed> {
        let _ = fs::remove_file(image);
        let made = run(Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-d"])
            .arg(&self.0)
            .arg(image)
            .arg(SIZE));
        let _ = fs::remove_dir_all(&self.0);
        made
    }
}
