//! Doubt about the access token: an app saw it refused, or it is looked at now and then. Compared, asked about once for all
//! who doubt it together, replaced when the platform says that it is dead.

use super::{Outcome, Schedule};
use crate::call::Call;
use crate::call::{Answer, Refusal};
use crate::snapshot::Verdict;
use crate::time::{Moment, Now};
use crate::trouble::Class;
use crate::value::{Grant, Value};
use std::time::Duration;

/// How often a token may be looked at on suspicion.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A younger token may be refused by a part of the platform that has not heard of it: asked about again at this age.
const SETTLED: Duration = Duration::from_secs(10);
/// What the platform says of a token that another call replaced.
const REPLACED: i64 = 40001;
/// How often a token that is handed out although it is dead is looked at.
const STAYS_DEAD_EVERY: Duration = Duration::from_secs(300);
/// The platform allows 20 forced refreshes a day, 30 s apart; some are left for people.
const FORCED_A_DAY: u32 = 10;
const FORCED_EVERY: Duration = Duration::from_secs(30);

/// How far a doubt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// There is none.
    None,
    /// The platform is to be asked whether the token lives.
    Ask { at: Moment, admin: bool },
    /// It is dead, or there is none: a new one is to be fetched.
    Fetch { admin: bool },
    /// The platform hands out the dead one again: a new one is to be forced.
    Force { at: Moment },
}

impl Doubt {
    /// The call it wants, and when. A fetch is the token's own affair.
    pub(super) fn wants(self) -> Option<(Moment, Call)> {
        match self {
            Self::Ask { at, .. } => Some((at, Call::Verify)),
            Self::Force { at } => Some((at, Call::ForceToken)),
            Self::None | Self::Fetch { .. } => None,
        }
    }

    /// A call for a token ended. Ends the doubt that this answers: the one that waits for a fetch, and with another token
    /// also the one that was about to be asked. Says whether there was one.
    pub(super) fn end(&mut self, another_token: bool) -> bool {
        let answered = match self {
            Self::Fetch { .. } | Self::Force { .. } => true,
            Self::Ask { .. } => another_token,
            Self::None => false,
        };
        if answered {
            *self = Self::None;
        }
        answered
    }

    /// What becomes of it when the account is another app: whoever waits gets that one's token.
    pub(super) fn about_another(self) -> Self {
        match self {
            Self::None => Self::None,
            doubt => Self::Fetch {
                admin: doubt.admin(),
            },
        }
    }

    fn admin(self) -> bool {
        matches!(
            self,
            Self::Ask { admin: true, .. } | Self::Fetch { admin: true }
        )
    }
}

/// A token that the platform called dead.
#[derive(Debug)]
pub(super) struct Dead {
    value: Value,
    /// Whether it is handed out no longer; until a replacement has been tried, it is better than nothing.
    withdrawn: bool,
}

/// Forced refreshes of the platform's day.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Forced {
    pub(super) day: i64,
    pub(super) count: u32,
    pub(super) last: Option<Moment>,
}

impl Forced {
    fn earliest(&self, now: &Now) -> Option<Moment> {
        let today = if self.day == now.platform_day() {
            self.count
        } else {
            0
        };
        (today < FORCED_A_DAY).then(|| {
            self.last
                .map_or(now.at, |last| (last + FORCED_EVERY).max(now.at))
        })
    }

    fn spend(&mut self, now: &Now) {
        self.count = if self.day == now.platform_day() {
            self.count + 1
        } else {
            1
        };
        self.day = now.platform_day();
        self.last = Some(now.at);
    }
}

impl Schedule {
    /// Somebody doubts the token: `bad` failed, or without it the current one is doubted. A verdict is final; without one,
    /// it comes with a later answer.
    pub fn suspect(&mut self, now: &Now, bad: Option<&Value>, admin: bool) -> Option<Verdict> {
        let current = self.standing(now.at).map(|grant| &grant.value);
        if let (Some(bad), Some(current)) = (bad, current)
            && bad != current
        {
            return Some(Verdict::Superseded);
        }
        let stands = current.is_some();
        match &mut self.doubt {
            Doubt::Ask { admin: asks, .. } | Doubt::Fetch { admin: asks } => {
                *asks |= admin;
                return None;
            }
            Doubt::Force { .. } => return None,
            Doubt::None => {}
        }
        if !stands {
            return self.suspect_nothing(now, admin);
        }
        let every = if admin {
            LOOK_EVERY
        } else {
            self.sparing(now, LOOK_EVERY)
        };
        let earliest = self.looked.map_or(now.at, |looked| looked + every);
        if earliest > now.at {
            return Some(Verdict::TooSoon { retry_at: earliest });
        }
        let affordable = self.affordable(now);
        if affordable > now.at {
            return Some(Verdict::Unavailable {
                retry_at: affordable,
                error: None,
            });
        }
        if admin {
            self.hurry(now);
        }
        self.looked = Some(now.at);
        self.doubt = Doubt::Ask { at: now.at, admin };
        None
    }

    /// There is no token. An administrator may have healed the cause just now; an app waits for what is due anyway.
    fn suspect_nothing(&mut self, now: &Now, admin: bool) -> Option<Verdict> {
        let affordable = self.affordable(now);
        let due = self.token.due.max(affordable);
        let earliest = if admin && !self.token.is_banned(now) {
            let looked = self.looked.map_or(now.at, |looked| looked + LOOK_EVERY);
            due.min(looked.max(affordable))
        } else {
            due
        };
        if earliest > now.at {
            return Some(self.unavailable_at(earliest));
        }
        if self.token.due > now.at {
            self.looked = Some(now.at);
            self.token.due = now.at;
        }
        self.doubt = Doubt::Fetch { admin };
        None
    }

    /// A call was refused because of the token: looks at it, unless that was done a moment ago.
    pub(super) fn doubt_token(&mut self, now: &Now) {
        // Nobody waits for the verdict; the next call for the value will tell.
        let _ = self.suspect(now, None, false);
    }

    pub(super) fn verified(
        &mut self,
        now: &Now,
        answer: Result<Answer, Refusal>,
    ) -> (Outcome, Option<Verdict>) {
        self.verified = now.at;
        let (doubted, admin) = (self.doubt != Doubt::None, self.doubt.admin());
        match answer {
            Ok(_) => {
                let revived = self.dead.take().is_some();
                self.doubt = Doubt::None;
                if revived {
                    self.token.trouble = None;
                    self.last_success = Some(now.at);
                    if let Some(grant) = &self.token.grant {
                        self.token.due = self.due_again(now, grant.expires);
                    }
                }
                (
                    Outcome::Alive,
                    doubted.then_some(if revived {
                        Verdict::Refreshed
                    } else {
                        Verdict::StillValid
                    }),
                )
            }
            Err(refusal) if refusal.class == Class::DeadToken => {
                self.called_dead(now, admin, refusal.errcode)
            }
            Err(refusal) => {
                self.doubt = Doubt::None;
                let verdict = doubted.then(|| self.unavailable_at(now.at + LOOK_EVERY));
                (Outcome::Unsure(refusal), verdict)
            }
        }
    }

    fn called_dead(
        &mut self,
        now: &Now,
        admin: bool,
        errcode: Option<i64>,
    ) -> (Outcome, Option<Verdict>) {
        let Some(grant) = self.token.grant.clone() else {
            self.doubt = Doubt::None;
            return (Outcome::Alive, None);
        };
        if self.is_dead_again() {
            return self.stays_dead(now, admin);
        }
        let at = grant.obtained + SETTLED;
        if now.at < at {
            self.doubt = Doubt::Ask { at, admin };
            return (Outcome::AskAgain, None);
        }
        let life = grant.obtained.until(grant.expires);
        // A call of ours whose answer was of no use may have replaced it as well.
        let foreign = self.account.terms.overlap().is_some()
            && errcode == Some(REPLACED)
            && self.token.trouble.is_none()
            && now.at + life / 10 < grant.expires;
        self.dead = Some(Dead {
            value: grant.value,
            withdrawn: false,
        });
        let doubted = self.doubt != Doubt::None;
        let verdict = if self.token.is_blocked(now) {
            self.withdraw_dead();
            self.doubt = Doubt::None;
            doubted.then(|| self.unavailable(now))
        } else {
            self.token.due = now.at;
            self.doubt = Doubt::Fetch { admin };
            None
        };
        (Outcome::FoundDead { foreign }, verdict)
    }

    /// The call for a new token brought the one that was called dead.
    pub(super) fn granted_dead_again(
        &mut self,
        now: &Now,
        call: Call,
    ) -> (Outcome, Option<Verdict>) {
        match (call, self.doubt) {
            // Its turn comes.
            (Call::Token, Doubt::Force { .. }) => (Outcome::AskAgain, None),
            (Call::Token, Doubt::None | Doubt::Ask { .. }) if self.affordable(now) <= now.at => {
                // Tried on schedule after a while: the platform may have changed its mind.
                let admin = self.doubt.admin();
                self.doubt = Doubt::Ask { at: now.at, admin };
                self.token.due = now.at + STAYS_DEAD_EVERY;
                (Outcome::AskAgain, None)
            }
            _ => self.stays_dead(now, self.doubt.admin()),
        }
    }

    fn stays_dead(&mut self, now: &Now, admin: bool) -> (Outcome, Option<Verdict>) {
        let may_force = self.account.terms.can_force && (admin || self.account.force_on_dead);
        let forcing = matches!(self.doubt, Doubt::Force { .. });
        if may_force
            && !forcing
            && self.affordable(now) <= now.at
            && let Some(at) = self.forced.earliest(now)
        {
            self.forced.spend(&Now { at, ..*now });
            self.doubt = Doubt::Force { at };
            if at > now.at {
                self.withdraw_dead();
            }
            return (Outcome::AskAgain, None);
        }
        let doubted = self.doubt != Doubt::None;
        self.doubt = Doubt::None;
        self.withdraw_dead();
        let hint = if self.account.terms.can_force {
            format!(
                "run `wxtokend refresh {}` as an administrator, which forces a new one, or set `force_on_dead = true` for the account",
                self.account.name
            )
        } else {
            "the platform contradicts itself and is asked again every 5 minutes; if it lasts, reset the secret in its console".into()
        };
        let refusal = Refusal::operator(
            "the platform says that the token is dead, and hands out the same one again",
            hint,
        );
        let outcome = self.fail(now, refusal);
        (outcome, doubted.then(|| self.unavailable(now)))
    }

    /// Ends a doubt whose next call the budget does not allow: nobody is kept waiting for hours.
    pub(super) fn unaffordable(&mut self, now: &Now) -> Option<Verdict> {
        let affordable = self.affordable(now);
        if self.doubt == Doubt::None || affordable <= now.at {
            return None;
        }
        self.doubt = Doubt::None;
        self.withdraw_dead();
        Some(self.unavailable_at(self.affordable(now)))
    }

    /// Whether a new token is about to be fetched because the one that stands is dead.
    pub(super) fn is_fetching(&self) -> bool {
        matches!(self.doubt, Doubt::Fetch { .. })
    }

    pub(super) fn is_dead_again(&self) -> bool {
        let granted = self.token.grant.as_ref().map(|grant| &grant.value);
        self.dead
            .as_ref()
            .is_some_and(|dead| granted == Some(&dead.value))
    }

    pub(super) fn is_withdrawn(&self, grant: &Grant) -> bool {
        self.dead
            .as_ref()
            .is_some_and(|dead| dead.withdrawn && dead.value == grant.value)
    }

    pub(super) fn withdraw_dead(&mut self) {
        if let Some(dead) = &mut self.dead {
            dead.withdrawn = true;
        }
    }

    pub(super) fn unavailable(&self, now: &Now) -> Verdict {
        self.unavailable_at(self.token.due.max(now.at))
    }

    fn unavailable_at(&self, retry_at: Moment) -> Verdict {
        let error = self
            .token
            .trouble
            .as_ref()
            .map(|trouble| trouble.error.clone());
        Verdict::Unavailable { retry_at, error }
    }
}
