//! `[evidence]`: where the log is that can be proven, and who is told how long it was.

use std::{path::PathBuf, time::Duration};

use toml::de::DeTable;

use super::reader::Reader;

/// How often a flow that goes on is written unless the file says otherwise.
const INTERVAL: Duration = Duration::from_secs(60);
/// How often a checkpoint is signed unless the file says otherwise.
const CHECKPOINT: Duration = Duration::from_secs(60);
/// Mebibytes of records that are kept unless the file says otherwise.
const MAX_SIZE: u32 = 4096;
/// Longest time that can be given.
const MOST: Duration = Duration::from_secs(3600);

/// The log of evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Its folder; `None`: `evidence` in that of the state.
    pub folder: Option<PathBuf>,
    /// How often a flow that goes on is written.
    pub interval: Duration,
    /// How often a checkpoint is signed.
    pub checkpoint: Duration,
    /// Mebibytes of records that are kept; the oldest go.
    pub max_size: u32,
    /// A program, and its arguments, that gets each checkpoint on its standard input.
    pub witness: Vec<String>,
}

impl Reader<'_, '_> {
    /// `None`: there is no such section, and nothing is written.
    pub(super) fn evidence(&mut self, table: &DeTable<'_>) -> Option<Evidence> {
        let keys = ["folder", "interval", "checkpoint", "max_size", "witness"];
        let table = self.section(table, "evidence", &keys)?;
        let folder = self.path(table, "folder");
        let interval = self.time(table, "interval", MOST);
        let checkpoint = self.time(table, "checkpoint", MOST);
        let max_size = self.number(table, "max_size", 128..=1 << 30, MAX_SIZE);
        let witness = table.get("witness").map_or_else(Vec::new, |value| {
            let example = "`witness = [\"/usr/local/bin/send-checkpoint\"]`";
            let texts = self.report.strings(value, "`witness`", example);
            let help = "name a program and its arguments, or remove the key";
            self.report
                .refuse_empty(value, "`witness` names nothing", help);
            if let Some((span, program)) = texts.first()
                && !program.starts_with('/')
            {
                self.report.error(
                    span,
                    "the program in `witness` is no absolute path",
                    format!("write {example}"),
                );
            }
            texts.into_iter().map(|(_, text)| text.to_owned()).collect()
        });
        Some(Evidence {
            folder,
            interval: interval.unwrap_or(INTERVAL),
            checkpoint: checkpoint.unwrap_or(CHECKPOINT),
            max_size: max_size.unwrap_or(MAX_SIZE),
            witness,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    fn read(text: &str) -> (Option<crate::config::Config>, Vec<String>) {
        let text = format!("[[interface]]\ndevice = \"e\"\n{text}\n");
        let (config, found) = parse(Path::new("/k.toml"), &text);
        let errors = found.errors.into_iter().map(|e| e.message).collect();
        (config, errors)
    }

    #[test]
    fn all_of_it() {
        assert_eq!(read("").0.unwrap().evidence, None);
        let usual = read("[evidence]").0.unwrap().evidence.unwrap();
        assert_eq!((usual.interval, usual.checkpoint), (INTERVAL, CHECKPOINT));
        assert_eq!((usual.folder, usual.witness), (None, vec![]));
        let text = "[evidence]\nfolder = \"proof\"\ninterval = \"10s\"\ncheckpoint = \"5m\"\n\
                    max_size = 1024\n\
                    witness = [\"/bin/send\", \"-v\"]\n";
        let evidence = read(text).0.unwrap().evidence.unwrap();
        assert_eq!(evidence.folder, Some("/proof".into()));
        assert_eq!(evidence.interval, Duration::from_secs(10));
        assert_eq!(evidence.checkpoint, Duration::from_secs(300));
        assert_eq!(evidence.max_size, 1024);
        assert_eq!(evidence.witness, ["/bin/send", "-v"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, message) in [
            ("interval = 5", "`interval` must be a time"),
            ("interval = \"2h\"", "`interval` must be a time"),
            ("checkpoint = \"0s\"", "`checkpoint` must be a time"),
            ("max_size = 1", "`max_size` must be"),
            ("witness = []", "names nothing"),
            ("witness = [\"send\"]", "no absolute path"),
            ("path = \"/x\"", "unknown key `path`"),
        ] {
            let (config, errors) = read(&format!("[evidence]\n{text}"));
            assert!(config.is_none(), "{text}");
            assert!(errors[0].contains(message), "{errors:?}");
            assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        }
    }
}
