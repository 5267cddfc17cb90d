//! The daemon's log, on standard error: one event is one line that cannot drive a
//! terminal, whatever names and notes are in it; and a log that cannot be written
//! ends nothing.

use crate::diagnostic::printable;
use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

/// Starts it, unless whoever called has set one up. `debug`: with all that the verifier
/// says of a program that it does not take.
pub(super) fn start(debug: bool) {
    let default = match debug {
        true => "info,kordon::datapath::refused=debug",
        false => "info",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Lines(io::stderr()))
        .with_target(false)
        .with_ansi(false)
        .try_init();
}

/// Each write is one event: so the formatter calls it.
struct Lines<W>(W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = printable(text.trim_end_matches('\n'));
        // The formatter would say on standard error that it cannot write there, and panic.
        let _ = self.0.write_all(format!("{line}\n").as_bytes());
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

/// What goes wrong again and again is said when it begins, when it changes, and once an hour.
#[derive(Clone, Debug, Default)]
pub(super) struct Repeated(Option<(String, Instant)>);

impl Repeated {
    const AGAIN: Duration = Duration::from_secs(3600);

    /// Whether it is to be said now.
    pub(super) fn is_news(&mut self, words: &str) -> bool {
        self.is_news_at(words, Instant::now())
    }

    fn is_news_at(&mut self, words: &str, now: Instant) -> bool {
        let said = self.0.as_ref();
        if said.is_some_and(|(said, at)| said == words && now - *at < Self::AGAIN) {
            return false;
        }
        self.0 = Some((words.to_owned(), now));
        true
    }

    /// It goes right again.
    pub(super) fn end(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_harmless_line() {
        let mut lines = Lines(Vec::new());
        lines
            .write_all(b"INFO blocked note=\"a\x1b[2J\nINFO forged\"\n")
            .unwrap();
        assert_eq!(
            String::from_utf8(lines.0).unwrap(),
            "INFO blocked note=\"a\\u{1b}[2J\\nINFO forged\"\n"
        );
    }

    #[test]
    fn what_goes_on_is_said_again_when_it_changes_and_hourly() {
        let mut repeated = Repeated::default();
        let start = Instant::now();
        let said: Vec<u64> = (0..10_000)
            .filter(|second| {
                let words = if *second < 100 { "full" } else { "gone" };
                repeated.is_news_at(words, start + Duration::from_secs(*second))
            })
            .collect();
        assert_eq!(said, [0, 100, 3700, 7300]);
        repeated.end();
        assert!(repeated.is_news("gone"));
    }

    #[test]
    fn what_cannot_be_written_is_lost_and_no_error() {
        let mut lines = Lines(&mut [0_u8; 3][..]);
        lines.write_all(b"INFO more than three\n").unwrap();
    }
}
