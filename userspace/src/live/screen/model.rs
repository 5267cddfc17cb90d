//! What the screen shows, and what keys do to it. Nothing here draws, asks or waits.

mod moves;
mod shown;

use std::time::Instant;

use super::{
    Poll,
    block::{self, Dialog, Order},
    columns::Column,
    cursor::Cursor,
    health::{Claim, Health, Moment},
    items::{self, Item, ItemKey, Scope, View},
    keys::Action,
    layout::{self, Needs},
};
use crate::live::{Row, rates::Rates};

/// Letters that a filter has at most.
const FILTER: usize = 64;

/// What the caller has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// End.
    Quit,
    /// Draw everything anew.
    Redraw,
    /// Block this, and tell [`Model::blocked`].
    Block(Order),
}

/// A box over the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// All keys.
    Help,
    /// All reasons.
    Reasons,
    /// About blocking.
    Block(Dialog),
}

/// What is said below the table, until the next key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The words.
    pub words: String,
    /// Something failed.
    pub is_error: bool,
}

/// By what lines are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// The column.
    pub column: Column,
    /// The largest first.
    pub falls: bool,
}

/// Where one was before going into a line.
#[derive(Clone, Debug)]
struct Left {
    view: View,
    scope: Scope,
    selected: Option<ItemKey>,
}

/// A screen that stands still.
#[derive(Debug)]
struct Pause {
    since: Moment,
    /// The last answer since then.
    held: Option<(Vec<Row>, Instant)>,
}

/// What the screen shows.
#[derive(Debug)]
pub struct Model {
    /// What is known of enforcement.
    pub health: Health,
    /// How fast flows grow.
    pub rates: Rates,
    view: View,
    scope: Scope,
    trail: Vec<Left>,
    /// By view.
    sorts: [Sort; 3],
    filter: String,
    /// The filter as it was before it is typed anew.
    typing: Option<String>,
    items: Vec<Item>,
    cursor: Cursor,
    needs: Needs,
    /// It stands still.
    paused: Option<Pause>,
    overlay: Option<Overlay>,
    /// The box was on the screen. What nobody has read is not confirmed.
    is_seen: bool,
    said: Option<Said>,
    sending: Option<Order>,
}

impl Model {
    /// Nothing yet.
    pub fn new(now: Moment) -> Self {
        let sort = |column| Sort {
            column,
            falls: true,
        };
        Self {
            health: Health::new(now),
            rates: Rates::default(),
            view: View::Networks,
            scope: Scope::default(),
            trail: Vec::new(),
            sorts: [
                sort(Column::DropRate),
                sort(Column::DropRate),
                sort(Column::Rate),
            ],
            filter: String::new(),
            typing: None,
            items: Vec::new(),
            cursor: Cursor::default(),
            needs: Needs::default(),
            paused: None,
            overlay: None,
            is_seen: false,
            said: None,
            sending: None,
        }
    }

    /// Takes an answer, or that there is none. It was asked for at `asked`, and came at `at`.
    pub fn answered(&mut self, answer: Result<Poll, String>, asked: Moment, at: Instant) {
        let poll = match answer {
            Ok(poll) => poll,
            Err(error) => return self.health.failed(error),
        };
        let Poll {
            rows,
            reasons,
            enforcing,
            policy,
            unrecorded,
        } = poll;
        self.health.answered(
            asked,
            Claim {
                enforcing,
                reasons,
                policy,
                unrecorded,
            },
        );
        match &mut self.paused {
            // Only the last is needed: counters are cumulative.
            Some(pause) => pause.held = Some((rows, at)),
            None => {
                self.rates.post(rows, at);
                self.arrange();
            }
        }
    }

    /// Takes what became of a block.
    pub fn blocked(&mut self, result: Result<String, String>) {
        self.sending = None;
        let (words, is_error) = match result {
            Ok(words) => (words, false),
            Err(words) => (words, true),
        };
        self.said = Some(Said { words, is_error });
    }

    /// Does what a key means.
    pub fn act(&mut self, action: Action, now: Moment) -> Option<Wish> {
        self.said = None;
        match action {
            Action::Quit => return Some(Wish::Quit),
            Action::Redraw => return Some(Wish::Redraw),
            Action::Down => self.select(self.place().saturating_add(1)),
            Action::Up => self.select(self.place().saturating_sub(1)),
            Action::PageDown => self.select(self.place().saturating_add(self.cursor.page())),
            Action::PageUp => self.select(self.place().saturating_sub(self.cursor.page())),
            Action::First => self.select(0),
            Action::Last => self.select(usize::MAX),
            Action::Enter => self.enter(),
            Action::Back => self.back(),
            Action::Show(view) => self.show(view),
            Action::NextView => self.show(match self.view {
                View::Networks => View::Cameras,
                View::Cameras => View::Flows,
                View::Flows => View::Networks,
            }),
            Action::NextColumn => self.sort_by(1),
            Action::PreviousColumn => self.sort_by(-1),
            Action::Reverse => {
                let sort = &mut self.sorts[self.view as usize];
                sort.falls = !sort.falls;
                self.arrange();
            }
            Action::Filter => self.typing = Some(self.filter.clone()),
            Action::Accept => self.typing = None,
            Action::Type(letter) => {
                if self.filter.chars().count() < FILTER && !letter.is_control() {
                    self.filter.push(letter);
                    self.arrange();
                }
            }
            Action::Erase => {
                self.filter.pop();
                self.arrange();
            }
            Action::EraseAll => self.refilter(String::new()),
            Action::Pause => self.pause(now),
            Action::Help => self.open(Overlay::Help),
            Action::Reasons => self.open(Overlay::Reasons),
            Action::Block => self.ask(),
            Action::Confirm => return self.confirm(),
        }
        None
    }

    fn open(&mut self, overlay: Overlay) {
        self.overlay = Some(overlay);
        self.is_seen = false;
    }

    fn ask(&mut self) {
        if self.sending.is_some() {
            let words = "the last block is still on its way".to_owned();
            self.said = Some(Said {
                words,
                is_error: true,
            });
            return;
        }
        let dialog = match self.items.get(self.place()) {
            Some(item) => block::dialog(item, self.rates.flows()),
            None => Dialog::Refuse("Nothing is selected.".to_owned()),
        };
        self.open(Overlay::Block(dialog));
    }

    fn confirm(&mut self) -> Option<Wish> {
        if !self.is_seen {
            return None;
        }
        let Some(Overlay::Block(Dialog::Ask(order))) = self.overlay.take() else {
            return None;
        };
        self.sending = Some(order.clone());
        Some(Wish::Block(order))
    }

    fn refilter(&mut self, filter: String) {
        self.filter = filter;
        self.arrange();
    }

    fn sort_by(&mut self, step: isize) {
        let all: Vec<Column> = layout::columns(self.view).collect();
        let sort = &mut self.sorts[self.view as usize];
        let here = all
            .iter()
            .position(|column| *column == sort.column)
            .unwrap_or(0);
        let next = (here as isize + step).rem_euclid(all.len().max(1) as isize) as usize;
        if let Some(&column) = all.get(next) {
            *sort = Sort {
                column,
                falls: column.falls(),
            };
        }
        self.arrange();
    }

    fn pause(&mut self, now: Moment) {
        let Some(Pause { held, .. }) = self.paused.take() else {
            self.paused = Some(Pause {
                since: now,
                held: None,
            });
            return;
        };
        if let Some((rows, at)) = held {
            self.rates.post(rows, at);
            self.arrange();
        }
    }

    fn select(&mut self, place: usize) {
        self.cursor.go(&self.items, place);
    }

    /// Finds the lines anew. What was selected stays selected, wherever it is now.
    fn arrange(&mut self) {
        let words: Vec<String> = self
            .filter
            .split_whitespace()
            .map(str::to_lowercase)
            .collect();
        let flows = self.rates.flows();
        let flows =
            flows.filter(|flow| self.scope.has(flow.row) && items::matches(flow.row, &words));
        let mut all = items::items(flows, self.view);
        let Sort { column, falls } = self.sort();
        all.sort_unstable_by(|a, b| {
            let order = column.compare(a, b);
            let order = if falls { order.reverse() } else { order };
            // Equals have an order of their own, so that they do not dance.
            let most = || b.all().packets.cmp(&a.all().packets);
            order.then_with(most).then_with(|| a.key.cmp(&b.key))
        });
        self.items = all;
        self.cursor.follow(&self.items);
    }

    /// Makes room for so many lines: the first that is shown.
    pub fn fit(&mut self, lines: usize) -> usize {
        self.cursor.fit(self.items.len(), lines)
    }

    /// The columns, and how wide they are, for so many lines from this one on.
    pub fn layout(&mut self, top: usize, lines: usize, width: usize) -> Vec<(Column, usize)> {
        let shown = self.items.iter().skip(top).take(lines);
        self.needs.widen(self.view, shown);
        layout::layout(
            self.view,
            &self.scope,
            self.sort().column,
            width,
            &self.needs,
        )
    }

    /// The box was drawn, and all of it could be read.
    pub fn was_seen(&mut self) {
        self.is_seen = true;
    }
}
