//! The one who asks, and what they may do.

use super::ApiState;
use super::error::{ApiError, no_such_account};
use super::metrics::ReadVia;
use crate::account::{Account, AccountName};
use crate::handle::AccountHandle;
use crate::peer::Peer;
use std::sync::Arc;

/// The peer of a request.
#[derive(Debug)]
pub(super) enum Asker {
    /// A local process, over the API socket.
    Peer(Peer),
    /// Whoever can reach the loopback address of the metrics.
    Scraper,
}

impl Asker {
    pub(super) fn is_admin(&self, state: &ApiState) -> bool {
        match self {
            Self::Peer(peer) => peer.is_any_of(&state.admins.borrow()),
            Self::Scraper => false,
        }
    }

    pub(super) fn may_read(&self, account: &Account, state: &ApiState) -> bool {
        match self {
            Self::Peer(peer) => peer.is_any_of(&account.readers) || self.is_admin(state),
            Self::Scraper => false,
        }
    }
}

/// The account of that name, if the asker may read it.
pub(super) fn find(
    state: &ApiState,
    asker: &Asker,
    name: &AccountName,
) -> Result<AccountHandle, ApiError> {
    let accounts = Arc::clone(&state.accounts.borrow());
    let handle = accounts
        .get(name)
        .ok_or_else(|| no_such_account(name.as_str()))?;
    if !asker.may_read(&handle.snapshot.latest().account, state) {
        state.metrics.denied(ReadVia::Api).inc();
        return Err(no_such_account(name.as_str()));
    }
    Ok(handle.clone())
}
