//! `cargo xtask bench`: see [`kordon_tests::bench`].

use std::process::ExitCode;

fn main() -> ExitCode {
    kordon_tests::bench::main()
}
