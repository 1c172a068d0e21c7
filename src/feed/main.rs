//! The feed: keeps values in rows of databases and keys of Redis.

use std::process::ExitCode;

fn main() -> ExitCode {
    wxtokend_feed::cli::main()
}
