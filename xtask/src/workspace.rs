//! Where the repository and its build output are, and how cargo is called in it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::architecture::Architecture;
use crate::command::{Failed, run};

/// Tells tests and benchmarks where the binary is.
pub(crate) const KORDON_BINARY: &str = "KORDON_BINARY";

/// Whether this is the one run of a CI.
pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true" || value == "1")
}

/// How much a compiler optimises.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Profile {
    /// As much as it can.
    Release,
    /// What the tests of the workspace need.
    Test,
}

/// The repository.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// The repository that this program was built in.
    pub(crate) fn find() -> Result<Self, Failed> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest
            .parent()
            .filter(|root| root.join("Cargo.toml").is_file())
            .ok_or_else(|| {
                Failed::new(format!(
                    "`{}` is gone; run `cargo xtask` in the repository",
                    manifest.display()
                ))
            })?
            .to_owned();
        // A relative one counts from where cargo was called, which need not be
        // where it is called from here.
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(target) if !target.is_empty() => {
                std::path::absolute(&target).map_err(|error| {
                    Failed::new(format!(
                        "cannot make sense of CARGO_TARGET_DIR `{}`: {error}",
                        target.display()
                    ))
                })?
            }
            _ => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// The repository's folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A folder in the build output.
    pub(crate) fn target(&self, folder: &str) -> PathBuf {
        self.target.join(folder)
    }

    /// The cargo that runs this program, in the repository.
    pub(crate) fn cargo(&self) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(cargo);
        command
            .current_dir(&self.root)
            // Meant for the cargo that build scripts start: see `.cargo/config.toml`.
            .env_remove("CARGO_TERM_QUIET")
            .env("CARGO_TARGET_DIR", &self.target);
        if in_ci() {
            // Nobody builds there a second time.
            command.env("CARGO_INCREMENTAL", "0");
        }
        command
    }

    /// A binary of this machine that building all tests has left. Building it alone takes minutes: it
    /// has dependencies with fewer features than tests have.
    pub(crate) fn left_by_tests(&self, name: &str) -> PathBuf {
        self.target("debug").join(name)
    }

    /// Builds a binary for this machine, and returns its path.
    pub(crate) fn build(
        &self,
        package: &str,
        name: &str,
        profile: Profile,
    ) -> Result<PathBuf, Failed> {
        let [path] = self.build_for(None, [(package, name)], profile)?;
        Ok(path)
    }

    /// Builds `kordon` and a program of the test package, and returns their paths. At once:
    /// most of the second is built while the first waits for its own library.
    pub(crate) fn build_with(&self, name: &str, profile: Profile) -> Result<[PathBuf; 2], Failed> {
        self.build_for(
            None,
            [("kordon", "kordon"), ("kordon-tests", name)],
            profile,
        )
    }

    /// Builds a binary that needs no library where it runs, and returns its path.
    pub(crate) fn build_static(
        &self,
        architecture: Architecture,
        package: &str,
        name: &str,
        profile: Profile,
    ) -> Result<PathBuf, Failed> {
        let target = architecture.musl();
        let [path] = self.build_for(Some(&target), [(package, name)], profile)?;
        Ok(path)
    }

    fn build_for<const N: usize>(
        &self,
        target: Option<&str>,
        programs: [(&str, &str); N],
        profile: Profile,
    ) -> Result<[PathBuf; N], Failed> {
        let (profile, folder, is_product) = match profile {
            Profile::Release => ("release", "release", true),
            Profile::Test => ("test", "debug", false),
        };
        let mut cargo = self.cargo();
        cargo.args(["build", "--profile", profile]);
        for (package, name) in programs {
            cargo.args(["--bin", name]);
            if is_product {
                cargo.args(["--package", package]);
            }
        }
        if !is_product {
            // Its dependencies are then those of all tests, and built once.
            cargo.arg("--workspace");
        }
        if let Some(target) = target {
            cargo.args(["--target", target]);
        }
        run(&mut cargo)?;
        let output = target.map_or_else(|| self.target.clone(), |target| self.target(target));
        Ok(programs.map(|(_, name)| output.join(folder).join(name)))
    }
}
