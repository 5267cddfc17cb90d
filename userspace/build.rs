//! Compiles the BPF programs that the binary carries.

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain};

fn main() -> Result<()> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../ebpf-programs");
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
