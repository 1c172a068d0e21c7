//! `wxtokend get`

use super::{Common, Exit};
use std::time::Duration;

/// Print a valid access token or ticket
///
/// Prints the value and a newline on standard output; nothing, when there is no valid one. You must be one of the
/// account's readers or an administrator of the daemon.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct Args {
    /// The account
    #[arg(value_name = "ACCOUNT")]
    account: String,

    /// Which value of it
    #[arg(long, value_name = "VALUE", default_value = "access_token",
        value_parser = ["access_token", "jsapi_ticket", "wx_card_ticket", "agent_ticket"])]
    value: String,

    /// Ask for a fresh one first when less than this is left of its life
    ///
    /// The platform decides: a value with less may come back all the same, and a warning says so.
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    min_valid: Option<Duration>,

    /// Print JSON, with the true expiry in Unix seconds
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Exit status:
   0  Printed.
  66  There is no such account, or it does not keep that value.
  69  No daemon answers, or there is no valid value.
  77  You are not allowed to.

Examples:
  curl \"https://api.weixin.qq.com/cgi-bin/menu/get?access_token=$(wxtokend get shop)\"
  wxtokend get shop --value jsapi_ticket";

/// Prints one value.
pub fn run(_common: &Common, _args: &Args) -> Exit {
    Exit::Failure
}
