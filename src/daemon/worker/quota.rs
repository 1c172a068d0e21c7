//! The platform's own count of an account's calls: asked for when somebody wants it, at most once a minute.

use super::{Arrival, Worker};
use crate::call::Call;
use crate::platform::counts::{clear_counts, show_counts};
use crate::platform::{Credential, credential};
use crate::quota::{EndpointCount, NoQuota, QuotaReport};
use crate::time::{Moment, Now};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Shortest time between two questions, and between two clearings.
const EVERY: Duration = Duration::from_secs(60);

type QuotaReply = oneshot::Sender<Result<Arc<QuotaReport>, NoQuota>>;

/// The wishes for the platform's count, and the last one.
#[derive(Default)]
pub(super) struct QuotaDesk {
    wishes: Vec<QuotaReply>,
    /// True if a wish is that the counts are cleared.
    clear: bool,
    asked: Option<Moment>,
    cleared: Option<Moment>,
    /// The platform's day of the last clearing, and our count then.
    before_clearing: (i64, u32),
    pub(super) report: Option<Arc<QuotaReport>>,
}

/// The platform's answer, and whether its counts were cleared.
pub(super) struct QuotaAnswer {
    cleared: bool,
    counts: Result<Vec<EndpointCount>, NoQuota>,
}

impl Worker {
    /// Somebody wants the platform's count, perhaps cleared.
    pub(super) fn want_quota(&mut self, clear: bool, reply: QuotaReply, now: &Now) {
        if self
            .shared
            .fleet
            .as_ref()
            .is_some_and(|fleet| !fleet.may_lead())
        {
            let _ = reply.send(Err(NoQuota::Follower));
            return;
        }
        let desk = &mut self.quota;
        let last = if clear { desk.cleared } else { desk.asked };
        let answer = match (last.map(|last| last + EVERY), &desk.report) {
            (Some(next), Some(report)) if now.at < next && !clear => Ok(report.clone()),
            (Some(next), _) if now.at < next => Err(NoQuota::TooSoon(next)),
            _ => {
                desk.clear |= clear;
                desk.wishes.push(reply);
                return;
            }
        };
        // An asker that went away needs no answer.
        let _ = reply.send(answer);
    }

    /// Asks the platform, if somebody wants it and no other call is under way.
    pub(super) fn begin_quota(&mut self, now: &Now) -> bool {
        if self.quota.wishes.is_empty() {
            return false;
        }
        let token = self
            .schedule
            .standing(now.at)
            .map(|grant| grant.value.clone());
        let clear = std::mem::take(&mut self.quota.clear);
        if token.is_none() && !clear {
            self.answer_quota(&Err(NoQuota::NoToken));
            return false;
        }
        self.quota.asked = Some(now.at);
        if clear {
            self.quota.cleared = Some(now.at);
        }
        let account = self.schedule.account().clone();
        let client = self.shared.client.borrow().clone();
        let of_file = account.clone();
        let secret = self
            .shared
            .secrets(&account)
            .run(move || credential(&of_file, Call::Token, None));
        self.under_way = Some(Box::pin(async move {
            let _permit = client.permit(account.terms.kind, false).await;
            let cleared = if clear {
                match secret.await {
                    Ok(Ok(Credential::Secret(secret))) => {
                        clear_counts(&client, &account, &secret).await
                    }
                    Ok(Err(refusal)) => Err(NoQuota::Refused(Box::new(refusal))),
                    // The runtime ends.
                    Ok(Ok(Credential::Token(_))) | Err(_) => Err(NoQuota::NotThere),
                }
            } else {
                Ok(())
            };
            let is_cleared = clear && cleared.is_ok();
            let counts = match (cleared, token) {
                (Err(error), _) => Err(error),
                (Ok(()), Some(token)) => show_counts(&client, &account, &token).await,
                (Ok(()), None) => Ok(Vec::new()),
            };
            Arrival::Counted(QuotaAnswer {
                cleared: is_cleared,
                counts,
            })
        }));
        true
    }

    /// Takes the platform's answer.
    pub(super) fn on_counted(&mut self, counted: QuotaAnswer, now: &Now) {
        let (calls, day) = self.schedule.calls();
        let calls_today = if day == now.platform_day() { calls } else { 0 };
        if counted.cleared {
            self.quota.before_clearing = (now.platform_day(), calls_today);
            // Calls that the quota held back may be made again.
            self.schedule.hurry(now, true);
        }
        let (cleared_day, before) = self.quota.before_clearing;
        let answer = counted.counts.map(|endpoints| {
            Arc::new(QuotaReport {
                at: now.at,
                day: now.platform_day(),
                endpoints,
                calls_today,
                cleared_after: if cleared_day == now.platform_day() {
                    before
                } else {
                    0
                },
            })
        });
        if let Ok(report) = &answer {
            self.quota.report = Some(report.clone());
        }
        self.answer_quota(&answer);
    }

    fn answer_quota(&mut self, answer: &Result<Arc<QuotaReport>, NoQuota>) {
        for reply in std::mem::take(&mut self.quota.wishes) {
            let _ = reply.send(answer.clone());
        }
    }
}
