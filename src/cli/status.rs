//! `wxtokend status`

use super::{Common, Exit};

/// Show how the accounts are
///
/// Prints a table of the accounts that you may see: their state, when the token expires, when the platform is asked
/// next, and the last error with what to do about it. Accounts have one of these states:
///
/// starting: no attempt has ended yet. fresh: every value is valid and nothing is wrong. degraded: a valid token stands,
/// but the last attempt or an output failed. expired: there is no valid token.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct Args {
    /// Show these accounts only
    #[arg(value_name = "ACCOUNT")]
    accounts: Vec<String>,

    /// Print JSON, as `GET /v1/accounts` of the API answers, on one line
    #[arg(long)]
    json: bool,

    /// Redraw whenever something changes, until Ctrl-C
    ///
    /// Where the output is no terminal, and with --json, prints anew instead of redrawing.
    #[arg(short, long)]
    watch: bool,
}

const AFTER_HELP: &str = "\
Exit status:
   0  All accounts are fresh.
   1  An account is degraded, starting or expired, or there is none of that name.
  69  No daemon answers.
  77  You may see no account.

Examples:
  wxtokend status
  wxtokend status shop --json | jq -r '.accounts[0].expires_in'";

/// Prints the state of the accounts.
pub fn run(_common: &Common, _args: &Args) -> Exit {
    Exit::Failure
}
