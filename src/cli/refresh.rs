//! `wxtokend refresh`

use super::client::{ApiClient, CommandError, path, print, printable};
use super::{CommonArgs, Exit};
use crate::api::body::RefreshRequest;
use crate::time::human;
use crate::value::Value;
use serde::Deserialize;
use std::io::{self, Read};
use std::time::Duration;

/// Ask for a fresh access token now
///
/// The daemon asks the platform whether the token still lives, and fetches a new one only if not. It does so at most
/// once in 30 seconds per account, so that this cannot use up the account's quota.
///
/// An administrator may ask at any time. A reader has to name the token that failed, with --bad-from-stdin: if it has
/// been replaced already, nothing is called.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct RefreshArgs {
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

/// Longer than any token, bytes.
const MAX_INPUT: u64 = 8192;

/// The part of the answer that is shown. A newer daemon may know other outcomes.
#[derive(Deserialize)]
struct Refreshed {
    outcome: String,
    expires_in: u64,
}

/// Asks for a fresh token.
pub fn run(common: &CommonArgs, args: &RefreshArgs) -> Exit {
    refresh(common, args).unwrap_or_else(|trouble| trouble.report())
}

fn refresh(common: &CommonArgs, args: &RefreshArgs) -> Result<Exit, CommandError> {
    let request = RefreshRequest {
        bad_token: args.bad_from_stdin.then(bad_token).transpose()?,
        errcode: None,
    };
    let body =
        serde_json::to_vec(&request).map_err(|error| CommandError::Own(error.to_string()))?;
    let client = ApiClient::new(common)?;
    let answer: Refreshed = client
        .of_account(|client| client.post(&path(&args.account, "refresh")?, body.into()))?
        .parse()?;
    let left = human(Duration::from_secs(answer.expires_in));
    let what = match &*answer.outcome {
        "superseded" => {
            "superseded: that token is not the one that stands (replaced already, or never a token of this account)"
        }
        "still_valid" => "still valid: the platform honours the token that stands",
        "refreshed" => "refreshed: a new token stands",
        other => other,
    };
    print(&format!("{}; it expires in {left}\n", printable(what)))?;
    Ok(Exit::Success)
}

fn no_token() -> CommandError {
    let why = "what is on standard input is no token: one is a single word of at most 2048 letters, digits and signs";
    CommandError::Own(why.to_owned())
}

/// The token on standard input, without the newline that came with it.
fn bad_token() -> Result<String, CommandError> {
    let mut text = String::new();
    match io::stdin().take(MAX_INPUT).read_to_string(&mut text) {
        Ok(_) if text.trim().is_empty() => Err(CommandError::Own(
            "there is no token on standard input".to_owned(),
        )),
        Ok(_) if Value::parse(text.trim()).is_none() => Err(no_token()),
        Ok(_) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(no_token()),
        Err(error) => Err(CommandError::Own(format!(
            "cannot read standard input: {error}"
        ))),
    }
}
