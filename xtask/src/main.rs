//! Everything that a developer runs: `cargo xtask help`.
//!
//! It must start on a machine that has nothing but rustup and a C compiler, so it
//! uses the standard library alone and depends on no other crate of the workspace.
//!
//! - [`workspace`]: where things are, and how cargo is called.
//! - [`architecture`]: processors that are built for; [`musl`]: static binaries.
//! - [`package`]: what administrators install.
//! - [`command`]: running programs and saying which one failed.
//! - [`setup`]: what building and the lab need.
//! - [`test`]: all checks in order, and their tally.
//! - [`vm`]: other kernels, in virtual machines.

mod architecture;
mod command;
mod musl;
mod package;
mod setup;
mod test;
mod vm;
mod workspace;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use architecture::Architecture;
use command::Failed;
use workspace::{Profile, Workspace};

const HELP: &str = "\
Developer tasks of kordon.

Usage: cargo xtask <task> [arguments]

Tasks:
  setup            install what building and testing need; what is there is left alone
  build            set up for building, then build target/release/kordon
  static [arch]    set up, and build static binaries of kordon: x86_64, aarch64, or both
  package [arch]   set up, build, and pack what administrators install: a Debian package and a
                   tarball for amd64, arm64, or both, with checksums and a bill of materials
                     --dev            built as tests are, not as a release
  demo [args]      set up, build, and show kordon at work in a network of namespaces (root)
                     --json   one JSON object, a boolean for each claim, as the last line
                     --keep   leave the network up to play with
                     --down   take down what --keep left up
  test [filter]    set up, then check formatting, lints, and run all tests (root), those of
                   `vm` too; a filter goes to the test runner, and starts no virtual machine
  vm [kernels]     set up, build, and try kordon under other kernels in QEMU: 6.1, 6.12,
                   newest, or all of them
                     --dev            built as tests are, not as a release
                     --matrix         each kernel with each emulated network card and devices on it:
                                      what arrives beside what `kordon status` claims, and no more
                     --json           the same, one object per check and line
                     --arch aarch64   another processor
                   or `systemd`: the real package on a Debian with systemd
  bench [groups]   set up, build, and measure kordon beside its peers (root)
                     --json           one object per line
                     --asn-db FILE    a real table instead of a generated one
                     --quick          whether it works, not how fast it is
  lab down         take down what a kept demo left up
  help             this text

Set-up installs Debian packages, a nightly toolchain with rust-src, and bpf-linker. It says
what it does, and starts no service.
";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let task = arguments.next().unwrap_or_else(|| "help".into());
    let rest: Vec<OsString> = arguments.collect();
    let outcome = match task.to_str() {
        Some("setup") => nothing_more(&rest).and_then(|()| setup()),
        Some("build") => nothing_more(&rest).and_then(|()| build().map(drop)),
        Some("static") => musl::task(&rest),
        Some("package") => package::task(&rest),
        Some("demo") => demo(&rest),
        Some("test") => test(&rest),
        Some("bench") => bench(&rest),
        Some("vm") => vm::task(&rest),
        Some("lab") => lab(&rest),
        Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            Ok(())
        }
        _ => Err(Failed::usage(format!(
            "there is no task `{}`; `cargo xtask help` lists them",
            task.display()
        ))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("error: {failed}");
            failed.exit_code()
        }
    }
}

fn nothing_more(arguments: &[OsString]) -> Result<(), Failed> {
    match arguments.first() {
        None => Ok(()),
        Some(argument) => Err(Failed::usage(format!(
            "this task takes no argument, not `{}`",
            argument.display()
        ))),
    }
}

fn setup() -> Result<(), Failed> {
    let workspace = Workspace::find()?;
    setup::for_building()?;
    setup::for_testing(&workspace)?;
    setup::for_the_bench()?;
    setup::for_packages()?;
    Architecture::ALL
        .into_iter()
        .try_for_each(setup::for_machines)
}

/// Returns the binary.
fn build() -> Result<PathBuf, Failed> {
    let workspace = Workspace::find()?;
    setup::for_building()?;
    workspace.build("kordon", "kordon", Profile::Release)
}

fn demo(arguments: &[OsString]) -> Result<(), Failed> {
    let workspace = Workspace::find()?;
    if arguments.iter().any(|argument| argument == "--down") {
        return take_down(&workspace);
    }
    setup::for_building()?;
    setup::for_the_lab()?;
    // A release takes a newcomer twice as long.
    let [kordon, demo] = workspace.build_with("kordon-demo", Profile::Test)?;
    command::run_tool(
        Command::new(demo)
            .arg("--kordon")
            .arg(kordon)
            .args(arguments),
    )
}

fn test(filter: &[OsString]) -> Result<(), Failed> {
    let workspace = Workspace::find()?;
    setup::for_building()?;
    setup::for_testing(&workspace)?;
    // A test measures everything once.
    setup::for_the_bench()?;
    test::run_all(&workspace, filter)
}

fn bench(arguments: &[OsString]) -> Result<(), Failed> {
    let workspace = Workspace::find()?;
    setup::for_building()?;
    setup::for_the_bench()?;
    let [kordon, bench] = workspace.build_with("kordon-bench", Profile::Release)?;
    command::run_tool(
        Command::new(bench)
            .args(arguments)
            .env(workspace::KORDON_BINARY, kordon),
    )
}

fn lab(arguments: &[OsString]) -> Result<(), Failed> {
    match arguments {
        [task] if task == "down" || task == "cleanup" => take_down(&Workspace::find()?),
        _ => Err(Failed::usage(
            "`cargo xtask lab down` is all that there is; `cargo xtask demo --keep` puts a lab up",
        )),
    }
}

fn take_down(workspace: &Workspace) -> Result<(), Failed> {
    setup::for_building()?;
    let demo = workspace.build("kordon-tests", "kordon-demo", Profile::Test)?;
    command::run_tool(Command::new(demo).arg("--down"))
}
