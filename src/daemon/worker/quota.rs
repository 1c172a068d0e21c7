//! The platform's own count of an account's calls: asked for when somebody wants it, at most once a minute.

use super::{Arrival, SAVE_GRACE, Worker};
use crate::call::Call;
use crate::platform::counts::{CountCall, CountQuestions};
use crate::platform::{Credential, credential};
use crate::quota::{EndpointCount, NoQuota, QuotaReport};
use crate::time::{Moment, Now};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

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
    pub(super) report: Option<Arc<QuotaReport>>,
}

/// The platform's answer, and whether its counts were cleared.
pub(super) struct QuotaAnswer {
    cleared: bool,
    counts: Result<Vec<EndpointCount>, NoQuota>,
    /// The number of requests that were counted before they were made, and all that were.
    planned: u32,
    calls: Vec<CountCall>,
}

impl Worker {
    /// Somebody wants the platform's count, perhaps cleared.
    pub(super) fn want_quota(&mut self, clear: bool, admin: bool, reply: QuotaReply, now: &Now) {
        if self
            .shared
            .fleet
            .as_ref()
            .is_some_and(|fleet| !fleet.may_lead())
        {
            let _ = reply.send(Err(NoQuota::Follower));
            return;
        }
        let desk = self.quota.get_or_insert_default();
        let last = if clear { desk.cleared } else { desk.asked };
        // Readers may ask all day, and leave the calls that are left to what needs them.
        let is_short = !admin && !self.schedule.may_ask_counts(now);
        let next = last.map_or(now.at, |last| last + EVERY);
        let next = if is_short {
            next.max(now.at + EVERY)
        } else {
            next
        };
        let answer = match &desk.report {
            Some(report) if now.at < next && !clear => Ok(report.clone()),
            _ if now.at < next => Err(NoQuota::TooSoon(next)),
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
        let Some(desk) = self.quota.as_mut().filter(|desk| !desk.wishes.is_empty()) else {
            return false;
        };
        let token = self
            .schedule
            .standing(now.at)
            .map(|grant| grant.value.clone());
        let clear = std::mem::take(&mut desk.clear);
        if token.is_none() && !clear {
            self.answer_quota(&Err(NoQuota::NoToken));
            return false;
        }
        desk.asked = Some(now.at);
        if clear {
            desk.cleared = Some(now.at);
        }
        let account = self.schedule.account().clone();
        let client = self.shared.client.borrow().clone();
        let of_file = account.clone();
        let secret = self
            .shared
            .secrets(&account)
            .run(move || credential(&of_file, Call::Token, None));
        let shown = CountQuestions::new(&client, &account).planned();
        let planned = u32::from(clear) + if token.is_some() { shown } else { 0 };
        self.schedule.on_counts_asked(now, planned);
        let saving = self.write(false, now);
        self.under_way = Some(Box::pin(async move {
            let _ = timeout(SAVE_GRACE, saving).await;
            let _permit = client.permit(account.terms.kind, false).await;
            let mut questions = CountQuestions::new(&client, &account);
            let cleared = if clear {
                match secret.await {
                    Ok(Ok(Credential::Secret(secret))) => questions.clear(&secret).await,
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
                (Ok(()), Some(token)) => questions.show(&token).await,
                (Ok(()), None) => Ok(Vec::new()),
            };
            let calls = questions.ended;
            Arrival::Counted(QuotaAnswer {
                cleared: is_cleared,
                counts,
                planned,
                calls,
            })
        }));
        true
    }

    /// Takes the platform's answer.
    pub(super) fn on_counted(&mut self, counted: QuotaAnswer, now: &Now) {
        let mut reached = 0;
        for call in &counted.calls {
            self.count(
                call.endpoint,
                call.took,
                call.reached,
                call.refusal.as_ref(),
            );
            reached += call.reached;
        }
        self.schedule
            .on_counts_answered(now, counted.planned, reached, counted.cleared);
        self.save(counted.cleared, now);
        let answer = counted.counts.map(|endpoints| {
            Arc::new(QuotaReport {
                at: now.at,
                day: now.platform_day(),
                endpoints,
                calls_today: self.schedule.calls_today(now),
                listed_today: self.schedule.calls_listed(now),
            })
        });
        if let Ok(report) = &answer {
            self.quota.get_or_insert_default().report = Some(report.clone());
        }
        self.answer_quota(&answer);
    }

    fn answer_quota(&mut self, answer: &Result<Arc<QuotaReport>, NoQuota>) {
        let wishes = self.quota.as_mut().map(|desk| &mut desk.wishes);
        for reply in wishes.map(std::mem::take).unwrap_or_default() {
            let _ = reply.send(answer.clone());
        }
    }
}
