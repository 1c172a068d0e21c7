//! What an account is asked to do, and who is told what came of it.

use super::{Stop, Worker};
use crate::clock;
use crate::counters::Counted;
use crate::handle::Command;
use crate::schedule::Outcome;
use crate::snapshot::Verdict;
use crate::time::{Moment, Now};
use crate::value::ValueName;
use std::ops::ControlFlow;
use tokio::sync::oneshot;

/// Somebody who waits for a value that lasts.
pub(super) struct Renewal {
    value: ValueName,
    until: Moment,
    reply: oneshot::Sender<Verdict>,
}

impl Worker {
    /// Does what it was asked for since the last turn.
    pub(super) async fn take_requests(&mut self) -> ControlFlow<Stop> {
        for request in self.desk.inbox.take() {
            let now = clock::now();
            match request {
                Command::Suspect { bad, admin, reply } => {
                    let verdict = self.schedule.suspect(&now, bad.as_ref(), admin);
                    let Some(reply) = reply else { continue };
                    match verdict {
                        Some(verdict) => {
                            self.count_passive(&verdict);
                            // An asker that went away needs no answer.
                            let _ = reply.send(verdict);
                        }
                        None => self.doubters.push(reply),
                    }
                }
                Command::Renew {
                    value,
                    until,
                    reply,
                } => match self.schedule.renew(&now, value, until) {
                    Some(verdict) => drop(reply.send(verdict)),
                    None => self.renewals.push(Renewal {
                        value,
                        until,
                        reply,
                    }),
                },
                Command::Inspect => self.outputs.inspect(),
                Command::Reconfigure(new) => {
                    self.schedule.reconfigure(new.account.clone(), &now);
                    self.outputs.reconfigure(new.account, new.sockets).await;
                    self.outputs
                        .publish(&self.schedule.grants(), &now, &self.desk.counters)
                        .await;
                    let saved = self.save(false, &now);
                    self.saved(saved).await;
                    self.report(&now);
                    let _ = new.done.send(());
                }
                Command::Stop { remove_outputs } => {
                    return ControlFlow::Break(Stop { remove_outputs });
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Answers all who doubted the token.
    pub(super) fn tell_doubters(&mut self, verdict: &Verdict) {
        for reply in std::mem::take(&mut self.doubters) {
            self.count_passive(verdict);
            let _ = reply.send(verdict.clone());
        }
    }

    fn count_passive(&self, verdict: &Verdict) {
        let outcome = match verdict {
            Verdict::Superseded => "superseded",
            Verdict::StillValid => "still_valid",
            Verdict::Refreshed => "refreshed",
            Verdict::TooSoon { .. } => "too_soon",
            Verdict::Unavailable { .. } => "unavailable",
        };
        let counters = &self.desk.counters;
        counters.count(Counted::PassiveRefresh(outcome), 1);
    }

    /// Answers those who wait for a value that lasts, if this is about theirs.
    pub(super) fn tell_renewals(&mut self, outcome: &Outcome, now: &Now) {
        let (name, error) = match outcome {
            Outcome::Granted { name, .. } => (*name, None),
            Outcome::Failed { name, error, .. } => (*name, Some(error)),
            _ => return,
        };
        let snapshot = self.snapshot.latest();
        for renewal in std::mem::take(&mut self.renewals) {
            if renewal.value != name {
                self.renewals.push(renewal);
                continue;
            }
            let long_enough = snapshot
                .valid(name, now.at)
                .is_some_and(|grant| grant.expires >= renewal.until);
            let verdict = if long_enough {
                Verdict::Refreshed
            } else {
                let retry_at = snapshot.next_refresh.unwrap_or(now.at);
                Verdict::Unavailable {
                    retry_at,
                    error: error.cloned(),
                }
            };
            let _ = renewal.reply.send(verdict);
        }
    }
}
