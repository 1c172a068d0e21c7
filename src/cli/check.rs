//! `wxtokend check`

use super::{Common, Exit};
use crate::config::{self, Config, Environment};
use std::io::{self, Write};
use std::path::Path;

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
pub fn run(common: &Common, args: &Args) -> Exit {
    let environment = Environment::from_process();
    match offline(&common.config, &environment, &mut io::stdout().lock()) {
        Ok(Some(_)) if args.online => Exit::Failure,
        Ok(Some(_)) => Exit::Success,
        Ok(None) => Exit::BadConfiguration,
        Err(_) => Exit::Failure,
    }
}

/// Loads the configuration as `run` does and writes what there is to say of it: every fault on a line of its own, or
/// that there is none. Returns the configuration if it is right.
pub fn offline(
    path: &Path,
    environment: &Environment,
    out: &mut impl Write,
) -> io::Result<Option<Config>> {
    match config::load(path, environment) {
        Ok(config) => {
            let outputs = config
                .accounts
                .values()
                .map(|account| account.outputs.len());
            let path = config.path.display();
            let accounts = config.accounts.len();
            let outputs: usize = outputs.sum();
            writeln!(
                out,
                "{path}: no fault; accounts: {accounts}, outputs: {outputs}"
            )?;
            Ok(Some(config))
        }
        Err(faults) => {
            for fault in faults {
                writeln!(out, "{fault}")?;
            }
            Ok(None)
        }
    }
}
