//! `kordon report --html`: the report as one page that needs nothing but a browser, or paper.
//!
//! [`html`] is all that others see. The page has no script and loads nothing, and it says so to the browser
//! too: what is shown may be evidence, and it comes from whom nobody trusts (names of networks, of rules, of
//! users). Askama escapes all of it, and [`words::visible`] goes over the finished page once, for characters
//! that could reorder or hide a line.
//!
//! `tables` and `chart` make the numbers ready, `country` names countries. The templates only place what they get. Nothing here reads a clock, a file or a locale:
//! the same report is the same page.

mod chart;
mod country;
#[cfg(test)]
mod sample;
mod tables;
#[cfg(test)]
mod tests;

use askama::Template;

use self::{
    chart::{Line, Times},
    tables::{Part, Table},
};
use super::{
    model::Report,
    summary::{Sentences, sentences},
    words::{self, between, moment},
};

/// The page.
///
/// # Errors
///
/// Where a template cannot be written out, which is a mistake in it.
pub fn html(report: &Report) -> Result<String, askama::Error> {
    let times = chart::times(report);
    let [policies, databases] = tables::in_force(report);
    let page = Page {
        report,
        since: moment(report.since),
        until: moment(report.until),
        long: between(report.since, report.until),
        made: moment(report.made),
        summary: sentences(report),
        slots: tables::slots(&times.slots),
        times,
        attempts: tables::attempts(report),
        more_lines: chart::networks_dropped(report).count() > chart::NETWORKS,
        lines: chart::lines(report),
        networks: tables::networks(report),
        cameras: tables::cameras(report),
        policies,
        databases,
        changes: tables::changes(report),
        gaps: tables::gaps(report),
        not_enforcing: tables::not_enforcing(report),
        books: tables::books(report),
        records: words::counted(report.log.records, "record"),
        begins: report.log.begins.map(moment),
    };
    page.render().map(words::visible)
}

#[derive(Template)]
#[template(path = "report.html", whitespace = "minimize")]
struct Page<'a> {
    report: &'a Report,
    since: String,
    until: String,
    long: String,
    made: String,
    summary: Sentences,
    times: Times,
    slots: Table,
    attempts: Table,
    lines: Vec<Line>,
    more_lines: bool,
    networks: Table,
    cameras: Table,
    policies: Table,
    databases: Table,
    changes: Table,
    gaps: Table,
    not_enforcing: Table,
    books: Table,
    records: String,
    begins: Option<String>,
}
