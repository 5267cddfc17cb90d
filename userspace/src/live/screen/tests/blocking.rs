//! What `b` asks, and that nothing but `y` sends.

use super::*;
use crate::live::screen::block::Order;

fn order(wish: Option<Wish>) -> Option<(String, String)> {
    match wish {
        Some(Wish::Block(Order { target, zone, .. })) => Some((target, zone)),
        _ => None,
    }
}

#[test]
fn a_network_is_blocked_in_its_zone() {
    let mut desk = Desk::new(80, 24);
    desk.answer(vec![
        flow(1, 64500, Action::Pass, 7),
        flow(2, 64500, Action::Drop, 7),
    ]);
    desk.types("b");
    assert!(
        desk.has("│   kordon block AS64500 --zone cameras "),
        "{:#?}",
        desk.screen()
    );
    assert!(desk.has("2 cameras sent 7 packets that went on."));
    for code in [
        KeyCode::Enter,
        KeyCode::Char('Y'),
        KeyCode::Char('x'),
        KeyCode::Down,
    ] {
        assert_eq!(desk.press(code), None);
        assert!(desk.has("kordon block"));
    }
    assert_eq!(desk.types("n"), None);
    assert!(!desk.has("kordon block"));
    assert_eq!(desk.types("y"), None, "there is no question any more");
    desk.types("b");
    let wish = desk.types("y");
    assert_eq!(
        order(wish),
        Some(("AS64500".to_owned(), "cameras".to_owned()))
    );
    assert!(desk.has(" sending: kordon block AS64500 --zone cameras"));
    desk.types("b");
    assert!(desk.has("still on its way"));
    desk.model.blocked(Ok("live: policy 12".to_owned()));
    assert!(desk.has(" live: policy 12"));
    desk.press(KeyCode::Down);
    assert!(!desk.has(" live: policy 12"), "until the next key");
    desk.model.blocked(Err("not allowed".to_owned()));
    assert!(desk.has(" not allowed"));
}

#[test]
fn what_nobody_read_is_not_sent() {
    let mut desk = Desk::new(80, 24);
    desk.answer(vec![flow(1, 64500, Action::Pass, 7)]);
    // Typed ahead, or pasted.
    assert_eq!(desk.blind(KeyCode::Char('b')), None);
    assert_eq!(desk.blind(KeyCode::Char('y')), None);
    desk.screen();
    assert!(order(desk.blind(KeyCode::Char('y'))).is_some());
    desk.model.blocked(Ok(String::new()));
    // On a screen that has no room for it.
    desk.size = (20, 5);
    desk.types("b");
    assert_eq!(desk.types("y"), None);
    desk.size = (40, 10);
    assert!(desk.has("y: send it"));
    assert!(order(desk.types("y")).is_some());
}

#[test]
fn the_question_is_about_what_was_selected_then() {
    let mut desk = Desk::new(80, 24);
    desk.answer(vec![
        flow(1, 1, Action::Pass, 9),
        flow(1, 2, Action::Pass, 1),
    ]);
    desk.types("b");
    desk.at(1.0).answer(vec![
        flow(1, 1, Action::Pass, 9),
        flow(1, 2, Action::Pass, 100),
    ]);
    desk.screen();
    assert_eq!(order(desk.types("y")).expect("an order").0, "AS1");
}

#[test]
fn what_is_dropped_already_is_not_blocked() {
    let mut desk = Desk::new(80, 24);
    let mut before = flow(1, 64500, Action::Pass, 5);
    before.last = "2026-11-29T17:00:00.000Z".to_owned();
    desk.answer(vec![before.clone(), flow(1, 64500, Action::Drop, 1)]);
    desk.types("b");
    assert!(desk.has("AS64500 is already dropped in zone cameras, by rule hostile"));
    assert_eq!(desk.types("y"), None);
    // It passed since, or another camera's was never decided anew.
    before.last = "2026-11-29T18:00:00.000Z".to_owned();
    desk.answer(vec![before.clone(), flow(1, 64500, Action::Drop, 1)])
        .types("b");
    assert!(desk.has("kordon block AS64500"));
    desk.types("n");
    desk.answer(vec![
        flow(2, 64500, Action::Audit, 1),
        flow(1, 64500, Action::Drop, 1),
    ])
    .types("b");
    assert!(desk.has("kordon block AS64500"));
    // A filter that hides what passes changes nothing.
    desk.types("n/drop");
    desk.press(KeyCode::Enter);
    desk.types("b");
    assert!(desk.has("kordon block AS64500"));
}

#[test]
fn flows_without_a_network_are_blocked_by_address() {
    for (address, judged, wanted) in [
        ("203.0.113.9", None, "203.0.113.9/32"),
        ("2001:db8::9", None, "2001:db8::9/128"),
        ("64:ff9b::cb00:7109", Some("203.0.113.9"), "203.0.113.9/32"),
    ] {
        let mut desk = Desk::new(80, 24);
        let mut row = flow(1, 1, Action::Pass, 1);
        (row.asn, row.dst) = (None, Some(address.to_owned()));
        row.judged = judged.map(str::to_owned);
        desk.answer(vec![row]).types("b");
        assert!(desk.has("no network that could be blocked"));
        desk.types("x3b");
        assert_eq!(order(desk.types("y")).expect("an order").0, wanted);
    }
}

#[test]
fn what_cannot_be_blocked_says_so() {
    let mut desk = Desk::new(80, 24);
    desk.types("b");
    assert!(desk.has("Nothing is selected."));
    let mut row = flow(1, 1, Action::Pass, 1);
    (row.asn, row.dst, row.judged) = (None, None, None);
    desk.answer(vec![row.clone()]).types("x3b");
    assert!(desk.has("no destination that is known"));
    desk.types("x2b");
    assert!(desk.has("A camera is not blocked"));
    desk.types("x");
    row.zone = String::new();
    desk.at(20.0)
        .answer(vec![row.clone()])
        .at(40.0)
        .answer(vec![row])
        .types("3gb");
    assert!(desk.has("It has no zone"), "{:#?}", desk.screen());
}

#[test]
fn a_zone_with_a_strange_name() {
    let mut desk = Desk::new(80, 24);
    let mut row = flow(1, 7, Action::Pass, 1);
    row.zone = "it's; reboot\x1b".to_owned();
    let zone = row.zone.clone();
    desk.answer(vec![row]).types("b");
    assert!(
        desk.has(r"kordon block AS7 --zone 'it'\''s; reboot�'"),
        "{:#?}",
        desk.screen()
    );
    assert_eq!(order(desk.types("y")).expect("an order").1, zone);
}
