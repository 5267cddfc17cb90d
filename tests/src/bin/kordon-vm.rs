//! `cargo xtask vm`: see [`kordon_tests::vm`].

use std::process::ExitCode;

fn main() -> ExitCode {
    kordon_tests::vm::main()
}
