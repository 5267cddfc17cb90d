//! Which kordon of this machine a command is for, and where it has its things.
//!
//! A configuration that somebody broke while a daemon runs beside it must not keep anybody
//! from that daemon: what it says of places is used, as far as that is clear.

use std::path::PathBuf;

use clap::Args;

use super::failure::{Failure, warn};
use crate::{asn, config, diagnostic::Diagnostics};

/// Where `kordon.toml` is unless the command line says otherwise.
pub(super) const CONFIG: &str = "/etc/kordon/kordon.toml";

/// Which kordon of this machine.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Instance {
    /// Configuration [default: /etc/kordon/kordon.toml]
    #[arg(long, value_name = "FILE", env = "KORDON_CONFIG")]
    pub(super) config: Option<PathBuf>,
    /// Control socket, instead of the configured one.
    #[arg(long, value_name = "PATH", env = "KORDON_SOCKET")]
    pub(super) socket: Option<PathBuf>,
    /// Where programs and maps are pinned, instead of the configured place.
    #[arg(long, value_name = "DIR", env = "KORDON_BPFFS")]
    pub(super) bpffs: Option<PathBuf>,
    /// Where state is kept, instead of the configured place.
    #[arg(long, value_name = "DIR", env = "KORDON_STATE_DIR")]
    pub(super) state_dir: Option<PathBuf>,
}

impl Instance {
    /// The configuration's path, given or not.
    pub(super) fn config_path(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| CONFIG.into())
    }

    /// The folder of the log of evidence: `given`, or the configured one.
    pub(super) fn log(&self, given: Option<&PathBuf>) -> Result<PathBuf, Failure> {
        match given {
            Some(folder) => Ok(folder.clone()),
            None => Ok(self.resolve()?.evidence),
        }
    }

    /// Where things are: what was typed, else what is configured, else the defaults.
    /// A configuration that was not asked for and cannot be read is not missed: who
    /// may use the socket may not be able to read it.
    pub(super) fn resolve(&self) -> Result<Resolved, Failure> {
        let (config, found) = config::salvage(&self.config_path());
        let is_unread = found.errors.iter().all(|error| error.line == 0);
        let is_broken = !found.ok() && (self.config.is_some() || !is_unread);
        if is_broken {
            if config.is_none() && self.config.is_some() && self.socket.is_none() {
                let cure = "mend it, or name the daemon's socket with `--socket`";
                return Err(Failure::unasked(found, "no daemon was asked", cure));
            }
            warn(&Diagnostics {
                warnings: found.errors.clone(),
                ..Diagnostics::default()
            });
        }
        let or = |given: &Option<PathBuf>, configured: Option<&PathBuf>, default: &str| {
            let given = given.clone().or_else(|| configured.cloned());
            given.unwrap_or_else(|| default.into())
        };
        let config = config.as_ref();
        let is_named = self.config.is_some() && !is_broken;
        let given = [&self.socket, &self.bpffs, &self.state_dir];
        let is_one = is_named || given.iter().all(|path| path.is_none());
        Ok(Resolved {
            socket: or(&self.socket, config.map(|c| &c.socket), config::SOCKET),
            bpffs: or(&self.bpffs, config.map(|c| &c.bpffs), config::BPFFS),
            state_dir: or(
                &self.state_dir,
                config.map(|c| &c.state_dir),
                config::STATE_DIR,
            ),
            evidence: (config.and_then(|config| config.evidence.as_ref()?.folder.clone()))
                .unwrap_or_else(|| {
                    or(
                        &self.state_dir,
                        config.map(|c| &c.state_dir),
                        config::STATE_DIR,
                    )
                    .join(config::EVIDENCE)
                }),
            policy: config.map(|config| config.policy.clone()),
            interfaces: config
                .filter(|_| is_one)
                .map_or_else(Vec::new, |config| config.interfaces.clone()),
            names_pins: self.bpffs.is_some() || self.socket.is_none() || is_named,
            names_state: self.state_dir.is_some() || is_one,
            keys: config.map_or_else(Vec::new, |config| config.updates.keys.clone()),
            max_change: config.map_or(asn::gate::MAX_CHANGE, |config| config.updates.max_change),
            broken: is_broken.then_some(found),
        })
    }
}

/// Where things are.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) socket: PathBuf,
    pub(super) bpffs: PathBuf,
    pub(super) state_dir: PathBuf,
    /// The folder of the log of evidence, whether there is one or not.
    pub(super) evidence: PathBuf,
    /// The configured policy.
    pub(super) policy: Option<PathBuf>,
    /// The configured interfaces; none where the configuration may be another instance's.
    pub(super) interfaces: Vec<config::Interface>,
    /// Whether the place of pins is that of the instance that is meant, also where the daemon
    /// cannot say so.
    pub(super) names_pins: bool,
    /// The same of the state.
    pub(super) names_state: bool,
    /// Whose bundles are trusted.
    pub(super) keys: Vec<asn::bundle::PublicKey>,
    /// By how much a total of the ASN database may change, percent.
    pub(super) max_change: u8,
    /// What is wrong with the configuration: what is read of it here may not be all that
    /// it was to say.
    pub(super) broken: Option<Diagnostics>,
}

impl Resolved {
    /// The configured policy, where none is typed.
    pub(super) fn policy(&self) -> Result<PathBuf, Failure> {
        self.policy.clone().ok_or_else(|| {
            let cure = "name the policy, or its configuration with `--config`";
            Failure::usage("no policy is given, and none is configured", cure)
        })
    }

    /// For what goes by more of the configuration than its places.
    pub(super) fn whole(self) -> Result<Self, Failure> {
        match self.broken {
            Some(found) => Err(found.into()),
            None => Ok(self),
        }
    }
}
