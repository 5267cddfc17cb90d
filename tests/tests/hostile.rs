//! Packets made by hand, through the program in the kernel, the library and the
//! reference interpreter: all must say what the row says.

use anyhow::{Result, anyhow};
use kordon::{
    asn,
    judge::{Engine, Judge, Router},
    policy::{self, Bundle, Context, Overlay},
};
use kordon_tests::{
    hostile::{self, Case},
    reference::{Interpreter, Row, Table},
};

#[test]
fn every_row_is_judged_right() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let csv = dir.path().join("asn.csv");
    std::fs::write(&csv, hostile::DATABASE)?;
    let (db, _) = asn::import(&[csv], &[])?;
    let (policy, found) = policy::parse(
        &Bundle::from_text("hostile.toml", hostile::POLICY),
        &Overlay::default(),
        &Context::now(Some(&db)),
    );
    let policy = policy.ok_or_else(|| anyhow!("{found:?}"))?;
    let facts = hostile::router();
    let router = Router {
        addresses: facts.addresses.clone(),
        ..Router::default()
    };
    let mut judge = Judge::new(&policy, &db, &router, Engine::Kernel)?;
    let table = Table::read(&[hostile::DATABASE.to_owned()], &[]);
    let interpreter = Interpreter::new(&policy, &table, &facts, jiff::Timestamp::now());

    let cases = hostile::cases();
    let mut wrong = Vec::new();
    for case in &cases {
        let said = judge.row(&case.frame).map(|(row, _)| Row::from(&row));
        let reference = interpreter.row(&case.frame);
        match said {
            Err(error) => wrong.push(format!("{}: {error:#}", case.name)),
            Ok(row) => {
                let (kordon, second) = (Case::outcome(&row), Case::outcome(&reference));
                if kordon != case.expected || second != case.expected {
                    wrong.push(format!(
                        "{}: expected {}, kordon {kordon}, the reference {second}",
                        case.name, case.expected
                    ));
                } else if row != reference {
                    wrong.push(format!(
                        "{}: kordon {row:?}, the reference {reference:?}",
                        case.name
                    ));
                }
            }
        }
    }
    println!("{} rows", cases.len());
    assert!(wrong.is_empty(), "{} are wrong: {wrong:#?}", wrong.len());
    Ok(())
}

#[test]
fn names_are_unique() {
    let mut names: Vec<String> = hostile::cases().into_iter().map(|case| case.name).collect();
    names.sort_unstable();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}
