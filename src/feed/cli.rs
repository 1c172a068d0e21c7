//! The command line.

mod check;

use crate::config::FeedConfig;
use crate::feed::{Feed, FeedError};
use clap::{Args, Parser, Subcommand};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;
use wxtokend::config::Looks;
use wxtokend::fault::Fault;
use wxtokend::logging::{Entry, Log};

/// Keep WeChat access tokens fresh in rows of databases and keys of Redis.
///
/// Follows the values that wxtokend keeps, over its API socket, and writes each where an app or its SDK looks for it.
#[derive(Debug, Parser)]
#[command(name = "wxtokend-feed", version = version(), after_long_help = AFTER_HELP)]
struct FeedCli {
    #[command(subcommand)]
    command: FeedCommand,
}

const AFTER_HELP: &str = "\
Exit status:
   0  Done, or stopped by SIGTERM or Ctrl-C.
   1  Something went wrong.
   2  The command line is wrong.
  69  (check --online) A target or the daemon cannot be used.
  78  The configuration is faulty.";

#[derive(Debug, Subcommand)]
enum FeedCommand {
    /// Run in the foreground, until SIGTERM or SIGINT
    ///
    /// Meant to be started by systemd (wxtokend-feed@NAME.service). SIGHUP reloads the configuration; a faulty one
    /// changes nothing.
    Run(FeedRunArgs),
    /// Say everything that is wrong with a configuration
    Check(FeedCheckArgs),
}

#[derive(Debug, Args)]
struct FeedRunArgs {
    /// The configuration
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, Args)]
struct FeedCheckArgs {
    /// The configuration
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Connect to each target, prepare each statement, and say which rows or keys would change; change nothing
    #[arg(long)]
    online: bool,
}

const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;
const UNAVAILABLE: u8 = 69;
const BAD_CONFIGURATION: u8 = 78;

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let exit = match FeedCli::parse().command {
        FeedCommand::Run(args) => run(&args),
        FeedCommand::Check(args) => check::run(&args),
    };
    exit.into()
}

fn version() -> &'static str {
    static VERSION: LazyLock<String> =
        LazyLock::new(|| format!("{} ({})", wxtokend::VERSION, wxtokend::COMMIT));
    &VERSION
}

fn credentials() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

#[expect(clippy::print_stderr, reason = "faults are for whoever started it")]
fn print_faults(faults: &[Fault]) {
    for fault in faults {
        eprintln!("{fault}");
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    // Neither core dumps nor debuggers of the same user. Where that is refused the service's LimitCORE= stands.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    // The Redis driver takes the provider of the process. A second call in one process is no fault.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
}

fn run(args: &FeedRunArgs) -> u8 {
    let looks = Looks::patient();
    let config = match FeedConfig::load(&args.file, credentials().as_deref(), &looks) {
        Ok(config) => config,
        Err(faults) => {
            print_faults(&faults);
            // A disk may come back, so that another start is worth a try.
            return if looks.has_hung() {
                FAILURE
            } else {
                BAD_CONFIGURATION
            };
        }
    };
    let log = Log::start(config.log_level);
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            Entry::new().error(format_args!("cannot start the runtime: {error}"));
            return FAILURE;
        }
    };
    let exit = runtime.block_on(async {
        let feed = match Feed::start(config, credentials(), log).await {
            Ok(feed) => feed,
            Err(FeedError::Faults(faults)) => {
                print_faults(&faults);
                return BAD_CONFIGURATION;
            }
            Err(FeedError::Other(message)) => {
                Entry::new().error(message);
                return FAILURE;
            }
        };
        match feed.run().await {
            Ok(()) => SUCCESS,
            Err(error) => {
                Entry::new().error(format_args!("cannot handle signals: {error}"));
                FAILURE
            }
        }
    });
    // A name server or a disk that hangs does not keep the process.
    runtime.shutdown_background();
    exit
}
