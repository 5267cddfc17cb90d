//! A policy as it was read: its text and the list files it names, once.
//!
//! Reading and parsing are apart, so that the daemon can keep and restore the
//! exact input it applied, a client can send what it read with its own rights,
//! and parsing is a function of its arguments.

use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Diagnostic, quoted};
use crate::regular;

/// Bytes of one file, at most: more than every ASN and prefix of the Internet
/// as a list, and less than an endless device.
pub const MAX_FILE: u64 = 64 << 20;

/// Everything that a policy is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Path of the policy, as the user gave it.
    pub file: String,
    /// Its text.
    pub text: String,
    /// The list files it names, in the order of naming, each once.
    pub lists: Vec<ListFile>,
}

/// One list file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListFile {
    /// As the policy names it, relative to the policy's folder.
    pub name: String,
    /// Its text (what is not UTF-8 in a comment is replaced), or why it could
    /// not be read.
    pub content: Result<String, String>,
}

impl Bundle {
    /// A policy without list files, from memory.
    #[must_use]
    pub fn from_text(file: &str, text: &str) -> Self {
        Self {
            file: file.to_owned(),
            text: text.to_owned(),
            lists: Vec::new(),
        }
    }

    /// Reads the policy and the list files that it names. A list file that
    /// cannot be read is an error of parsing, which knows where it is named.
    ///
    /// # Errors
    ///
    /// When the policy itself cannot be read.
    pub fn read(path: &Path) -> Result<Self, Diagnostic> {
        let file = path.display().to_string();
        let failed = |what: String, help: &str| {
            Diagnostic::of_file(&file, format!("policy {} {what}", quoted(&file)), help)
        };
        let bytes = read_file(path).map_err(|error| {
            let help = match error.kind() {
                io::ErrorKind::NotFound => "check the path",
                io::ErrorKind::PermissionDenied => {
                    "check the permissions of the file and of its folders"
                }
                io::ErrorKind::IsADirectory => "name the policy file inside the folder",
                io::ErrorKind::InvalidInput => "write the policy into a file",
                _ => "check the path and the file system",
            };
            failed(format!("cannot be read: {error}"), help)
        })?;
        let bytes = bytes.ok_or_else(|| {
            let what = format!("is larger than {} MiB", MAX_FILE >> 20);
            failed(what, "check the path")
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            failed(
                format!("is not UTF-8 in line {line}"),
                "save the file as UTF-8",
            )
        })?;
        let lists = named_files(&text)
            .into_iter()
            .map(|name| {
                let content = match read_file(&resolve(path, &name)) {
                    Ok(Some(bytes)) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
                    Ok(None) => Err(format!("it is larger than {} MiB", MAX_FILE >> 20)),
                    Err(error) => Err(error.to_string()),
                };
                ListFile { name, content }
            })
            .collect();
        Ok(Self { file, text, lists })
    }

    /// The list file of this name.
    #[must_use]
    pub fn list(&self, name: &str) -> Option<&ListFile> {
        self.lists.iter().find(|list| list.name == name)
    }

    /// A list file's path as diagnostics name it.
    #[must_use]
    pub fn list_path(&self, name: &str) -> String {
        resolve(Path::new(&self.file), name).display().to_string()
    }

    /// The text behind a diagnostic's file name, for rendering.
    #[must_use]
    pub fn source(&self, file: &str) -> Option<&str> {
        if file == self.file {
            return Some(self.text.strip_prefix('\u{feff}').unwrap_or(&self.text));
        }
        let list = self
            .lists
            .iter()
            .find(|list| self.list_path(&list.name) == file)?;
        list.content.as_deref().ok()
    }
}

/// The policy's folder is the base.
fn resolve(policy: &Path, name: &str) -> std::path::PathBuf {
    policy.parent().unwrap_or(Path::new("")).join(name)
}

/// None: larger than [`MAX_FILE`].
fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    regular::open(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= MAX_FILE).then_some(bytes))
}

/// Every string in a set's `files`. Whatever else is wrong is for the parser.
fn named_files(text: &str) -> Vec<String> {
    let (table, _) = DeTable::parse_recoverable(text);
    let sets = table.get_ref().get("set").map(|sets| sets.get_ref());
    let Some(DeValue::Table(sets)) = sets else {
        return Vec::new();
    };
    let mut names: Vec<String> = Vec::new();
    for set in sets.values() {
        let files = set.get_ref().get("files").map(|files| files.get_ref());
        let Some(DeValue::Array(files)) = files else {
            continue;
        };
        for name in files.iter().filter_map(|file| file.get_ref().as_str()) {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
    }
    names
}
