//! Processors that kordon is built for, beside the one that it is built on: the static
//! binaries of [`crate::musl`] are for one of them, and so are virtual machines.

use std::ffi::OsStr;

use crate::command::Failed;

/// A processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    /// Of PCs.
    X86_64,
    /// Of ARM, 64 bits.
    Aarch64,
}

impl Architecture {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// This machine's.
    pub(crate) const HOST: Self = if cfg!(target_arch = "aarch64") {
        Self::Aarch64
    } else {
        Self::X86_64
    };

    /// By the name that compilers use.
    pub(crate) fn named(name: &OsStr) -> Result<Self, Failed> {
        Self::ALL
            .into_iter()
            .find(|architecture| name == architecture.name())
            .ok_or_else(|| {
                Failed::usage(format!(
                    "there is no architecture `{}` here, but {}",
                    name.display(),
                    Self::ALL.map(Self::name).join(", ")
                ))
            })
    }

    /// By the name that Debian uses, or compilers.
    pub(crate) fn named_by_debian(name: &OsStr) -> Result<Self, Failed> {
        let known = |architecture: &Self| name == architecture.debian();
        match Self::ALL.into_iter().find(known) {
            Some(architecture) => Ok(architecture),
            None => Self::named(name),
        }
    }

    /// As compilers call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// As Debian calls it.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The target of static binaries.
    pub(crate) fn musl(self) -> String {
        format!("{}-unknown-linux-musl", self.name())
    }

    /// A program of Debian's GNU tools that knows this processor.
    pub(crate) fn gnu(self, program: &str) -> String {
        format!("{}-linux-gnu-{program}", self.name())
    }
}
