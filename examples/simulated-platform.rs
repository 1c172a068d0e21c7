//! The simulated WeChat platform as a program: point wxtokend, or an app, at the URL that it prints first.

use clap::Parser;
use std::net::SocketAddr;
use std::time::Duration;
use wxtokend::sim::{Account, Platform, World};

/// A simulated WeChat platform, on loopback.
///
/// Its URL is the first line of standard output. It serves the calls that grant tokens and tickets, and some that take
/// a token, until it is killed.
#[derive(Parser)]
#[command(name = "simulated-platform", after_long_help = CONTROLS)]
struct Arguments {
    /// Where to listen: a loopback address; port 0 takes any that is free
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// An account: `appid=wx…,secret=…` or `corpid=ww…,agentid=…,secret=…`, and options (may be repeated)
    #[arg(long = "account", value_name = "KEY=VALUE,…")]
    account: Vec<Account>,

    /// Makes N accounts: the appid of number I is `wx` and I in 16 hex digits, its secret I in 32 (from 0)
    #[arg(long, value_name = "N", default_value_t = 0)]
    accounts: u64,

    /// Accepts any appid with any secret
    #[arg(long)]
    any_account: bool,

    /// How long a token lives, for the accounts of `--accounts` and `--any-account`, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 7200.0)]
    lifetime: f64,
}

const CONTROLS: &str = "\
Options of an account (durations in seconds, fractions too; other values as JSON):
  lifetime=7200           how long a token lives
  window=300              stable: the last part of a life, in which a call brings a new token
  overlap=300             how long a replaced token lives on
                          (window and overlap: at most a quarter of a life unless set)
  ticket_lifetime=7200    how long a ticket lives
  ticket_looks_new=false  tickets in mid-life come with the seconds of a whole life
  gettoken_mints=false    企业微信: each gettoken brings a new token
  settle=0                how long a new token is refused with 40001 before it works
  force_gap=30            how far apart forced refreshes have to be
  content_type=json       json, encoding or text
  seen_as=203.0.113.7     the address that calls seem to come from
  whitelist=[]            the addresses that may call; all when not given
  per_day=2000            token calls a day
  per_minute=10000        token calls a minute
  tickets_per_day=1000    ticket calls a day

Control, on the same port (JSON; an account is an appid, a corpid, or corpid/agentid):
  GET    /probe?access_token=T  is this token or ticket alive? (or POST it as the body)
                                {alive, account, kind, age_ms, ends_in_ms, ended_ms_ago}
  PUT    /sim/accounts          {appid, secret, ...} or a list: adds accounts, changes options
  PUT    /sim/fault             {account?, endpoint?, times?, delay?, works?, effect?}
                                works: the platform has minted and counted before it strikes
                                effect: none, {refuse: {errcode, errmsg?}}, {status: 502}, hang,
                                reset, half_body, endless, drip, huge, login_page, redirect,
                                empty, {value: TEXT}, {expires_in: ANY}, {body: TEXT}, echo
  GET    /sim/fault             the faults that are set
  DELETE /sim/fault             heals all, or with ?account=...&endpoint=... some
  POST   /sim/kill              {account, kind?, how: end, stuck or second_fetcher}
  POST   /sim/secret            {account, secret}: resets the AppSecret
  PUT    /sim/whitelist         {account, allow?, seen_as?}
  POST   /sim/freeze            connections that are open now get no more answers
  GET    /sim/counts            calls by account and endpoint, connections, values minted
  GET    /sim/log               the last thousand calls";

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
        let mut account = Account::numbered(number);
        account.lifetime(lifetime);
        world.add(account);
    }
    if arguments.any_account {
        let mut model = Account::new("", "");
        model.lifetime(lifetime);
        world.accept_any_account(model);
    }
    let platform = Platform::start(arguments.listen, world)?;
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
