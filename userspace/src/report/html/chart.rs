//! The charts: what the template draws, in numbers. Across, all is in percent, so that a chart is as wide as
//! the page or the paper, and its letters stay as large as they are. Nothing is told by colour alone: what
//! was dropped is striped, what was reported is an outline.

use std::ops::Range;

use jiff::Timestamp;

use super::tables::network;
use crate::report::{
    model::{Actions, Count, Network, Report, Timeline},
    words::{cut, duration, moment, number},
};

/// More bars than that cannot be told apart on paper.
const BARS: i64 = 120;
/// Lines of the chart of networks.
pub(super) const NETWORKS: usize = 10;
/// Signs of the gaps and the like: more than that are one black line.
const MARKS: usize = 200;
/// Where the bars are drawn, from the top of the picture, in pixels.
const TOP: f64 = 20.0;
const BOTTOM: f64 = 160.0;
/// What was seen must be seen, however small it is beside the rest.
const LEAST: f64 = 2.0;

/// Bars by time.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// For who cannot see it.
    pub(super) words: String,
    pub(super) bars: Vec<Bar>,
    /// Lines across, and what they stand for.
    pub(super) scale: Vec<(String, String)>,
    pub(super) is_dropped: bool,
}

#[derive(Debug)]
pub(super) struct Bar {
    pub(super) x: String,
    pub(super) width: String,
    pub(super) y: String,
    pub(super) height: String,
    pub(super) class: &'static str,
    pub(super) title: String,
}

/// A part of the time, below the bars.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) x: String,
    pub(super) y: u8,
    pub(super) width: String,
    pub(super) class: &'static str,
}

/// A moment below the axis.
#[derive(Debug)]
pub(super) struct Tick {
    pub(super) x: u8,
    pub(super) anchor: &'static str,
    /// Only where there is room.
    pub(super) is_wide: bool,
    pub(super) text: String,
}

/// All that is drawn by time.
#[derive(Debug)]
pub(super) struct Times {
    pub(super) slots: Vec<Slot>,
    pub(super) charts: Vec<Chart>,
    pub(super) marks: Vec<Mark>,
    pub(super) has_gap: bool,
    pub(super) has_off: bool,
    pub(super) ticks: Vec<Tick>,
    /// How much time each bar stands for.
    pub(super) step: String,
}

/// Slots of the timeline that are one bar.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) actions: Actions,
    /// Nobody wrote in all of it, and nothing is known of it.
    pub(super) is_unknown: bool,
}

/// A network, and what was dropped on the way to it.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) packets: String,
    pub(super) width: String,
    /// Where its name, its bar and its number stand.
    pub(super) name_y: usize,
    pub(super) bar_y: usize,
    pub(super) number_y: usize,
}

pub(super) fn times(report: &Report) -> Times {
    let (step, mut slots) = merged(&report.timeline);
    for slot in &mut slots {
        let actions = slot.actions;
        let packets = [actions.drop, actions.audit, actions.pass].map(|count| count.packets);
        // A slot may reach over the ends of the period.
        let from = slot.from.max(report.since.as_second());
        let to = slot.to.min(report.until.as_second());
        let mut spans = report.unobserved();
        slot.is_unknown = packets == [0; 3]
            && spans.any(|(begin, end)| begin.as_second() <= from && end.as_second() >= to);
    }
    let range = match (slots.first(), slots.last()) {
        (Some(first), Some(last)) => first.from..last.to,
        _ => 0..0,
    };
    let charts = [
        ("dropped", "Dropped packets", true),
        ("passed", "Packets that passed", false),
    ];
    let charts = charts.map(|(id, title, is_dropped)| chart(id, title, is_dropped, &slots, &range));
    let marks = marks(report, &range);
    let has = |class| marks.iter().any(|mark: &Mark| mark.class == class);
    Times {
        has_gap: has("gap"),
        has_off: has("off"),
        charts: charts.into_iter().flatten().collect(),
        marks,
        ticks: ticks(&range),
        step: duration(step as f64),
        slots,
    }
}

/// Slots of a length that a calendar knows, as many as fit; all begin at multiples of it.
fn merged(timeline: &Timeline) -> (i64, Vec<Slot>) {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const STEPS: [i64; 17] = [
        MINUTE,
        5 * MINUTE,
        10 * MINUTE,
        30 * MINUTE,
        HOUR,
        2 * HOUR,
        3 * HOUR,
        6 * HOUR,
        12 * HOUR,
        DAY,
        2 * DAY,
        7 * DAY,
        14 * DAY,
        28 * DAY,
        56 * DAY,
        112 * DAY,
        364 * DAY,
    ];
    let own = i64::try_from(timeline.step).unwrap_or(DAY).max(1);
    let all = i64::try_from(timeline.slots.len()).unwrap_or(i64::MAX);
    let long = own.saturating_mul(all);
    let fits = |step: &i64| step % own == 0 && long / step <= BARS;
    let step = match all <= BARS {
        true => own,
        false => STEPS
            .into_iter()
            .find(fits)
            .unwrap_or(own * (all / BARS + 1)),
    };
    let mut slots: Vec<Slot> = Vec::new();
    for slot in &timeline.slots {
        let from = slot.at.as_second();
        let to = from.saturating_add(own);
        match slots.last_mut() {
            Some(last) if last.from.div_euclid(step) == from.div_euclid(step) => {
                last.to = to;
                last.actions = sum(last.actions, slot.actions);
            }
            _ => slots.push(Slot {
                from,
                to,
                actions: slot.actions,
                is_unknown: false,
            }),
        }
    }
    (step, slots)
}

fn sum(a: Actions, b: Actions) -> Actions {
    let count = |a: Count, b: Count| Count {
        packets: a.packets.saturating_add(b.packets),
        bytes: a.bytes.saturating_add(b.bytes),
    };
    Actions {
        drop: count(a.drop, b.drop),
        audit: count(a.audit, b.audit),
        pass: count(a.pass, b.pass),
    }
}

/// `None`: there is nothing to draw.
fn chart(
    id: &'static str,
    title: &'static str,
    is_dropped: bool,
    slots: &[Slot],
    range: &Range<i64>,
) -> Option<Chart> {
    // From the axis up.
    let parts = |slot: &Slot| match is_dropped {
        true => [("drop", slot.actions.drop.packets), ("audit", 0)],
        false => [
            ("pass", slot.actions.pass.packets),
            ("audit", slot.actions.audit.packets),
        ],
    };
    let total = |slot: &Slot| {
        parts(slot)
            .iter()
            .fold(0u64, |all, (_, packets)| all.saturating_add(*packets))
    };
    let (most, at) = slots
        .iter()
        .map(|slot| (total(slot), slot))
        .max_by_key(|(total, _)| *total)?;
    if most == 0 {
        return None;
    }
    let top = above(most);
    let mut bars = Vec::new();
    for slot in slots {
        let (x, width) = place(slot.from, slot.to, range);
        // A bar by itself is a bar, not a wall.
        let (x, width) = match width > 8.0 {
            true => (x + (width - 8.0) / 2.0, 8.0),
            false => (x + width * 0.08, width * 0.84),
        };
        let mut y = BOTTOM;
        for (class, packets) in parts(slot).into_iter().filter(|(_, packets)| *packets > 0) {
            let height = (packets as f64 / top as f64 * (BOTTOM - TOP)).max(LEAST);
            y -= height;
            bars.push(Bar {
                x: format!("{x:.2}"),
                width: format!("{width:.2}"),
                y: format!("{y:.1}"),
                height: format!("{height:.1}"),
                class,
                title: format!("{}: {} {}", span(slot), number(packets), said(class)),
            });
        }
    }
    let half = top.is_multiple_of(2).then(|| (line(0.5), number(top / 2)));
    Some(Chart {
        id,
        title,
        words: format!(
            "Bars by time. The highest is of {}, with {} packets. The table below has all numbers.",
            span(at),
            number(most)
        ),
        bars,
        scale: [(line(1.0), number(top))].into_iter().chain(half).collect(),
        is_dropped,
    })
}

/// What a bar stands for.
fn said(class: &str) -> &'static str {
    match class {
        "drop" => "dropped",
        "audit" => "passed and reported",
        _ => "passed",
    }
}

fn line(part: f64) -> String {
    format!("{:.1}", BOTTOM - (BOTTOM - TOP) * part)
}

/// The next number that a scale may end with.
fn above(most: u64) -> u64 {
    const SMALL: [u64; 7] = [1, 2, 3, 4, 5, 6, 8];
    const TENTHS: [u64; 10] = [10, 12, 16, 20, 24, 30, 40, 50, 60, 80];
    if let Some(top) = SMALL.into_iter().find(|top| *top >= most) {
        return top;
    }
    let mut tenth = 1u64;
    loop {
        let tops = TENTHS.iter().map(|tenths| tenth.saturating_mul(*tenths));
        if let Some(top) = tops.into_iter().find(|top| *top >= most) {
            return top;
        }
        tenth = tenth.saturating_mul(10);
    }
}

/// Where it begins and how wide it is, in percent.
fn place(from: i64, to: i64, range: &Range<i64>) -> (f64, f64) {
    let all = (range.end - range.start).max(1) as f64;
    let percent = |at: i64| (at.clamp(range.start, range.end) - range.start) as f64 / all * 100.0;
    (percent(from), percent(to) - percent(from))
}

fn marks(report: &Report, range: &Range<i64>) -> Vec<Mark> {
    let gaps = report.unobserved().map(|(from, to)| ("gap", from, to));
    let spans = report
        .not_enforcing
        .iter()
        .map(|span| ("off", span.from, span.to));
    let is_in = |(_, from, to): &(_, Timestamp, Timestamp)| {
        to.as_second() >= range.start && from.as_second() <= range.end
    };
    let mark = |(class, from, to): (_, Timestamp, Timestamp)| {
        let (x, width) = place(from.as_second(), to.as_second(), range);
        // A gap of a second in a month must be seen too.
        let (x, width) = match width < 1.2 {
            true => ((x + width / 2.0 - 0.6).clamp(0.0, 98.8), 1.2),
            false => (x, width),
        };
        Mark {
            x: format!("{x:.2}"),
            // They may be at the same time: a line for each.
            y: if class == "gap" { 163 } else { 171 },
            width: format!("{width:.2}"),
            class,
        }
    };
    let gaps = gaps.filter(is_in).take(MARKS);
    gaps.chain(spans.filter(is_in).take(MARKS))
        .map(mark)
        .collect()
}

fn ticks(range: &Range<i64>) -> Vec<Tick> {
    let long = range.end - range.start;
    let day = |second: i64| second.div_euclid(86_400);
    let format = match long {
        0..300 => "%H:%M:%S",
        // Of one day, which stands above.
        _ if day(range.start) == day(range.end - 1) => "%H:%M",
        ..=864_000 => "%-d %b %H:%M",
        _ => "%Y-%m-%d",
    };
    let anchor = |x| match x {
        0 => "start",
        100 => "end",
        _ => "middle",
    };
    let tick = |x: u8| {
        let at = range.start + long / 100 * i64::from(x) + long % 100 * i64::from(x) / 100;
        Some(Tick {
            x,
            anchor: anchor(x),
            is_wide: !x.is_multiple_of(50),
            text: Timestamp::from_second(at)
                .ok()?
                .strftime(format)
                .to_string(),
        })
    };
    [0, 25, 50, 75, 100].into_iter().filter_map(tick).collect()
}

/// From when to when, in words.
pub(super) fn span(slot: &Slot) -> String {
    let at = |second| {
        Timestamp::from_second(second)
            .map(moment)
            .unwrap_or_default()
    };
    let (from, to) = (at(slot.from), at(slot.to));
    // Seconds are always zero in slots of minutes and more.
    let short = |text: &str| text.strip_suffix(":00").unwrap_or(text).to_owned();
    format!("{} to {}", short(&from), short(&to))
}

/// The networks that something was dropped on the way to.
pub(super) fn networks_dropped(report: &Report) -> impl Iterator<Item = &Network> {
    let networks = report.networks.iter();
    networks.filter(|to| to.actions.drop.packets > 0)
}

/// The networks that most was dropped on the way to.
pub(super) fn lines(report: &Report) -> Vec<Line> {
    const HIGH: usize = 44;
    let mut networks: Vec<_> = networks_dropped(report).collect();
    networks.sort_by_key(|to| std::cmp::Reverse(to.actions.drop.packets));
    networks.truncate(NETWORKS);
    let most = networks.first().map_or(1, |to| to.actions.drop.packets);
    let line = |(at, to): (usize, &&Network)| {
        let packets = to.actions.drop.packets;
        Line {
            name: cut(&network(to.asn, to.name.as_deref()), 42).into_owned(),
            packets: number(packets),
            // Room for the number is left beside the longest bar.
            width: format!("{:.2}", (packets as f64 / most as f64 * 70.0).max(0.5)),
            name_y: at * HIGH + 14,
            bar_y: at * HIGH + 20,
            number_y: at * HIGH + 32,
        }
    };
    networks.iter().enumerate().map(line).collect()
}
