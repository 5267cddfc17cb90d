//! Compiles the BPF programs that the binary carries, and those that only tests load: these are
//! small, and a build of their own would compile `core` and the rest once more.

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain};

fn main() -> Result<()> {
    // Asked when it runs: a build script that was compiled in a folder that was copied or
    // moved since would go on building the programs of the old place.
    let manifest = std::env::var("CARGO_MANIFEST_DIR").context("cargo runs this")?;
    let root = &format!("{manifest}/../ebpf-programs");
    let folder = std::env::var("OUT_DIR").context("cargo says where")?;
    println!("cargo::metadata=folder={folder}");
    aya_build::build_ebpf(
        [Package {
            name: "kordon-ebpf",
            root_dir: root,
            no_default_features: true,
            features: &["programs"],
        }],
        Toolchain::default(),
    )
    .context("cannot build the BPF programs; `cargo xtask build` installs what that needs")
}
