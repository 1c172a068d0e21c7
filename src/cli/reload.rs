//! `wxtokend reload`

use super::{Common, Exit};

/// Have the daemon reload its configuration
///
/// Waits until it has, and prints which accounts changed. A faulty configuration changes nothing: its faults are printed
/// as `path:line:col: message`, and the daemon goes on with the old one. For administrators of the daemon.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct Args {}

const AFTER_HELP: &str = "\
Exit status:
   0  Reloaded.
  69  No daemon answers.
  77  You are not allowed to.
  78  The configuration is faulty; the old one still runs.";

/// Reloads the daemon's configuration.
pub fn run(_common: &Common, _args: &Args) -> Exit {
    Exit::Failure
}
