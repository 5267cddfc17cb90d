//! What a person sees: models drawn on screens that are not there.

mod blocking;
mod looks;
mod moves;

use std::time::{Duration, Instant};

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::{
    Poll, draw,
    health::Moment,
    keys,
    model::{Model, Wish},
    theme::Theme,
};
use crate::live::{Action, Row, testing::row};

/// A screen, its model and its clock.
struct Desk {
    model: Model,
    start: Moment,
    now: Moment,
    size: (u16, u16),
}

impl Desk {
    fn new(width: u16, height: u16) -> Self {
        let time = "2026-11-30T12:00:00Z".parse().expect("a time");
        let start = Moment {
            time,
            instant: Instant::now(),
        };
        Self {
            model: Model::new(start),
            start,
            now: start,
            size: (width, height),
        }
    }

    /// So many seconds after the start.
    fn at(&mut self, seconds: f64) -> &mut Self {
        let length = Duration::from_secs_f64(seconds);
        self.now = Moment {
            time: self.start.time + length,
            instant: self.start.instant + length,
        };
        self
    }

    fn answer(&mut self, rows: Vec<Row>) -> &mut Self {
        let poll = Poll {
            rows,
            reasons: Some(Vec::new()),
            enforcing: Some(true),
            policy: Some("0123456789abcdef".to_owned()),
            unrecorded: Vec::new(),
        };
        self.model.answered(Ok(poll), self.now, self.now.instant);
        self
    }

    fn fails(&mut self, error: &str) -> &mut Self {
        self.model
            .answered(Err(error.to_owned()), self.now, self.now.instant);
        self
    }

    /// Presses a key, and looks at the screen.
    fn press(&mut self, code: KeyCode) -> Option<Wish> {
        let wish = self.blind(code);
        self.screen();
        wish
    }

    /// Presses a key without looking.
    fn blind(&mut self, code: KeyCode) -> Option<Wish> {
        let key = KeyEvent::new(code, KeyModifiers::NONE);
        let action = keys::action(self.model.mode(), key)?;
        self.model.act(action, self.now)
    }

    fn types(&mut self, letters: &str) -> Option<Wish> {
        letters
            .chars()
            .fold(None, |_, letter| self.press(KeyCode::Char(letter)))
    }

    fn terminal(&mut self, has_colours: bool) -> Terminal<TestBackend> {
        let backend = TestBackend::new(self.size.0, self.size.1);
        let mut terminal = Terminal::new(backend).expect("a terminal");
        let theme = Theme { has_colours };
        terminal
            .draw(|frame| draw::draw(frame, &mut self.model, theme, self.now))
            .expect("a frame");
        terminal
    }

    /// The lines of the screen. What stands behind a letter of two cells is not there.
    fn screen(&mut self) -> Vec<String> {
        let terminal = self.terminal(true);
        let buffer = terminal.backend().buffer();
        let line = |y| {
            let mut text = String::new();
            let mut skip = 0;
            for x in 0..self.size.0 {
                let symbol = buffer[(x, y)].symbol();
                if skip == 0 {
                    text.push_str(symbol);
                    skip = crate::live::clean::width(symbol);
                }
                skip = skip.saturating_sub(1);
            }
            text.trim_end().to_owned()
        };
        (0..self.size.1).map(line).collect()
    }

    /// The line of what is selected.
    fn selected(&mut self) -> String {
        self.model
            .items()
            .get(self.model.place())
            .map_or_else(String::new, |item| {
                format!(
                    "{} {} {}",
                    item.row.asn.unwrap_or(0),
                    item.row.src.clone().unwrap_or_default(),
                    item.row.dst.clone().unwrap_or_default()
                )
            })
    }

    fn has(&mut self, words: &str) -> bool {
        self.screen().iter().any(|line| line.contains(words))
    }
}

/// A flow of a camera to a network, of which `packets` are known.
fn flow(camera: u32, asn: u32, action: Action, packets: u64) -> Row {
    let mut row = row(camera);
    let target = format!("198.51.100.{}", asn % 250);
    (row.dst, row.judged) = (Some(target.clone()), Some(target));
    (row.asn, row.name) = (Some(asn), Some(format!("Net {asn}")));
    (row.action, row.packets, row.bytes) = (action, packets, packets.saturating_mul(100));
    if action == Action::Pass {
        (row.reason, row.rule) = ("default".to_owned(), None);
    }
    row
}
