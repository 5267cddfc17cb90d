//! Which line is selected, and which are shown.

use super::items::{Item, ItemKey};

/// Stays on the same line, wherever that is.
#[derive(Debug, Default)]
pub struct Cursor {
    selected: Option<ItemKey>,
    place: usize,
    top: usize,
    page: usize,
}

impl Cursor {
    /// On this line, if there is one such.
    pub fn on(selected: Option<ItemKey>) -> Self {
        Self {
            selected,
            ..Self::default()
        }
    }

    /// Where it is.
    pub fn place(&self) -> usize {
        self.place
    }

    /// Lines of a page.
    pub fn page(&self) -> usize {
        self.page.max(1)
    }

    /// Goes to a line, or the last.
    pub fn go(&mut self, items: &[Item], place: usize) {
        self.place = place.min(items.len().saturating_sub(1));
        self.selected = items.get(self.place).map(|item| item.key.clone());
    }

    /// Finds its line among others than before.
    pub fn follow(&mut self, items: &[Item]) {
        let is_it = |item: &Item| Some(&item.key) == self.selected.as_ref();
        match items.iter().position(is_it) {
            Some(place) => self.place = place,
            // It is no more: it is on what took its place.
            None => self.go(items, self.place),
        }
    }

    /// Makes room for so many lines. The first that is shown, so that the selected one is among them.
    pub fn fit(&mut self, count: usize, lines: usize) -> usize {
        self.page = lines.max(1);
        let last = count.saturating_sub(self.page);
        let least = (self.place + 1).saturating_sub(self.page);
        self.top = self.top.min(last).clamp(least, self.place.max(least));
        self.top
    }
}
