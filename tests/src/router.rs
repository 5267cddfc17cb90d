//! A router with one policed interface and everything that `kordon run` needs,
//! for tests of the daemon. Cameras are in VLAN 20, `10.20.0.0/16` and
//! `fd00:20::/48`; AS64500 has `198.51.100.0/24` and `2001:db8:bad::/48`, AS64501
//! `203.0.113.0/24` and `2001:db8:600d::/48`, AS64502 `192.0.2.0/24`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{
    controller::Place,
    lab::{Bpffs, Wire, namespace::folder},
};

const DATABASE: &str = "\
198.51.100.0,198.51.100.255,64500,Bad
203.0.113.0,203.0.113.255,64501,Good
192.0.2.0,192.0.2.255,64502,Other
2001:db8:bad::,2001:db8:bad:ffff:ffff:ffff:ffff:ffff,64500,Bad
2001:db8:600d::,2001:db8:600d:ffff:ffff:ffff:ffff:ffff,64501,Good
";

const CONFIGURATION: &str = r#"policy = "policy.toml"
[[interface]]
name = "trunk"
device = "in"
mode = "native"
[asndb]
sources = ["asn.csv"]
[metrics]
listen = "127.0.0.1:9754"
"#;

/// A policy that drops what cameras send to ASNs.
#[must_use]
pub fn policy(asns: &str) -> String {
    format!(
        "[zone.cameras]\nvlans = [20]\nsources = [\"10.20.0.0/16\", \"fd00:20::/48\"]\n\
         [set.hostile]\nasns = [{asns}]\n\
         [[rule]]\nname = \"hostile\"\nfrom = \"cameras\"\nto = \"hostile\"\naction = \"drop\"\n"
    )
}

/// Everything goes when it is dropped; stop daemons before.
#[derive(Debug)]
pub struct Router {
    /// Its network.
    pub wire: Wire,
    bpffs: Bpffs,
    directory: TempDir,
    binary: PathBuf,
}

impl Router {
    /// One with a policy that blocks AS64500, not yet live.
    ///
    /// # Errors
    /// If the network or the files cannot be made.
    pub fn new(name: &str, binary: PathBuf) -> Result<Self> {
        let directory = folder()?;
        let router = Self {
            wire: Wire::new(name)?,
            bpffs: Bpffs::new()?,
            directory,
            binary,
        };
        router.write("asn.csv", DATABASE)?;
        router.write("kordon.toml", CONFIGURATION)?;
        router.write("policy.toml", policy("64500"))?;
        Ok(router)
    }

    /// A command of kordon that is told all of the router's places, so that it needs no daemon. To
    /// be run in the namespace.
    #[must_use]
    pub fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg(name).args(arguments).stdin(Stdio::null());
        for (option, place) in [
            ("--config", "kordon.toml"),
            ("--socket", "kordon.sock"),
            ("--state-dir", "state"),
        ] {
            command.arg(option).arg(self.path(place));
        }
        command.arg("--bpffs").arg(self.bpffs.path());
        command
    }

    /// Where kordon is to run.
    #[must_use]
    pub fn place(&self) -> Place<'_> {
        Place {
            namespace: &self.wire.namespace,
            directory: self.directory.path(),
            bpffs: self.bpffs.path(),
            binary: &self.binary,
        }
    }

    /// A file in its directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes one.
    ///
    /// # Errors
    /// If it cannot.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let path: &Path = &self.path(name);
        fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
    }
}
