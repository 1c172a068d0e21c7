//! Doubts of followers on their way to the leader, and its verdicts on their way back. They live as long as their host's lease.

use super::state::{MemberState, key_of};
use super::{Fleet, WriteError};
use crate::account::AccountName;
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

/// The leader's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VerdictCard {
    /// The number of the doubt.
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
    /// True if a leader has answered a doubt.
    fn is_judged(&self, name: &AccountName, of: i64, doubt: &DoubtCard) -> bool {
        let key = format!("{}/{of:x}", key_of(name, "verdict"));
        let verdict = self.keys.get(key.as_str());
        let verdict = verdict.and_then(|kv| serde_json::from_slice::<VerdictCard>(&kv.value).ok());
        verdict.is_some_and(|verdict| verdict.number == doubt.number)
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
        let state = self.0.lock();
        let prefix = format!("{}/", key_of(name, "doubt"));
        let own = state.lease.map_or(0, |lease| lease.id);
        let range = state.keys.range(Box::<str>::from(prefix.as_str())..);
        range
            .take_while(|(key, _)| key.starts_with(&prefix))
            .filter(|(_, kv)| kv.lease != own)
            .filter_map(|(_, kv)| Some((kv.lease, serde_json::from_slice(&kv.value).ok()?)))
            .filter(|(of, card)| !state.is_judged(name, *of, card))
            .collect()
    }

    /// The leader's answer to this host's doubt.
    pub(crate) fn verdict(&self, name: &AccountName) -> Option<VerdictCard> {
        let state = self.0.lock();
        let own = state.lease?.id;
        let key = format!("{}/{own:x}", key_of(name, "verdict"));
        serde_json::from_slice(&state.keys.get(key.as_str())?.value).ok()
    }
}
