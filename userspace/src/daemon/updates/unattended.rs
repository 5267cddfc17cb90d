//! The ASN database of a router on which no daemon runs: what is imported or fetched then is
//! what the next start begins with, so the gate judges it all the same.

use serde_json::{Value, json};

use crate::{
    asn::{self, AsnDb, Concern, fetch::Progress},
    config::Config,
    daemon::{
        refusal::Refusal,
        state::StateDir,
        updates::{
            download::{Download, of_fetching},
            has_sources, read, watched,
        },
    },
    diagnostic::Diagnostics,
    policy,
};

/// What speaks against a database that is imported while no daemon runs: the next start
/// makes it live, over programs that enforce what was there before.
pub(crate) fn concerns(
    state: &StateDir,
    candidate: &AsnDb,
    found: &Diagnostics,
    percent: u8,
) -> (Vec<Concern>, Option<&'static str>) {
    // What cannot be read is no reason to keep it; but files have to be whole where there is
    // nothing to compare them with, too.
    let snapshot = state.snapshot();
    let before = asn::load(&snapshot)
        .or_else(|_| asn::load(&asn::previous_path(&snapshot)))
        .unwrap_or_default();
    let loaded = state.load();
    let record = loaded.record.or_else(|| state.history().into_iter().next());
    let policy = record.and_then(|record| {
        let context = policy::Context::now(Some(&before));
        policy::parse(&record.bundle, &loaded.overlay, &context).0
    });
    let difference = asn::compare(&before, candidate, &watched(policy.as_ref()));
    let concerns = asn::judge(&before, candidate, &difference, found, percent);
    (concerns, asn::left_out(&before, candidate))
}

/// Reads the configured sources, fetches those that have an address, and writes the snapshot.
/// What is to be said of single rows comes beside the answer.
///
/// # Errors
///
/// When a source is missing or cannot be read, and when the gate would hold the update back,
/// unless that is to be taken: then nothing is kept.
pub(crate) fn update(
    config: &Config,
    accept: bool,
    progress: &Progress,
) -> Result<(Value, Diagnostics), Refusal> {
    has_sources(config)?;
    let state = StateDir::open(&config.state_dir)?;
    let mut downloads = Vec::new();
    let mut failures = Vec::new();
    for remote in &config.updates.remotes {
        let (download, failure) = Download::of(remote, &state.sources(), config, false, progress)?;
        downloads.push(download);
        failures.extend(failure);
    }
    if let Some(first) = failures.first() {
        return Err(of_fetching(&failures, first));
    }
    let (db, found) = read(config, &downloads)?;
    let (mut concerns, left_out) = concerns(&state, &db, &found, config.updates.max_change);
    concerns.extend(downloads.iter_mut().flat_map(Download::doubts));
    if !accept && !concerns.is_empty() {
        let mut reasons: Vec<String> = concerns.into_iter().map(|c| c.message).collect();
        reasons.extend(left_out.map(str::to_owned));
        return Err(Refusal::new(
            format!("the update is not taken: {}", reasons.join("; ")),
            "the snapshot stays as it is; `kordon asndb update --accept` takes it all the same",
        ));
    }
    let path = state.snapshot();
    asn::save(&db, &path).map_err(Refusal::from_error)?;
    for Download { slot, file, .. } in downloads {
        if let Some((file, known)) = file {
            slot.keep(file, known)?;
        }
    }
    let mut value = json!(db.info());
    value["snapshot"] = json!(path.display().to_string());
    Ok((value, found))
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::diagnostic::Diagnostic;

    #[test]
    fn the_first_files_have_to_be_whole_too() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let judged = |found: &Diagnostics| concerns(&state, &AsnDb::default(), found, 10).0;
        let mut found = Diagnostics::default();
        assert!(judged(&found).is_empty());
        let cut = Diagnostic::of_file(
            "asn.csv.gz",
            "it is cut: only what is before that is used",
            "fetch it again",
        );
        found.warnings.push(cut);
        assert_eq!(judged(&found).len(), 1);
    }
}
