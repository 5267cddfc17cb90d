//! Says where the BPF programs of the lab are, which `kordon`'s build script has compiled.

fn main() -> Result<(), std::env::VarError> {
    let folder = std::env::var("DEP_KORDON_PROGRAMS_FOLDER")?;
    println!("cargo::rustc-env=KORDON_PROGRAMS={folder}");
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}
