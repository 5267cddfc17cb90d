//! Where answers and words for people go. Nothing that comes from elsewhere drives a terminal.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write},
};

use clap::ValueEnum;
use serde_json::Value;

use crate::diagnostic::printable;

/// Where output goes, and in which form.
pub(super) struct Output {
    pub(super) out: Box<dyn Write>,
    pub(super) json: bool,
}

impl Output {
    /// An answer: its JSON on one line, or what `human` makes of it.
    pub(super) fn answer(
        &mut self,
        value: &Value,
        human: impl FnOnce(&Value) -> String,
    ) -> io::Result<()> {
        if self.json {
            writeln!(self.out, "{value}")
        } else {
            write!(self.out, "{}", human(&harmless(value.clone())))
        }
    }
}

/// An answer whose words cannot drive a terminal: names and notes come from sources,
/// routers and colleagues.
pub(super) fn harmless(value: Value) -> Value {
    match value {
        Value::String(text) => printable(&text).into(),
        Value::Array(values) => values.into_iter().map(harmless).collect(),
        Value::Object(fields) => {
            let field = |(name, value): (String, Value)| (printable(&name).into(), harmless(value));
            Value::Object(fields.into_iter().map(field).collect())
        }
        other => other,
    }
}

/// When an answer has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// Not at all.
    Never,
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Also in a pipe.
    Always,
}

/// For people, on standard error. Nobody reads it where it cannot be written.
pub(super) fn say(words: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{words}");
}

/// Whether what is written to standard error may have colours.
pub(super) fn colour() -> bool {
    io::stderr().is_terminal() && bears_colours()
}

/// Whether the environment has nothing against colours.
pub(super) fn bears_colours() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb")
}
