//! The `wxtokend` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    wxtokend::cli::main()
}
