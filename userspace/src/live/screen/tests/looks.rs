//! Screens of all sizes, names of all kinds, and what is claimed.

use super::*;
use crate::live::clean::width;

const SIZES: [(u16, u16); 9] = [
    (80, 24),
    (200, 50),
    (40, 10),
    (1, 1),
    (0, 0),
    (36, 8),
    (35, 8),
    (300, 9),
    (37, 100),
];

fn strange() -> Vec<Row> {
    let names = [
        "Ростелеком Центральная Россия",
        "中国电信 CHINANET-BACKBONE 中国电信集团",
        "ev\x1b[2Jil\u{202e}\n\r\u{9b}31m\u{200f}\u{2066}",
        "",
        &"zalgo\u{301}\u{302}\u{303}\u{304}\u{305}".repeat(30),
        "👩‍👩‍👧 ☂\u{fe0f}",
    ];
    let rows = names.iter().enumerate().map(|(number, name)| {
        let number = u32::try_from(number).expect("few");
        let mut row = flow(number, 64500 + number, Action::ALL[number as usize % 3], 10);
        row.name = Some((*name).to_owned());
        row.rule = Some((*name).to_owned());
        row.zone = if number % 2 == 0 {
            (*name).to_owned()
        } else {
            "cameras".to_owned()
        };
        row
    });
    let mut rows: Vec<Row> = rows.collect();
    let mut bare = flow(99, 1, Action::Drop, u64::MAX);
    (bare.mac, bare.src, bare.dst, bare.judged, bare.asn) = (None, None, None, None, None);
    (bare.name, bare.country, bare.proto, bare.dport) = (None, None, None, None);
    (bare.bytes, bare.others, bare.last) = (u64::MAX, true, "\x1b".to_owned());
    rows.push(bare);
    rows
}

#[test]
fn no_size_and_no_key_panics() {
    for size in SIZES {
        let mut desk = Desk::new(size.0, size.1);
        desk.screen();
        desk.answer(strange()).at(1.0).answer(strange());
        let keys = "jjjk/rost中\u{202e}";
        let keys = keys.chars().map(KeyCode::Char).chain([KeyCode::Enter]);
        let more = "1ss>><Sr ?x b n e x 2ssr 3ssssssssssssr GgbyGnb\u{0}y"
            .chars()
            .map(KeyCode::Char);
        let moves = [
            KeyCode::Esc,
            KeyCode::Char('1'),
            KeyCode::Enter,
            KeyCode::Enter,
            KeyCode::Enter,
            KeyCode::Char('b'),
            KeyCode::Char('y'),
            KeyCode::PageDown,
            KeyCode::PageUp,
            KeyCode::End,
            KeyCode::Home,
            KeyCode::Backspace,
            KeyCode::Tab,
        ];
        for key in keys.chain(more).chain(moves) {
            desk.press(key);
        }
        desk.fails("x\x1b[31m\n").at(60.0).screen();
        desk.model.blocked(Err("中".repeat(200)));
        desk.screen();
    }
}

#[test]
fn no_cell_drives_a_terminal() {
    for view in ['1', '2', '3'] {
        for size in SIZES {
            let mut desk = Desk::new(size.0, size.1);
            desk.answer(strange()).types(&view.to_string());
            desk.model.blocked(Err("\x1b]0;title\x07".to_owned()));
            for line in desk.screen() {
                let is_bad = |c: char| {
                    c.is_control()
                        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
                };
                assert!(!line.contains(is_bad), "{line:?}");
                assert!(width(&line) <= size.0.into(), "{line:?}");
            }
        }
    }
}

#[test]
fn columns_stay_where_they_are() {
    let mut desk = Desk::new(80, 24);
    desk.answer(strange());
    let screen = desk.screen();
    let head = screen
        .iter()
        .position(|line| line.contains("NETWORK"))
        .expect("a head");
    let end = width(&screen[head][..screen[head].find("CAMERAS").expect("a column") + 7]);
    for line in screen[head + 1..].iter().take(7) {
        // The number of cameras ends where its title does, whatever the name is made of.
        let mut cells = 0;
        let before: String = line
            .chars()
            .take_while(|c| {
                cells += width(&c.to_string());
                cells <= end
            })
            .collect();
        assert!(before.ends_with(" 1"), "{line:?}");
        assert_eq!(width(&before), end, "{line:?}");
    }
}

#[test]
fn what_it_says_of_networks() {
    let mut desk = Desk::new(80, 24);
    let rows = |count: u64| {
        vec![
            flow(1, 64500, Action::Drop, 10 * count),
            flow(2, 64500, Action::Drop, 5 * count),
            flow(1, 64501, Action::Pass, 40 * count),
            flow(1, 64502, Action::Audit, 8 * count),
        ]
    };
    desk.answer(rows(1)).at(2.0).answer(rows(2));
    let screen = desk.screen();
    let lines = [
        " enforcing                                           policy 01234567  12:00:02Z",
        " drop 7.5/s 6 kbit/s   pass 24/s 19 kbit/s   of it audit 4.0/s",
        " drops/s                                                                   ██ max 8",
        " 3 networks by DROP/S, largest first",
        " NETWORK                  ZONE      CAMERAS  DROP/S  PASS/S  DROPPED   PASSED",
        " AS64500 Net 64500 (RU)   cameras         2     7.5       0       30        0",
        " AS64501 Net 64501 (RU)   cameras         1       0      20        0       80",
        " AS64502 Net 64502 (RU)   cameras         1       0     4.0        0       16",
    ];
    for (line, wanted) in screen.iter().zip(lines) {
        let words = |line: &str| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(line), words(wanted), "{screen:#?}");
    }
    assert!(
        screen[23].starts_with(" enter open  esc back  b block"),
        "{screen:#?}"
    );
}

#[test]
fn it_claims_nothing_that_is_not_known() {
    let mut desk = Desk::new(80, 24);
    assert!(desk.has("waiting for the daemon"));
    desk.answer(vec![flow(1, 1, Action::Drop, 1)]);
    assert!(desk.at(4.9).has(" enforcing"));
    assert!(desk.has("policy 01234567"));
    // A question that hangs.
    assert!(!desk.at(5.0).has(" enforcing"));
    assert!(desk.has("NO ANSWER from the daemon since 12:00:00Z"));
    assert!(!desk.has("policy 01234567"));
    desk.answer(vec![]).at(6.0).fails("connection refused");
    assert!(desk.has("NO ANSWER from the daemon since 12:00:05Z: "));
    assert!(desk.has("connection") && desk.has("refused"));
    desk.at(7.0).answer(vec![]);
    assert!(desk.has(" enforcing"));
    // Also where nothing else finds room.
    desk.size = (20, 3);
    assert!(desk.has("enforcing. Too"));
    desk.at(60.0);
    assert!(desk.has("NO ANSWER from the"));
    let poll = Poll {
        enforcing: Some(false),
        reasons: Some(vec!["`eth1` has no program".to_owned()]),
        ..Poll::default()
    };
    desk.model.answered(Ok(poll), desk.now, desk.now.instant);
    desk.size = (80, 24);
    assert!(desk.has(" NOT ENFORCING: `eth1` has no program"));
}

#[test]
fn what_no_flow_has_is_said() {
    let mut desk = Desk::new(80, 24);
    desk.answer(vec![]);
    assert!(!desk.has("recorded"));
    let poll = Poll {
        enforcing: Some(true),
        unrecorded: vec!["zone doors".to_owned(), "what passes of zone b".to_owned()],
        ..Poll::default()
    };
    desk.model.answered(Ok(poll), desk.now, desk.now.instant);
    assert!(desk.has("not recorded: zone doors, what passes of zone b"));
    assert!(desk.has("no camera has sent anything that is recorded"));
}

#[test]
fn reasons_are_all_there() {
    let mut desk = Desk::new(80, 24);
    let reasons = (0..9)
        .map(|number| format!("reason number {number} that is rather long"))
        .collect();
    let poll = Poll {
        enforcing: Some(false),
        reasons: Some(reasons),
        ..Poll::default()
    };
    desk.model.answered(Ok(poll), desk.now, desk.now.instant);
    assert!(desk.has("… (e: all)"));
    desk.types("e");
    for number in 0..9 {
        assert!(desk.has(&format!("- reason number {number} that")));
    }
}

#[test]
fn old_numbers_are_grey_and_no_color_has_none() {
    use ratatui::style::{Color, Modifier};
    let mut desk = Desk::new(80, 24);
    desk.answer(vec![flow(1, 1, Action::Drop, 1)])
        .at(1.0)
        .answer(vec![flow(1, 1, Action::Drop, 9)]);
    let first =
        |desk: &mut Desk, colours| desk.terminal(colours).backend().buffer()[(1, 1)].style();
    assert_eq!(first(&mut desk, true).fg, Some(Color::Red));
    desk.fails("gone");
    assert_eq!(first(&mut desk, true).fg, Some(Color::DarkGray));
    assert!(first(&mut desk, false).add_modifier.contains(Modifier::DIM));
    desk.types("b");
    let terminal = desk.terminal(false);
    let cells = terminal.backend().buffer().content();
    assert!(
        cells
            .iter()
            .all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset)
    );
}
