//! Where the repository and its build output are, and how cargo is called in it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{Failed, run};

/// Tells tests and benchmarks where the release binary is.
pub(crate) const KORDON_BINARY: &str = "KORDON_BINARY";

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

    /// A folder in the build output.
    pub(crate) fn target(&self, folder: &str) -> PathBuf {
        self.target.join(folder)
    }

    /// Where a release binary is once it has been built.
    pub(crate) fn release(&self, binary: &str) -> PathBuf {
        self.target.join("release").join(binary)
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
        command
    }

    /// Builds the product and returns its path.
    pub(crate) fn build_kordon(&self) -> Result<PathBuf, Failed> {
        run(self
            .cargo()
            .args(["build", "--release", "--package", "kordon"]))?;
        Ok(self.release("kordon"))
    }

    /// Builds a program of the test package and returns its path.
    pub(crate) fn build_tool(&self, name: &str) -> Result<PathBuf, Failed> {
        run(self.cargo().args([
            "build",
            "--release",
            "--package",
            "kordon-tests",
            "--bin",
            name,
        ]))?;
        Ok(self.release(name))
    }

    /// Builds a binary as tests are built, and returns its path.
    pub(crate) fn build_dev(&self, package: &str, name: &str) -> Result<PathBuf, Failed> {
        run(self.cargo().args([
            "build",
            "--profile",
            "test",
            "--package",
            package,
            "--bin",
            name,
        ]))?;
        Ok(self.target.join("debug").join(name))
    }
}
