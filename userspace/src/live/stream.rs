//! The events of `kordon watch`: a flow is new, a flow went on.
//!
//! What the lines of a flow say adds up to what its counters grew by, exactly: what is not said yet is
//! kept, and [`Stream::finish`] says the rest.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::{
    Action, Row,
    clean::{clean, escaped, fit, width},
    counts::Book,
    units,
};

/// What happened to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// It was not there before.
    New,
    /// It has more packets than its last line said.
    More,
}

/// A line of `watch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The flow as the daemon told it.
    #[serde(flatten)]
    pub row: Row,
    /// Packets since its last line.
    pub new_packets: u64,
    /// Bytes since then.
    pub new_bytes: u64,
    /// What happened.
    pub event: What,
}

/// What is kept of a flow.
#[derive(Debug, Default)]
struct Told {
    /// It had a line, or was there before all lines.
    is_known: bool,
    /// When it had its last line.
    at: Option<Instant>,
    packets: u64,
    bytes: u64,
}

/// Events from successive answers.
#[derive(Debug)]
pub struct Stream {
    book: Book<Told>,
    every: Duration,
    from_now: bool,
}

impl Stream {
    /// `every`: a flow that goes on has a line no more often than that. `from_now`: what was there before
    /// the first answer is not told.
    pub fn new(every: Duration, from_now: bool) -> Self {
        Self {
            book: Book::default(),
            every,
            from_now,
        }
    }

    /// Takes an answer; what is to be told of it, the oldest first.
    pub fn post(&mut self, rows: Vec<Row>, at: Instant) -> Vec<Event> {
        self.book.post(rows);
        let is_before = self.from_now && self.book.polls() == 1;
        let every = self.every;
        self.told(
            |told, is_there| {
                if is_before {
                    *told = Told {
                        is_known: true,
                        ..Told::default()
                    };
                }
                // What is missing may be forgotten: it is told what it grew by as long as it is known.
                !is_there
                    || told
                        .at
                        .is_none_or(|last| at.saturating_duration_since(last) >= every)
            },
            Some(at),
        )
    }

    /// What was not told yet, because it came too soon after the last line of its flow.
    pub fn finish(&mut self) -> Vec<Event> {
        self.told(|_, _| true, None)
    }

    /// Flows of the last answer that found no room, and are in no line.
    pub fn untold(&self) -> u64 {
        self.book.untold()
    }

    fn told(
        &mut self,
        is_due: impl Fn(&mut Told, bool) -> bool,
        at: Option<Instant>,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        for (key, entry, is_there) in self.book.entries_mut() {
            let told = &mut entry.kept;
            if at.is_some() {
                told.packets = told.packets.saturating_add(entry.packets);
                told.bytes = told.bytes.saturating_add(entry.bytes);
            }
            if entry.is_new {
                told.is_known = false;
                told.at = None;
            }
            if !is_due(told, is_there) || (told.packets == 0 && told.bytes == 0) {
                continue;
            }
            let event = Event {
                row: Row::clone(&entry.row),
                new_packets: told.packets,
                new_bytes: told.bytes,
                event: if told.is_known { What::More } else { What::New },
            };
            *told = Told {
                is_known: true,
                at,
                ..Told::default()
            };
            entry.is_new = false;
            events.push((key.clone(), event));
        }
        events.sort_by(|(a_key, a), (b_key, b)| (&a.row.last, a_key).cmp(&(&b.row.last, b_key)));
        events.into_iter().map(|(_, event)| event).collect()
    }
}

const RED: &str = "\x1b[1;31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// Events as lines for people, their columns as wide as what was in them before.
#[derive(Clone, Copy, Debug)]
pub struct Lines {
    has_colours: bool,
    widths: [usize; 5],
}

/// A column grows no wider than that: an IPv6 address.
const WIDEST: usize = 39;

impl Lines {
    /// Lines with or without colours.
    pub fn new(has_colours: bool) -> Self {
        Self {
            has_colours,
            widths: [8, 15, 15, 24, 8],
        }
    }

    /// The line of an event, without its end.
    pub fn line(&mut self, event: &Event) -> String {
        let row = &event.row;
        let camera = row.src.as_deref().or(row.mac.as_deref()).unwrap_or("-");
        let to = match row.others {
            true => "others",
            false => row.dst.as_deref().unwrap_or("-"),
        };
        let (network, service) = (network(row), row.service());
        let mut cells = [&row.zone, camera, to, &network, &service].map(clean);
        for (cell, widest) in cells.iter_mut().zip(&mut self.widths) {
            *widest = width(cell).clamp(*widest, WIDEST.max(*widest));
            // What is too long is not cut: a line has no end that it must keep.
            if width(cell) <= *widest {
                *cell = fit(cell, *widest, false);
            }
        }
        let [zone, camera, to, network, service] = cells;
        let what = match event.event {
            What::New => "new ",
            What::More => "more",
        };
        let (colour, plain) = match (self.has_colours, row.action) {
            (false, _) => ("", ""),
            (true, Action::Drop) => (RED, PLAIN),
            (true, Action::Audit) => (YELLOW, PLAIN),
            (true, Action::Pass) => (GREEN, PLAIN),
        };
        let action = format!("{colour}{:<5}{plain}", row.action.loud());
        format!(
            "{} {what} {zone} {camera} → {to} {network} {service} {action} {}, {} {}",
            clock(&row.last),
            why(row),
            units::of(event.new_packets, "packet"),
            units::bytes(event.new_bytes),
        )
    }
}

/// An event as an object. It has nothing that a terminal obeys.
///
/// # Errors
///
/// If it cannot be written as JSON.
pub fn json(event: &Event) -> Result<String, serde_json::Error> {
    serde_json::to_string(event).map(|text| escaped(&text))
}

/// A moment's time of day, UTC.
pub(super) fn clock(moment: &str) -> String {
    match moment.parse::<jiff::Timestamp>() {
        Ok(moment) => moment.strftime("%H:%M:%SZ").to_string(),
        Err(_) => "--:--:--Z".to_owned(),
    }
}

fn why(row: &Row) -> String {
    match row.rule.as_deref() {
        Some(rule) => format!("rule {}", clean(rule)),
        None => clean(&row.reason),
    }
}

fn network(row: &Row) -> String {
    let Some(asn) = row.asn else {
        return "-".to_owned();
    };
    match row.name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => format!("AS{asn} {name}"),
        None => format!("AS{asn}"),
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
