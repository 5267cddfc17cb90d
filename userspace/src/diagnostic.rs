//! What is wrong with an input, where, and what to do about it. One form for
//! policies, configuration, list files and databases, so that `check --json`,
//! the terminal and the control socket say the same.
//!
//! A diagnostic carries no source text besides the underlined part: whoever
//! renders it for a terminal hands the texts over, and whoever sends it over
//! the socket does not send files twice.

use std::borrow::Cow;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::{Deserialize, Serialize};

/// One error or warning. Message and help follow the same style: lower case, no
/// full stop, the user's words in backticks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Diagnostic {
    /// What is wrong.
    pub message: String,
    /// What would cure it.
    pub help: Option<String>,
    /// Path as the user gave it.
    pub file: String,
    /// From 1; 0 where no place can be named (a file that cannot be read).
    pub line: usize,
    /// From 1, in characters; 0 where no place can be named.
    pub column: usize,
    /// The underlined part of the line.
    pub text: String,
}

impl Diagnostic {
    /// One that concerns a file as a whole: it cannot be read, or it is empty.
    #[must_use]
    pub fn of_file(file: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: Some(help.into()),
            file: file.to_owned(),
            line: 0,
            column: 0,
            text: String::new(),
        }
    }

    /// The line it stands in and the byte range of `text` there, without what could drive
    /// a terminal; none when the source is not the one that was read.
    fn underlined(&self, source: &str) -> Option<(String, std::ops::Range<usize>)> {
        let line = source.lines().nth(self.line.checked_sub(1)?)?;
        let start = line
            .char_indices()
            .map(|(at, _)| at)
            .chain([line.len()])
            .nth(self.column.checked_sub(1)?)?;
        let after = line[start..].strip_prefix(&self.text)?;
        let [before, text, after] = [&line[..start], &self.text, after].map(harmless);
        let range = before.len()..before.len() + text.len();
        Some((before + &text + &after, range))
    }

    fn render(&self, level: Level<'static>, source: Option<&str>, renderer: &Renderer) -> String {
        let place = if self.line == 0 {
            self.file.clone()
        } else {
            format!("{}:{}:{}", self.file, self.line, self.column)
        };
        let underlined = source.and_then(|source| self.underlined(source));
        // Without the source's text the place goes into the title instead.
        let title = if underlined.is_some() {
            self.message.clone()
        } else {
            format!("{place}: {}", self.message)
        };
        let mut group = Group::with_title(level.primary_title(title));
        if let Some((line, range)) = &underlined {
            group = group.element(
                Snippet::source(line.as_str())
                    .line_start(self.line)
                    .path(printable(&self.file))
                    .annotation(AnnotationKind::Primary.span(range.clone())),
            );
        }
        if let Some(help) = &self.help {
            // Titles and sources the library makes harmless, this it takes as it is.
            group = group.element(Level::HELP.message(printable(help)));
        }
        renderer.render(&[group])
    }
}

/// What cannot be done, and what would cure it: an error that is about no line of a file, or of
/// which nobody knows yet where it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// What would cure it.
    pub help: String,
}

impl Problem {
    /// In these words.
    #[must_use]
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: help.into(),
        }
    }
}

/// Everything that was found in one go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostics {
    /// What makes the input unusable.
    pub errors: Vec<Diagnostic>,
    /// What is allowed and likely not meant.
    pub warnings: Vec<Diagnostic>,
}

impl From<Diagnostic> for Diagnostics {
    fn from(error: Diagnostic) -> Self {
        Self {
            errors: vec![error],
            warnings: Vec::new(),
        }
    }
}

impl Diagnostics {
    /// Whether the input can be used.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.errors.is_empty()
    }

    /// Adds what was found elsewhere.
    pub fn extend(&mut self, other: Self) {
        self.errors.extend(other.errors);
        self.warnings.extend(other.warnings);
    }

    /// By file (`first` before the others), line and column.
    pub fn sort(&mut self, first: &str) {
        for list in [&mut self.errors, &mut self.warnings] {
            list.sort_by(|a, b| {
                (a.file != first, &a.file, a.line, a.column).cmp(&(
                    b.file != first,
                    &b.file,
                    b.line,
                    b.column,
                ))
            });
        }
    }

    /// `{"ok","errors","warnings"}`, as `check --json` prints it.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "ok": self.ok(),
            "errors": self.errors,
            "warnings": self.warnings,
        })
    }

    /// For a terminal: errors, then warnings, the text underlined where `source`
    /// knows the file. Ends with a line feed unless there is nothing to say.
    #[must_use]
    pub fn render<'s>(&self, source: impl Fn(&str) -> Option<&'s str>, colour: bool) -> String {
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut out = String::new();
        for (list, level) in [
            (&self.errors, Level::ERROR),
            (&self.warnings, Level::WARNING),
        ] {
            for diagnostic in list {
                out.push_str(&diagnostic.render(
                    level.clone(),
                    source(&diagnostic.file),
                    &renderer,
                ));
                out.push_str("\n\n");
            }
        }
        out.truncate(out.trim_end().len());
        if !out.is_empty() {
            out.push('\n');
        }
        out
    }
}

/// Whether a character could drive a terminal, begin another line of a log, or make
/// text look like another: control characters, line separators, and those that turn
/// the direction of writing (Unicode Standard Annex 9).
pub(crate) fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// A part of a source for an excerpt: as wide as it was, so that the underline fits.
fn harmless(text: &str) -> String {
    let harmless = |c: char| match c {
        '\t' => c,
        c if is_harmful(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(harmless).collect()
}

/// Text from outside on one line, unable to drive a terminal: what could is written
/// as an escape.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return text.into();
    }
    let mut out = String::new();
    for c in text.chars() {
        if is_harmful(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out.into()
}

/// As [`printable`], with its lines and their indentation as they are: for what was
/// made of several lines here.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(printable).collect();
    lines.join("\n")
}

/// The user's own words inside a message: in backticks, on one line, of bounded
/// length, unable to drive a terminal.
#[must_use]
pub fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    let end = text.char_indices().nth(LONGEST).map(|(at, _)| at);
    let more = if end.is_some() { "…" } else { "" };
    format!("`{}{more}`", printable(&text[..end.unwrap_or(text.len())]))
}

/// The candidate that was most likely meant.
#[must_use]
pub fn did_you_mean<'c>(
    text: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let text = text.to_lowercase();
    let candidates: Vec<&str> = candidates.into_iter().collect();
    // `protocol` for `proto`, `interface` for `interfaces`.
    let longer = |candidate: &&&str| {
        let (short, long) = (
            text.len().min(candidate.len()),
            text.len().max(candidate.len()),
        );
        short >= 4
            && long <= short * 2
            && (text.starts_with(**candidate) || candidate.starts_with(&text))
    };
    if let Some(candidate) = candidates.iter().find(longer) {
        return Some(candidate);
    }
    let bound = (text.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&text, &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, candidate)| {
            // Short words are near to everything: at least half must agree.
            let one_too_many = candidate.len() == 2 && text.starts_with(candidate);
            *distance <= bound && (one_too_many || distance * 2 < candidate.chars().count().max(2))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Diagnostics {
        Diagnostics {
            errors: vec![Diagnostic {
                message: "unknown key `vlan` in zone `cameras`".into(),
                help: Some("did you mean `vlans`".into()),
                file: "p.toml".into(),
                line: 2,
                column: 1,
                text: "vlan".into(),
            }],
            warnings: vec![],
        }
    }

    #[test]
    fn rendered_with_the_text_underlined() {
        let text = "[zone.cameras]\nvlan = [20]\n";
        let out = sample().render(|_| Some(text), false);
        assert_eq!(
            out,
            "error: unknown key `vlan` in zone `cameras`\n \
             --> p.toml:2:1\n  \
             |\n\
             2 | vlan = [20]\n  \
             | ^^^^\n  \
             |\n  \
             = help: did you mean `vlans`\n"
        );
    }

    #[test]
    fn rendered_without_a_source() {
        let out = sample().render(|_| None, false);
        assert!(
            out.starts_with("error: p.toml:2:1: unknown key `vlan` in zone `cameras`\n"),
            "{out}"
        );
        // A source that has changed meanwhile is not underlined in a wrong place.
        assert_eq!(sample().render(|_| Some("x"), false), out);
    }

    #[test]
    fn json_has_exactly_the_documented_fields() {
        assert_eq!(
            sample().json().to_string(),
            r#"{"ok":false,"errors":[{"message":"unknown key `vlan` in zone `cameras`","help":"did you mean `vlans`","file":"p.toml","line":2,"column":1,"text":"vlan"}],"warnings":[]}"#
        );
    }

    #[test]
    fn guesses() {
        let keys = ["vlans", "interfaces", "default", "to"];
        for (text, expected) in [
            ("vlan", Some("vlans")),
            ("Vlans", Some("vlans")),
            ("interface", Some("interfaces")),
            ("defualt", Some("default")),
            ("default-action", Some("default")),
            ("too", Some("to")),
            ("x", None),
            ("tx", None),
            ("", None),
        ] {
            assert_eq!(did_you_mean(text, keys), expected, "{text}");
        }
    }

    #[test]
    fn quotes_cannot_drive_a_terminal() {
        assert_eq!(quoted("a\u{1b}[31m\n"), "`a\\u{1b}[31m\\n`");
        assert_eq!(quoted("a\u{202e}b"), "`a\\u{202e}b`");
        assert_eq!(printable("a\u{9b}31m\tb"), "a\\u{9b}31m\\tb");
        assert_eq!(printable_lines("a\n  b\r"), "a\n  b\\r");
    }

    #[test]
    fn a_help_cannot_drive_a_terminal() {
        let mut found = sample();
        found.errors[0].help = Some("a\u{1b}[2Jb".into());
        let out = found.render(|_| None, false);
        assert!(out.contains("a\\u{1b}[2Jb"), "{out}");
    }
}
