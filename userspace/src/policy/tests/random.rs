//! Whatever the text, the parser answers; and every place it names exists.

use proptest::prelude::*;

use super::*;

const EXAMPLE: &str = include_str!("example.toml");

fn check(text: &str) {
    let (policy, found) = parse_text(text);
    assert_eq!(policy.is_some(), found.ok());
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for d in found.errors.iter().chain(&found.warnings) {
        assert!(
            !d.message.contains('\n') && !d.message.ends_with('.'),
            "{d:?}"
        );
        if d.line == 0 {
            continue;
        }
        let line = text.split('\n').nth(d.line - 1).expect("the line exists");
        let rest: String = line.chars().skip(d.column - 1).collect();
        assert!(rest.starts_with(&d.text), "{d:?} in {line:?}");
    }
    let _ = found.render(|_| Some(text), false);
    if let Some(policy) = policy {
        let _ = policy_hash(&policy);
    }
    let _ = Overlay::parse("o.toml", text);
}

/// Pieces of the language, in any order.
const PIECES: [&str; 40] = [
    "[zone.a]\n",
    "[zone.b]\n",
    "[set.a]\n",
    "[set.b]\n",
    "[[rule]]\n",
    "[rule]\n",
    "zone",
    "set",
    "vlans = ",
    "default = ",
    "sources = ",
    "asns = ",
    "prefixes = ",
    "sets = ",
    "files = ",
    "from = ",
    "to = ",
    "ports = ",
    "proto = ",
    "until = ",
    "[",
    "]",
    ", ",
    "\n",
    "\"a\"",
    "\"b\"",
    "\"drop\"",
    "20",
    "\"30-39\"",
    "\"10.0.0.0/8\"",
    "\"::ffff:1.2.3.4\"",
    "2027-01-31T00:00:00Z",
    "{",
    "}",
    "=",
    ".",
    "\"\"\"",
    "'",
    "ü",
    "\u{feff}",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_text(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn random_pieces(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..60)) {
        check(&pieces.concat());
    }

    #[test]
    fn mutated_example(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..6, any::<char>(), any::<bool>()), 1..8)
    ) {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        for (at, remove, insert, inserts) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + remove).min(text.len());
            let with = inserts.then_some(insert);
            text.splice(at..end, with);
        }
        check(&text.into_iter().collect::<String>());
    }

    #[test]
    fn random_list_files(text in "([ -~ü]{0,20}\r?\n){0,8}") {
        let (_, found) = lists::parse("x", &text);
        for d in found.errors {
            let line = text.split('\n').nth(d.line - 1).expect("the line exists");
            let rest: String = line.chars().skip(d.column - 1).collect();
            prop_assert!(rest.starts_with(&d.text));
        }
    }

    #[test]
    fn random_targets(text in "[ -~]{0,20}") {
        if let Ok(target) = text.parse::<OverlayTarget>() {
            prop_assert_eq!(target.to_string().parse(), Ok(target));
        }
    }
}

#[test]
fn deep_nesting_needs_no_stack() {
    for (open, count) in [
        ("[", 100_000),
        ("a.", 100_000),
        ("{a=", 100_000),
        ("[a.", 1000),
    ] {
        check(&open.repeat(count));
        check(&format!("zone = {}", open.repeat(count)));
        check(&format!(
            "set.x.asns = {}1{}",
            "[".repeat(count),
            "]".repeat(count)
        ));
        check(&format!("[{}b]\nx = 1\n", "a.".repeat(count)));
    }
}
