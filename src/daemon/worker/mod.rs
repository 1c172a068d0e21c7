//! The task of one account: decide, call, publish, sleep.

mod requests;

use super::desk::Desk;
use super::outputs::Outputs;
use super::report::Reporter;
use super::shared::Shared;
use crate::clock;
use crate::counters::{Counted, Counters};
use crate::handle::SnapshotCell;
use crate::logging::Entry;
use crate::offload::Stopping;
use crate::platform::client::{Client, Permit};
use crate::platform::{Exchange, credential, exchange};
use crate::schedule::{Outcome, Schedule, Step};
use crate::snapshot::{Snapshot, Verdict};
use crate::store::StoreError;
use crate::time::{Moment, Now};
use crate::value::Value;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// While a call is under way the task looks around at least so often.
const LOOK_AROUND: Duration = Duration::from_secs(30);
/// So long a task that is to stop waits for an answer.
const LAST_WORD: Duration = Duration::from_secs(4);
/// A deadline that is never the next one.
const FAR: Duration = Duration::from_secs(86_400);

/// The task of one account.
pub(super) struct Worker {
    shared: Arc<Shared>,
    desk: Desk,
    schedule: Schedule,
    outputs: Outputs,
    reporter: Reporter,
    snapshot: Arc<SnapshotCell>,
    under_way: Option<Pin<Box<dyn Future<Output = Arrival> + Send>>>,
    doubters: Vec<oneshot::Sender<Verdict>>,
    renewals: Vec<requests::Renewal>,
    /// Dropped when the token is published, or there is nothing to do about it now.
    unready: Option<mpsc::Sender<()>>,
}

/// What a task waits for while it calls. The two steps keep a queue of thousands small.
enum Arrival {
    /// It may call.
    Turn(Arc<Client>, Permit),
    /// The call has ended.
    Ended(Box<Exchange>),
}

/// A task is to end.
struct Stop {
    remove_outputs: bool,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        desk: Desk,
        schedule: Schedule,
        outputs: Outputs,
        unready: mpsc::Sender<()>,
    ) -> (Self, Arc<SnapshotCell>) {
        let now = clock::now();
        desk.promise.make(now.at);
        let reporter = Reporter::new(shared.changed.clone());
        let snapshot = take_snapshot(&schedule, &outputs, &now);
        let snapshot = Arc::new(SnapshotCell::new(snapshot, shared.subscribers.clone()));
        let published = snapshot.clone();
        let worker = Self {
            shared,
            desk,
            schedule,
            outputs,
            reporter,
            snapshot,
            under_way: None,
            doubters: Vec::new(),
            renewals: Vec::new(),
            unready: Some(unready),
        };
        (worker, published)
    }

    /// Runs until it is told to stop.
    pub(super) async fn run(&mut self) {
        let shared = self.shared.clone();
        let mut arrival = None;
        loop {
            let turn = shared.turns.acquire().await;
            // In a box that goes when the turn is over: there are thousands of tasks, and nearly all of them wait.
            let flow = Box::pin(self.take_turn(arrival)).await;
            drop(turn);
            match flow {
                ControlFlow::Continue(wake) => arrival = self.wait(wake).await,
                ControlFlow::Break(Stop { remove_outputs }) => {
                    Box::pin(self.stop(remove_outputs)).await;
                    self.snapshot.end(remove_outputs);
                    return;
                }
            }
        }
    }

    /// Does all that there is to do now. Says until when to wait then, or that it is to stop.
    async fn take_turn(&mut self, arrival: Option<Arrival>) -> ControlFlow<Stop, Moment> {
        if let Some(arrival) = arrival {
            self.arrived(arrival).await;
        }
        self.take_requests().await?;
        let now = clock::now();
        self.outputs
            .publish(&self.schedule.grants(), &now, &self.desk.counters)
            .await;
        self.report(&now);
        let wake = self.plan(&now);
        self.desk.promise.make(wake);
        ControlFlow::Continue(wake)
    }

    /// Waits until something arrives, a request or an answer, or until `wake`.
    async fn wait(&mut self, wake: Moment) -> Option<Arrival> {
        let arrival = async {
            match &mut self.under_way {
                Some(future) => future.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            arrival = arrival => {
                self.under_way = None;
                Some(arrival)
            }
            () = self.desk.inbox.arrived() => None,
            () = tokio::time::sleep(clock::now().at.until(wake)) => None,
        }
    }

    /// Begins a call if one is due. Says when to look again at the latest.
    fn plan(&mut self, now: &Now) -> Moment {
        let mut wake = now.at + FAR;
        let due = [
            self.schedule.next_expiry(now.at),
            self.outputs.next_attempt(),
        ];
        for moment in due.into_iter().flatten() {
            wake = wake.min(moment);
        }
        if self.under_way.is_some() {
            return wake.min(now.at + LOOK_AROUND);
        }
        match self.schedule.next(now) {
            Step::Sleep(until) => {
                self.unready = None;
                if self.schedule.is_spent(now) {
                    let (_, day) = self.schedule.calls();
                    self.reporter.spent(self.schedule.account(), day);
                }
                wake.min(until)
            }
            Step::Call(_) => {
                let client = self.shared.client.borrow().clone();
                let kind = self.schedule.account().terms.kind;
                let in_trouble = self
                    .schedule
                    .last_error()
                    .is_some_and(|e| e.errcode.is_none());
                self.under_way = Some(Box::pin(async move {
                    let permit = client.permit(kind, in_trouble).await;
                    Arrival::Turn(client, permit)
                }));
                wake.min(now.at + LOOK_AROUND)
            }
        }
    }

    async fn arrived(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Turn(client, permit) => self.call(client, permit).await,
            Arrival::Ended(ended) => self.ended(*ended).await,
        }
    }

    /// Makes the call that is due, unless none is any more. It is counted before it is made.
    async fn call(&mut self, client: Arc<Client>, permit: Permit) {
        let now = clock::now();
        let Step::Call(call) = self.schedule.next(&now) else {
            return;
        };
        self.schedule.sent(&now, call);
        let saved = self.save(false, &now);
        let account = self.schedule.account().clone();
        let token = self.schedule.token().cloned();
        let look = move || credential(&account, call, token);
        let credential = self.shared.offload.run(look).await;
        self.saved(saved).await;
        // Else the runtime ends.
        let Ok(credential) = credential else { return };
        let account = self.schedule.account().clone();
        self.under_way = Some(Box::pin(async move {
            let ended = exchange(&client, &account, call, credential).await;
            drop(permit);
            Arrival::Ended(Box::new(ended))
        }));
    }

    async fn ended(&mut self, ended: Exchange) {
        let now = clock::now();
        let Exchange {
            call,
            endpoint,
            sent,
            took,
            reached,
            switched,
            answer,
        } = ended;
        if let Some(switched) = switched {
            super::report::host_switched(&switched);
        }
        let account = self.schedule.account().clone();
        match reached {
            0 => self.schedule.not_sent(call),
            // A host failed and another was asked too.
            more => (1..more).for_each(|_| self.schedule.sent(&now, call)),
        }
        let (result, errcode) = match &answer {
            Ok(_) => ("ok", None),
            Err(refusal) if refusal.errcode.is_some() => ("refused", refusal.errcode),
            Err(_) => ("failed", None),
        };
        if reached > 0 {
            self.shared.metrics.observe_call(endpoint, took);
            let counters = &self.desk.counters;
            counters.count(Counted::Call(endpoint, result), reached.into());
            if let Some(errcode) = errcode {
                counters.count(Counted::Refusal(errcode), 1);
            }
            let said = answer
                .as_ref()
                .err()
                .map(|refusal| format!(": {}", refusal.message))
                .unwrap_or_default();
            Entry::of(&account.name).debug(format_args!(
                "{endpoint} {result} in {} ms{said}",
                took.as_millis()
            ));
        }
        let before = self.schedule.token().map(Value::fingerprint);
        let (outcome, verdict) = self.schedule.answered(&now, sent, call, answer);
        self.reporter
            .outcome(&self.schedule, &outcome, before, &now);
        if let Outcome::FoundDead { foreign: true } = outcome {
            Counters::add(&self.desk.counters.superseded);
        }
        let changed = matches!(outcome, Outcome::Granted { changed: true, .. });
        let saved = self.save(changed, &now);
        // Whoever waits reads the value from the snapshot, so that is published first.
        self.outputs
            .publish(&self.schedule.grants(), &now, &self.desk.counters)
            .await;
        self.saved(saved).await;
        self.report(&now);
        if let Some(verdict) = verdict {
            self.tell_doubters(&verdict);
        }
        self.tell_renewals(&outcome, &now);
    }

    /// Comes to an end. What a call that is under way grants may have ended the token that is published, so it is heard out.
    async fn stop(&mut self, remove_outputs: bool) {
        let last_word = match self.under_way.take() {
            Some(under_way) if !remove_outputs => {
                tokio::time::timeout(LAST_WORD, under_way).await.ok()
            }
            _ => None,
        };
        let shared = self.shared.clone();
        let _turn = shared.turns.acquire().await;
        // That a call has no answer was stored when it was sent.
        if let Some(Arrival::Ended(ended)) = last_word {
            self.ended(*ended).await;
        }
        self.outputs.stop(remove_outputs).await;
    }

    fn report(&mut self, now: &Now) {
        let snapshot = take_snapshot(&self.schedule, &self.outputs, now);
        if self.schedule.standing(now.at).is_some() {
            self.unready = None;
        }
        self.reporter.state(&snapshot, now);
        if snapshot != *self.snapshot.latest() {
            self.snapshot.publish(snapshot);
        }
    }

    /// Begins to store what outlives a restart. What is written after it is written later, unless the disk below hangs.
    fn save(
        &self,
        durable: bool,
        now: &Now,
    ) -> impl Future<Output = Result<Result<(), StoreError>, Stopping>> + use<> {
        let store = self.shared.store.clone();
        let account = self.schedule.account().clone();
        let (record, now) = (self.schedule.record(), *now);
        let save = move || store.save(&account.name, &record, durable, &now);
        self.shared.offload.run(save)
    }

    async fn saved(
        &mut self,
        saved: impl Future<Output = Result<Result<(), StoreError>, Stopping>>,
    ) {
        if let Ok(saved) = saved.await {
            self.reporter.saved(&self.schedule.account().name, saved);
        }
    }
}

fn take_snapshot(schedule: &Schedule, outputs: &Outputs, now: &Now) -> Snapshot {
    let (calls_today, calls_day) = schedule.calls();
    let grants = schedule.grants();
    let valid = grants.iter().filter(|(_, grant)| grant.is_valid(now.at));
    Snapshot {
        account: schedule.account().clone(),
        state: outputs.weaken(schedule.state(now.at)),
        valid_values: valid.count(),
        grants,
        next_refresh: Some(match schedule.next(now) {
            Step::Call(_) => now.at,
            Step::Sleep(until) => until,
        }),
        last_success: schedule.last_success(),
        calls_today,
        calls_day,
        last_error: schedule.last_error(),
        outputs: outputs.states(),
    }
}
