//! `wxtokend status`

use super::client::{ApiClient, CommandError, complain, print, similar};
use super::{CommonArgs, Exit, table};
use crate::api::body::{AccountBody, AccountsBody};
use crate::clock;
use crate::snapshot::State;
use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use rustix::termios::tcgetwinsize;
use std::convert::Infallible;
use std::io::{self, IsTerminal};
use std::thread::sleep;
use std::time::Duration;

/// Show how the accounts are
///
/// Prints a table of the accounts that you may see: their state, when the token expires, when the platform is asked
/// next, and the last error with what to do about it. An account has one of these states:
///
/// starting: no attempt has ended yet. fresh: every value is valid and nothing is wrong. degraded: a valid token stands,
/// but the last attempt or an output failed. expired: there is no valid token.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct StatusArgs {
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

    /// Print the names of the accounts only, for completions
    #[arg(long, hide = true)]
    names: bool,
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

/// Interval between two looks while watching.
const INTERVAL: Duration = Duration::from_secs(1);

/// Width of the table where the terminal does not say.
const COLUMNS: u16 = 80;

/// Prints the state of the accounts.
pub fn run(common: &CommonArgs, args: &StatusArgs) -> Exit {
    status(common, args).unwrap_or_else(|trouble| trouble.report())
}

fn status(common: &CommonArgs, args: &StatusArgs) -> Result<Exit, CommandError> {
    let client = ApiClient::new(common)?;
    let all = client.accounts()?;
    if args.names {
        let names = all
            .accounts
            .iter()
            .map(|account| format!("{}\n", account.account));
        print(&names.collect::<String>())?;
        return Ok(Exit::Success);
    }
    let unknown = args.accounts.iter().filter(|name| {
        let mut known = all.accounts.iter();
        !known.any(|account| account.account == **name)
    });
    for name in unknown {
        let suggestion = match similar(name, &all) {
            Some(right) => format!("; did you mean `{right}`?"),
            None => String::new(),
        };
        complain(&format!(
            "wxtokend: no account `{name}` that you may see{suggestion}"
        ));
    }
    let (accounts, missing) = select(all, &args.accounts);
    if accounts.accounts.is_empty() && !missing.is_empty() && !args.json {
        return Ok(Exit::Failure);
    }
    if args.watch {
        let Err(trouble) = watch(&client, args, accounts);
        return Err(trouble);
    }
    print(&text(&accounts, args)?)?;
    let fresh = |account: &AccountBody| account.state == State::Fresh;
    if missing.is_empty() && accounts.accounts.iter().all(fresh) {
        Ok(Exit::Success)
    } else {
        Ok(Exit::Failure)
    }
}

/// The accounts of these names, or all if there are none; and the names of which there is no account.
fn select(mut accounts: AccountsBody, names: &[String]) -> (AccountsBody, Vec<String>) {
    if names.is_empty() {
        return (accounts, Vec::new());
    }
    accounts
        .accounts
        .retain(|account| names.contains(&account.account));
    let there = |name: &String| {
        accounts
            .accounts
            .iter()
            .any(|account| account.account == *name)
    };
    let missing = names.iter().filter(|name| !there(name)).cloned().collect();
    (accounts, missing)
}

/// Shows the accounts until a signal ends it, or nobody reads any further.
fn watch(
    client: &ApiClient,
    args: &StatusArgs,
    first: AccountsBody,
) -> Result<Infallible, CommandError> {
    let redraw = !args.json && io::stdout().is_terminal();
    let mut shown = None;
    let mut current = Ok(first);
    loop {
        match current {
            Ok(accounts) if redraw => draw(&text(&accounts, args)?)?,
            // It was there when we began, and may come back.
            Err(trouble) if redraw => draw(&format!("{trouble}\n"))?,
            Ok(accounts) if shown.as_ref() != Some(&timeless(&accounts)) => {
                print(&text(&accounts, args)?)?;
                shown = Some(timeless(&accounts));
            }
            Ok(_) => {}
            Err(trouble) => return Err(trouble),
        }
        sleep(INTERVAL);
        current = client
            .accounts()
            .map(|accounts| select(accounts, &args.accounts).0);
    }
}

/// Without what changes with every second.
fn timeless(accounts: &AccountsBody) -> AccountsBody {
    let mut accounts = accounts.clone();
    accounts.uptime_seconds = 0;
    for account in &mut accounts.accounts {
        account.expires_in = None;
        account
            .tickets
            .iter_mut()
            .for_each(|ticket| ticket.expires_in = None);
    }
    accounts
}

fn text(accounts: &AccountsBody, args: &StatusArgs) -> Result<String, CommandError> {
    if args.json {
        return match serde_json::to_string(accounts) {
            Ok(json) => Ok(json + "\n"),
            Err(error) => Err(CommandError::Own(error.to_string())),
        };
    }
    let now = clock::now();
    let columns = tcgetwinsize(io::stdout()).map_or(COLUMNS, |size| size.ws_col);
    let table = table::render(accounts, now.unix(now.at), columns.into());
    Ok(match AutoStream::choice(&io::stdout()) {
        ColorChoice::Never => strip_str(&table).to_string(),
        _ => table,
    })
}

/// Overwrites the screen from its top, so that nothing flickers.
fn draw(text: &str) -> Result<(), CommandError> {
    let lines = text.replace('\n', "\x1b[K\n");
    print(&format!("\x1b[H{lines}\x1b[J"))
}
