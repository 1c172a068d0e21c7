//! A year of an account, simulated in seconds: the refresh policy against the simulated platform, with everything going
//! wrong that is known to, at random times. After each event the promises are checked (`watch.rs`).

mod host;
mod script;
mod watch;
mod year;

use std::sync::Arc;
use std::time::Duration;
use wxtokend::account::{Account, AccountName, SecretSource};
use wxtokend::platform::wechat::{CLASSIC, STABLE};
use wxtokend::platform::wecom::GETTOKEN;
use wxtokend::sim;
use wxtokend::terms::Terms;
use wxtokend::value::ValueName;
use year::Year;

fn account(
    method: &'static Terms,
    tickets: &[ValueName],
    change: impl FnOnce(&mut Account),
) -> Account {
    let mut account = Account {
        name: AccountName::parse("shop").expect("it is a name"),
        id: if method.shares_id {
            "ww0123456789abcdef".into()
        } else {
            "wx0123456789abcdef".into()
        },
        agentid: None,
        terms: method,
        secret: SecretSource::Inline(host::secret()),
        readers: Arc::new([]),
        tickets: tickets.into(),
        poll_every: Duration::from_secs(900),
        refresh_at: 0.5,
        verify_every: Duration::ZERO,
        daily_budget: method.default_budget,
        force_on_dead: false,
        outputs: Box::new([]),
    };
    change(&mut account);
    account
}

fn live(seed: u64, account: Account, platform: impl FnOnce(&mut sim::Account)) {
    Year::new(seed, account, platform).live(Duration::from_secs(365 * 86_400));
}

#[test]
fn stable_with_tickets() {
    let tickets = [ValueName::JsapiTicket, ValueName::WxCardTicket];
    let account = account(STABLE, &tickets, |_| ());
    live(1, account, |_| ());
}

#[test]
fn stable_that_may_force() {
    let account = account(STABLE, &[], |account| {
        account.force_on_dead = true;
        account.verify_every = Duration::from_secs(3600);
        account.poll_every = Duration::ZERO;
    });
    live(2, account.clone(), |_| ());
    live(3, account, |platform| {
        platform.settle = Duration::from_secs(5);
    });
}

#[test]
fn classic_with_tickets() {
    let tickets = [ValueName::JsapiTicket, ValueName::WxCardTicket];
    let account = account(CLASSIC, &tickets, |_| ());
    live(4, account, |_| ());
}

#[test]
fn classic_late_and_seldom() {
    let account = account(CLASSIC, &[], |account| account.refresh_at = 0.9);
    for seed in 5..7 {
        live(seed, account.clone(), |platform| {
            platform.settle = Duration::from_secs(seed - 4);
        });
    }
}

#[test]
fn classic_with_hardly_any_calls() {
    let account = account(CLASSIC, &[ValueName::JsapiTicket], |account| {
        account.daily_budget = 60;
    });
    live(8, account, |_| ());
}

#[test]
fn wecom_that_keeps_its_token_to_the_end() {
    let tickets = [ValueName::JsapiTicket, ValueName::AgentTicket];
    let account = account(GETTOKEN, &tickets, |_| ());
    live(10, account, |_| ());
}

#[test]
fn wecom_that_mints_each_time() {
    let account = account(GETTOKEN, &[ValueName::AgentTicket], |_| ());
    live(11, account, |platform| {
        platform.gettoken_mints = true;
        platform.ticket_looks_new = true;
    });
}
