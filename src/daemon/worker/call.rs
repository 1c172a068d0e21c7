//! A call of one account, from its turn to its answer.

use super::{Arrival, SAVE_GRACE, Worker};
use crate::call::Refusal;
use crate::clock;
use crate::counters::{Counted, Counters};
use crate::daemon::report;
use crate::logging::Entry;
use crate::platform::client::{Client, Permit};
use crate::platform::{Exchange, credential, exchange};
use crate::schedule::{Outcome, Step};
use crate::value::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Limit for reading the file of an AppSecret.
const SECRET_LIMIT: Duration = Duration::from_secs(5);

impl Worker {
    /// Makes the call that is due, unless none is any more. It is counted, and what is known of the token stored, before it is
    /// made: but a state disk that hangs keeps no token from being replaced for longer than [`SAVE_GRACE`]. What was to be
    /// stored goes first once it answers. If the daemon is killed before, the next one goes on from the suspicion: it hands
    /// the token out until it has asked.
    pub(super) fn call(&mut self, client: Arc<Client>, permit: Permit) {
        let now = clock::now();
        let Step::Call(call) = self.schedule.next(&now) else {
            return;
        };
        self.schedule.on_sent(&now, call);
        let saving = self.write(false, &now);
        let intent = self.intent(call, client.timeout());
        let account = self.schedule.account().clone();
        let token = self.schedule.token().cloned();
        let look = {
            let account = account.clone();
            move || credential(&account, call, token)
        };
        let credential = self.shared.secrets(&account).run(look);
        self.under_way = Some(Box::pin(async move {
            // A failure to store is told with the next answer, which is stored too.
            let _ = timeout(SAVE_GRACE, saving).await;
            let until = match intent {
                None => None,
                Some((intent, is_limited)) => match intent.await {
                    Ok(until) => Some(until).filter(|_| is_limited),
                    Err(error) => return Arrival::NotCalled(error),
                },
            };
            let credential = match timeout(SECRET_LIMIT, credential).await {
                Ok(Ok(credential)) => credential,
                // The daemon stops.
                Ok(Err(_)) => return std::future::pending().await,
                Err(_) => Err(Refusal::local(
                    "the file of the AppSecret does not answer",
                    "look at the disk, mount or network below it; no reload is needed",
                )),
            };
            let ended = exchange(&client, &account, call, credential, until).await;
            drop(permit);
            Arrival::Ended(Box::new(ended))
        }));
    }

    pub(super) fn on_ended(&mut self, ended: Exchange) {
        let now = clock::now();
        let refusal = ended.answer.as_ref().err();
        self.count(ended.endpoint, ended.took, ended.reached, refusal);
        let call_term = self.fleet.as_mut().and_then(|desk| desk.call_term.take());
        if let Some(term) = call_term
            && !self.still_leads(term, &now)
        {
            self.on_late(&ended, term, &now);
            return;
        }
        if let Some(switched) = &ended.switched {
            report::host_switched(switched);
        }
        match ended.reached {
            0 => self.schedule.on_unsent(),
            // A host failed and another was asked too.
            more => self.schedule.on_sent_again(&now, more - 1),
        }
        let before = self.schedule.token().map(Value::fingerprint);
        let (outcome, verdict) =
            self.schedule
                .on_answer(&now, ended.sent, ended.call, ended.answer);
        self.reporter
            .on_outcome(&self.schedule, &outcome, before, &now);
        if let Outcome::FoundDead { foreign: true } = outcome {
            Counters::add(&self.desk.handle.counters.superseded);
        }
        self.consider_resigning(&outcome, &now);
        let is_durable = matches!(
            outcome,
            Outcome::Granted { changed: true, .. } | Outcome::FoundDead { .. }
        );
        self.save(is_durable, &now);
        self.waiting().on_outcome(outcome, verdict);
    }

    /// Counts a call for metrics, and logs it.
    pub(super) fn count(
        &self,
        endpoint: &'static str,
        took: Duration,
        reached: u32,
        refusal: Option<&Refusal>,
    ) {
        if reached == 0 {
            return;
        }
        let errcode = refusal.and_then(|refusal| refusal.errcode);
        let result = match (refusal, errcode) {
            (None, _) => "ok",
            (Some(_), Some(_)) => "refused",
            (Some(_), None) => "failed",
        };
        self.shared.metrics.observe_call(endpoint, took);
        let counters = &self.desk.handle.counters;
        counters.count(Counted::Call(endpoint, result), reached.into());
        if let Some(errcode) = errcode {
            counters.count(Counted::Refusal(errcode), 1);
        }
        let message = refusal.map(|refusal| format!(": {}", refusal.message));
        Entry::of(&self.schedule.account().name).debug(format_args!(
            "{endpoint} {result} in {} ms{}",
            took.as_millis(),
            message.unwrap_or_default()
        ));
    }
}
