//! Commands to an account, and the answers to those who wait.

use super::{Stop, Worker};
use crate::clock;
use crate::counters::{Counted, Counters};
use crate::handle::Command;
use crate::schedule::Outcome;
use crate::snapshot::{Snapshot, Verdict};
use crate::time::{Moment, Now};
use crate::trouble::LastError;
use crate::value::ValueName;
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Everybody who waits for an answer of this account, and what there is to tell them.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) doubters: Vec<oneshot::Sender<Verdict>>,
    wishes: Vec<WaitingRefresh>,
    /// Those whose wish another host has met or refused.
    granted: Vec<(oneshot::Sender<Verdict>, Verdict)>,
    pub(super) verdict: Option<Verdict>,
    /// The value that a call was for, and the failure of it.
    ended: Option<(ValueName, Option<Arc<LastError>>)>,
}

/// Somebody who waits for a value that lasts.
struct WaitingRefresh {
    value: ValueName,
    until: Moment,
    reply: oneshot::Sender<Verdict>,
}

impl Waiting {
    /// Another host has met or refused a wish. Those who wait are told once all is published.
    pub(super) fn answer(&mut self, replies: Vec<oneshot::Sender<Verdict>>, verdict: &Verdict) {
        let replies = replies.into_iter();
        self.granted
            .extend(replies.map(|reply| (reply, verdict.clone())));
    }

    /// An answer came. Those who wait are told once its value is published.
    pub(super) fn on_outcome(&mut self, outcome: Outcome, verdict: Option<Verdict>) {
        self.ended = match outcome {
            Outcome::Granted { name, .. } => Some((name, None)),
            Outcome::Failed { name, error, .. } => Some((name, Some(error))),
            _ => None,
        };
        self.verdict = verdict.or(self.verdict.take());
    }

    fn tell_wishes(
        &mut self,
        name: ValueName,
        error: Option<&Arc<LastError>>,
        snapshot: &Snapshot,
        now: &Now,
    ) {
        for wish in self.wishes.extract_if(.., |wish| wish.value == name) {
            let grant = snapshot.valid(name, now.at);
            let verdict = if grant.is_some_and(|grant| grant.expires >= wish.until) {
                Verdict::Refreshed
            } else {
                Verdict::Unavailable {
                    retry_at: snapshot.next_refresh.unwrap_or(now.at),
                    error: error.cloned(),
                }
            };
            // An asker that went away needs no answer.
            let _ = wish.reply.send(verdict);
        }
    }

    /// True if nobody waits any more.
    fn is_over(&self) -> bool {
        self.doubters.is_empty() && self.wishes.is_empty()
    }
}

impl Worker {
    /// Does what it was asked for since the last turn.
    pub(super) async fn take_commands(&mut self) -> ControlFlow<Stop> {
        for command in self.desk.handle.inbox.take() {
            let now = clock::now();
            match command {
                Command::Suspect { bad, admin, reply } if self.leaves_calls() => {
                    self.pass_doubt(bad.as_ref(), admin, reply, &now);
                }
                Command::Suspect { bad, admin, reply } => {
                    let verdict = self.schedule.suspect(&now, bad.as_ref(), admin);
                    let Some(reply) = reply else { continue };
                    match verdict {
                        Some(verdict) => give(&self.desk.handle.counters, reply, verdict),
                        None => self.waiting().doubters.push(reply),
                    }
                }
                Command::Renew {
                    value,
                    until,
                    reply,
                } if self.leaves_calls() => self.pass_wish(value, until, reply, &now),
                Command::Renew {
                    value,
                    until,
                    reply,
                } => self.want(value, until, reply, &now),
                Command::Quota {
                    clear,
                    admin,
                    reply,
                } => self.want_quota(clear, admin, reply, &now),
                Command::Inspect => self.outputs.inspect(),
                Command::ClockSet => {
                    self.schedule.on_clock_set(&now);
                    self.save(false, &now);
                }
                Command::PlatformChanged => self.schedule.hurry(&now, true),
                Command::Reconfigure(new) => {
                    let ledger = self.shared.ledger(&new.account);
                    self.schedule.reconfigure(new.account.clone(), &now);
                    self.schedule.share(ledger);
                    self.take_seat();
                    self.outputs.reconfigure(new.account, new.sockets).await;
                    self.save(false, &now);
                    self.publish().await;
                    let _ = new.done.send(());
                }
                Command::Stop { remove_outputs } => {
                    return ControlFlow::Break(Stop { remove_outputs });
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Somebody wants a value that lasts.
    pub(super) fn want(
        &mut self,
        value: ValueName,
        until: Moment,
        reply: oneshot::Sender<Verdict>,
        now: &Now,
    ) {
        match self.schedule.wish(now, value, until) {
            // An asker that went away needs no answer.
            Some(verdict) => drop(reply.send(verdict)),
            None => self.waiting().wishes.push(WaitingRefresh {
                value,
                until,
                reply,
            }),
        }
    }

    /// Everybody who waits, and what there is to tell them.
    pub(super) fn waiting(&mut self) -> &mut Waiting {
        self.waiting.get_or_insert_default()
    }

    /// Answers those who wait, now that everything is published.
    pub(super) fn tell_all(&mut self, now: &Now) {
        let Some(mut waiting) = self.waiting.take() else {
            return;
        };
        for (reply, verdict) in waiting.granted.drain(..) {
            // An asker that went away needs no answer.
            let _ = reply.send(verdict);
        }
        if let Some(verdict) = waiting.verdict.take() {
            for reply in std::mem::take(&mut waiting.doubters) {
                give(&self.desk.handle.counters, reply, verdict.clone());
            }
        }
        if let Some((name, error)) = waiting.ended.take() {
            let snapshot = self.desk.handle.snapshot.latest();
            waiting.tell_wishes(name, error.as_ref(), &snapshot, now);
        }
        self.waiting = Some(waiting).filter(|waiting| !waiting.is_over());
    }
}

/// Gives a verdict to somebody who doubted the token, and counts it.
pub(super) fn give(counters: &Counters, reply: oneshot::Sender<Verdict>, verdict: Verdict) {
    let outcome = match verdict {
        Verdict::Superseded => "superseded",
        Verdict::StillValid | Verdict::Verified(_) => "still_valid",
        Verdict::Refreshed => "refreshed",
        Verdict::TooSoon { .. } => "too_soon",
        Verdict::Unavailable { .. } => "unavailable",
    };
    counters.count(Counted::PassiveRefresh(outcome), 1);
    let _ = reply.send(verdict);
}
