//! Tests of the language, as data: `wrong.txt` and `warnings.txt` hold policies
//! and all that is to be said about them, word for word.
//!
//! `BLESS=1 cargo test -p kordon policy` writes what is said now into the files,
//! for review in a diff.

mod good;
mod random;

use std::fmt::Write;
use std::path::Path;

use super::*;
use crate::asn::Country;
use crate::asn::model::{AsnDb, AsnInfo, CountryRange, OriginRange};

/// 2026-06-01, for `until`.
pub(super) fn context<'a>(db: Option<&'a AsnDb>) -> Context<'a> {
    Context {
        now: "2026-06-01T00:00:00Z".parse().unwrap(),
        db,
    }
}

/// A policy from its file.
fn load(path: &Path, overlay: &Overlay, context: &Context<'_>) -> (Option<Policy>, Diagnostics) {
    match Bundle::read(path) {
        Ok(bundle) => parse(&bundle, overlay, context),
        Err(error) => (None, error.into()),
    }
}

pub(super) fn parse_text(text: &str) -> (Option<Policy>, Diagnostics) {
    let bundle = Bundle::from_text("p.toml", text);
    parse(&bundle, &Overlay::default(), &context(None))
}

/// AS64500 announces 203.0.113.0/24 and is registered in RU, where 198.51.100.0/24
/// is delegated.
fn small_db() -> AsnDb {
    AsnDb {
        v4: vec![OriginRange {
            start: 0xcb00_7100,
            end: 0xcb00_71ff,
            origins: 0,
        }],
        origins: vec![vec![64500]],
        countries_v4: vec![CountryRange {
            start: 0xc633_6400,
            end: 0xc633_64ff,
            country: Country(*b"RU"),
        }],
        asns: vec![(
            64500,
            AsnInfo {
                name: "Example".into(),
                country: Some(Country(*b"RU")),
            },
        )],
        ..AsnDb::default()
    }
}

/// `### name`, then the policy, then `--- file` and a list file, any number,
/// then what is said, as [`said`] writes it. `@db` in the name: with
/// [`small_db`]; `@empty-db`: with one that knows nothing.
struct Case {
    name: String,
    input: String,
    expected: String,
}

const MARKS: [&str; 3] = ["error ", "warning ", "  help "];

fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("### ") {
            cases.push(Case {
                name: name.to_owned(),
                input: String::new(),
                expected: String::new(),
            });
        } else if let Some(case) = cases.last_mut() {
            let said = MARKS.iter().any(|mark| line.starts_with(mark));
            let part = if said {
                &mut case.expected
            } else {
                &mut case.input
            };
            part.push_str(line);
            part.push('\n');
        }
    }
    cases
}

fn said(found: &Diagnostics) -> String {
    let mut out = String::new();
    for (kind, list) in [("error", &found.errors), ("warning", &found.warnings)] {
        for d in list {
            let (line, column) = (d.line, d.column);
            writeln!(
                out,
                "{kind} {}:{line}:{column} [{}] {}",
                d.file, d.text, d.message
            )
            .unwrap();
            writeln!(out, "  help {}", d.help.as_deref().unwrap_or("-")).unwrap();
        }
    }
    out
}

fn run(case: &Case) -> (Option<Policy>, Diagnostics) {
    let mut parts = case.input.split("--- ");
    let mut bundle = Bundle::from_text("p.toml", parts.next().unwrap().trim_end());
    for part in parts {
        let (name, content) = part.split_once('\n').unwrap();
        bundle.lists.push(ListFile {
            name: name.to_owned(),
            content: match content.strip_prefix("unreadable ") {
                Some(reason) => Err(reason.trim().to_owned()),
                None => Ok(content.to_owned()),
            },
        });
    }
    let db = if case.name.contains("@db") {
        Some(small_db())
    } else if case.name.contains("@empty-db") {
        Some(AsnDb::default())
    } else {
        None
    };
    parse(&bundle, &Overlay::default(), &context(db.as_ref()))
}

fn check_file(name: &str, text: &str, errors: bool) -> usize {
    let cases = cases(text);
    let mut blessed = String::new();
    let mut failures = String::new();
    for case in &cases {
        let (policy, found) = run(case);
        let said = said(&found);
        assert_eq!(policy.is_none(), errors, "{}: {said}", case.name);
        assert_eq!(policy.is_some(), found.ok(), "{}", case.name);
        if said != case.expected {
            writeln!(
                failures,
                "### {}\n{}expected:\n{}said:\n{said}",
                case.name, case.input, case.expected
            )
            .unwrap();
        }
        write!(
            blessed,
            "### {}\n{}\n{said}\n",
            case.name,
            case.input.trim_end()
        )
        .unwrap();
    }
    if std::env::var_os("BLESS").is_some() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/policy/tests/");
        std::fs::write(format!("{folder}{name}"), blessed).unwrap();
    } else {
        assert!(failures.is_empty(), "{failures}");
    }
    cases.len()
}

#[test]
fn wrong_policies_are_refused_word_for_word() {
    let count = check_file("wrong.txt", include_str!("wrong.txt"), true);
    assert!(count >= 45, "{count} cases");
}

#[test]
fn warnings_word_for_word() {
    check_file("warnings.txt", include_str!("warnings.txt"), false);
}
