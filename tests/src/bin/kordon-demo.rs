//! `cargo xtask demo`: see [`kordon_tests::demo`].

use std::process::ExitCode;

fn main() -> ExitCode {
    kordon_tests::demo::main()
}
