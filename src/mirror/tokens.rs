//! The access tokens that stand or stood: a ticket is asked for with one, and nothing else says for which account.

use super::keys::Hashed;
use crate::account::AccountName;
use crate::snapshot::Snapshot;
use crate::time::Moment;
use crate::value::{Value, ValueName};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;

/// A token is remembered for this time after it was last seen to stand: longer than any lives.
const REMEMBERED: Duration = Duration::from_secs(3 * 3600);
/// The number of tokens that are kept without a look for those to forget.
const FEW: usize = 64;

/// The tokens of the accounts that have keys, by hash.
#[derive(Default)]
pub(super) struct TokenMemory(Mutex<KnownTokens>);

#[derive(Default)]
struct KnownTokens {
    /// Its account, and when it was last known to stand.
    tokens: HashMap<Hashed, (AccountName, Moment)>,
    /// The number at which the old ones are looked for.
    forget_at: usize,
}

impl TokenMemory {
    /// Notes that a token stands now.
    pub(super) fn note(&self, account: &AccountName, token: &Value, now: Moment) {
        let mut known = self.0.lock();
        if known.tokens.len() >= known.forget_at {
            known.tokens.retain(|_, (_, seen)| *seen + REMEMBERED > now);
            known.forget_at = 2 * known.tokens.len() + FEW;
        }
        let hashed = Hashed::of(token.expose());
        known.tokens.insert(hashed, (account.clone(), now));
    }

    /// The account whose token it is or was.
    pub(super) fn owner(&self, token: &str, now: Moment) -> Option<AccountName> {
        let known = self.0.lock();
        let (account, seen) = known.tokens.get(&Hashed::of(token))?;
        (*seen + REMEMBERED > now).then(|| account.clone())
    }
}

/// The access token of a snapshot, valid or not.
pub(super) fn token(snapshot: &Snapshot) -> Option<&Value> {
    let mut grants = snapshot.grants.iter();
    grants
        .find(|(name, _)| *name == ValueName::AccessToken)
        .map(|(_, grant)| &grant.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_token_is_known_for_three_hours() {
        let tokens = TokenMemory::default();
        let account = AccountName::parse("shop").unwrap();
        let start = Moment::from_millis(0);
        let token = |n: usize| Value::parse(&format!("TOKEN-{n}")).unwrap();
        for n in 0..1000_usize {
            tokens.note(
                &account,
                &token(n),
                start + Duration::from_secs(60) * u32::try_from(n).unwrap(),
            );
        }
        let now = start + Duration::from_secs(60) * 999;
        assert_eq!(tokens.owner("TOKEN-999", now), Some(account.clone()));
        assert_eq!(tokens.owner("TOKEN-850", now), Some(account));
        assert_eq!(tokens.owner("TOKEN-800", now), None);
        assert_eq!(tokens.owner("TOKEN-1000", now), None);
        assert!(tokens.0.lock().tokens.len() < 500, "old ones are forgotten");
    }
}
