//! Puts the model on a screen of any size.

mod head;

use ratatui::{
    Frame,
    layout::Rect,
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::Paragraph,
};

use super::{
    columns::{self, Column},
    health::{Moment, State},
    items::Item,
    keys::FOOT,
    model::Model,
    overlay,
    theme::Theme,
};
use crate::live::{
    Action,
    clean::{clean, fit, width, wrapped},
};

/// Below that nothing useful finds room.
const LEAST: (u16, u16) = (36, 8);
/// Cells before the first column and behind the last.
const MARGIN: u16 = 1;

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, model: &mut Model, theme: Theme, now: Moment) {
    let area = frame.area();
    let state = model.health.state(now.instant);
    if area.width < LEAST.0 || area.height < LEAST.1 {
        // What matters is said in whatever room there is.
        let words = format!(
            "{}. Too small: kordon top needs {}x{}",
            clean(&state.words()),
            LEAST.0,
            LEAST.1
        );
        let lines = wrapped(&words, area.width.into());
        frame.render_widget(
            Paragraph::new(lines.into_iter().map(Line::from).collect::<Vec<_>>()),
            area,
        );
        return;
    }
    let mut page = Page {
        frame,
        theme,
        area,
        y: area.y,
    };
    page.head(model, &state, now);
    page.totals(model, &state);
    if area.height >= 16 {
        page.past(model, &state, if area.height >= 36 { 3 } else { 1 });
    }
    page.here(model);
    let detail = if area.height >= 20 { 2 } else { 0 };
    let bottom = area.bottom().saturating_sub(1 + detail);
    page.table(model, &state, bottom);
    page.y = bottom;
    if detail > 0 {
        page.detail(model, detail);
    }
    page.y = area.bottom().saturating_sub(1);
    page.foot(model);
    overlay::draw(page.frame, model, theme, &state);
}

/// A screen that is filled from its top.
struct Page<'a, 'f> {
    frame: &'a mut Frame<'f>,
    theme: Theme,
    area: Rect,
    y: u16,
}

impl Page<'_, '_> {
    fn rows(&self, height: u16) -> Rect {
        let height = height.min(self.area.bottom().saturating_sub(self.y));
        Rect::new(self.area.x, self.y, self.area.width, height)
    }

    fn line(&mut self, line: Line<'_>) {
        self.frame.render_widget(line, self.rows(1));
        self.y = self.y.saturating_add(1);
    }

    fn cells(&self) -> usize {
        self.area.width.saturating_sub(2 * MARGIN).into()
    }

    /// The table, down to this line.
    fn table(&mut self, model: &mut Model, state: &State, bottom: u16) {
        let sort = model.sort();
        let lines = usize::from(bottom.saturating_sub(self.y + 1));
        let top = model.fit(lines);
        let layout = model.layout(top, lines, self.cells());
        let mut spans = vec![Span::raw(" ")];
        for (column, cells) in &layout {
            let mut style = self.theme.title();
            if *column == sort.column {
                style = style.add_modifier(Modifier::REVERSED);
            }
            let title = column.title();
            let text = fit(title, *cells, column.is_number());
            // Only the word is marked, not the room around it.
            let before = text.len() - text.trim_start().len();
            let after = text.trim_end().len();
            spans.push(Span::raw(text[..before].to_owned()));
            spans.push(Span::styled(text[before..after].to_owned(), style));
            spans.push(Span::raw(format!("{}  ", &text[after..])));
        }
        self.line(Line::from(spans));
        if model.items().is_empty() {
            let words = match (state.is_fresh(), model.filter().is_empty()) {
                (false, _) => "nothing is known yet",
                (true, true) if !model.health.unrecorded().is_empty() => {
                    "no camera has sent anything that is recorded"
                }
                (true, true) => "no camera has sent anything",
                (true, false) => "no flow has these words",
            };
            self.line(Line::styled(format!(" {words}"), self.theme.grey()));
            return;
        }
        let place = model.place();
        let shown = model.items().iter().enumerate().skip(top).take(lines);
        let lines: Vec<Line<'_>> = shown
            .map(|(number, item)| self.item(item, &layout, state, number == place))
            .collect();
        for line in lines {
            self.line(line);
        }
    }

    fn item(
        &self,
        item: &Item,
        layout: &[(Column, usize)],
        state: &State,
        is_selected: bool,
    ) -> Line<'static> {
        let is_old = item.is_gone || !state.is_fresh();
        let mut base = if is_old {
            self.theme.grey()
        } else {
            Style::new()
        };
        if is_selected {
            base = base.add_modifier(Modifier::REVERSED);
        }
        let mut spans = vec![Span::styled(" ", base)];
        for (column, cells) in layout {
            let text = fit(&column.text(item), *cells, column.is_number());
            let style = match (self.tint(*column, item), is_old) {
                (Some(action), false) => base.patch(self.theme.action(action)),
                _ => base,
            };
            spans.push(Span::styled(text, style));
            spans.push(Span::styled("  ", base));
        }
        let used: usize = layout.iter().map(|(_, cells)| cells + 2).sum();
        let rest = usize::from(self.area.width).saturating_sub(used + 1);
        spans.push(Span::styled(" ".repeat(rest), base));
        Line::from(spans)
    }

    /// Which colour a cell has: that of what was decided, where there is any.
    fn tint(&self, column: Column, item: &Item) -> Option<Action> {
        match column {
            Column::Action => Some(item.row.action),
            Column::DropRate | Column::DropBits if item.dropped().pace.packets > 0.0 => {
                Some(Action::Drop)
            }
            Column::PassRate | Column::PassBits if item.passed().pace.packets > 0.0 => {
                Some(Action::Pass)
            }
            Column::Audited if item.audited().packets > 0 => Some(Action::Audit),
            _ => None,
        }
    }

    /// All of the words of what is selected: columns may have cut them.
    fn detail(&mut self, model: &Model, height: u16) {
        let Some(item) = model.items().get(model.place()) else {
            return;
        };
        let mut lines = vec![String::new()];
        for part in columns::detail(item, model.view()) {
            // A part is not cut while there is another line for it.
            match lines.last_mut() {
                Some(line) if line.is_empty() => *line = part,
                Some(line) if width(line) + 2 + width(&part) <= self.cells() => {
                    line.push_str("  ");
                    line.push_str(&part);
                }
                _ => lines.push(part),
            }
        }
        for line in lines.into_iter().take(height.into()) {
            let line = fit(&line, self.cells(), false);
            self.line(Line::styled(format!(" {line}"), self.theme.grey()));
        }
    }

    /// What is said, what is typed, or else the keys.
    fn foot(&mut self, model: &Model) {
        let cells = self.cells();
        let typed = |theme: Theme| {
            let room = cells.saturating_sub(10);
            let filter = clean(model.filter());
            // Its end, where one types.
            let skip = filter.chars().count().saturating_sub(room / 2);
            let end: String = filter.chars().skip(skip).collect();
            Line::styled(format!(" filter: {end}_"), theme.look())
        };
        if let Some(said) = model.said() {
            let style = if said.is_error {
                self.theme.bad()
            } else {
                self.theme.good()
            };
            let words = fit(&clean(&said.words), cells, false);
            return self.line(Line::from(vec![
                Span::raw(" "),
                Span::styled(words.trim_end().to_owned(), style),
            ]));
        }
        if let Some(order) = model.sending() {
            let words = format!(" sending: {}", order.command());
            return self.line(Line::styled(fit(&words, cells, false), self.theme.look()));
        }
        if model.mode() == super::keys::Mode::Filter {
            return self.line(typed(self.theme));
        }
        let mut spans = vec![Span::raw(" ")];
        let mut used = 0;
        for (key, what) in FOOT {
            let more = width(key) + width(what) + 3;
            if used + more > cells + 2 {
                continue;
            }
            used += more;
            spans.push(Span::styled(key, self.theme.title()));
            spans.push(Span::raw(format!(" {what}  ")));
        }
        self.line(Line::from(spans));
    }
}
