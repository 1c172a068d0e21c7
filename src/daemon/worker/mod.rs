//! The task of one account: decide, call, publish, sleep.

mod call;
mod commands;
mod doubts;
mod fleet;
mod orphans;
mod quota;
mod resign;
mod save;
mod wishes;

use super::desk::Desk;
use super::outputs::{Outputs, Sockets};
use super::report::Reporter;
use super::shared::Shared;
use crate::clock;
use crate::fleet::WriteError;
use crate::handle::SnapshotCell;
use crate::platform::Exchange;
use crate::platform::client::{Client, Permit};
use crate::quota::QuotaReport;
use crate::schedule::{Part, Schedule, Step};
use crate::snapshot::{FleetView, OutputState, Snapshot, State};
use crate::time::{Moment, Now};
use commands::Waiting;
use fleet::{FleetDesk, FleetWrite};
use quota::{QuotaAnswer, QuotaDesk};
use save::Saved;
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// While a call is under way the task looks around at least so often.
const LOOK_AROUND: Duration = Duration::from_secs(30);
/// Time that a stopping task waits for its call.
const STOP_GRACE: Duration = Duration::from_secs(4);
/// Time that a call, or a stopping task, waits for the state's disk.
const SAVE_GRACE: Duration = Duration::from_secs(1);
/// A deadline that is never the next one.
const FAR: Duration = Duration::from_secs(86_400);

/// The task of one account.
pub(super) struct Worker {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    schedule: Schedule,
    outputs: Outputs,
    reporter: Reporter,
    under_way: Option<Pin<Box<dyn Future<Output = Arrival> + Send>>>,
    /// The last write of what outlives a restart, until it has ended.
    saving: Option<Pin<Box<dyn Future<Output = Saved> + Send>>>,
    waiting: Option<Box<Waiting>>,
    /// Made when somebody first wants the platform's count.
    quota: Option<Box<QuotaDesk>>,
    fleet: Option<Box<FleetDesk>>,
    /// The last write to the fleet, until it has ended.
    sharing: Option<Pin<Box<dyn Future<Output = FleetWrite> + Send>>>,
    /// Dropped when the token is published, or there is nothing to do about it now.
    unready: Option<mpsc::Sender<()>>,
}

/// An event that a task waits for. The two steps of a call keep a queue of thousands small.
enum Arrival {
    /// It may call.
    Turn(Arc<Client>, Permit),
    /// The call has ended.
    Ended(Box<Exchange>),
    /// The platform's own count came, or did not.
    Counted(QuotaAnswer),
    /// The record is written, or cannot be.
    Saved(Saved),
    /// The fleet's engine has the record, or has not.
    Shared(FleetWrite),
    /// The call was not made: the fleet's engine did not take what has to be written before.
    NotCalled(WriteError),
}

/// A task is to end.
struct Stop {
    remove_outputs: bool,
}

impl Worker {
    /// Begins with outputs that show nothing. `sockets` and `vacant` are as for [`Outputs::new`].
    pub(super) fn new(
        shared: Arc<Shared>,
        schedule: Schedule,
        sockets: Sockets,
        vacant: &[usize],
        unready: mpsc::Sender<()>,
    ) -> (Self, Arc<Desk>) {
        let now = clock::now();
        let account = schedule.account().clone();
        let outputs = account.outputs.iter().map(|_| OutputState::Empty);
        let view = fleet::view_before(shared.fleet.as_ref());
        let snapshot = take_snapshot(&schedule, outputs.collect(), None, view, &now);
        let desk = Desk::new(SnapshotCell::new(snapshot, shared.subscribers.clone()));
        desk.promise.make(now.at);
        let worker = Self {
            fleet: shared.fleet.is_some().then(Box::default),
            outputs: Outputs::new(shared.clone(), account, sockets, vacant, desk.clone()),
            reporter: Reporter::new(),
            shared,
            desk: desk.clone(),
            schedule,
            under_way: None,
            saving: None,
            waiting: None,
            quota: None,
            sharing: None,
            unready: Some(unready),
        };
        (worker, desk)
    }

    /// Runs until it is told to stop.
    pub(super) async fn run(&mut self) {
        self.take_seat();
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
                    self.desk.handle.snapshot.end(remove_outputs);
                    return;
                }
            }
        }
    }

    /// Does all that there is to do now. Says until when to wait then, or that it is to stop.
    async fn take_turn(&mut self, arrival: Option<Arrival>) -> ControlFlow<Stop, Moment> {
        match arrival {
            Some(Arrival::Turn(client, permit)) => self.call(client, permit),
            Some(Arrival::Ended(ended)) => self.on_ended(*ended),
            Some(Arrival::Counted(counted)) => self.on_counted(counted, &clock::now()),
            Some(Arrival::Saved(saved)) => self.on_saved(saved),
            Some(Arrival::Shared(shared)) => self.on_fleet_write(&shared),
            Some(Arrival::NotCalled(error)) => self.on_not_called(&error),
            None => {}
        }
        self.take_commands().await?;
        self.attend();
        let now = self.publish().await;
        let wake = self.plan(&now);
        self.desk.promise.make(wake);
        ControlFlow::Continue(wake)
    }

    /// Waits until something arrives, a command or an answer, or until `wake`.
    async fn wait(&mut self, wake: Moment) -> Option<Arrival> {
        tokio::select! {
            arrival = ended(&mut self.under_way) => Some(arrival),
            saved = ended(&mut self.saving) => Some(Arrival::Saved(saved)),
            shared = ended(&mut self.sharing) => Some(Arrival::Shared(shared)),
            () = self.desk.handle.inbox.arrived() => None,
            () = tokio::time::sleep(clock::now().at.until(wake)) => None,
        }
    }

    /// Begins a call if one is due. Says when to look again at the latest.
    fn plan(&mut self, now: &Now) -> Moment {
        let mut wake = now.at + FAR;
        let due = [
            self.schedule.next_change(now.at),
            self.outputs.next_attempt(),
            self.doubt_until(),
            self.wish_until(),
            self.share_again(now),
        ];
        for moment in due.into_iter().flatten() {
            wake = wake.min(moment);
        }
        if self.under_way.is_some() {
            return wake.min(now.at + LOOK_AROUND);
        }
        if self.begin_quota(now) {
            return wake.min(now.at + LOOK_AROUND);
        }
        match self.schedule.next(now) {
            Step::Sleep(until) => {
                if !self.is_joining() {
                    self.unready = None;
                }
                if self.schedule.is_spent(now) && self.schedule.part() != Part::Follows {
                    let (_, day) = self.schedule.calls();
                    self.reporter.spent(self.schedule.account(), day);
                }
                wake.min(until)
            }
            Step::Call(_) => {
                if let Some(after) = self.calls_after(now) {
                    return wake.min(after);
                }
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

    /// Comes to an end. A call that is under way may have ended the token that is published, so its answer is waited for.
    async fn stop(&mut self, remove_outputs: bool) {
        let under_way = self.under_way.take().filter(|_| !remove_outputs);
        let answer = match under_way {
            Some(under_way) => timeout(STOP_GRACE, under_way).await.ok(),
            None => None,
        };
        let shared = self.shared.clone();
        let _turn = shared.turns.acquire().await;
        // The store has known since the call was sent that it has no answer.
        if let Some(Arrival::Ended(ended)) = answer {
            self.on_ended(*ended);
            self.publish().await;
        }
        if let Some(share) = self.last_share() {
            let _ = timeout(SAVE_GRACE, share).await;
        }
        if let Some(saving) = self.saving.take() {
            let _ = timeout(SAVE_GRACE, saving).await;
        }
        self.outputs.stop(remove_outputs).await;
    }

    /// Brings outputs and snapshot up to date, then answers all who wait.
    async fn publish(&mut self) -> Now {
        let now = clock::now();
        self.schedule.tell(&now);
        self.outputs.publish(&self.schedule.grants(), &now).await;
        self.report(&now);
        self.tell_all(&now);
        now
    }

    fn report(&mut self, now: &Now) {
        let snapshot = take_snapshot(
            &self.schedule,
            self.outputs.states(),
            self.quota.as_ref().and_then(|desk| desk.report.clone()),
            self.fleet.as_ref().and_then(|desk| desk.view.clone()),
            now,
        );
        if self.schedule.standing(now.at).is_some() {
            self.unready = None;
        }
        if self.reporter.state(&snapshot, now) {
            self.shared.changed.notify_one();
        }
        let published = &self.desk.handle.snapshot;
        if snapshot != *published.latest() {
            published.publish(snapshot);
        }
    }
}

/// The result of a future, which is taken out then. Without one it waits for ever.
fn ended<T>(
    future: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>,
) -> impl Future<Output = T> {
    poll_fn(|context| {
        let Some(running) = future else {
            return Poll::Pending;
        };
        let result = ready!(running.as_mut().poll(context));
        *future = None;
        Poll::Ready(result)
    })
}

fn take_snapshot(
    schedule: &Schedule,
    outputs: Box<[OutputState]>,
    quota: Option<Arc<QuotaReport>>,
    fleet: Option<FleetView>,
    now: &Now,
) -> Snapshot {
    let (calls_today, calls_day) = schedule.calls();
    let grants = schedule.grants();
    let valid = grants.iter().filter(|(_, grant)| grant.is_valid(now.at));
    Snapshot {
        account: schedule.account().clone(),
        state: match schedule.state(now.at) {
            State::Fresh if outputs.iter().any(OutputState::is_failed) => State::Degraded,
            state => state,
        },
        valid_values: valid.count(),
        grants,
        next_refresh: match schedule.next(now) {
            // Whoever leads calls.
            _ if schedule.part() == Part::Follows => None,
            Step::Call(_) => Some(now.at),
            Step::Sleep(until) => Some(until),
        },
        fleet,
        last_success: schedule.last_success(),
        calls_today,
        calls_day,
        quota,
        last_error: schedule.last_error(),
        outputs,
    }
}
