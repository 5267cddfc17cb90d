//! What of a model is shown.

use super::{Model, Overlay, Said, Sort};
use crate::live::screen::{
    block::{Dialog, Order},
    health::Moment,
    items::{Item, Scope, View},
    keys::Mode,
};

impl Model {
    /// What keys are for at this moment.
    pub fn mode(&self) -> Mode {
        match (&self.overlay, &self.typing) {
            (Some(Overlay::Block(Dialog::Ask(_))), _) => Mode::Asking,
            (Some(_), _) => Mode::Reading,
            (None, Some(_)) => Mode::Filter,
            (None, None) => Mode::Table,
        }
    }

    /// What the lines are.
    pub fn view(&self) -> View {
        self.view
    }

    /// What they are narrowed to.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// By what they are sorted.
    pub fn sort(&self) -> Sort {
        self.sorts[self.view as usize]
    }

    /// The words that a flow must have.
    pub fn filter(&self) -> &str {
        &self.filter
    }

    /// All lines.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Which of them is selected.
    pub fn place(&self) -> usize {
        self.cursor.place()
    }

    /// Since when it stands still.
    pub fn paused(&self) -> Option<Moment> {
        self.paused.as_ref().map(|pause| pause.since)
    }

    /// The box over the table.
    pub fn overlay(&self) -> Option<&Overlay> {
        self.overlay.as_ref()
    }

    /// What is said below the table.
    pub fn said(&self) -> Option<&Said> {
        self.said.as_ref()
    }

    /// What is on its way to the daemon.
    pub fn sending(&self) -> Option<&Order> {
        self.sending.as_ref()
    }
}
