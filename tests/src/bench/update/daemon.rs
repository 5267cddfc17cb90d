//! kordon as an administrator has it: the release binary's daemon, and commands to it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::super::daemon::{binary, sources};
use super::super::table::Table;
use super::super::wire::link::Link;
use super::lists::Lists;
use super::tool::{Change, Parts, Tool};
use crate::controller::{Controller, Place};
use crate::lab::Bpffs;
use crate::lab::namespace::folder;

/// Configuration and state, which outlive a turn: what a start reads is the snapshot of
/// the table.
pub(super) struct Home {
    directory: TempDir,
    sources: String,
}

impl Home {
    pub(super) fn new(table: &Table) -> Result<Self> {
        Ok(Self {
            directory: folder()?,
            sources: sources(table)?,
        })
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.path(name), text).with_context(|| format!("cannot write `{name}`"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// The daemon of a turn.
pub(super) struct Daemon<'a> {
    home: &'a Home,
    binary: PathBuf,
    asn: String,
    /// Ends before its pins go.
    running: Option<Controller>,
    bpffs: Bpffs,
}

impl<'a> Daemon<'a> {
    /// Configures it for the device of a link. It does not run yet.
    pub(super) fn new(home: &'a Home, lists: &Lists, link: &Link) -> Result<Self> {
        home.write("first.toml", &lists.first.policy)?;
        home.write("other.toml", &lists.other.policy)?;
        home.write(
            "kordon.toml",
            &format!(
                "policy = \"first.toml\"\n\
                 [[interface]]\nname = \"trunk\"\ndevice = \"{}\"\nmode = \"native\"\n\
                 [asndb]\nsources = [{}]\n[metrics]\nlisten = \"off\"\n",
                link.device, home.sources
            ),
        )?;
        let mut daemon = Self {
            home,
            binary: binary()?,
            asn: format!("AS{}", lists.asn),
            bpffs: Bpffs::new()?,
            running: None,
        };
        if !home.path("state/asndb.snapshot").exists() {
            daemon.start(link)?;
            daemon.end()?;
        }
        Ok(daemon)
    }

    fn start(&mut self, link: &Link) -> Result<()> {
        let place = Place {
            namespace: &link.namespace,
            directory: self.home.directory.path(),
            bpffs: self.bpffs.path(),
            binary: &self.binary,
        };
        self.running = Some(Controller::start(&place)?.0);
        Ok(())
    }

    fn said(&self, arguments: &[&str]) -> Result<Value> {
        let running = self.running.as_ref().context("kordon does not run")?;
        running.cli(arguments)
    }

    /// A command that changes what is live.
    fn changed(&self, arguments: &[&str]) -> Result<Parts> {
        let said = self.said(arguments)?;
        ensure!(
            said["changed"] == true && said["table_written"] == false,
            "{said}"
        );
        let number = |field: &str| said[field].as_f64().unwrap_or(f64::NAN);
        Ok(vec![
            ("daemon", number("apply_ms")),
            ("swap", number("swap_us") / 1e3),
        ])
    }
}

impl Tool for Daemon<'_> {
    fn make(&mut self, change: Change, link: &Link) -> Result<Parts> {
        let apply = |name| {
            let path = self.home.path(name);
            self.changed(&["apply", &path.to_string_lossy()])
        };
        match change {
            Change::Load => self.start(link).map(|()| Parts::new()),
            Change::More => self.changed(&["block", &self.asn, "--zone", "cameras"]),
            Change::Less => self.changed(&["unblock", &self.asn, "--zone", "cameras"]),
            Change::Other => apply("other.toml"),
            Change::First => apply("first.toml"),
        }
    }

    fn end(&mut self) -> Result<()> {
        self.said(&["detach", "--yes"])?;
        let running = self.running.take().context("kordon does not run")?;
        running.ended().map(drop)
    }
}
