//! Going around: selection, views, order, filter, pause.

use super::*;

fn three(one: u64, two: u64, three: u64) -> Vec<Row> {
    vec![
        flow(1, 1, Action::Drop, one),
        flow(2, 2, Action::Drop, two),
        flow(3, 3, Action::Drop, three),
    ]
}

fn order(desk: &Desk) -> Vec<u32> {
    desk.model
        .items()
        .iter()
        .filter_map(|item| item.row.asn)
        .collect()
}

#[test]
fn what_is_selected_stays_selected() {
    let mut desk = Desk::new(80, 24);
    desk.answer(three(10, 10, 10))
        .at(1.0)
        .answer(three(40, 30, 20));
    assert_eq!(order(&desk), [1, 2, 3]);
    desk.press(KeyCode::Down);
    let before = desk.selected();
    desk.at(2.0).answer(three(41, 32, 99));
    assert_eq!(order(&desk), [3, 2, 1]);
    assert_eq!(desk.selected(), before);
    desk.types("r");
    assert_eq!(order(&desk), [1, 2, 3]);
    desk.types("ss");
    assert_eq!(desk.selected(), before);
    // Nobody has that order: equals stay as they are.
    desk.types("/as3");
    assert_ne!(desk.selected(), before, "it is not among them");
    desk.press(KeyCode::Esc);
    assert_eq!(order(&desk).len(), 3);
}

#[test]
fn it_stays_in_sight() {
    let mut desk = Desk::new(80, 24);
    let rows: Vec<Row> = (0..500)
        .map(|number| flow(number, number, Action::Drop, 1))
        .collect();
    desk.answer(rows);
    for key in [
        KeyCode::End,
        KeyCode::PageUp,
        KeyCode::Up,
        KeyCode::Home,
        KeyCode::PageDown,
    ] {
        desk.press(key);
        let place = desk.model.place();
        let name = format!(
            " AS{} ",
            desk.model.items()[place].row.asn.expect("a network")
        );
        assert!(desk.has(&name), "{key:?} {place}");
    }
    desk.press(KeyCode::End);
    assert_eq!(desk.model.place(), 499);
    desk.size = (40, 8);
    let name = format!(
        " AS{} ",
        desk.model.items()[499].row.asn.expect("a network")
    );
    assert!(desk.has(&name));
}

#[test]
fn into_a_network_and_back() {
    let mut desk = Desk::new(80, 24);
    let rows = vec![
        flow(1, 1, Action::Drop, 5),
        flow(1, 2, Action::Pass, 5),
        flow(2, 2, Action::Pass, 3),
        flow(3, 3, Action::Pass, 1),
    ];
    desk.answer(rows);
    desk.press(KeyCode::Down);
    let before = desk.selected();
    assert!(
        before.starts_with("1 ") || before.starts_with("2 "),
        "{before}"
    );
    desk.types("g");
    while !desk.selected().starts_with("2 ") {
        desk.press(KeyCode::Down);
    }
    desk.press(KeyCode::Enter);
    assert!(desk.has(" AS2 of zone cameras > 2 cameras"));
    desk.press(KeyCode::Enter);
    assert!(
        desk.has(" AS2 of zone cameras > 10.20.0.1 > 1 flow by"),
        "{:#?}",
        desk.screen()
    );
    assert!(
        !desk.has("CAMERA  "),
        "what is the same everywhere has no column"
    );
    desk.press(KeyCode::Enter);
    assert_eq!(desk.model.items().len(), 1, "a flow has nothing within");
    desk.press(KeyCode::Esc);
    desk.press(KeyCode::Esc);
    assert_eq!(desk.model.items().len(), 3);
    assert!(desk.selected().starts_with("2 "));
    desk.press(KeyCode::Tab);
    assert!(desk.has(" 3 cameras by"));
    desk.press(KeyCode::Tab);
    assert!(desk.has(" 4 flows by"));
}

#[test]
fn a_filter_is_of_flows() {
    let mut desk = Desk::new(80, 24);
    let rows = vec![
        flow(1, 1, Action::Drop, 5),
        flow(1, 2, Action::Pass, 5),
        flow(2, 2, Action::Drop, 3),
    ];
    desk.answer(rows);
    desk.types("/DROP as2");
    assert!(desk.has("filter: DROP as2_"));
    assert_eq!(order(&desk), [2]);
    assert_eq!(
        desk.model.items()[0].cameras,
        1,
        "only what the flows with these words have"
    );
    desk.press(KeyCode::Enter);
    assert!(desk.has("filter: DROP as2"));
    desk.types("/x");
    assert!(desk.has("no flow has these words"));
    desk.press(KeyCode::Esc);
    assert_eq!(order(&desk), [2], "as it was before it was typed anew");
    desk.press(KeyCode::Esc);
    assert_eq!(order(&desk).len(), 2);
}

#[test]
fn it_stands_still() {
    let mut desk = Desk::new(80, 24);
    desk.answer(three(1, 1, 1)).types(" ");
    assert!(desk.has("PAUSED at 12:00:00Z"));
    desk.at(1.0)
        .answer(three(500, 1, 1))
        .at(2.0)
        .answer(three(1001, 1, 1));
    assert_eq!(desk.model.items()[0].all().packets, 1);
    assert!(
        desk.has(" enforcing"),
        "what is known of enforcement is of now"
    );
    desk.types(" ");
    assert_eq!(desk.model.items()[0].all().packets, 1001);
    assert_eq!(desk.model.items()[0].dropped().pace.packets, 500.0);
}

#[test]
fn counters_that_began_anew() {
    let mut desk = Desk::new(80, 24);
    desk.answer(three(1000, 1000, 1000))
        .at(1.0)
        .fails("restarts");
    desk.at(2.0).answer(three(4, 0, 1001));
    let of = |desk: &Desk, asn| {
        let item = desk
            .model
            .items()
            .iter()
            .find(|item| item.row.asn == Some(asn));
        item.expect("a network").dropped()
    };
    assert_eq!((of(&desk, 1).packets, of(&desk, 1).pace.packets), (4, 0.0));
    assert_eq!((of(&desk, 2).packets, of(&desk, 2).pace.packets), (0, 0.0));
    assert_eq!(of(&desk, 3).pace.packets, 0.5);
}

#[test]
fn flows_that_are_gone_fade() {
    let mut desk = Desk::new(80, 24);
    desk.answer(three(1, 1, 1))
        .at(1.0)
        .answer(vec![flow(1, 1, Action::Drop, 1)]);
    assert_eq!(
        desk.model
            .items()
            .iter()
            .filter(|item| item.is_gone)
            .count(),
        2
    );
    desk.at(12.0).answer(vec![flow(1, 1, Action::Drop, 1)]);
    assert_eq!(desk.model.items().len(), 1);
}
