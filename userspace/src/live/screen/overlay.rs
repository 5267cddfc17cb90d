//! Boxes over the table: keys, reasons, and the question before a block.

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph},
};

use super::{
    block::Dialog,
    health::State,
    keys::HELP,
    model::{Model, Overlay},
    theme::Theme,
};
use crate::live::clean::{clean, fit, width, wrapped};

/// A box is no wider than that: longer lines are hard to read.
const WIDEST: u16 = 76;

/// Lines of a box.
type Lines = Vec<(String, Style)>;

/// Draws the box, if one is open.
pub fn draw(frame: &mut Frame<'_>, model: &mut Model, theme: Theme, state: &State) {
    let area = frame.area();
    let room = area.width.saturating_sub(4).min(WIDEST);
    let cells = usize::from(room.saturating_sub(2));
    let Some(overlay) = model.overlay() else {
        return;
    };
    let (title, lines) = match overlay {
        Overlay::Help => (" keys ", help(cells, theme)),
        Overlay::Reasons => (" enforcement ", reasons(state, cells)),
        Overlay::Block(Dialog::Refuse(words)) => (" block ", refusal(words, cells, theme)),
        Overlay::Block(Dialog::Ask(order)) => {
            let command = wrapped(&order.command(), cells.saturating_sub(2));
            let mut question: Lines = command
                .into_iter()
                .map(|line| (format!("  {line}"), theme.look()))
                .collect();
            question.push((String::new(), Style::new()));
            question.extend(text("y: send it   n: leave it", cells));
            let mut lines = text(&order.about, cells);
            lines.push((String::new(), Style::new()));
            // What would be sent is more than whom it concerns, where there is no room for both.
            if lines.len() + question.len() + 2 > usize::from(area.height) {
                lines.clear();
            }
            lines.extend(question);
            (" block? ", lines)
        }
    };
    let widest = lines.iter().map(|(line, _)| width(line)).max().unwrap_or(0);
    let widest = widest.max(width(title) + 2).min(cells);
    let wanted = lines.len();
    let size = (
        u16::try_from(widest)
            .unwrap_or(room)
            .saturating_add(4)
            .min(area.width),
        u16::try_from(wanted)
            .unwrap_or(u16::MAX)
            .saturating_add(2)
            .min(area.height),
    );
    let place = Rect::new(
        area.x + (area.width - size.0) / 2,
        area.y + (area.height - size.1) / 2,
        size.0,
        size.1,
    );
    let lines: Vec<Line<'_>> = lines
        .into_iter()
        .map(|(line, style)| Line::from(vec![Span::raw(" "), Span::styled(line, style)]))
        .collect();
    frame.render_widget(Clear, place);
    let framed = Block::bordered().title(Span::styled(title, theme.title()));
    frame.render_widget(Paragraph::new(lines).block(framed), place);
    // A question of which the end is cut was not read.
    if usize::from(size.1) >= wanted + 2 {
        model.was_seen();
    }
}

fn text(words: &str, cells: usize) -> Lines {
    let lines = wrapped(&clean(words), cells).into_iter();
    lines.map(|line| (line, Style::new())).collect()
}

fn refusal(words: &str, cells: usize, theme: Theme) -> Lines {
    let mut lines = text(words, cells);
    lines.push((String::new(), Style::new()));
    lines.push(("any key: back".to_owned(), theme.grey()));
    lines
}

fn help(cells: usize, theme: Theme) -> Lines {
    let keys = HELP.iter().map(|(key, _)| width(key)).max().unwrap_or(0);
    let lines = HELP.iter().map(|(key, what)| {
        let line = format!("{}  {what}", fit(key, keys, false));
        (fit(&line, cells, false).trim_end().to_owned(), Style::new())
    });
    lines
        .chain([("any key: back".to_owned(), theme.grey())])
        .collect()
}

fn reasons(state: &State, cells: usize) -> Lines {
    let head = match state {
        State::NotEnforcing(_) => "NOT ENFORCING".to_owned(),
        State::Unknown(_) => "NOT KNOWN whether it enforces".to_owned(),
        other => other.words(),
    };
    let mut lines = text(&head, cells);
    if let State::NotEnforcing(reasons) | State::Unknown(reasons) = state {
        for reason in reasons {
            lines.extend(text(&format!("- {reason}"), cells));
        }
    }
    lines
}
