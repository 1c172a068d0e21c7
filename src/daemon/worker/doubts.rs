//! Doubts of the token in a fleet: a follower's go to the leader, and the leader's verdicts come back.

use super::Worker;
use super::commands::give;
use crate::clock;
use crate::fleet::{DoubtCard, Fleet, VerdictCard};
use crate::handle::SnapshotCell;
use crate::schedule::Part;
use crate::snapshot::Verdict;
use crate::time::{Moment, Now};
use crate::value::{Fingerprint, Value, ValueName};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Limit on a follower's wait for the leader's verdict.
const VERDICT_LIMIT: Duration = Duration::from_secs(15);
/// Asking again makes sense after this, if nobody leads.
const NO_LEADER: Duration = Duration::from_secs(30);

impl Worker {
    /// True if somebody else makes the calls, or nobody may.
    pub(super) fn leaves_calls(&self) -> bool {
        let has_overlap = self.schedule.account().terms().overlap().is_some();
        match self.schedule.part() {
            Part::Alone | Part::Leads => false,
            Part::Follows => true,
            Part::Cut { may_call, .. } => !may_call || has_overlap,
        }
    }

    /// An app of this host doubts the token. Whoever leads looks at it.
    pub(super) fn pass_doubt(
        &mut self,
        bad: Option<&Value>,
        admin: bool,
        reply: Option<oneshot::Sender<Verdict>>,
        now: &Now,
    ) {
        if let Some(verdict) = self.schedule.doubt(now, bad) {
            if let Some(reply) = reply {
                give(&self.desk.handle.counters, reply, verdict);
            }
            return;
        }
        let is_asked = self.fleet_desk().doubt.is_some();
        self.waiting().doubters.extend(reply);
        let fleet = self.shared.fleet.clone();
        let Some(fleet) = fleet.filter(|_| self.schedule.part() == Part::Follows) else {
            let retry_at = now.at + NO_LEADER;
            self.end_doubt(Verdict::Unavailable {
                retry_at,
                error: self.schedule.last_error(),
            });
            return;
        };
        if is_asked {
            return;
        }
        let number = now.unix_millis;
        self.fleet_desk().doubt = Some((number, now.at + VERDICT_LIMIT));
        let token = self.schedule.token().map(Value::fingerprint);
        let card = DoubtCard {
            number,
            token: token.map(|token| token.to_string()),
            admin,
        };
        let name = self.schedule.account().name.clone();
        tokio::spawn(async move {
            // Without it no verdict comes, which is told when the time is up.
            let _ = fleet.doubt(&name, &card).await;
        });
    }

    fn end_doubt(&mut self, verdict: Verdict) {
        self.fleet_desk().doubt = None;
        self.waiting().verdict = Some(verdict);
    }

    /// The moment until which a verdict of the leader is waited for.
    pub(super) fn doubt_until(&self) -> Option<Moment> {
        let (_, until) = self.fleet.as_ref()?.doubt?;
        Some(until)
    }

    /// Takes the leader's verdict, once what it says of is here too.
    pub(super) fn take_verdict(&mut self, fleet: &Fleet, now: &Now) {
        let Some((number, until)) = self.fleet_desk().doubt else {
            return;
        };
        let name = &self.schedule.account().name;
        let card = fleet.verdict(name).filter(|card| card.number == number);
        if let Some(card) = card {
            let is_here = card
                .token
                .as_deref()
                .is_none_or(|token| self.schedule.holds(token));
            if is_here {
                self.end_doubt(verdict_of(&card, now));
                return;
            }
        }
        if now.at >= until {
            let retry_at = now.at + NO_LEADER;
            self.end_doubt(Verdict::Unavailable {
                retry_at,
                error: None,
            });
        }
    }

    /// Looks at the doubts of other hosts.
    pub(super) fn look_at_doubts(&mut self, fleet: &Fleet, now: &Now) {
        let name = self.schedule.account().name.clone();
        for (of, card) in fleet.doubts(&name) {
            if self.fleet_desk().judged.insert(of, card.number) == Some(card.number) {
                continue;
            }
            let is_current = card
                .token
                .as_deref()
                .is_none_or(|token| self.schedule.holds(token));
            let (reply, verdict) = oneshot::channel();
            let at_once = if is_current {
                self.schedule.suspect(now, None, card.admin)
            } else {
                Some(Verdict::Superseded)
            };
            match at_once {
                Some(verdict) => drop(reply.send(verdict)),
                None => self.waiting().doubters.push(reply),
            }
            let (fleet, name, snapshot) = (
                fleet.clone(),
                name.clone(),
                self.desk.handle.snapshot.clone(),
            );
            tokio::spawn(async move {
                if let Ok(verdict) = verdict.await {
                    let card = card_of(card.number, &verdict, &snapshot);
                    // The client is told when its time is up.
                    let _ = fleet.judge(&name, of, &card).await;
                }
            });
        }
    }
}

pub(super) fn card_of(number: i64, verdict: &Verdict, snapshot: &Arc<SnapshotCell>) -> VerdictCard {
    let now = clock::now().at;
    let (name, retry_at) = match verdict {
        Verdict::Superseded => ("superseded", now),
        Verdict::StillValid | Verdict::Verified(_) => ("still_valid", now),
        Verdict::Refreshed => ("refreshed", now),
        Verdict::TooSoon { retry_at } => ("too_soon", *retry_at),
        Verdict::Unavailable { retry_at, .. } => ("unavailable", *retry_at),
    };
    let token = snapshot.latest();
    let token = token.valid(ValueName::AccessToken, now);
    VerdictCard {
        number,
        verdict: name.to_owned(),
        retry_in: now.until(retry_at).as_secs(),
        token: token
            .map(|grant| grant.value.fingerprint())
            .as_ref()
            .map(Fingerprint::to_string),
    }
}

pub(super) fn verdict_of(card: &VerdictCard, now: &Now) -> Verdict {
    let retry_at = now.at + Duration::from_secs(card.retry_in);
    match card.verdict.as_str() {
        "superseded" => Verdict::Superseded,
        "still_valid" => Verdict::StillValid,
        "refreshed" => Verdict::Refreshed,
        "too_soon" => Verdict::TooSoon { retry_at },
        _ => Verdict::Unavailable {
            retry_at,
            error: None,
        },
    }
}
