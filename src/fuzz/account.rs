//! An account for targets that need one.

use super::SECRET;
use crate::account::{Account, AccountName, SecretSource};
use crate::clock;
use crate::platform::wechat::STABLE;
use crate::secret::Secret;
use crate::snapshot::{Snapshot, State};
use crate::value::{Grant, Value, ValueName};
use std::sync::Arc;
use std::time::Duration;

/// A fresh account.
pub(super) fn snapshot(name: &AccountName) -> Snapshot {
    let now = clock::now();
    let token = Value::parse("TOKEN-1").unwrap();
    let grant = Grant::new(token, now.at, now.at + Duration::from_secs(7200), &now);
    Snapshot {
        account: Arc::new(Account {
            name: name.clone(),
            id: "wx0123456789abcdef".into(),
            agentid: None,
            terms: STABLE,
            secret: SecretSource::Inline(Secret::parse(SECRET).unwrap()),
            readers: Arc::default(),
            tickets: [ValueName::JsapiTicket].into(),
            poll_every: Duration::from_secs(300),
            refresh_at: 0.5,
            verify_every: Duration::ZERO,
            daily_budget: 10_000,
            force_on_dead: false,
            outputs: Box::default(),
        }),
        state: State::Fresh,
        grants: [(ValueName::AccessToken, grant)].into(),
        valid_values: 1,
        next_refresh: None,
        last_success: None,
        calls_today: 1,
        quota: None,
        calls_day: now.platform_day(),
        last_error: None,
        fleet: None,
        outputs: Box::default(),
    }
}
