//! `wxtokend run`

use super::{CommonArgs, Exit};
use crate::config::{self, Environment};
use crate::daemon::{Daemon, StartError};
use crate::fault::Fault;
use crate::logging::{Entry, Log};
use rustix::fs::Mode;
use rustix::process::umask;
use std::io;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Threads that load a configuration, look over outputs or sync the store; what there is more of has threads of its
/// own.
const BLOCKING_THREADS: usize = 4;

/// Longest wait until the last lines of the log are read.
const LOG_FLUSH: Duration = Duration::from_millis(200);
/// The same when they say why the daemon did not start.
const REASON_FLUSH: Duration = Duration::from_secs(2);

/// Run the daemon in the foreground
///
/// Publishes the values that a former run stored, fetches those that are missing, and keeps all of them fresh until
/// SIGTERM or SIGINT. Meant to be started by systemd (Type=notify); logs to the journal there, else to standard error.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct RunArgs {}

const AFTER_HELP: &str = "\
Signals:
  SIGHUP   Reload the configuration; a faulty one changes nothing.
  SIGUSR1  Look at every account now.
  SIGTERM, SIGINT
           Stop. Files stay where they are: what they hold is valid.

Exit status:
   0  Stopped by SIGTERM or SIGINT.
   1  Something went wrong; also: what the configuration lies on does not answer.
  75  Another instance holds the state directory.
  78  The configuration is faulty.";

/// Runs the daemon until it is told to stop.
pub fn run(common: &CommonArgs, _args: &RunArgs) -> Exit {
    super::hide_memory();
    let environment = Environment::from_process();
    let loaded = match config::load(&common.config, &environment) {
        Ok(loaded) => loaded,
        Err(faults) => {
            print_faults(&faults);
            // A disk may come back, so that another start is worth a try.
            return if environment.files.has_hung() {
                Exit::Failure
            } else {
                Exit::BadConfiguration
            };
        }
    };
    let log = Log::start(loaded.config.daemon.log_level);
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            Entry::new().error(format_args!("cannot start the runtime: {error}"));
            return Exit::Failure;
        }
    };
    let exit = runtime.block_on(async {
        match Daemon::start(loaded, environment, log).await {
            Ok(daemon) => {
                daemon.run().await;
                Exit::Success
            }
            Err(StartError::Locked(error)) => {
                Entry::new().error(error);
                Exit::TryLater
            }
            Err(StartError::Faults(faults)) => {
                print_faults(&faults);
                Exit::BadConfiguration
            }
            Err(StartError::Stopped) => Exit::Success,
            Err(StartError::Other(message)) => {
                Entry::new().error(message);
                Exit::Failure
            }
        }
    });
    // A thread that hangs on a dead disk does not keep the process.
    runtime.shutdown_background();
    log.flush(if matches!(exit, Exit::Success) {
        LOG_FLUSH
    } else {
        REASON_FLUSH
    });
    exit
}

#[expect(clippy::print_stderr, reason = "faults are for whoever started it")]
fn print_faults(faults: &[Fault]) {
    for fault in faults {
        eprintln!("{fault}");
    }
}

/// Makes the runtime of the daemon.
pub(super) fn runtime() -> io::Result<Runtime> {
    umask(Mode::from_raw_mode(0o077));
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(Duration::from_secs(2))
        .build()
}
