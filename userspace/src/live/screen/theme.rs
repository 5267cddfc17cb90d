//! How things look, with colours and without.

use ratatui::style::{Color, Modifier, Style};

use crate::live::Action;

/// How things look.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    /// `NO_COLOR` is not set.
    pub has_colours: bool,
}

impl Theme {
    fn colour(self, colour: Color) -> Style {
        match self.has_colours {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }

    /// What is not enforced, or not known to be.
    pub fn bad(self) -> Style {
        // Without colours it must still be the first that is seen.
        let style = self.colour(Color::Red).add_modifier(Modifier::BOLD);
        match self.has_colours {
            true => style,
            false => style.add_modifier(Modifier::REVERSED),
        }
    }

    /// What is well.
    pub fn good(self) -> Style {
        self.colour(Color::Green)
    }

    /// What somebody should look at.
    pub fn look(self) -> Style {
        self.colour(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    /// What is old.
    pub fn grey(self) -> Style {
        self.colour(Color::DarkGray).add_modifier(Modifier::DIM)
    }

    /// Titles.
    pub fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What was decided.
    pub fn action(self, action: Action) -> Style {
        match action {
            Action::Drop => self.colour(Color::Red),
            Action::Audit => self.colour(Color::Yellow),
            Action::Pass => self.colour(Color::Green),
        }
    }
}
