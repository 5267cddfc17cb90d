//! The text of one TOML file and what is wrong with it: byte spans become
//! lines and columns, values of the wrong type become diagnostics. Everything
//! that reads TOML in this module goes through [`Report`], so that all errors
//! of a file are found in one go and none is worded twice.

use std::ops::Range;

use jiff::Timestamp;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::not_toml;
use crate::diagnostic::{Diagnostic, Diagnostics, Problem, did_you_mean, quoted};

/// A byte range of the text.
pub(crate) type Span = Range<usize>;
/// A value and where it stands.
pub(crate) type Value<'i> = Spanned<DeValue<'i>>;

/// Collects what is wrong with one text.
pub(crate) struct Report<'a> {
    file: &'a str,
    text: &'a str,
    /// Byte offset of each line's first character.
    starts: Vec<usize>,
    /// Lines that are not TOML: what else they say is not worth a second error.
    broken: Vec<usize>,
    /// Errors so far, those on such lines included.
    errors: usize,
    pub(crate) found: Diagnostics,
}

impl<'a> Report<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        let starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self {
            file,
            text,
            starts,
            broken: Vec::new(),
            errors: 0,
            found: Diagnostics::default(),
        }
    }

    /// How many errors there were so far, be they worth telling or not.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// Line from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at)
    }

    fn diagnostic(&self, span: &Span, message: String, help: String) -> Diagnostic {
        let line = self.line(span.start);
        let start = self.starts[line - 1];
        let end = self
            .starts
            .get(line)
            .map_or(self.text.len(), |next| next - 1);
        let text = self.text.get(start..end).unwrap_or_default();
        let text = text.strip_suffix('\r').unwrap_or(text);
        // A span over several lines is underlined in the first.
        let from = (span.start - start).min(text.len());
        let to = (span.end - start).clamp(from, text.len());
        Diagnostic {
            message,
            help: Some(help),
            file: self.file.to_owned(),
            line,
            column: text.get(..from).map_or(0, |before| before.chars().count()) + 1,
            text: text.get(from..to).unwrap_or_default().to_owned(),
        }
    }

    pub(crate) fn error(
        &mut self,
        span: &Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.errors += 1;
        if !self.broken.contains(&self.line(span.start)) {
            let error = self.diagnostic(span, message.into(), help.into());
            self.found.errors.push(error);
        }
    }

    pub(crate) fn problem(&mut self, span: &Span, problem: Problem) {
        self.error(span, problem.message, problem.help);
    }

    /// What something comes to; if nothing, what is wrong with it is said.
    pub(crate) fn checked<T>(&mut self, span: &Span, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.problem(span, problem)).ok()
    }

    pub(crate) fn warning(
        &mut self,
        span: &Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let warning = self.diagnostic(span, message.into(), help.into());
        self.found.warnings.push(warning);
    }

    /// Parses the text. None when it is so broken that what was recovered of it
    /// would only produce errors about things that the user never wrote.
    pub(crate) fn toml(&mut self) -> Option<DeTable<'a>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        let table = table.into_inner();
        let mut usable = true;
        let mut spots: Vec<(Span, Problem)> = Vec::new();
        // What stands in a section that is there twice is no second mistake.
        let mut twice: Vec<Span> = Vec::new();
        for error in errors {
            let span = self.visible(error.span().unwrap_or(0..0));
            if twice.iter().any(|section| section.contains(&span.start)) {
                continue;
            }
            let text = self.text.get(span.clone()).unwrap_or_default();
            let problem = match error.message() {
                "duplicate key" => match self.section_twice(&span) {
                    Some((section, problem)) => {
                        twice.push(section);
                        problem
                    }
                    None => Problem::new(
                        format!("key {} is given twice", quoted(text)),
                        "remove one of them",
                    ),
                },
                message if message.starts_with("missing comma") => {
                    usable = false;
                    Problem::new(
                        "not TOML: missing comma between the entries of a list",
                        "add `,`, or close the list before this with `]`",
                    )
                }
                message if message.starts_with("string values must be quoted") => {
                    not_toml::word(text, self.line_of(&span))
                }
                message => {
                    // Dates and strings end where they end; all else may have
                    // swallowed or split what comes after it.
                    usable &= message.starts_with("invalid date")
                        || message.starts_with("invalid basic string")
                        || message.starts_with("invalid literal string");
                    let at = span.start - self.starts[self.line(span.start) - 1];
                    let meant = not_toml::meant(self.line_of(&span), at);
                    let (what, expected) =
                        message.split_once(", expected ").unwrap_or((message, ""));
                    let help = match expected {
                        "" | "nothing" => "see https://toml.io for the format".to_owned(),
                        expected => format!("expected {expected}"),
                    };
                    meant.unwrap_or_else(|| Problem::new(format!("not TOML: {what}"), help))
                }
            };
            spots.push((span, problem));
        }
        spots.sort_by_key(|(span, _)| span.start);
        for (span, problem) in spots {
            let line = self.line(span.start);
            // The first error of a line explains the others.
            self.problem(&span, problem);
            self.broken.push(line);
        }
        usable.then_some(table)
    }

    /// The line that a span begins in.
    fn line_of(&self, span: &Span) -> &str {
        let start = self.starts[self.line(span.start) - 1];
        let rest = self.text.get(start..).unwrap_or_default();
        rest.lines().next().unwrap_or_default()
    }

    /// A span that has something to underline: an empty one grows backwards over
    /// the word it ends, else forwards over the one it starts.
    fn visible(&self, span: Span) -> Span {
        if !span.is_empty() {
            return span;
        }
        let at = span.start.min(self.text.len());
        let before = self.text.get(..at).unwrap_or_default();
        let word = before
            .rsplit(char::is_whitespace)
            .next()
            .map_or(0, str::len);
        if word > 0 {
            return at - word..at;
        }
        let after = self.text.get(at..).unwrap_or_default();
        let word = after.split(char::is_whitespace).next();
        at..at + word.map_or(0, str::len)
    }

    /// For the name in a `[zone.NAME]` or `[set.NAME]` that was there before:
    /// where this section reaches, and what to say.
    fn section_twice(&self, name: &Span) -> Option<(Span, Problem)> {
        let line_of = |at: usize| {
            let rest = self.text.get(self.starts[at]..).unwrap_or_default();
            rest.split('\n').next().unwrap_or_default().trim()
        };
        let this = self.line(name.start) - 1;
        let header = line_of(this);
        let kind = ["zone", "set"].into_iter().find(|kind| {
            let before = self.text.get(self.starts[this]..name.start);
            before.is_some_and(|before| before.trim() == format!("[{kind}."))
        })?;
        let end = (this + 1..self.starts.len())
            .find(|line| line_of(*line).starts_with('['))
            .map_or(self.text.len(), |line| self.starts[line]);
        let first = (0..this).find(|line| line_of(*line) == header);
        let name = self.text.get(name.clone()).unwrap_or_default();
        let problem = Problem::new(
            format!("{kind} {} is defined twice", quoted(name)),
            match first {
                Some(line) => format!(
                    "the first is in line {}; rename one or merge them",
                    line + 1
                ),
                None => "rename one or merge them".to_owned(),
            },
        );
        Some((self.starts[this] + header.len()..end, problem))
    }

    fn wrong_type(&mut self, value: &Value<'_>, what: &str, wanted: &str, example: &str) {
        let is = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a decimal number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.error(
            &value.span(),
            format!("{what} must be {wanted}, not {is}"),
            format!("write {example}"),
        );
    }

    pub(crate) fn table<'t, 'i>(
        &mut self,
        value: &'t Value<'i>,
        what: &str,
        example: &str,
    ) -> Option<&'t DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(value, what, "a table", example);
        }
        table
    }

    pub(crate) fn string<'t>(
        &mut self,
        value: &'t Value<'_>,
        what: &str,
        example: &str,
    ) -> Option<&'t str> {
        let string = value.get_ref().as_str();
        if string.is_none() {
            self.wrong_type(value, what, "a string", example);
        }
        string
    }

    pub(crate) fn boolean(&mut self, value: &Value<'_>, what: &str, example: &str) -> Option<bool> {
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            self.wrong_type(value, what, "true or false", example);
        }
        boolean
    }

    pub(crate) fn list<'t, 'i>(
        &mut self,
        value: &'t Value<'i>,
        what: &str,
        example: &str,
    ) -> Option<&'t [Value<'i>]> {
        let list = value.get_ref().as_array().map(|array| &**array);
        if list.is_none() {
            self.wrong_type(value, what, "a list", example);
        }
        list
    }

    /// An empty list would mean the opposite of what a missing one means, or nothing.
    pub(crate) fn refuse_empty(&mut self, value: &Value<'_>, message: &str, help: &str) {
        if value
            .get_ref()
            .as_array()
            .is_some_and(|list| list.is_empty())
        {
            self.error(&value.span(), message, help);
        }
    }

    /// A list, or one value that stands for a list of one.
    pub(crate) fn one_or_list<'t, 'i>(value: &'t Value<'i>) -> &'t [Value<'i>] {
        match value.get_ref() {
            DeValue::Array(array) => array,
            _ => std::slice::from_ref(value),
        }
    }

    /// A list whose entries are strings or whole numbers, as text; `wanted` is
    /// what an entry must be. Entries of other types are reported and left out.
    pub(crate) fn scalars(
        &mut self,
        value: &Value<'_>,
        what: &str,
        wanted: &str,
        example: &str,
    ) -> Vec<(Span, String)> {
        let mut scalars = Vec::new();
        for entry in self.list(value, what, example).unwrap_or_default() {
            match entry.get_ref() {
                DeValue::String(text) => scalars.push((entry.span(), text.to_string())),
                DeValue::Integer(number) => {
                    // Other radixes and digit groups are TOML's business.
                    let text = i128::from_str_radix(number.as_str(), number.radix())
                        .map_or_else(|_| number.to_string(), |number| number.to_string());
                    scalars.push((entry.span(), text));
                }
                _ => self.wrong_type(entry, &format!("an entry of {what}"), wanted, example),
            }
        }
        scalars
    }

    /// As [`Self::scalars`], strings only.
    pub(crate) fn strings<'t>(
        &mut self,
        value: &'t Value<'_>,
        what: &str,
        example: &str,
    ) -> Vec<(Span, &'t str)> {
        let mut strings = Vec::new();
        for entry in self.list(value, what, example).unwrap_or_default() {
            if let Some(text) = self.string(entry, &format!("an entry of {what}"), example) {
                strings.push((entry.span(), text));
            }
        }
        strings
    }

    /// One of a few words; `synonyms` are what other tools call them.
    pub(crate) fn word<T: Copy>(
        &mut self,
        value: &Value<'_>,
        what: &str,
        words: &[(&str, T)],
        synonyms: &[(&str, &str)],
    ) -> Option<T> {
        let list = words
            .iter()
            .map(|(word, _)| format!("`\"{word}\"`"))
            .collect::<Vec<_>>()
            .join(", ");
        let text = self.string(value, what, &format!("one of {list}"))?;
        if let Some((_, found)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*found);
        }
        let lower = text.to_lowercase();
        let guess = synonyms
            .iter()
            .find(|(synonym, _)| *synonym == lower)
            .map(|(_, word)| *word)
            .or_else(|| did_you_mean(text, words.iter().map(|(word, _)| *word)));
        self.error(
            &value.span(),
            format!("{what} cannot be {}", quoted(text)),
            match guess {
                Some(word) => format!("did you mean `\"{word}\"`"),
                None => format!("it is one of {list}"),
            },
        );
        None
    }

    /// An instant: a TOML date-time with an offset.
    pub(crate) fn instant(&mut self, value: &Value<'_>, what: &str) -> Option<Timestamp> {
        const EXAMPLE: &str = "`2027-01-31T00:00:00Z`";
        let Some(datetime) = value.get_ref().as_datetime() else {
            let quotes = if value.get_ref().is_str() {
                ", without quotes"
            } else {
                ""
            };
            let example = format!("{EXAMPLE}{quotes}");
            self.wrong_type(value, what, "a date with time and offset", &example);
            return None;
        };
        let mut datetime = *datetime;
        let missing = match (&mut datetime.time, datetime.date, datetime.offset) {
            (Some(time), Some(_), Some(_)) => {
                // TOML 1.1 lets seconds be left out, RFC 3339 does not.
                time.second.get_or_insert(0);
                None
            }
            (None, ..) => Some("time"),
            (_, None, _) => Some("date"),
            (_, _, None) => Some("offset"),
        };
        if let Some(missing) = missing {
            self.error(
                &value.span(),
                format!("{what} has no {missing}"),
                format!("write date, time and offset, as in {EXAMPLE}"),
            );
            return None;
        }
        let text = datetime.to_string();
        match text.parse() {
            Ok(instant) => Some(instant),
            // The last day of the calendar, in some zone: later than any instant there is.
            Err(_) if text.starts_with("9999-12-3") && is_a_date(&text) => Some(Timestamp::MAX),
            Err(_) => {
                self.error(
                    &value.span(),
                    format!("{what} is not a date that exists"),
                    format!("write it as in {EXAMPLE}"),
                );
                None
            }
        }
    }

    /// Reports every key that is not known. `owner`: "in zone `cameras`", or
    /// empty at the top. Returns those that were likely meant: that they are missing is
    /// no second mistake.
    pub(crate) fn known_keys<'k>(
        &mut self,
        table: &DeTable<'_>,
        known: &[&'k str],
        owner: &str,
    ) -> Vec<&'k str> {
        let mut meant = Vec::new();
        for key in table.keys() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let guess = did_you_mean(name, known.iter().copied());
            let help = match guess {
                Some(guess) => format!("did you mean `{guess}`"),
                None => format!("known here: {}", known.join(", ")),
            };
            meant.extend(guess);
            self.error(
                &key.span(),
                format!("unknown key {}{owner}", quoted(name)),
                help,
            );
        }
        meant
    }
}

/// Whether the day and the time of an RFC 3339 date exist, whatever its offset.
fn is_a_date(text: &str) -> bool {
    let end = text
        .get(19..)
        .and_then(|rest| rest.find(['Z', 'z', '+', '-']));
    end.and_then(|end| text.get(..19 + end))
        .is_some_and(|civil| civil.parse::<jiff::civil::DateTime>().is_ok())
}
