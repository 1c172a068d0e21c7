//! Doubts and wishes of followers on their way to the leader, and its verdicts on their way back. They live as long as their
//! host's lease.

use super::state::{MemberState, key_of};
use super::{Fleet, WriteError};
use crate::account::AccountName;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A follower's apps doubt the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DoubtCard {
    /// Tells it from the one before.
    pub(crate) number: i64,
    /// The fingerprint of the token that failed; without it the current one is meant.
    pub(crate) token: Option<String>,
    /// True if an administrator asks.
    pub(crate) admin: bool,
}

/// A follower's app wants a value that lasts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WishCard {
    /// Tells it from the one before.
    pub(crate) number: i64,
    /// The name of the value.
    pub(crate) value: String,
    /// The life that it has to have, seconds.
    pub(crate) seconds: u64,
}

/// The leader's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VerdictCard {
    /// The number of the doubt or wish.
    pub(crate) number: i64,
    /// As `verdict` in the daemon names it.
    pub(crate) verdict: String,
    /// Seconds until asking again makes sense.
    #[serde(default)]
    pub(crate) retry_in: u64,
    /// The fingerprint of the token that stands now.
    #[serde(default)]
    pub(crate) token: Option<String>,
}

impl MemberState {
    /// The answer of a leader to the host with a lease.
    fn answer_to(&self, name: &AccountName, what: &str, of: i64) -> Option<VerdictCard> {
        let key = format!("{}/{of:x}", key_of(name, what));
        serde_json::from_slice(&self.keys.get(key.as_str())?.value).ok()
    }

    /// The questions of other hosts about an account, by their lease, that no leader has answered.
    fn asked<T: DeserializeOwned>(
        &self,
        name: &AccountName,
        [what, answer]: [&str; 2],
        number: impl Fn(&T) -> i64,
    ) -> Vec<(i64, T)> {
        let prefix = format!("{}/", key_of(name, what));
        let own = self.lease.map_or(0, |lease| lease.id);
        let range = self.keys.range(Box::<str>::from(prefix.as_str())..);
        range
            .take_while(|(key, _)| key.starts_with(&prefix))
            .filter(|(_, kv)| kv.lease != own)
            .filter_map(|(_, kv)| Some((kv.lease, serde_json::from_slice(&kv.value).ok()?)))
            .filter(|(of, card)| {
                let answered = self.answer_to(name, answer, *of);
                answered.is_none_or(|answered| answered.number != number(card))
            })
            .collect()
    }
}

impl Fleet {
    /// Asks the leader to look at the token.
    pub(crate) async fn doubt(
        &self,
        name: &AccountName,
        doubt: &DoubtCard,
    ) -> Result<(), WriteError> {
        let lease = self.0.lock().lease.ok_or(WriteError::NotLeader)?.id;
        self.card(name, "doubt", lease, lease, doubt).await
    }

    /// Answers a doubt of the host with this lease.
    pub(crate) async fn judge(
        &self,
        name: &AccountName,
        of: i64,
        verdict: &VerdictCard,
    ) -> Result<(), WriteError> {
        self.card(name, "verdict", of, of, verdict).await
    }

    /// Asks the leader for a value that lasts.
    pub(crate) async fn wish(&self, name: &AccountName, wish: &WishCard) -> Result<(), WriteError> {
        let lease = self.0.lock().lease.ok_or(WriteError::NotLeader)?.id;
        self.card(name, "wish", lease, lease, wish).await
    }

    /// Answers a wish of the host with this lease.
    pub(crate) async fn grant(
        &self,
        name: &AccountName,
        of: i64,
        verdict: &VerdictCard,
    ) -> Result<(), WriteError> {
        self.card(name, "granted", of, of, verdict).await
    }

    async fn card(
        &self,
        name: &AccountName,
        what: &str,
        of: i64,
        lease: i64,
        card: &impl Serialize,
    ) -> Result<(), WriteError> {
        let key = format!("{}{}/{of:x}", self.0.section.prefix, key_of(name, what));
        let text = serde_json::to_vec(card).unwrap_or_default();
        self.put(key, text, lease).await
    }

    /// The doubts of other hosts about an account, by their lease.
    pub(crate) fn doubts(&self, name: &AccountName) -> Vec<(i64, DoubtCard)> {
        let number = |card: &DoubtCard| card.number;
        self.0.lock().asked(name, ["doubt", "verdict"], number)
    }

    /// The wishes of other hosts about an account, by their lease.
    pub(crate) fn wishes(&self, name: &AccountName) -> Vec<(i64, WishCard)> {
        let number = |card: &WishCard| card.number;
        self.0.lock().asked(name, ["wish", "granted"], number)
    }

    /// The leader's answer to this host's doubt.
    pub(crate) fn verdict(&self, name: &AccountName) -> Option<VerdictCard> {
        let state = self.0.lock();
        state.answer_to(name, "verdict", state.lease?.id)
    }

    /// The leader's answer to this host's wish.
    pub(crate) fn granted(&self, name: &AccountName) -> Option<VerdictCard> {
        let state = self.0.lock();
        state.answer_to(name, "granted", state.lease?.id)
    }
}
