//! The pages of reports that were never measured.

mod sentences;

use jiff::Timestamp;

use super::{
    chart, html,
    sample::{HOSTILE, count, empty, rich, slots},
    tables::ROWS,
};
use crate::report::{
    model::{Count, Report},
    words,
};

fn page(report: &Report) -> String {
    let page = html(report).unwrap();
    // Nothing in it is run, loaded or opened.
    for bad in [
        "<script",
        "http:",
        "https:",
        "src=",
        "url(",
        "@import",
        "<link",
        "<iframe",
        "javascript:",
    ] {
        assert!(!page.contains(bad), "`{bad}` is in the page");
    }
    let harmful = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\0' | '\u{200b}');
    assert!(!page.contains(harmful));
    balanced(&page);
    page
}

/// All that is opened is closed, and the other way round.
fn balanced(page: &str) {
    const VOID: [&str; 2] = ["meta", "!DOCTYPE"];
    let mut open: Vec<&str> = Vec::new();
    for tag in page.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap();
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            let name = tag.split([' ', '\n']).next().unwrap();
            open.extend((!VOID.contains(&name)).then_some(name));
        }
    }
    assert!(open.is_empty(), "{open:?} not closed");
}

/// Without tags.
fn text(page: &str) -> String {
    let parts = page.split('<').filter_map(|part| part.split_once('>'));
    let text: String = parts.map(|(_, text)| format!("{text} ")).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn an_empty_report_says_so() {
    let page = text(&page(&empty()));
    for said in [
        "No camera sent anything that was observed in this period.",
        "Observation had no gap.",
        "Enforcement was complete all the time.",
        "There is nothing to draw: no packet is recorded.",
        "No dropped packet is recorded in this period.",
        "No change of the policy is recorded in this period.",
        "2026-10-01 00:00:00 to 2026-10-02 00:00:00",
        "This report speaks of what entered through these interfaces, and of nothing else.",
    ] {
        assert!(page.contains(said), "`{said}` is not in {page}");
    }
    assert!(!page.contains("Attention"));
}

#[test]
fn hostile_names_are_only_text() {
    let mut report = rich(50, 48);
    report.host = HOSTILE.to_owned();
    report.version = HOSTILE.to_owned();
    report.zone = Some(HOSTILE.to_owned());
    report.interfaces.push(HOSTILE.to_owned());
    report.unknown.push(HOSTILE.to_owned());
    report.gaps[0].why = HOSTILE.to_owned();
    report.not_enforcing[0].reasons.push(HOSTILE.to_owned());
    report.log.folder = HOSTILE.to_owned();
    report.log.key = Some(HOSTILE.to_owned());
    report.log.checkpoint = Some(format!("{HOSTILE}\n{HOSTILE}\n"));
    report.policies[0].what = HOSTILE.to_owned();
    report.changes[0].login = Some(HOSTILE.to_owned());
    report.cameras[0].mac = Some(HOSTILE.to_owned());
    report.cameras[0].zone = HOSTILE.to_owned();
    report.traffic[0].reason = HOSTILE.to_owned();
    let book = report.books["kameras-flughafen"].clone();
    report.books.insert(HOSTILE.to_owned(), book);
    let page = page(&report);
    assert!(page.contains("&#60;script&#62;alert(1)&#60;/script&#62;"));
    assert!(page.contains(r"\u{202e}txet\u{2066}\u{200b}"));
}

#[test]
fn names_of_all_scripts_are_there_whole() {
    let page = text(&page(&rich(50, 48)));
    for said in [
        "Ростелеком Международные Телекоммуникационные Сети Дальнего Востока Russia (RU)",
        "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
        "中国电信股份有限公司浙江分公司物联网运营中心 China (CN)",
        "m.müller-lüdenscheidt",
        "other senders, more than are told apart",
        "no known network",
        "12 1.1 KiB",
        "\u{2212}40 \u{2212}3.8 KiB",
    ] {
        assert!(page.contains(said), "`{said}`");
    }
}

#[test]
fn long_tables_end_and_say_so() {
    let report = rich(ROWS as u64 + 1, 24);
    let whole = page(&report);
    let said = text(&whole);
    let more =
        "There is 1 more row that this table leaves out: kordon report --csv or --json has all.";
    assert!(said.contains(more));
    assert!(said.contains("There are 502 more rows that this table leaves out"));
    let rows = whole
        .split("id=\"cameras\"")
        .nth(1)
        .unwrap()
        .split("</table>")
        .next()
        .unwrap();
    assert_eq!(rows.matches("<tr>").count(), ROWS + 1);
}

#[test]
fn a_long_timeline_has_few_bars_and_all_packets() {
    for (hours, bars, step) in [
        (1, 1, "1 h"),
        (24, 24, "1 h"),
        (120, 120, "1 h"),
        (121, 61, "2 h"),
        (24 * 31, 62, "12 h"),
        (2160, 90, "1 d"),
        (24 * 3650, 66, "56 d"),
    ] {
        let mut report = rich(3, 24);
        report.timeline.slots = slots(hours);
        let times = chart::times(&report);
        assert_eq!(
            (times.slots.len(), times.step.as_str()),
            (bars, step),
            "{hours} hours"
        );
        let sum = |packets: &mut dyn Iterator<Item = u64>| packets.sum::<u64>();
        assert_eq!(
            sum(&mut times.slots.iter().map(|slot| slot.actions.drop.packets)),
            sum(&mut report
                .timeline
                .slots
                .iter()
                .map(|slot| slot.actions.drop.packets))
        );
        page(&report);
    }
}

#[test]
fn bars_stay_in_the_picture_and_small_ones_are_seen() {
    let mut report = rich(3, 2160);
    report.timeline.slots[7].actions.drop = Count {
        packets: u64::MAX,
        bytes: u64::MAX,
    };
    report.timeline.slots[40].actions.drop = count(1);
    let times = chart::times(&report);
    for bar in times.charts.iter().flat_map(|chart| &chart.bars) {
        let number = |text: &str| text.parse::<f64>().unwrap();
        assert!(
            number(&bar.height) >= 2.0 && number(&bar.y) >= 15.0,
            "{bar:?}"
        );
        assert!(
            number(&bar.x) >= 0.0 && number(&bar.x) + number(&bar.width) <= 100.01,
            "{bar:?}"
        );
    }
    page(&report);
}

#[test]
fn numbers_are_for_people() {
    assert_eq!(
        [0, 999, 1000, 1_204_233].map(words::number),
        ["0", "999", "1,000", "1,204,233"]
    );
    assert_eq!(words::number(u64::MAX), "18,446,744,073,709,551,615");
    assert_eq!(
        words::signed(i64::MIN, words::number),
        "\u{2212}9,223,372,036,854,775,808"
    );
    let bytes = [0, 1023, 1024, 1536, (1 << 20) - 1, 3 << 30, u64::MAX].map(words::bytes);
    assert_eq!(
        bytes,
        [
            "0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "3.0 GiB", "16.0 EiB"
        ]
    );
    let durations = [
        0.0,
        0.3,
        4.0,
        123.0,
        10_800.0,
        187_200.0,
        86_405.0,
        -3.0,
        f64::NAN,
    ];
    assert_eq!(
        durations.map(words::duration),
        [
            "0 s",
            "less than 1 s",
            "4 s",
            "2 min 3 s",
            "3 h",
            "2 d 4 h",
            "1 d",
            "0 s",
            "0 s"
        ]
    );
    assert_eq!(words::moment(Timestamp::UNIX_EPOCH), "1970-01-01 00:00:00");
    assert_eq!(words::cut("дом中国", 5), "дом中…");
    assert_eq!(words::cut("дом中国", 7), "дом中国");
}
