//! `wxtokend check`

use super::client::complain;
use super::{CommonArgs, Exit, service};
use crate::account::{Account, Output};
use crate::config::{self, Config, Environment, Loaded, Setting};
use crate::fault::Fault;
use crate::fleet;
use crate::platform;
use crate::platform::Platforms;
use crate::platform::client::Client;
use crate::time::human;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Check the configuration
///
/// Loads the configuration exactly as `run` does and prints every fault at once, as `path:line:col: message`. Prints no
/// secret, and not the line of one. Changes nothing, and needs no running daemon.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct CheckArgs {
    /// Also make one call per account to the platform
    ///
    /// Reports for each account whether the platform accepts it, and if not, its errcode, the address it saw and what
    /// to do. The stable interface is asked, also for `classic` accounts: no token in use is ended.
    #[arg(long)]
    pub online: bool,

    /// With --online: make that call for this account only; may be repeated
    #[arg(long = "account", value_name = "NAME", requires = "online")]
    pub accounts: Vec<String>,

    /// Take each warning for a fault
    #[arg(long)]
    pub strict: bool,

    /// The user that the daemon runs as [default: the owner of `state_dir`, else wxtokend]
    ///
    /// Root checks as this user, so that what the daemon cannot read or write is found.
    #[arg(long = "as", value_name = "USER")]
    pub user: Option<String>,
}

const AFTER_HELP: &str = "\
Warnings, printed as `path:line:col: warning: message`, are what would be one account's trouble once the daemon runs, or
what looks like a mistake.

Exit status:
   0  No fault.
  66  There is no account of that name (--account).
  69  A call to the platform failed (--online).
  78  The configuration is faulty; or there is a warning (--strict).";

/// Checks the configuration, and the accounts when asked to.
pub fn run(common: &CommonArgs, args: &CheckArgs) -> Exit {
    super::hide_memory();
    let environment = Environment::from_process();
    let paths = std::path::absolute(&common.config)
        .ok()
        .and_then(|config| service::writable_paths(&config));
    let user = args.user.as_deref();
    if let Err(error) = service::become_user(user, &common.config, &environment) {
        complain(&format!("wxtokend: {error}"));
        return Exit::Usage;
    }
    let mut out = io::stdout().lock();
    match offline(&common.config, &environment, paths.as_deref(), &mut out) {
        Ok((None, _)) => Exit::BadConfiguration,
        Ok((Some(_), true)) if args.strict => Exit::BadConfiguration,
        Ok((Some(config), _)) if args.online => {
            drop(out);
            online(&config, &args.accounts, environment.platforms)
        }
        Ok((Some(_), _)) => Exit::Success,
        Err(_) => Exit::Failure,
    }
}

/// Loads the configuration as `run` does, looks at what it refers to, and writes what there is to say of it: every
/// fault and warning on a line of its own, or that there is none. Returns the configuration if it is right, and whether
/// there were warnings. The daemon may write below `paths` only, if they are given.
pub fn offline(
    path: &Path,
    environment: &Environment,
    paths: Option<&[PathBuf]>,
    out: &mut impl Write,
) -> io::Result<(Option<Config>, bool)> {
    let (loaded, mut found) = match config::load(path, environment) {
        Ok(loaded) => {
            let mut found = loaded.warnings.clone();
            found.extend(config::inspect(&loaded, environment));
            found.extend(ungranted(&loaded, paths));
            (Some(loaded), found)
        }
        Err(faults) => (None, faults),
    };
    // Those of one file together, the files in the order in which they were read.
    found.dedup();
    for fault in &found {
        writeln!(out, "{fault}")?;
    }
    let warned = found.iter().any(|fault| fault.is_warning);
    let Some(Loaded { config, .. }) = loaded.filter(|_| found.iter().all(|f| f.is_warning)) else {
        return Ok((None, warned));
    };
    let outputs: usize = config.accounts.values().map(|a| a.outputs.len()).sum();
    let (path, accounts) = (config.path.display(), config.accounts.len());
    let warnings = match found.len() {
        0 => String::new(),
        count => format!(", warnings: {count}"),
    };
    writeln!(
        out,
        "{path}: no fault{warnings}; accounts: {accounts}, outputs: {outputs}"
    )?;
    Ok((Some(config), warned))
}

/// Outputs where the unit of the service does not let the daemon write.
fn ungranted(loaded: &Loaded, paths: Option<&[PathBuf]>) -> Vec<Fault> {
    let Some(paths) = paths else {
        return Vec::new();
    };
    let is_granted = |path: &Path| paths.iter().any(|granted| path.starts_with(granted));
    let outputs = loaded
        .config
        .accounts
        .values()
        .flat_map(|a| a.outputs.iter());
    let ungranted = outputs.filter(|output| !is_granted(&output.path));
    let warning = |output: &Output| {
        let directory = output.path.parent().unwrap_or(&output.path).display();
        let message = if output.path.starts_with("/tmp") || output.path.starts_with("/var/tmp") {
            format!(
                "`path` is in `{directory}`, which is private to the service: no app finds it there; choose another directory"
            )
        } else {
            format!(
                "`path` is in `{directory}`, where the service may not write; grant it with `systemctl edit wxtokend`: [Service] ReadWritePaths={directory}"
            )
        };
        (loaded.places).warning(&Setting::Output(output.path.clone()), message)
    };
    ungranted.map(warning).collect()
}

#[expect(clippy::print_stdout, reason = "the report is the command's output")]
fn online(config: &Config, names: &[String], platforms: Platforms) -> Exit {
    let is_known = |name: &&String| config.accounts.keys().any(|known| known.as_str() == **name);
    if let Some(name) = names.iter().find(|name| !is_known(name)) {
        complain(&format!("wxtokend: no account `{name}`"));
        return Exit::NoSuchAccount;
    }
    let is_asked = |account: &&Arc<Account>| {
        names.is_empty() || names.iter().any(|name| name == account.name.as_str())
    };
    let accounts: Vec<_> = config.accounts.values().filter(is_asked).collect();
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
    let mut exit = Exit::Success;
    if let Some(section) = &config.fleet {
        let (lines, is_well) = runtime.block_on(fleet::try_engine(section));
        for line in lines {
            println!("fleet: {line}");
        }
        if !is_well {
            exit = Exit::Unavailable;
        }
        if !section.may_lead {
            println!("fleet: this host only follows: no call to the platform is tried");
            return exit;
        }
    }
    let answers = runtime.block_on(async {
        let client = Arc::new(client);
        let call = |account: &&Arc<Account>| {
            let account = harmless(account, platforms);
            tokio::spawn(platform::try_account(client.clone(), account))
        };
        let calls: Vec<_> = accounts.iter().map(call).collect();
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await);
        }
        answers
    });
    for (account, answer) in accounts.iter().zip(answers) {
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
