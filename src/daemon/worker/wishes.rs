//! Wishes for a value that lasts, in a fleet: a follower's go to the leader, whose refusals come back. A wish that is met
//! shows in the fleet's record.

use super::Worker;
use super::doubts::{card_of, verdict_of};
use crate::fleet::{Fleet, WishCard};
use crate::schedule::Part;
use crate::snapshot::Verdict;
use crate::time::{Moment, Now};
use crate::value::ValueName;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::oneshot;

/// Limit on a follower's wait for the leader.
const WISH_LIMIT: Duration = Duration::from_secs(15);
/// The leader is asked for so much more: what it shares lasts a little less on another host.
const WISH_MARGIN: Duration = Duration::from_secs(2);

/// The memory of a task about wishes in its fleet.
#[derive(Default)]
pub(super) struct WishDesk {
    /// This host's wish that is on its way.
    asked: Option<PassedWish>,
    /// The leader refused; it is not asked before.
    again: Option<Moment>,
    /// The wishes of other hosts that were looked at, by their lease.
    pub(super) judged: BTreeMap<i64, i64>,
}

/// A wish that the leader was asked for.
struct PassedWish {
    number: i64,
    value: ValueName,
    until: Moment,
    /// The end of the wait for it.
    ends: Moment,
    replies: Vec<oneshot::Sender<Verdict>>,
}

impl Worker {
    /// An app of this host wants a value that lasts. Whoever leads sees to it.
    pub(super) fn pass_wish(
        &mut self,
        value: ValueName,
        until: Moment,
        reply: oneshot::Sender<Verdict>,
        now: &Now,
    ) {
        let here = self.schedule.leave_wish(now, value, until);
        let fleet = self.shared.fleet.clone();
        let fleet = fleet.filter(|_| self.schedule.part() == Part::Follows);
        let may_ask = self
            .fleet_desk()
            .wishes
            .again
            .is_none_or(|again| now.at >= again);
        let is_met = matches!(here, Verdict::StillValid);
        let Some(fleet) = fleet.filter(|_| !is_met && may_ask) else {
            // An asker that went away needs no answer.
            let _ = reply.send(here);
            return;
        };
        match &mut self.fleet_desk().wishes.asked {
            Some(asked) if asked.value == value && asked.until >= until => {
                asked.replies.push(reply);
                return;
            }
            Some(_) => {
                let _ = reply.send(here);
                return;
            }
            None => {}
        }
        let number = now.unix_millis;
        self.fleet_desk().wishes.asked = Some(PassedWish {
            number,
            value,
            until,
            ends: now.at + WISH_LIMIT,
            replies: vec![reply],
        });
        let card = WishCard {
            number,
            value: value.as_str().to_owned(),
            seconds: (now.at.until(until) + WISH_MARGIN).as_secs(),
        };
        let name = self.schedule.account().name.clone();
        tokio::spawn(async move {
            // Without it no answer comes, which is told when the time is up.
            let _ = fleet.wish(&name, &card).await;
        });
    }

    /// Until when the leader is waited for.
    pub(super) fn wish_until(&self) -> Option<Moment> {
        let desk = self.fleet.as_ref()?;
        desk.wishes.asked.as_ref().map(|asked| asked.ends)
    }

    /// Sees whether a wish is met by now, or refused.
    pub(super) fn take_granted(&mut self, fleet: &Fleet, now: &Now) {
        let desk = self.fleet.as_ref();
        let Some(asked) = desk.and_then(|desk| desk.wishes.asked.as_ref()) else {
            return;
        };
        let name = &self.schedule.account().name;
        let card = fleet
            .granted(name)
            .filter(|card| card.number == asked.number);
        let refused = card
            .map(|card| verdict_of(&card, now))
            .filter(|verdict| matches!(verdict, Verdict::Unavailable { .. }));
        let here = self.schedule.leave_wish(now, asked.value, asked.until);
        let verdict = match (here, refused) {
            (Verdict::StillValid, _) => Verdict::Refreshed,
            (_, Some(refused)) => refused,
            (here, None) if now.at >= asked.ends => here,
            _ => return,
        };
        if let Verdict::Unavailable { retry_at, .. } = &verdict {
            self.fleet_desk().wishes.again = Some(*retry_at);
        }
        if let Some(asked) = self.fleet_desk().wishes.asked.take() {
            self.waiting().answer(asked.replies, &verdict);
        }
    }

    /// Looks at the wishes of other hosts.
    pub(super) fn look_at_wishes(&mut self, fleet: &Fleet, now: &Now) {
        let name = self.schedule.account().name.clone();
        for (of, card) in fleet.wishes(&name) {
            let is_known =
                self.fleet_desk().wishes.judged.insert(of, card.number) == Some(card.number);
            let Some(value) = ValueName::parse(&card.value).filter(|_| !is_known) else {
                continue;
            };
            let (reply, verdict) = oneshot::channel();
            self.want(
                value,
                now.at + Duration::from_secs(card.seconds),
                reply,
                now,
            );
            let (fleet, name, snapshot) = (
                fleet.clone(),
                name.clone(),
                self.desk.handle.snapshot.clone(),
            );
            tokio::spawn(async move {
                if let Ok(verdict) = verdict.await {
                    let card = card_of(card.number, &verdict, &snapshot);
                    // The client is told when its time is up.
                    let _ = fleet.grant(&name, of, &card).await;
                }
            });
        }
    }
}
