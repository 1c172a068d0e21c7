//! `wxtokend refresh`

use super::{Common, Exit};

/// Ask for a fresh access token now
///
/// The daemon asks the platform whether the token still lives, and fetches a new one only if not. It does so at most
/// once in 30 seconds per account, so that this cannot use up the account's quota.
///
/// An administrator may ask at any time. A reader has to name the token that failed, with --bad-from-stdin: if it has
/// been replaced already, nothing is called.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct Args {
    /// The account
    #[arg(value_name = "ACCOUNT")]
    account: String,

    /// Read the token that failed from standard input
    ///
    /// Never from an argument: those are visible to every user of the host.
    #[arg(long)]
    bad_from_stdin: bool,
}

const AFTER_HELP: &str = "\
Exit status:
   0  A valid token now stands: it is printed whether it is the same.
  66  There is no such account.
  69  No daemon answers, or there is no valid token.
  75  Too soon, or the platform does not answer: try again after the seconds that are printed.
  77  You are not allowed to.

Examples:
  wxtokend refresh shop
  printf %s \"$token\" | wxtokend refresh shop --bad-from-stdin";

/// Asks for a fresh token.
pub fn run(_common: &Common, _args: &Args) -> Exit {
    Exit::Failure
}
