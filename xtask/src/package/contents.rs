//! Which file goes where. Both kinds of package take what they want of one list; what the binary
//! says about itself (manual pages, completions) is asked of one that this machine can run.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{copy, copy_all, empty, gzip};
use crate::architecture::Architecture;
use crate::command::{Failed, run};
use crate::workspace::{Profile, Workspace};
use crate::{musl, setup};

/// What there is to be packed for one architecture.
pub(super) struct Contents {
    pub(super) architecture: Architecture,
    /// The repository.
    root: PathBuf,
    /// What was made; packages are laid out here, too.
    work: PathBuf,
}

impl Contents {
    /// Builds the binary, takes symbols out of it, and lets it write its pages.
    pub(super) fn make(
        workspace: &Workspace,
        architecture: Architecture,
        profile: Profile,
    ) -> Result<Self, Failed> {
        let work = empty(&workspace.target("package-work").join(architecture.debian()))?;
        let build = |architecture| {
            setup::for_static(architecture)?;
            musl::build(workspace, architecture, "kordon", "kordon", profile)
        };
        let built = build(architecture)?;
        let contents = Self {
            architecture,
            root: workspace.root().to_owned(),
            work,
        };
        let objcopy = || Command::new(architecture.gnu("objcopy"));
        let symbols = contents.work.join(contents.symbols_name());
        run(objcopy()
            .args(["--only-keep-debug", "--compress-debug-sections"])
            .args([&built, &symbols]))?;
        // A debugger finds them by this name, beside the binary or below /usr/lib/debug.
        run(objcopy()
            .args(["--strip-all", "--remove-section=.comment"])
            .arg(format!("--add-gnu-debuglink={}", symbols.display()))
            .args([&built, &contents.binary()]))?;
        let speaks = match architecture == Architecture::HOST {
            true => built,
            false => build(Architecture::HOST)?,
        };
        run(Command::new(speaks)
            .arg("generate")
            .arg(contents.generated()))?;
        Ok(contents)
    }

    /// Without symbols.
    pub(super) fn binary(&self) -> PathBuf {
        self.work.join("kordon")
    }

    fn generated(&self) -> PathBuf {
        self.work.join("generated")
    }

    fn symbols_name(&self) -> String {
        let architecture = self.architecture.debian();
        format!("kordon-{}-{architecture}.debug", super::VERSION)
    }

    /// Puts the symbols into a folder.
    pub(super) fn symbols(&self, folder: &Path) -> Result<PathBuf, Failed> {
        let to = folder.join(self.symbols_name());
        copy(&self.work.join(self.symbols_name()), &to)?;
        Ok(to)
    }

    /// An empty folder to lay a package out in.
    pub(super) fn layout(&self, name: &str) -> Result<PathBuf, Failed> {
        empty(&self.work.join(name))
    }

    /// A file of `deploy/`.
    pub(super) fn deploy(&self, name: &str) -> PathBuf {
        self.root.join("deploy").join(name)
    }

    /// A file of the repository.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Manual pages, compressed where distributions want them so.
    pub(super) fn manual(&self, to: &Path, compressed: bool) -> Result<(), Failed> {
        copy_all(&self.generated().join("man"), to)?;
        if compressed {
            let pages = std::fs::read_dir(to).into_iter().flatten().flatten();
            gzip(&pages.map(|page| page.path()).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Completions, by the names that clap gives them: `kordon.bash`, `_kordon`, `kordon.fish`.
    pub(super) fn completion(&self, name: &str, to: &Path) -> Result<(), Failed> {
        copy(&self.generated().join("completions").join(name), to)
    }

    /// The documents, and examples of policies, Prometheus's rules and dashboards.
    pub(super) fn documents(&self, to: &Path) -> Result<(), Failed> {
        copy_all(&self.file("docs"), to)?;
        for name in ["README.md", "SECURITY.md"] {
            copy(&self.file(name), &to.join(name))?;
        }
        let examples = to.join("examples");
        copy_all(&self.deploy("examples"), &examples)?;
        for name in ["prometheus", "grafana"] {
            if self.deploy(name).is_dir() {
                copy_all(&self.deploy(name), &examples.join(name))?;
            }
        }
        Ok(())
    }
}
