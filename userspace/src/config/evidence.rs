//! `[evidence]`: where the log is that can be proven, and who is told how long it was.

use std::{path::PathBuf, time::Duration};

use toml::de::DeTable;

use super::reader::Reader;
use crate::forward::{config::Destination, post::Post};

/// How often a flow that goes on is written unless the file says otherwise.
const INTERVAL: Duration = Duration::from_secs(60);
/// How often a checkpoint is signed unless the file says otherwise.
const CHECKPOINT: Duration = Duration::from_secs(60);
/// Mebibytes of records that are kept unless the file says otherwise.
const MAX_SIZE: u32 = 4096;
/// Days that the history of flows is kept unless the file says otherwise.
const HISTORY_DAYS: u32 = 400;
/// Mebibytes of it unless the file says otherwise.
const HISTORY_MAX_SIZE: u32 = 1024;
/// Mebibytes of policies and databases unless the file says otherwise.
const ARCHIVE_MAX_SIZE: u32 = 1024;
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
    /// How long sums by flow and hour are kept, days.
    pub history_days: u32,
    /// Mebibytes of these that are kept; the oldest days go.
    pub history_max_size: u32,
    /// Mebibytes of policies and databases that were in force; the oldest go.
    pub archive_max_size: u32,
    /// A program, and its arguments, that gets each checkpoint on its standard input.
    pub witness: Vec<String>,
    /// A server that gets each checkpoint.
    pub post: Option<Post>,
    /// Where records are sent on to.
    pub forward: Vec<Destination>,
}

impl Reader<'_, '_> {
    /// `None`: there is no such section, and nothing is written.
    pub(super) fn evidence(&mut self, table: &DeTable<'_>) -> Option<Evidence> {
        let keys = [
            "folder",
            "interval",
            "checkpoint",
            "max_size",
            "history_days",
            "history_max_size",
            "archive_max_size",
            "witness",
            "post",
            "forward",
        ];
        let table = self.section(table, "evidence", &keys)?;
        let folder = self.path(table, "folder");
        let interval = self.time(table, "interval", MOST);
        let checkpoint = self.time(table, "checkpoint", MOST);
        let max_size = self.number(table, "max_size", 128..=1 << 30, MAX_SIZE);
        let history_days = self.number(table, "history_days", 1..=36_500, HISTORY_DAYS);
        let history_max_size =
            self.number(table, "history_max_size", 16..=1 << 20, HISTORY_MAX_SIZE);
        let archive_max_size =
            self.number(table, "archive_max_size", 16..=1 << 20, ARCHIVE_MAX_SIZE);
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
            history_days: history_days.unwrap_or(HISTORY_DAYS),
            history_max_size: history_max_size.unwrap_or(HISTORY_MAX_SIZE),
            archive_max_size: archive_max_size.unwrap_or(ARCHIVE_MAX_SIZE),
            witness,
            post: self.post(table),
            forward: (table.get("forward")).map_or_else(Vec::new, |value| self.forward(value)),
        })
    }

    /// `[evidence.post]`.
    fn post(&mut self, table: &DeTable<'_>) -> Option<Post> {
        const EXAMPLE: &str = "`url = \"https://log.example.org/checkpoints\"`";
        let value = table.get("post")?;
        let of = "`[evidence.post]` above its keys";
        let table = self.report.table(value, "`post`", of)?;
        (self.report).known_keys(table, &["url", "ca", "token_file"], " in `[evidence.post]`");
        let Some(url) = table.get("url") else {
            let help = format!("write {EXAMPLE}");
            (self.report).error(&value.span(), "`[evidence.post]` without `url`", help);
            return None;
        };
        let text = self.report.string(url, "`url`", EXAMPLE)?;
        match Post::new(text) {
            Ok(mut post) => {
                post.ca = self.path(table, "ca");
                post.token_file = self.path(table, "token_file");
                Some(post)
            }
            Err(why) => {
                self.report
                    .error(&url.span(), why, format!("write {EXAMPLE}"));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{config::parse, forward::config::Target};

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
        assert_eq!(usual.forward, []);
        let text = "[evidence]\nfolder = \"proof\"\ninterval = \"10s\"\ncheckpoint = \"5m\"\n\
                    max_size = 1024\nhistory_days = 90\nhistory_max_size = 64\narchive_max_size = 32\n\
                    witness = [\"/bin/send\", \"-v\"]\n\
                    [evidence.post]\nurl = \"https://log.example/c\"\nca = \"ca.pem\"\ntoken_file = \"t\"\n\
                    [[evidence.forward]]\nto = \"tls://log.example\"\nca = \"ca.pem\"\ncert = \"c\"\nkey = \"k\"\n\
                    only = [\"flow\", \"state\"]\nfacility = \"local3\"\nstart = \"newest\"\n\
                    [[evidence.forward]]\nto = \"journald\"\n";
        let evidence = read(text).0.unwrap().evidence.unwrap();
        assert_eq!(evidence.folder, Some("/proof".into()));
        assert_eq!(evidence.interval, Duration::from_secs(10));
        assert_eq!(evidence.checkpoint, Duration::from_secs(300));
        assert_eq!(evidence.max_size, 1024);
        assert_eq!((evidence.history_days, evidence.history_max_size), (90, 64));
        assert_eq!(evidence.archive_max_size, 32);
        assert_eq!(evidence.witness, ["/bin/send", "-v"]);
        let post = evidence.post.as_ref().unwrap();
        assert_eq!(post.to_string(), "https://log.example");
        assert_eq!(post.ca, Some("/ca.pem".into()));
        assert_eq!(post.token_file, Some("/t".into()));
        let [log, journal] = &*evidence.forward else {
            panic!("{evidence:?}");
        };
        assert_eq!(
            (log.to.name(), &log.ca),
            ("tls://log.example:6514".to_owned(), &Some("/ca.pem".into()))
        );
        assert_eq!(log.client, Some(("/c".into(), "/k".into())));
        assert_eq!(
            log.only.as_deref(),
            Some(&["flow".to_owned(), "state".to_owned()][..])
        );
        assert_eq!(
            *journal,
            Destination::new(Target::parse("journald").unwrap())
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, message) in [
            ("interval = 5", "`interval` must be a time"),
            ("interval = \"2h\"", "`interval` must be a time"),
            ("checkpoint = \"0s\"", "`checkpoint` must be a time"),
            ("max_size = 1", "`max_size` must be"),
            ("history_days = 0", "`history_days` must be"),
            ("history_max_size = 1", "`history_max_size` must be"),
            ("archive_max_size = 1", "`archive_max_size` must be"),
            ("witness = []", "names nothing"),
            ("witness = [\"send\"]", "no absolute path"),
            ("forward = 1", "`forward` must be"),
            ("[[evidence.forward]]", "a destination without `to`"),
            ("[[evidence.forward]]\nto = \"log\"", "is no destination"),
            (
                "[[evidence.forward]]\nto = \"udp://log\"\nca = \"x\"",
                "`tls://` only",
            ),
            (
                "[[evidence.forward]]\nto = \"tls://log\"\nkey = \"x\"",
                "belong together",
            ),
            (
                "[[evidence.forward]]\nto = \"udp://log\"\nonly = [\"flows\"]",
                "names `flows`",
            ),
            (
                "[[evidence.forward]]\nto = \"udp://log\"\nstart = \"now\"",
                "`start` is",
            ),
            (
                "[[evidence.forward]]\nto = \"udp://log\"\n[[evidence.forward]]\nto = \"udp://log:514\"",
                "two destinations are the same",
            ),
            ("[evidence.post]\nca = \"x\"", "without `url`"),
            (
                "[evidence.post]\nurl = \"http://log.example\"",
                "begins with `https://`",
            ),
            (
                "[evidence.post]\nurl = \"https://a\"\ntoken = \"x\"",
                "unknown key `token`",
            ),
            ("path = \"/x\"", "unknown key `path`"),
        ] {
            let (config, errors) = read(&format!("[evidence]\n{text}"));
            assert!(config.is_none(), "{text}");
            assert!(errors[0].contains(message), "{errors:?}");
            assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        }
    }
}
