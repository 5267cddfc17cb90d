//! What can be typed.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

pub(super) use super::given::{Databases, Explain, Replay};
pub(super) use super::instance::{Instance, Resolved};
use super::{
    evidence::Evidence,
    flows::Flows,
    live::{Top, Watch},
    output::Color,
    report::Report,
};

/// Keeps camera VLANs from reaching the networks they must not reach, and proves it.
#[derive(Debug, Parser)]
#[command(
    name = "kordon",
    version,
    propagate_version = true,
    after_help = "Exit codes: 0 done; 1 refused, wrong, failed or not enforcing; 2 wrong usage; 3 no daemon."
)]
pub(super) struct Arguments {
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon: attach, enforce, serve metrics.
    Run(Run),
    /// Show what is enforced, where, and what came of it.
    Status(Status),
    /// Find everything on this router that could keep enforcement from working, and how to cure it.
    Doctor(Doctor),
    /// Find all that is wrong with a policy. `apply` checks whether the router has its interfaces.
    Check(Check),
    /// Make a policy live.
    Apply(Apply),
    /// Keep the policy that `apply --confirm` put on trial.
    Confirm(Instance),
    /// Return to the policy before.
    Rollback(Instance),
    /// Show who changed what, newest first, and the policies that are kept.
    History(Instance),
    /// Show who sent what to whom.
    Flows(Box<Flows>),
    /// Print a line for each flow as it comes, and as it goes on.
    Watch(Box<Watch>),
    /// Show on a screen what cameras send at this moment, to whom, and what becomes of it.
    Top(Top),
    /// Report on a period, from the log of evidence; or say whether that can be believed.
    Report(Box<Report>),
    /// Single records of the log of evidence, each with its proof.
    Evidence {
        #[command(subcommand)]
        command: Evidence,
    },
    /// Drop what goes to an ASN, country or prefix, at once.
    Block(Change),
    /// Let pass what goes to an ASN, country or prefix, at once.
    Allow(Change),
    /// Take back a `block` or `allow`.
    Unblock(Unblock),
    /// Say which verdict a packet gets, and why.
    Explain(Box<Explain>),
    /// Say which verdict each packet of a capture gets.
    Replay(Replay),
    /// Show what the database knows of an address, ASN, country or name.
    Lookup(Lookup),
    /// The ASN database.
    Asndb {
        #[command(subcommand)]
        command: Asndb,
    },
    /// Stop enforcing: take programs and maps out of the kernel.
    Detach(Detach),
    /// Forward again what the boot guard holds, enforcing or not, until the next boot.
    ReleaseGuard,
    /// Write down what the boot guard is to hold at the next boot; the daemon does so by itself.
    #[command(hide = true)]
    BootGuard(Instance),
    /// Write manual pages and completions for shells, for packages.
    #[command(hide = true)]
    Generate(Generate),
}

#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    pub(super) instance: Instance,
    /// Log what the programs in the kernel log, and all that the kernel says of a program
    /// that it does not take.
    #[arg(long)]
    pub(super) debug_log: bool,
}

#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    pub(super) instance: Instance,
    /// Fail unless enforcing, by the policy with this hash or beginning of one.
    #[arg(long, value_name = "HASH", value_parser = hash)]
    pub(super) expect_policy: Option<String>,
    /// A line for each interface: name, device, mode, packets missed, and whether it enforces.
    #[arg(long, conflicts_with = "all")]
    pub(super) brief: bool,
    /// Every rule and reason and more networks and changes, not the largest and newest alone.
    #[arg(long)]
    pub(super) all: bool,
    /// Anew each second, with packets and bits per second, until Ctrl-C.
    #[arg(long, conflicts_with = "expect_policy")]
    pub(super) watch: bool,
    /// Colours: `--color` alone is `auto`.
    #[arg(
        long,
        value_name = "WHEN",
        num_args = 0..=1,
        default_value = "never",
        default_missing_value = "auto"
    )]
    pub(super) color: Color,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all is well; 1 a problem; 3 whether anything is enforced could not be seen; 4 nothing worse than a warning. Without --fix nothing is changed."
)]
pub(super) struct Doctor {
    /// Do what is safe of what would cure it, and say what was done.
    #[arg(long)]
    pub(super) fix: bool,
    /// Show what is in order, too.
    #[arg(long, short)]
    pub(super) verbose: bool,
    #[command(flatten)]
    pub(super) instance: Instance,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The policy [default: the configured one]
    pub(super) policy: Option<PathBuf>,
    #[command(flatten)]
    pub(super) databases: Databases,
    #[command(flatten)]
    pub(super) instance: Instance,
}

#[derive(Debug, Args)]
pub(super) struct Apply {
    /// The policy [default: the configured one]
    pub(super) policy: Option<PathBuf>,
    /// Roll back by itself after this time (`90s`, `5m`) unless `kordon confirm` is called.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub(super) confirm: Option<u64>,
    /// Whatever would be asked about is meant.
    #[arg(long)]
    pub(super) yes: bool,
    #[command(flatten)]
    pub(super) instance: Instance,
}

#[derive(Debug, Args)]
pub(super) struct Change {
    /// `AS64500`, `RU` or `203.0.113.0/24`
    pub(super) target: String,
    /// The zone; `*` for all.
    #[arg(long)]
    pub(super) zone: String,
    /// End by itself after this time (`90s`, `2h`, `7d`).
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    pub(super) duration: Option<u64>,
    /// Why, for whoever reads it later.
    #[arg(long, value_name = "TEXT")]
    pub(super) note: Option<String>,
    /// Whatever would be asked about is meant.
    #[arg(long)]
    pub(super) yes: bool,
    #[command(flatten)]
    pub(super) instance: Instance,
}

#[derive(Debug, Args)]
pub(super) struct Unblock {
    /// What was blocked or allowed.
    pub(super) target: String,
    /// The zone, as it was given.
    #[arg(long)]
    pub(super) zone: String,
    /// Whatever would be asked about is meant.
    #[arg(long)]
    pub(super) yes: bool,
    #[command(flatten)]
    pub(super) instance: Instance,
}

impl From<Unblock> for Change {
    fn from(unblock: Unblock) -> Self {
        Self {
            target: unblock.target,
            zone: unblock.zone,
            duration: None,
            note: None,
            yes: unblock.yes,
            instance: unblock.instance,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Lookup {
    /// An address, a prefix, `AS64500`, a country code, a part of a name, or the id of an
    /// organisation.
    pub(super) query: String,
    /// Entries of each list, at most [default: 10000; up to 100000 with the daemon].
    #[arg(long, value_name = "N", value_parser = entries)]
    pub(super) limit: Option<usize>,
    #[command(flatten)]
    pub(super) databases: Databases,
    #[command(flatten)]
    pub(super) instance: Instance,
}

#[derive(Debug, Subcommand)]
pub(super) enum Asndb {
    /// Show what the database is made of.
    Info(AsndbInfo),
    /// Import sources; a running daemon uses them at once.
    Import(AsndbImport),
    /// Read the configured sources again and use what they hold.
    Update(AsndbUpdate),
    /// Write the database into one signed file, for routers without Internet.
    Export(AsndbExport),
    /// Make a key that signs bundles.
    Keygen(AsndbKeygen),
    /// Show what an update would change for the policy that is live.
    Diff(AsndbDiff),
    /// Throw away the update that is held back.
    Discard(AsndbDiscard),
    /// Say that what the last update warned of has been seen.
    Acknowledge(AsndbDiscard),
}

#[derive(Debug, Args)]
pub(super) struct AsndbInfo {
    #[command(flatten)]
    pub(super) databases: Databases,
    #[command(flatten)]
    pub(super) instance: Instance,
}

#[derive(Debug, Args)]
pub(super) struct AsndbImport {
    /// As `--asn-db`.
    #[arg(value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) databases: Databases,
    /// Take it even where it differs too much from what is in use.
    #[arg(long)]
    pub(super) accept: bool,
    /// Take files without a signature although `keys` asks for one.
    #[arg(long)]
    pub(super) unsigned: bool,
    /// Write the snapshot here, and tell no daemon.
    #[arg(long, short, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    #[command(flatten)]
    pub(super) instance: Instance,
}

#[derive(Debug, Args)]
pub(super) struct AsndbUpdate {
    /// Take what is held back, and only this where its id is given (`kordon status` shows it);
    /// where nothing is, whatever the sources hold.
    #[arg(long, value_name = "ID", num_args = 0..=1, require_equals = true)]
    pub(super) accept: Option<Option<String>>,
    #[command(flatten)]
    pub(super) instance: Instance,
}

#[derive(Debug, Args)]
pub(super) struct AsndbDiscard {
    #[command(flatten)]
    pub(super) instance: Instance,
}

#[derive(Debug, Args)]
pub(super) struct AsndbExport {
    /// The bundle.
    pub(super) file: PathBuf,
    /// The secret key, from `kordon asndb keygen`.
    #[arg(long, value_name = "FILE")]
    pub(super) key: PathBuf,
    #[command(flatten)]
    pub(super) databases: Databases,
    #[command(flatten)]
    pub(super) instance: Instance,
}

#[derive(Debug, Args)]
pub(super) struct AsndbKeygen {
    /// Where the secret key goes; the public one is printed.
    pub(super) file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct AsndbDiff {
    /// Compare with these sources instead of the update that is held back.
    #[arg(value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) databases: Databases,
    /// Show every prefix, not only the first ones.
    #[arg(long)]
    pub(super) all: bool,
    #[command(flatten)]
    pub(super) instance: Instance,
}

#[derive(Debug, Args)]
pub(super) struct Detach {
    /// Do not ask.
    #[arg(long)]
    pub(super) yes: bool,
    #[command(flatten)]
    pub(super) instance: Instance,
}

#[derive(Debug, Args)]
pub(super) struct Generate {
    /// The folder that they are written to.
    pub(super) folder: PathBuf,
}

/// `90s`, `5m`, `2h`, `7d`, also joined: whole seconds, not zero.
fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || "a time is a number with `s`, `m`, `h` or `d`, like `5m`".to_owned();
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let duration = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .map_err(|_| wrong())?;
    match u64::try_from(duration.as_secs()) {
        Ok(seconds) if seconds > 0 => Ok(seconds),
        _ => Err("it must be a second or more".to_owned()),
    }
}

/// At least one: none would say nothing.
fn entries(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| "it must be a number, from 1".to_owned())
}

/// A policy's hash or enough of its beginning.
fn hash(text: &str) -> Result<String, String> {
    // Anything shorter fits too many.
    if text.len() < 8 {
        return Err("it takes 8 characters or more; `kordon status --json` has all of it".into());
    }
    Ok(text.to_lowercase())
}

/// What is wrong with a command line, without what the environment says: usage lines would
/// show that as if it had to be typed.
pub(super) fn without_environment(error: clap::Error) -> clap::Error {
    fn without(command: clap::Command) -> clap::Command {
        let command = command.mut_args(|argument| argument.env(None::<&str>));
        command.mut_subcommands(without)
    }
    let plain = without(Arguments::command()).try_get_matches().err();
    plain.filter(|e| e.kind() == error.kind()).unwrap_or(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn times() {
        for (text, expected) in [
            ("90s", Some(90)),
            ("5m", Some(300)),
            ("2h", Some(7200)),
            ("7d", Some(604_800)),
            ("1h30m", Some(5400)),
            ("0s", None),
            ("-5m", None),
            ("5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(seconds(text).ok(), expected, "{text}");
        }
    }
}
