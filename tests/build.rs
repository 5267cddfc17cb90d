//! Compiles the lab's BPF programs, which the test library carries.

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain};

fn main() -> Result<()> {
    // Asked when it runs: a build script that was compiled in a folder that was copied or
    // moved since would go on building the programs of the old place.
    let manifest = std::env::var("CARGO_MANIFEST_DIR").context("cargo runs this")?;
    let root = &format!("{manifest}/../ebpf-programs");
    aya_build::build_ebpf(
        [Package {
            name: "kordon-ebpf",
            root_dir: root,
            no_default_features: true,
            features: &["lab"],
        }],
        Toolchain::default(),
    )
    .context("cannot build the lab's BPF programs; `cargo xtask build` installs what that needs")
}
