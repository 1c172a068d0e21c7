//! The command line: one file a command.
//!
//! [`command`] is the whole of it as clap sees it, for completions and man pages.

pub mod add;
pub mod check;
mod client;
pub mod completions;
pub mod demo;
pub mod get;
pub mod mirror_key;
mod new_file;
pub mod quota;
pub mod refresh;
pub mod reload;
pub mod run;
mod service;
pub mod status;
mod table;
pub mod watch;

use clap::{Args, CommandFactory, Parser, Subcommand};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

/// Keep WeChat access tokens fresh and hand them to local apps.
///
/// wxtokend fetches the access tokens and tickets of 公众号, 小程序 and 企业微信 apps, replaces each before it expires,
/// and hands them to the programs of this host as files, sockets and a small HTTP API over a Unix socket. The programs
/// need neither the AppSecret nor a request to the platform.
///
/// `wxtokend demo` shows all of it with nothing to set up.
#[derive(Debug, Parser)]
#[command(name = "wxtokend", version = version(), after_long_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    command: CliCommand,
}

const AFTER_HELP: &str = "\
Exit status:
   0  Done.
   1  Something went wrong, or (status) an account is not fresh.
   2  The command line is wrong.
  66  There is no such account, or it is not for you.
  69  No daemon answers, or there is no valid value now.
  75  Try again later; or (run) another instance is running.
  77  You are not allowed to.
  78  The configuration is faulty.

Each command documents its own: `wxtokend COMMAND --help`.

Files:
  /etc/wxtokend/config.toml   The configuration.
  /run/wxtokend/api.sock      The API socket, open to all local users; each request is judged by who asks.
  /var/lib/wxtokend/          What outlives a restart.";

/// The path where the packages put the configuration.
const DEFAULT_CONFIG: &str = "/etc/wxtokend/config.toml";

/// Options of every command.
#[derive(Debug, Args)]
pub struct CommonArgs {
    /// The configuration file
    ///
    /// `run` and `check` load it. The other commands only look here for the path of the API socket, and do without
    /// when they may not read it.
    #[arg(
        short,
        long,
        global = true,
        help_heading = "Common options",
        value_name = "PATH",
        env = "WXTOKEND_CONFIG",
        default_value = DEFAULT_CONFIG
    )]
    pub config: PathBuf,

    /// The daemon's API socket [default: that of the configuration, else /run/wxtokend/api.sock]
    ///
    /// The client commands (`status`, `get`, `refresh`, `reload`) talk to the daemon over it, and need nothing else.
    #[arg(
        short,
        long,
        global = true,
        help_heading = "Common options",
        value_name = "PATH",
        env = "WXTOKEND_SOCKET"
    )]
    pub socket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    Run(run::RunArgs),
    Check(check::CheckArgs),
    Add(add::AddArgs),
    Status(status::StatusArgs),
    Get(get::GetArgs),
    Refresh(refresh::RefreshArgs),
    Quota(quota::QuotaArgs),
    Reload(reload::ReloadArgs),
    Watch(watch::WatchArgs),
    MirrorKey(mirror_key::MirrorKeyArgs),
    Demo(demo::DemoArgs),
    Completions(completions::CompletionsArgs),
}

/// The exit status of a command. The numbers are those of `sysexits.h` where it has one that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// Something went wrong that has no number of its own; `status`: an account is not fresh.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// `EX_NOINPUT`: there is no such account.
    NoSuchAccount = 66,
    /// `EX_UNAVAILABLE`: no daemon answers, there is no valid value, or (`check --online`) a call failed.
    Unavailable = 69,
    /// `EX_TEMPFAIL`: later, perhaps; `run`: another instance holds the state directory.
    TryLater = 75,
    /// `EX_NOPERM`: this user may not do that.
    NotAllowed = 77,
    /// `EX_CONFIG`: the configuration is faulty.
    BadConfiguration = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let Cli { common, command } = Cli::parse();
    match command {
        CliCommand::Run(args) => run::run(&common, &args),
        CliCommand::Check(args) => check::run(&common, &args),
        CliCommand::Add(args) => add::run(&common, &args),
        CliCommand::Status(args) => status::run(&common, &args),
        CliCommand::Get(args) => get::run(&common, &args),
        CliCommand::Refresh(args) => refresh::run(&common, &args),
        CliCommand::Quota(args) => quota::run(&common, &args),
        CliCommand::Reload(args) => reload::run(&common, &args),
        CliCommand::Watch(args) => watch::run(&common, &args),
        CliCommand::MirrorKey(args) => mirror_key::run(&common, &args),
        CliCommand::Demo(args) => demo::run(&common, &args),
        CliCommand::Completions(args) => completions::run(&args),
    }
    .into()
}

/// The command line as clap sees it.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Keeps secrets out of core dumps and away from debuggers of the same user. Must come before the first secret is read.
fn hide_memory() {
    // Where that is refused the service's LimitCORE= stands.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

fn version() -> &'static str {
    static VERSION: LazyLock<String> =
        LazyLock::new(|| format!("{} ({})", crate::VERSION, crate::COMMIT));
    &VERSION
}

/// Parses a duration as humans write them: `90s`, `5m`, `1h30m`.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| duration.try_into().ok())
        .ok_or_else(|| "expected a duration such as 90s, 5m or 1h30m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("90s", Some(90)),
            ("5m", Some(300)),
            ("1h30m", Some(5400)),
            ("0s", Some(0)),
            ("-5s", None),
            ("5", None),
            ("", None),
        ] {
            let parsed = duration(text).ok().map(|duration| duration.as_secs());
            assert_eq!(parsed, seconds, "{text}");
        }
    }
}
