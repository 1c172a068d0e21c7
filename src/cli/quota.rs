//! `wxtokend quota`

use super::client::{ApiClient, CommandError, path, print, printable};
use super::{CommonArgs, Exit};
use crate::api::body::QuotaBody;
use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal, Write as _};

/// Show the platform's own count of an account's calls
///
/// Asks the platform how often each interface was called today, and how often it may be, and shows it beside the daemon's
/// own count: more there than here means that somebody else fetches for this account. The platform is asked at most once
/// a minute.
///
/// With --clear an administrator has the platform set its counts to nothing, which it does ten times a month.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct QuotaArgs {
    /// The account
    #[arg(value_name = "ACCOUNT")]
    account: String,

    /// Have the platform clear its counts; asks first on a terminal
    #[arg(long)]
    clear: bool,

    /// Clear without asking
    #[arg(long, requires = "clear")]
    yes: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Exit status:
   0  Printed, or cleared.
  66  There is no such account.
  69  No daemon answers, or the platform gives no count.
  75  Try again after the seconds that are printed.
  77  You are not allowed to.

Example:
  wxtokend quota shop";

/// Shows the count, and clears it before.
pub fn run(common: &CommonArgs, args: &QuotaArgs) -> Exit {
    quota(common, args).unwrap_or_else(|trouble| trouble.report())
}

fn quota(common: &CommonArgs, args: &QuotaArgs) -> Result<Exit, CommandError> {
    let client = ApiClient::new(common)?;
    if args.clear && !args.yes && !confirmed(&args.account)? {
        print("nothing is cleared\n")?;
        return Ok(Exit::Success);
    }
    let answer = client.of_account(|client| {
        if args.clear {
            client.post(&path(&args.account, "quota/clear")?, Vec::new().into())
        } else {
            client.get(&path(&args.account, "quota")?)
        }
    })?;
    if args.json {
        print(&format!("{}\n", answer.text()?))?;
        return Ok(Exit::Success);
    }
    let body: QuotaBody = answer.parse()?;
    let cleared = if args.clear { "cleared; now\n" } else { "" };
    print(&format!("{cleared}{}", table(&body)))?;
    Ok(Exit::Success)
}

/// Asks on the terminal. Without one nothing is cleared unasked.
fn confirmed(account: &str) -> Result<bool, CommandError> {
    if !io::stdin().is_terminal() {
        return Err(CommandError::Own(
            "--clear asks on a terminal: add --yes to clear without being asked".to_owned(),
        ));
    }
    let failed = |error: io::Error| CommandError::Own(format!("cannot ask: {error}"));
    let mut terminal = io::stderr();
    write!(
        terminal,
        "Clear the platform's counts of `{}`? It does so ten times a month. [y/N] ",
        printable(account)
    )
    .map_err(failed)?;
    terminal.flush().map_err(failed)?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(failed)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

fn table(body: &QuotaBody) -> String {
    let header = ["endpoint", "used", "left", "limit"].map(str::to_owned);
    let rows = body.endpoints.iter().map(|endpoint| {
        [
            printable(&endpoint.path),
            endpoint.used.to_string(),
            endpoint.left.to_string(),
            endpoint.limit.to_string(),
        ]
    });
    let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].len()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), width(3)];
    let mut text = String::new();
    for [path, used, left, limit] in &rows {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{path:0$}  {used:>1$}  {left:>2$}  {limit:>3$}",
            widths[0], widths[1], widths[2], widths[3]
        );
    }
    let _ = writeln!(
        text,
        "our own calls today: {}, of which the counts above should have {}",
        body.calls_today, body.calls_listed
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::body::EndpointBody;

    #[test]
    fn counts_stand_in_columns() {
        let body = QuotaBody {
            endpoints: vec![EndpointBody {
                path: "/cgi-bin/token".into(),
                limit: 2000,
                used: 7,
                left: 1993,
            }],
            calls_today: 5,
            calls_listed: 2,
        };
        assert_eq!(
            table(&body),
            "endpoint        used  left  limit\n/cgi-bin/token     7  1993   2000\nour own calls today: 5, of which the counts above should have 2\n"
        );
    }
}
