//! A period of the past: which one, and what was seen in it. The log and its history are read here, and the daemon is asked for
//! what is in neither yet; without a daemon the rest is still there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use jiff::{SignedDuration, SpanRelativeTo, Timestamp, civil, tz::TimeZone};

use super::{failure::Failure, instance::Instance, output::say};
use crate::{
    control::{client, protocol::Request},
    diagnostic::{did_you_mean, quoted},
    evidence::read,
    history::{
        fill::Filler,
        flow::Flow,
        query::{self, Event, Found, Live, Period, Seen},
        store::{HistoryError, Store},
    },
};

/// How far clocks may be apart, and how long reading may take.
const SOON: SignedDuration = SignedDuration::from_hours(1);

/// Which period, and which log.
#[derive(Clone, Debug, Args)]
pub(super) struct Past {
    /// From this moment on (2026-11-30T08:00:00Z), or so long ago (90s, 2h, 7d). Times without an offset are UTC.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(super) since: Option<Timestamp>,
    /// Up to this moment, or to so long ago [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(super) until: Option<Timestamp>,
    /// The folder of the log of evidence, or of a copy, instead of the configured one.
    #[arg(long, value_name = "DIR")]
    pub(super) folder: Option<PathBuf>,
}

impl Past {
    /// The period that is asked for.
    pub(super) fn period(&self) -> Result<Period, Failure> {
        let period = Period {
            since: self.since.unwrap_or(Timestamp::UNIX_EPOCH),
            // What comes while it is read is in it, and what somebody dated far ahead is not.
            until: self.until.unwrap_or(Timestamp::now() + SOON),
        };
        match period.since < period.until {
            true => Ok(period),
            false => Err(Failure::usage(
                "`--since` is not before `--until`",
                "times are like 2026-11-30T08:00:00Z, or so long ago: 90s, 2h, 7d",
            )),
        }
    }

    /// The log's folder.
    pub(super) fn place(&self, instance: &Instance) -> Result<PathBuf, Failure> {
        let folder = instance.log(self.folder.as_ref())?;
        let is_empty = fs::read_dir(&folder).map(|_| read::firsts(&folder).is_empty());
        let words = match is_empty {
            Ok(true) if !folder.join("checkpoint").exists() => {
                format!("there is no log of evidence in {}", folder.display())
            }
            // Its index alone is no evidence.
            Ok(true) if self.folder.is_some() => format!(
                "there is no record in {}, and nobody has signed its index",
                folder.display()
            ),
            Ok(_) => return Ok(folder),
            Err(e) => format!(
                "no log of evidence can be read in {}: {e}",
                folder.display()
            ),
        };
        let cure = "`[evidence]` in kordon.toml begins one, which root can read; `--folder` names another place";
        Err(Failure::new(words, cure))
    }

    /// Tells of each flow of the period: see [`query::read`]. `zone`: one that there has to be.
    pub(super) fn read(
        &self,
        instance: &Instance,
        zone: Option<&str>,
        wanted: &dyn Fn(&Flow) -> bool,
        each: &mut dyn FnMut(Seen<'_>),
    ) -> Result<Found, Failure> {
        let (period, folder) = (self.period()?, self.place(instance)?);
        let store = open(&folder, self.folder.is_some())?;
        let socket = match &self.folder {
            None => Some(instance.resolve()?.socket),
            // A copy has no daemon.
            Some(_) => None,
        };
        let ask = || ask(&socket?, &folder);
        let found = query::read(&store, &folder, period, ask, wanted, each).map_err(failed)?;
        match zone.filter(|zone| !found.zones.contains(*zone)) {
            None => Ok(found),
            Some(zone) => {
                let names = found.zones.iter().map(String::as_str);
                let cure = match did_you_mean(zone, names.clone()) {
                    Some(name) => format!("did you mean `{name}`"),
                    None => format!("the log knows {}", names.collect::<Vec<_>>().join(", ")),
                };
                let words = format!("the log knows no zone {}", quoted(zone));
                Err(Failure::usage(words, cure))
            }
        }
    }
}

/// What was said that is no flow, until then.
pub(super) fn events(folder: &Path, until: Timestamp) -> Result<Vec<Event>, Failure> {
    let store = open(folder, false)?;
    query::events(&store, folder, until).map_err(failed)
}

/// What the daemon has not written yet.
fn ask(socket: &Path, folder: &Path) -> Option<Live> {
    let answer = match client::ask(socket, &Request::Unwritten) {
        Ok(answer) => answer,
        Err(e) => {
            say(format_args!(
                "what is in the kernel's lines, and not in the log yet, is not among these: {e}"
            ));
            return None;
        }
    };
    let whole = |path: &Path| fs::canonicalize(path).ok();
    let theirs = answer["folder"].as_str().map(Path::new);
    if theirs.and_then(whole) != whole(folder) {
        say("the daemon writes another log: what it has not written yet is not among these");
        return None;
    }
    let live = Live::parse(&answer);
    if live.is_none() {
        say(
            "what the daemon has not written yet is not among these: its answer is of another version",
        );
    }
    live
}

/// The history that there is; else what the log says, in memory. Of a copy only the log counts, as long as it is whole: that is
/// what can be verified.
fn open(folder: &Path, is_copy: bool) -> Result<Store, Failure> {
    let key = crate::regular::read_text(&folder.join("key.pub")).unwrap_or_default();
    let is_whole = read::firsts(folder).first() == Some(&0);
    if !(is_copy && is_whole) {
        match Store::read(folder, key.trim()) {
            Ok(Some(store)) => return Ok(store),
            Ok(None) => {}
            Err(e) => say(format_args!(
                "{e}; the log is read instead, which takes longer"
            )),
        }
    }
    let store = Store::in_memory().map_err(failed)?;
    let mut filler = Filler::new(&store).map_err(failed)?;
    while filler.fill(&store, folder, u64::MAX).map_err(failed)? {}
    Ok(store)
}

fn failed(e: HistoryError) -> Failure {
    Failure::new(
        e.to_string(),
        "the daemon makes it anew from the log where it is removed",
    )
}

/// A moment, or how long ago.
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    let wrong = || "a time is like 2026-11-30T08:00:00Z, or so long ago: 90s, 2h, 7d".to_owned();
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    if let Ok(local) = text.parse::<civil::DateTime>() {
        return TimeZone::UTC.to_timestamp(local).map_err(|_| wrong());
    }
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let ago = (span.to_duration(SpanRelativeTo::days_are_24_hours())).map_err(|_| wrong())?;
    if ago.is_negative() {
        return Err(wrong());
    }
    Timestamp::now().checked_sub(ago).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_moments_or_so_long_ago() {
        let at = |text: &str| moment(text).unwrap().to_string();
        for same in [
            "2026-11-30T08:00:00Z",
            "2026-11-30T08:00:00",
            "2026-11-30T10:00:00+02:00",
        ] {
            assert_eq!(at(same), "2026-11-30T08:00:00Z", "{same}");
        }
        assert_eq!(at("2026-11-30"), "2026-11-30T00:00:00Z");
        for (text, seconds) in [
            ("90s", 90),
            ("2h", 7200),
            ("7d", 604_800),
            ("1w", 604_800),
            ("1h30m", 5400),
        ] {
            let ago = Timestamp::now()
                .duration_since(moment(text).unwrap())
                .as_secs();
            assert!((seconds - 1..seconds + 5).contains(&ago), "{text}: {ago}");
        }
        for wrong in ["", "yesterday", "5", "-5m", "2026-13-01", "3 parsecs"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
