//! What keys mean. A key may mean something else while words are typed or a box is open.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::items::View;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ends.
    Quit,
    /// Draws everything anew, for a terminal that something else wrote to.
    Redraw,
    /// Selects so many lines further down.
    Down,
    /// The same upwards.
    Up,
    /// A page further down.
    PageDown,
    /// The same upwards.
    PageUp,
    /// The first line.
    First,
    /// The last line.
    Last,
    /// Goes into what is selected.
    Enter,
    /// Leaves it, or what else is open.
    Back,
    /// Another view, of everything.
    Show(View),
    /// The next view.
    NextView,
    /// Sorts by the next column.
    NextColumn,
    /// By the one before.
    PreviousColumn,
    /// The other way round.
    Reverse,
    /// Begins to type a filter.
    Filter,
    /// A letter of it.
    Type(char),
    /// Takes the last letter back.
    Erase,
    /// Takes all of it back.
    EraseAll,
    /// The filter is typed.
    Accept,
    /// Stands still, or goes on.
    Pause,
    /// Shows the keys.
    Help,
    /// Shows all reasons.
    Reasons,
    /// Asks whether to block what is selected.
    Block,
    /// Yes.
    Confirm,
}

/// What keys are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The table.
    Table,
    /// A filter is typed.
    Filter,
    /// A box that is only read.
    Reading,
    /// A box that asks.
    Asking,
}

/// What a key does; `None`: nothing.
pub fn action(mode: Mode, key: KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match (mode, key.code) {
            (_, KeyCode::Char('c')) => Some(Action::Quit),
            (_, KeyCode::Char('l')) => Some(Action::Redraw),
            (Mode::Filter, KeyCode::Char('u')) => Some(Action::EraseAll),
            _ => None,
        };
    }
    if key.modifiers.contains(KeyModifiers::ALT) {
        return None;
    }
    match mode {
        Mode::Table => table(key.code),
        Mode::Filter => match key.code {
            KeyCode::Char(c) => Some(Action::Type(c)),
            KeyCode::Backspace => Some(Action::Erase),
            KeyCode::Enter => Some(Action::Accept),
            KeyCode::Esc => Some(Action::Back),
            KeyCode::Down => Some(Action::Down),
            KeyCode::Up => Some(Action::Up),
            _ => None,
        },
        // Whatever is pressed to be rid of it.
        Mode::Reading => Some(Action::Back),
        // Nothing but `y` sends. What is neither yes nor no does nothing.
        Mode::Asking => match key.code {
            KeyCode::Char('y') => Some(Action::Confirm),
            KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => Some(Action::Back),
            _ => None,
        },
    }
}

fn table(code: KeyCode) -> Option<Action> {
    Some(match code {
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Char('j') | KeyCode::Down => Action::Down,
        KeyCode::Char('k') | KeyCode::Up => Action::Up,
        KeyCode::PageDown => Action::PageDown,
        KeyCode::PageUp => Action::PageUp,
        KeyCode::Char('g') | KeyCode::Home => Action::First,
        KeyCode::Char('G') | KeyCode::End => Action::Last,
        KeyCode::Enter | KeyCode::Char('l') | KeyCode::Right => Action::Enter,
        KeyCode::Esc | KeyCode::Backspace | KeyCode::Char('h') | KeyCode::Left => Action::Back,
        KeyCode::Char('1') => Action::Show(View::Networks),
        KeyCode::Char('2') => Action::Show(View::Cameras),
        KeyCode::Char('3') => Action::Show(View::Flows),
        KeyCode::Tab => Action::NextView,
        KeyCode::Char('s' | '>') => Action::NextColumn,
        KeyCode::Char('S' | '<') => Action::PreviousColumn,
        KeyCode::Char('r') => Action::Reverse,
        KeyCode::Char('/') => Action::Filter,
        KeyCode::Char(' ') => Action::Pause,
        KeyCode::Char('?') => Action::Help,
        KeyCode::Char('e') => Action::Reasons,
        KeyCode::Char('b') => Action::Block,
        _ => return None,
    })
}

/// The keys, for the line below the table, the most wanted first.
pub const FOOT: [(&str, &str); 11] = [
    ("enter", "open"),
    ("esc", "back"),
    ("b", "block"),
    ("/", "filter"),
    ("s", "sort"),
    ("r", "reverse"),
    ("?", "help"),
    ("q", "quit"),
    ("space", "pause"),
    ("tab", "view"),
    ("e", "reasons"),
];

/// All keys.
pub const HELP: [(&str, &str); 15] = [
    ("up down, j k", "select"),
    ("pgup pgdn, g G", "a page, first, last"),
    ("enter", "network, its cameras, their flows"),
    ("esc", "back; at the top: no filter"),
    ("1 2 3, tab", "networks, cameras, flows"),
    ("s S", "sort by the next column, the one before"),
    ("r", "reverse the order"),
    ("/", "filter: words that a flow must have"),
    ("space", "stand still; again: go on"),
    ("b", "block the network or flow; asks first"),
    ("e", "all reasons, or the error"),
    ("ctrl-l", "draw anew"),
    ("q, ctrl-c", "quit"),
    ("PASS", "what went on, with what is only audited"),
    ("grey", "old, or no longer told by the daemon"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_y_sends() {
        let press = |code| action(Mode::Asking, KeyEvent::new(code, KeyModifiers::NONE));
        assert_eq!(press(KeyCode::Char('y')), Some(Action::Confirm));
        for code in [
            KeyCode::Enter,
            KeyCode::Char('Y'),
            KeyCode::Char('b'),
            KeyCode::Char(' '),
        ] {
            assert_eq!(press(code), None);
        }
        assert_eq!(press(KeyCode::Char('n')), Some(Action::Back));
        let with = |modifiers| action(Mode::Asking, KeyEvent::new(KeyCode::Char('y'), modifiers));
        assert_eq!(with(KeyModifiers::CONTROL), None);
        assert_eq!(with(KeyModifiers::ALT), None);
    }

    #[test]
    fn words_are_words() {
        let press = |mode, c| action(mode, KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE));
        assert_eq!(press(Mode::Filter, 'q'), Some(Action::Type('q')));
        assert_eq!(press(Mode::Table, 'q'), Some(Action::Quit));
        assert_eq!(press(Mode::Table, 'x'), None);
        let c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        for mode in [Mode::Table, Mode::Filter, Mode::Reading, Mode::Asking] {
            assert_eq!(action(mode, c), Some(Action::Quit));
        }
        let up = KeyEvent::new_with_kind(
            KeyCode::Char('q'),
            KeyModifiers::NONE,
            KeyEventKind::Release,
        );
        assert_eq!(action(Mode::Table, up), None);
    }
}
