//! The `kordon` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    kordon::cli::main()
}
