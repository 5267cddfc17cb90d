//! What stands above the table.

use ratatui::{
    layout::Rect,
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::Sparkline,
};

use super::Page;
use crate::live::{
    Action,
    clean::{clean, fit, width, wrapped},
    rates::SECONDS,
    screen::{
        block::scope_words,
        columns::Column,
        health::{Moment, State},
        items::View,
        model::Model,
    },
    units,
};

impl Page<'_, '_> {
    /// Whether it enforces; and at the right what policy is live, and what time it is.
    pub(super) fn head(&mut self, model: &Model, state: &State, now: Moment) {
        let mut right = now.time.strftime("%H:%M:%SZ").to_string();
        // A policy that was live once is not said to be.
        if self.area.width >= 70
            && state.is_fresh()
            && let Some(policy) = model.health.policy()
        {
            let short: String = clean(policy).chars().take(8).collect();
            right = format!("policy {short}  {right}");
        }
        let lines = match self.area.height {
            0..12 => 1,
            12..20 => 2,
            _ => 3,
        };
        let room = self.cells().saturating_sub(width(&right) + 2);
        let style = match state {
            State::Enforcing => self.theme.good().add_modifier(Modifier::BOLD),
            State::Waiting => self.theme.look(),
            _ => self.theme.bad(),
        };
        let mut words = wrapped(&clean(&state.words()), room);
        if words.len() > lines {
            words.truncate(lines);
            if let Some(last) = words.last_mut() {
                let more = "… (e: all)";
                let cut = fit(last, room.saturating_sub(width(more)), false);
                *last = cut.trim_end().trim_end_matches('…').to_owned() + more;
            }
        }
        for (number, words) in words.into_iter().enumerate() {
            let gap = room.saturating_sub(width(&words)) + 2;
            let mut spans = vec![Span::raw(" "), Span::styled(words, style)];
            if number == 0 {
                spans.push(Span::raw(" ".repeat(gap)));
                spans.push(Span::raw(right.clone()));
            }
            self.line(Line::from(spans));
        }
    }

    /// How much there is of all flows.
    pub(super) fn totals(&mut self, model: &Model, state: &State) {
        let [pass, audit, drop] = model.rates.totals();
        let is_narrow = self.area.width < 60;
        let part = |what: &str, packets: f64, bytes: f64| match is_narrow {
            true => format!("{what} {}/s", units::rate(packets)),
            false => format!("{what} {}/s {}", units::rate(packets), units::bits(bytes)),
        };
        let mut parts = vec![
            (part("drop", drop.packets, drop.bytes), Action::Drop),
            (
                part(
                    "pass",
                    pass.packets + audit.packets,
                    pass.bytes + audit.bytes,
                ),
                Action::Pass,
            ),
        ];
        if audit.packets > 0.0 {
            parts.push((
                format!("of it audit {}/s", units::rate(audit.packets)),
                Action::Audit,
            ));
        }
        let mut spans = vec![Span::raw(" ")];
        for (words, action) in parts {
            let style = self.fresh(state, self.theme.action(action));
            spans.push(Span::styled(format!("{words}   "), style));
        }
        if let untold @ 1.. = model.rates.untold() {
            let words = format!("{untold} flows found no room");
            spans.push(Span::styled(words, self.theme.look()));
        }
        let unrecorded = model.health.unrecorded();
        if !unrecorded.is_empty() {
            let words = format!("not recorded: {}", clean(&unrecorded.join(", ")));
            spans.push(Span::styled(words, self.theme.look()));
        }
        self.line(Line::from(spans));
    }

    /// Grey where it is not of now.
    pub(super) fn fresh(&self, state: &State, style: Style) -> Style {
        match state.is_fresh() {
            true => style,
            false => self.theme.grey(),
        }
    }

    /// Drops of the last minute.
    pub(super) fn past(&mut self, model: &Model, state: &State, height: u16) {
        let drops = model.rates.drops();
        let style = self.fresh(state, self.theme.action(Action::Drop));
        let label = " drops/s ";
        let most = drops.iter().copied().max().unwrap_or(0);
        let room = self.cells().saturating_sub(width(label) + 10).min(SECONDS);
        let shown = &drops[drops.len().saturating_sub(room)..];
        let left = width(label) + room - shown.len();
        let graph = Rect {
            x: self.area.x.saturating_add(u16::try_from(left).unwrap_or(0)),
            width: u16::try_from(shown.len()).unwrap_or(0),
            ..self.rows(height)
        };
        self.frame
            .render_widget(Sparkline::default().data(shown).style(style), graph);
        let right = format!(" max {}", units::count(most));
        let spans = [
            Span::raw(label),
            Span::raw(" ".repeat(room)),
            Span::raw(right),
        ];
        for (place, span) in [(0, &spans[0]), (width(label) + room, &spans[2])] {
            let x = self
                .area
                .x
                .saturating_add(u16::try_from(place).unwrap_or(0));
            let line = Rect {
                x,
                width: self.area.right().saturating_sub(x),
                ..self.rows(1)
            };
            self.frame.render_widget(span.clone(), line);
        }
        self.y = self.y.saturating_add(height);
    }

    /// Which view it is, of what, in which order.
    pub(super) fn here(&mut self, model: &Model) {
        let name = match model.view() {
            View::Networks => "network",
            View::Cameras => "camera",
            View::Flows => "flow",
        };
        let mut spans = vec![Span::raw(" ")];
        if let Some(since) = model.paused() {
            let words = format!("PAUSED at {}", since.time.strftime("%H:%M:%SZ"));
            spans.push(Span::styled(words, self.theme.look()));
            spans.push(Span::raw("  "));
        }
        for words in scope_words(model.scope()) {
            spans.push(Span::raw(format!("{words} > ")));
        }
        let count = units::of(model.items().len() as u64, name);
        spans.push(Span::styled(count, self.theme.title()));
        let sort = model.sort();
        let order = match (sort.column, sort.falls) {
            (Column::Last, true) => "newest first",
            (Column::Last, false) => "oldest first",
            (column, true) if column.is_number() => "largest first",
            (column, false) if column.is_number() => "smallest first",
            (_, false) => "a to z",
            (_, true) => "z to a",
        };
        spans.push(Span::raw(format!(" by {}, {order}", sort.column.title())));
        if !model.filter().is_empty() {
            spans.push(Span::styled(
                format!("  filter: {}", clean(model.filter())),
                self.theme.look(),
            ));
        }
        self.line(Line::from(spans));
    }
}
