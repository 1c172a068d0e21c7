//! A year of an account, simulated in seconds: the refresh policy against a model of the platform, with everything going wrong
//! that is known to, at random times. After each event the promises are checked (`promises.rs`). The same of three hosts of a
//! fleet (`fleet.rs`) with theirs (`pact.rs`).

mod caching;
mod engine;
mod fleet;
mod host;
mod life;
mod member;
mod pact;
mod platform;
mod promises;

use life::Life;
use platform::PlatformKind;
use std::sync::Arc;
use std::time::Duration;
use wxtokend::account::{Account, AccountName, SecretSource};
use wxtokend::ledger::TicketLedger;
use wxtokend::platform::wechat::{CLASSIC, STABLE};
use wxtokend::platform::wecom::GETTOKEN;
use wxtokend::value::ValueName;

const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn account(
    kind: PlatformKind,
    tickets: &[ValueName],
    change: impl FnOnce(&mut Account),
) -> Account {
    let (id, terms) = match kind {
        PlatformKind::Stable => ("wx0123456789abcdef", STABLE),
        PlatformKind::Classic => ("wx0123456789abcdef", CLASSIC),
        PlatformKind::Wecom => ("ww0123456789abcdef", GETTOKEN),
    };
    let name = AccountName::parse("shop").expect("it is a name");
    let mut account = Account {
        secret: SecretSource::File("/secret".into()),
        tickets: tickets.into(),
        poll_every: Duration::from_secs(900),
        ..Account::usual(name, id, terms)
    };
    change(&mut account);
    account
}

/// Lives a year with each seed, and with as many more as `YEAR_SEEDS` says.
fn live(seeds: std::ops::Range<u64>, kind: PlatformKind, account: &Account) {
    let more = std::env::var("YEAR_SEEDS").map_or(0, |more| more.parse().expect("it is a number"));
    for seed in seeds.chain(100..100 + more) {
        Life::new(seed, kind, account.clone()).live(YEAR);
    }
}

#[test]
fn stable_with_tickets() {
    let tickets = [ValueName::JsapiTicket, ValueName::WxCardTicket];
    live(
        1..2,
        PlatformKind::Stable,
        &account(PlatformKind::Stable, &tickets, |_| ()),
    );
}

#[test]
fn stable_that_may_force() {
    let account = account(PlatformKind::Stable, &[], |account| {
        account.force_on_dead = true;
        account.verify_every = Duration::from_secs(3600);
        account.poll_every = Duration::ZERO;
    });
    live(3..4, PlatformKind::Stable, &account);
}

#[test]
fn classic_with_tickets() {
    let tickets = [ValueName::JsapiTicket, ValueName::WxCardTicket];
    live(
        5..7,
        PlatformKind::Classic,
        &account(PlatformKind::Classic, &tickets, |_| ()),
    );
}

#[test]
fn classic_late_and_seldom() {
    let account = account(PlatformKind::Classic, &[], |account| {
        account.refresh_at = 0.9;
    });
    live(8..9, PlatformKind::Classic, &account);
}

#[test]
fn long_outages_with_small_budgets() {
    let account = account(
        PlatformKind::Classic,
        &[ValueName::JsapiTicket],
        |account| {
            account.daily_budget = 100;
        },
    );
    live(10..12, PlatformKind::Classic, &account);
}

#[test]
fn wecom_with_tickets() {
    let tickets = [ValueName::JsapiTicket, ValueName::AgentTicket];
    live(
        13..14,
        PlatformKind::Wecom,
        &account(PlatformKind::Wecom, &tickets, |_| ()),
    );
}

#[test]
fn ten_apps_of_a_corp_stay_far_below_its_limits() {
    let tickets = [ValueName::JsapiTicket, ValueName::AgentTicket];
    let ledger = Arc::new(TicketLedger::new(400));
    let account = account(PlatformKind::Wecom, &tickets, |_| ());
    let mut apps: Vec<_> = (0..10)
        .map(|seed| {
            let mut life = Life::new(seed, PlatformKind::Wecom, account.clone());
            life.calm();
            life.share(ledger.clone());
            life
        })
        .collect();
    // The ledger is on one clock: the app that is behind goes on.
    while let Some(app) = apps.iter_mut().min_by_key(|app| app.truth()) {
        if app.truth() > 5 * platform::DAY {
            break;
        }
        app.step();
    }
    let of_app = apps.iter().map(Life::busiest_hour).max();
    let of_corp: usize = apps.iter().map(Life::busiest_hour).sum();
    assert!(of_app <= Some(30), "{of_app:?} calls an hour of an app");
    assert!(of_corp <= 250, "{of_corp} calls an hour of the corp");
}
