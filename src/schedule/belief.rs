//! The belief about the access token, and the waiters for it.

use crate::time::Moment;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The belief about the access token. Stored with it: the platform's word outlives a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Belief {
    /// Nothing speaks against it.
    #[default]
    Trusted,
    /// It may be dead: the platform is asked at `at`.
    Suspected {
        /// The reason.
        why: Why,
        /// The moment to ask.
        at: Moment,
        /// Questions that brought no answer.
        tries: u32,
    },
    /// The platform called it dead. It is handed out until the first attempt to replace it has ended.
    CalledDead,
    /// It is dead and handed out no more.
    Withdrawn,
}

/// The reason to suspect a token. It is stored by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// An app or a call of ours saw it refused.
    Report,
    /// A call whose answer was lost may have replaced it.
    LostAnswer,
    /// A clock was set or stood still: its end is not certain.
    Clock,
    /// The platform called it dead and granted it again. It is handed out only when the platform says that it lives.
    Contradiction,
}

impl Belief {
    /// True if the token is handed out.
    pub(crate) const fn is_shown(self) -> bool {
        match self {
            Self::Trusted | Self::CalledDead => true,
            Self::Suspected { why, .. } => !matches!(why, Why::Contradiction),
            Self::Withdrawn => false,
        }
    }

    /// True if the token is suspected for this reason.
    pub fn is(self, reason: Why) -> bool {
        matches!(self, Self::Suspected { why, .. } if why == reason)
    }

    /// Somebody suspects the token. A suspicion that stands is only looked at sooner.
    pub(super) fn suspect(&mut self, why: Why, when: Moment) {
        match self {
            Self::Trusted => {
                *self = Self::Suspected {
                    why,
                    at: when,
                    tries: 0,
                };
            }
            Self::Suspected { at, .. } => *at = (*at).min(when),
            Self::CalledDead | Self::Withdrawn => {}
        }
    }

    /// The token could not be replaced: it is handed out no more.
    pub(super) fn withdraw(&mut self) {
        if *self == Self::CalledDead {
            *self = Self::Withdrawn;
        }
    }
}

/// The waiters for a verdict on the token, by their rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AskedBy {
    Nobody,
    Reader,
    /// May have a new token forced.
    Admin,
}

impl AskedBy {
    pub(super) const fn by(admin: bool) -> Self {
        if admin { Self::Admin } else { Self::Reader }
    }

    pub(super) fn join(&mut self, admin: bool) {
        *self = (*self).max(Self::by(admin));
    }

    /// Ends the wait. Says whether there was one.
    pub(super) fn end(&mut self) -> bool {
        std::mem::replace(self, Self::Nobody) != Self::Nobody
    }
}

/// Calls whose answer is missing. Each may have replaced the token, which then dies when the overlap is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) first: Moment,
    pub(super) last: Moment,
}

impl Lost {
    /// A call was sent.
    pub(super) fn another(before: Option<Self>, sent: Moment) -> Self {
        Self {
            first: before.map_or(sent, |lost| lost.first),
            last: sent,
        }
    }

    /// The token lives at `now`: none that was sent more than `overlap` ago has replaced it.
    pub(super) fn disproved(self, now: Moment, overlap: Duration) -> Option<Self> {
        let since = now - overlap;
        (self.last > since).then(|| Self {
            first: self.first.max(since),
            ..self
        })
    }
}
