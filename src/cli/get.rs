//! `wxtokend get`

use super::client::{ApiClient, CommandError, complain, path, print};
use super::{CommonArgs, Exit};
use serde_json::Value;
use std::time::Duration;

/// Print a valid access token or ticket
///
/// Prints the value and a newline on standard output; nothing, when there is no valid one. You must be one of the
/// account's readers or an administrator of the daemon.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct GetArgs {
    /// The account
    #[arg(value_name = "ACCOUNT")]
    account: String,

    /// The value of it
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
  wxtokend get shop | tr -d '\\n' |
      curl --get --data-urlencode access_token@- https://api.weixin.qq.com/cgi-bin/menu/get
  wxtokend get shop --value jsapi_ticket";

/// Prints one value.
pub fn run(common: &CommonArgs, args: &GetArgs) -> Exit {
    get(common, args).unwrap_or_else(|trouble| trouble.report())
}

fn get(common: &CommonArgs, args: &GetArgs) -> Result<Exit, CommandError> {
    let wanted = args.min_valid.unwrap_or_default().as_secs();
    let query = format!("token?value={}&min_valid={wanted}", args.value);
    let client = ApiClient::new(common)?;
    let answer = client.of_account(|client| client.get(&path(&args.account, &query)?))?;
    let object: Value = answer.parse()?;
    let value = object[&args.value].as_str();
    let left = object["expires_in"].as_u64();
    let (Some(value), Some(left)) = (value, left) else {
        return Err(answer.unknown());
    };
    if left < wanted {
        complain(&format!(
            "wxtokend: the platform grants no more than the {left} s that are left of it"
        ));
    }
    if args.json {
        print(&format!("{}\n", answer.text()?))?;
    } else {
        print(&format!("{value}\n"))?;
    }
    Ok(Exit::Success)
}
