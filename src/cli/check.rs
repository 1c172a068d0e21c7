//! `wxtokend check`

use super::{Common, Exit};

/// Check the configuration
///
/// Loads the configuration exactly as `run` does and prints every fault at once, as `path:line:col: message`. Prints no
/// secret, and not the line of one. Changes nothing, and needs no running daemon.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct Args {
    /// Also make one call per account to the platform
    ///
    /// Reports for each account whether the platform accepts it, and if not, its errcode, the address it saw and what
    /// to do.
    #[arg(long)]
    pub online: bool,
}

const AFTER_HELP: &str = "\
Exit status:
   0  No fault.
  69  A call to the platform failed (--online).
  78  The configuration is faulty.";

/// Checks the configuration, and the accounts when asked to.
pub fn run(_common: &Common, _args: &Args) -> Exit {
    Exit::Failure
}
