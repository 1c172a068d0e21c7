//! The simulated WeChat platform as a program: point wxtokend, or an app, at the URL that it prints first.

use clap::Parser;
use std::net::SocketAddr;
use std::time::Duration;
use wxtokend::sim::{SimAccount, SimPlatform, World};

/// A simulated WeChat platform, on loopback.
///
/// Its URL is the first line of standard output. It serves the calls that grant tokens and tickets, and some that take
/// a token, until it is killed.
#[derive(Parser)]
#[command(name = "simulated-platform", after_long_help = CONTROLS)]
struct Arguments {
    /// The address to listen on: a loopback address; port 0 takes any that is free
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// An account: `appid=wx…,secret=…` or `corpid=ww…,agentid=…,secret=…`, and options (may be repeated)
    #[arg(long = "account", value_name = "KEY=VALUE,…")]
    account: Vec<SimAccount>,

    /// Makes N accounts: the appid of number I is `wx` and I in 16 hex digits, its secret I in 32 (from 0)
    #[arg(long, value_name = "N", default_value_t = 0)]
    accounts: u64,

    /// Accepts any appid with any secret
    #[arg(long)]
    any_account: bool,

    /// Lifetime of a token, for the accounts of `--accounts` and `--any-account`, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 7200.0)]
    lifetime: f64,
}

const CONTROLS: &str = include_str!("../../src/sim/control.txt");

fn main() {
    if let Err(error) = run(Arguments::parse()) {
        clap::Error::raw(clap::error::ErrorKind::Io, format!("{error}\n")).exit()
    }
}

fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let lifetime = Duration::try_from_secs_f64(arguments.lifetime)?;
    let mut world = World::new();
    for account in arguments.account {
        world.add(account);
    }
    for number in 0..arguments.accounts {
        let mut account = SimAccount::numbered(number);
        account.lifetime(lifetime);
        world.add(account);
    }
    if arguments.any_account {
        let mut model = SimAccount::new("", "");
        model.lifetime(lifetime);
        world.accept_any_account(model);
    }
    let platform = SimPlatform::start(arguments.listen, world)?;
    announce(&platform.base_url())?;
    platform.wait();
    Ok(())
}

fn announce(url: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{url}")?;
    out.flush()
}
