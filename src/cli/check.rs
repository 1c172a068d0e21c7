//! `wxtokend check`

use super::{Common, Exit};
use crate::account::Account;
use crate::config::{self, Config, Environment, Loaded};
use crate::platform;
use crate::platform::Platforms;
use crate::platform::client::Client;
use crate::time::human;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

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
    /// to do. The stable interface is asked, also for `classic` accounts: no token in use is ended.
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
        Ok(Some(config)) if args.online => online(&config, environment.platforms),
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
        Ok(Loaded {
            config, warnings, ..
        }) => {
            for warning in warnings {
                writeln!(out, "{warning}")?;
            }
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

#[expect(clippy::print_stdout, reason = "the report is the command's output")]
fn online(config: &Config, platforms: Platforms) -> Exit {
    let client = match Client::new(&config.platform) {
        Ok(client) => client,
        Err(error) => {
            println!("{error}");
            return Exit::BadConfiguration;
        }
    };
    let Ok(runtime) = super::run::runtime() else {
        return Exit::Failure;
    };
    let answers = runtime.block_on(async {
        let client = Arc::new(client);
        let calls: Vec<_> = config
            .accounts
            .values()
            .map(|account| {
                let account = harmless(account, platforms);
                tokio::spawn(platform::try_account(client.clone(), account))
            })
            .collect();
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await);
        }
        answers
    });
    let mut exit = Exit::Success;
    for (account, answer) in config.accounts.values().zip(answers) {
        match answer {
            Ok(Ok(life)) => println!(
                "{}: ok: the platform grants an access_token for {}",
                account.name,
                human(life)
            ),
            Ok(Err(refusal)) => {
                println!(
                    "{}: {}\n    {}",
                    account.name, refusal.message, refusal.hint
                );
                exit = Exit::Unavailable;
            }
            Err(error) => {
                println!("{}: the call was not made: {error}", account.name);
                exit = Exit::Unavailable;
            }
        }
    }
    exit
}

/// The account, asked in a way that ends no token in use: a classic call would end the one that apps hold.
fn harmless(account: &Arc<Account>, platforms: Platforms) -> Arc<Account> {
    let Some(platform) = platforms.of(account.terms.kind) else {
        return account.clone();
    };
    Arc::new(Account {
        terms: platform.harmless(account.terms),
        ..Account::clone(account)
    })
}
