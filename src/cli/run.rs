//! `wxtokend run`

use super::{Common, Exit};

/// Run the daemon in the foreground
///
/// Publishes the values that a former run stored, fetches those that are missing, and keeps all of them fresh until
/// SIGTERM or SIGINT. Meant to be started by systemd (Type=notify); logs to the journal there, else to standard error.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct Args {}

const AFTER_HELP: &str = "\
Signals:
  SIGHUP   Reload the configuration; a faulty one changes nothing.
  SIGUSR1  Look at every account now.
  SIGTERM, SIGINT
           Stop. Files stay where they are: what they hold is valid.

Exit status:
   0  Stopped by SIGTERM or SIGINT.
   1  Something went wrong.
  75  Another instance holds the state directory.
  78  The configuration is faulty.";

/// Runs the daemon until it is told to stop.
pub fn run(_common: &Common, _args: &Args) -> Exit {
    Exit::Failure
}
