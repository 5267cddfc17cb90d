//! `doctor`: what could keep enforcement from working here, worst first.

use serde_json::{Value, json};

use super::{
    arguments::Doctor,
    failure::Failure,
    output::Output,
    view::{Page, counted, list, text},
};
use crate::doctor::{
    self, Given, Report,
    finding::{Check, Finding, Level},
};

pub(super) fn run(arguments: Doctor, output: &mut Output) -> Result<(), Failure> {
    let Doctor {
        fix,
        verbose,
        instance,
    } = arguments;
    let given = Given {
        config: instance.config_path(),
        is_named: instance.config.is_some(),
        socket: instance.socket,
        bpffs: instance.bpffs,
        state_dir: instance.state_dir,
    };
    let report = doctor::examine(&given, fix);
    let worst = report.findings.iter().map(|finding| finding.level).min();
    output.answer(&answer(&report), |value| page(value, fix, verbose))?;
    match worst {
        Some(Level::Problem) => Err(Failure::said()),
        Some(Level::Warning) => Err(Failure::look()),
        _ if is_in_the_dark(&report) => Err(Failure::unseen()),
        _ => Ok(()),
    }
}

/// Whether nobody could say if anything is enforced: then nothing is well.
fn is_in_the_dark(report: &Report) -> bool {
    let mut findings = report.findings.iter();
    findings.any(|f| f.check == Check::Enforcing && f.level == Level::Unknown)
}

fn answer(report: &Report) -> Value {
    let findings: Vec<Value> = report.findings.iter().map(Finding::json).collect();
    let fixed = report.fixed.iter().map(|(finding, done)| {
        json!({
            "check": finding.check.as_str(),
            "about": finding.about,
            "found": finding.found,
            "done": done.as_ref().ok(),
            "failed": done.as_ref().err(),
        })
    });
    let is_bad = |finding: &Finding| finding.level <= Level::Warning;
    let is_bad = report.findings.iter().any(is_bad);
    json!({
        "ok": if !is_bad && is_in_the_dark(report) { None } else { Some(!is_bad) },
        "findings": findings,
        "fixed": fixed.collect::<Vec<Value>>(),
        "version": env!("CARGO_PKG_VERSION"),
    })
}

fn page(value: &Value, fix: bool, verbose: bool) -> String {
    let mut page = Page(String::new());
    for fixed in list(&value["fixed"]) {
        let check = text(&fixed["check"]);
        match fixed["done"].as_str() {
            Some(done) => page.line("FIXED", format!("{check}: {done}")),
            None => page.line("NOT FIXED", format!("{check}: {}", text(&fixed["failed"]))),
        }
    }
    let findings = list(&value["findings"]);
    let of = |level| findings.iter().filter(move |f| f["level"] == level);
    for (level, name) in [
        ("problem", "PROBLEM"),
        ("warning", "WARNING"),
        ("note", "note"),
    ] {
        for finding in of(level) {
            one(&mut page, name, finding);
            if let Some(cure) = finding["cure"].as_str() {
                let mended = match finding["fixable"] == true && !fix {
                    true => "; `kordon doctor --fix` does it",
                    false => "",
                };
                page.line("", format!("cure: {cure}{mended}"));
            }
            if level != "note" {
                page.line("", format!("why: {}", text(&finding["why"])));
            }
        }
    }
    // Many have one cause.
    let mut causes: Vec<(String, Vec<String>)> = Vec::new();
    for finding in of("unknown") {
        let (check, cause) = (text(&finding["check"]), text(&finding["found"]));
        match causes.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, checks)) if checks.contains(&check) => {}
            Some((_, checks)) => checks.push(check),
            None => causes.push((cause, vec![check])),
        }
    }
    for (cause, checks) in causes {
        page.line("not checked", format!("{}: {cause}", checks.join(", ")));
    }
    if verbose {
        for finding in of("ok") {
            one(&mut page, "ok", finding);
        }
    }
    let count = |level| of(level).count() as u64;
    let (problems, warnings, unknown) = (count("problem"), count("warning"), count("unknown"));
    let mut words = match (problems, warnings) {
        (0, 0) if value["ok"].is_null() => {
            "no problem was seen, and whether anything is enforced could not be looked at"
                .to_owned()
        }
        (0, 0) => "nothing stands in the way of enforcement".to_owned(),
        _ => format!(
            "{}, {}",
            counted(problems, "problem"),
            counted(warnings, "warning")
        ),
    };
    words += &format!("; {} in order", count("ok"));
    if unknown > 0 {
        words += &format!(", {unknown} not checked");
    }
    let name = match value["ok"] == true {
        true => "all is well",
        false => "in sum",
    };
    page.line(name, words);
    page.0
}

fn one(page: &mut Page, name: &str, finding: &Value) {
    page.line(
        name,
        format!("{}: {}", text(&finding["check"]), text(&finding["found"])),
    );
}
