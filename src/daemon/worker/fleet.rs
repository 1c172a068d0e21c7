//! The account's place in a fleet: it leads and shares, or follows what another host shares.

use super::Worker;
use super::resign::Resigning;
use super::wishes::WishDesk;
use crate::account::SecretSource;
use crate::call::Call;
use crate::clock;
use crate::daemon::report;
use crate::fleet::{BadRecord, EngineState, Fleet, Look, Term, WriteError};
use crate::schedule::{Part, Record};
use crate::seal::KeyId;
use crate::snapshot::FleetView;
use crate::time::{Moment, Now};
use crate::value::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Wait after a write that was not made.
const SHARE_AGAIN: Duration = Duration::from_secs(1);
/// A host leaves the account to the others for so long where the fleet's record is of no use here.
const REST_BARRED: Duration = Duration::from_secs(60);

/// The memory of a task about its fleet. Only a host of a fleet has one.
#[derive(Default)]
pub(super) struct FleetDesk {
    /// The term in which this host leads, or led last.
    pub(super) term: Option<Term>,
    /// The term in which the call under way was begun.
    pub(super) call_term: Option<Term>,
    /// The record that was last read.
    seen: Option<(u32, i64)>,
    /// There is something that the others do not know.
    pub(super) unshared: bool,
    /// The key that the fleet's record was last encrypted with by this host.
    sealed_with: Option<KeyId>,
    /// No write before.
    share_after: Option<Moment>,
    /// The orphan that was taken. It is seen until its removal is.
    pub(super) orphan: Option<Value>,
    /// The orphan was taken: the next write removes it.
    pub(super) drop_orphan: bool,
    /// An answer that came too late, until it is left to whoever leads.
    pub(super) late: Option<(Term, Box<Record>)>,
    pub(super) resigning: Resigning,
    /// The trouble with the fleet's record that was told, and since when there is one.
    told: Option<(BadRecord, Moment)>,
    pub(super) doubt: Option<(i64, Moment)>,
    /// The doubts of other hosts that were looked at, by their lease.
    pub(super) judged: BTreeMap<i64, i64>,
    pub(super) wishes: WishDesk,
    pub(super) view: Option<FleetView>,
}

/// The result of a write.
pub(super) type FleetWrite = Result<(), WriteError>;

impl Worker {
    /// The memory of the fleet, in code that runs only where there is one.
    pub(super) fn fleet_desk(&mut self) -> &mut FleetDesk {
        self.fleet.get_or_insert_default()
    }

    /// Sees who leads, and takes what is shared.
    pub(super) fn attend(&mut self) {
        let Some(fleet) = self.shared.fleet.clone() else {
            return;
        };
        let now = clock::now();
        let name = self.schedule.account().name.clone();
        let look = fleet.look(&name, now.at);
        match (&look.engine, look.term) {
            (EngineState::Present, Some(term)) => {
                if self.fleet_desk().sealed_with != look.key {
                    self.fleet_desk().sealed_with = look.key;
                    self.fleet_desk().unshared = true;
                }
                self.lead(&fleet, term, &now);
            }
            (EngineState::Present | EngineState::Joining, _) => self.follow(&fleet, &look, &now),
            (EngineState::Away { since, .. }, _) => self.cut_off(&fleet, *since, &now),
        }
        self.take_verdict(&fleet, &now);
        self.take_granted(&fleet, &now);
        fleet.note_holding(&name, self.schedule.stands(now.at));
        let view = FleetView {
            leads: look.term.is_some() && look.engine == EngineState::Present,
            leader: look.leader,
            is_joining: look.engine == EngineState::Joining,
            is_away: matches!(look.engine, EngineState::Away { .. }),
        };
        let is_other = self.fleet_desk().view.as_ref().is_some_and(|before| {
            before.leader.as_ref().map(|(host, _)| host)
                != view.leader.as_ref().map(|(host, _)| host)
        });
        if is_other && let Some((host, _)) = &view.leader {
            report::leader(self.schedule.account(), host, view.leads);
            self.shared.changed.notify_one();
        }
        self.fleet_desk().view = Some(view);
    }

    /// Goes on without the others.
    fn cut_off(&mut self, fleet: &Fleet, since: Moment, now: &Now) {
        let has_secret = self.schedule.account().secret != SecretSource::Absent;
        let part = Part::Cut {
            since,
            may_call: fleet.may_lead() && has_secret,
        };
        self.schedule.set_part(part, now);
    }

    fn lead(&mut self, fleet: &Fleet, term: Term, now: &Now) {
        if self.fleet_desk().term == Some(term) {
            self.schedule.set_part(Part::Leads, now);
        } else if self.begin_term(fleet, term, now).is_err() {
            return;
        }
        if !self.fleet_desk().drop_orphan {
            self.take_orphan(fleet, now);
        }
        self.look_at_doubts(fleet, now);
        self.look_at_wishes(fleet, now);
        let may_share = self
            .fleet_desk()
            .share_after
            .is_none_or(|after| now.at >= after);
        if self.fleet_desk().unshared && may_share && self.is_idle() {
            self.share(fleet, term, now);
        }
    }

    /// Begins to lead: goes on from the fleet's record, or from its own where that is newer.
    fn begin_term(&mut self, fleet: &Fleet, term: Term, now: &Now) -> Result<(), ()> {
        let account = self.schedule.account().clone();
        let (shared, hold) = match fleet.record(&account, now) {
            Some(Err(BadRecord::ClockUnknown)) => return Err(()),
            Some(Err(bad)) if bad != BadRecord::Damaged => {
                fleet.resign(&account.name, term, REST_BARRED);
                self.tell_bad(bad, now);
                return Err(());
            }
            Some(Ok(opened)) => (Some(opened.record), opened.call_until),
            // Whoever leads writes back what it holds.
            Some(Err(_)) | None => (None, None),
        };
        self.schedule.begin_term(shared, hold, now);
        let desk = self.fleet_desk();
        desk.term = Some(term);
        desk.seen = None;
        desk.told = None;
        desk.orphan = None;
        desk.drop_orphan = false;
        desk.resigning.is_due = false;
        desk.unshared = true;
        desk.judged.clear();
        desk.wishes.judged.clear();
        Ok(())
    }

    fn follow(&mut self, fleet: &Fleet, look: &Look, now: &Now) {
        match self.fleet_desk().told {
            // What the others share is of no use here.
            Some((_, since)) => self.cut_off(fleet, since, now),
            None => self.schedule.set_part(Part::Follows, now),
        }
        if look.engine == EngineState::Joining {
            return;
        }
        if let Some(term) = self.fleet_desk().term.take()
            && self.schedule.is_unshared()
            && self.schedule.account().terms().overlap().is_some()
        {
            self.fleet_desk().late = Some((term, Box::new(self.schedule.record())));
        }
        let account = self.schedule.account().clone();
        if let Some((term, record)) = self.fleet_desk().late.take() {
            let (fleet, account) = (fleet.clone(), account.clone());
            tokio::spawn(async move {
                // It cannot be had a second time; without it, whoever leads fetches another one.
                let _ = fleet.leave_orphan(&account, term, &record).await;
            });
        }
        if look.record.is_some() && look.record != self.fleet_desk().seen {
            let record = fleet.record(&account, now);
            if matches!(record, Some(Err(BadRecord::ClockUnknown))) {
                return;
            }
            self.fleet_desk().seen = look.record;
            match record {
                Some(Ok(opened)) => {
                    self.fleet_desk().told = None;
                    self.schedule.follow(opened.record, now);
                    self.save_here(now);
                }
                Some(Err(bad)) => self.tell_bad(bad, now),
                None => {}
            }
        }
    }

    fn tell_bad(&mut self, bad: BadRecord, now: &Now) {
        let told = self.fleet_desk().told.as_ref();
        if told.is_none_or(|(told, _)| *told != bad) {
            report::bad_record(self.schedule.account(), &bad);
            self.fleet_desk().told = Some((bad, now.at));
        }
    }

    /// True if no call and no write is under way that an older record could overtake.
    pub(super) fn is_idle(&self) -> bool {
        self.sharing.is_none() && self.under_way.is_none()
    }

    fn share(&mut self, fleet: &Fleet, term: Term, now: &Now) {
        self.fleet_desk().unshared = false;
        let (fleet, account) = (fleet.clone(), self.schedule.account().clone());
        let record = self.schedule.record_to_share(now);
        let drop_orphan = self.fleet_desk().drop_orphan;
        self.sharing = Some(Box::pin(async move {
            fleet.share(&account, term, &record, drop_orphan).await
        }));
    }

    /// The moment to share again what a write that failed has left unshared.
    pub(super) fn share_again(&self, now: &Now) -> Option<Moment> {
        let desk = self.fleet.as_ref().filter(|desk| desk.unshared)?;
        let again = desk.share_after.filter(|after| now.at < *after);
        again.filter(|_| self.schedule.part() == Part::Leads)
    }

    /// There is something new to share, where there is a fleet.
    pub(super) fn note_unshared(&mut self) {
        if let Some(desk) = &mut self.fleet {
            desk.unshared = true;
        }
    }

    pub(super) fn on_fleet_write(&mut self, shared: &FleetWrite) {
        let now = clock::now();
        match shared {
            Ok(()) => {
                self.fleet_desk().drop_orphan = false;
                self.fleet_desk().share_after = None;
                if !self.fleet_desk().unshared {
                    self.schedule.on_shared(&now);
                    self.resign_if_due();
                }
            }
            Err(WriteError::NotLeader) => self.fleet_desk().seen = None,
            Err(WriteError::Away(_)) => {
                self.fleet_desk().unshared = true;
                self.fleet_desk().share_after = Some(now.at + SHARE_AGAIN);
            }
        }
    }

    /// True if a term has not ended.
    pub(super) fn still_leads(&self, term: Term, now: &Now) -> bool {
        let name = &self.schedule.account().name;
        let fleet = self.shared.fleet.as_ref();
        fleet.is_some_and(|fleet| fleet.look(name, now.at).term == Some(term))
    }

    /// The write that has to be made before a call, and true if the call must end with the lease.
    pub(super) fn intent(
        &mut self,
        call: Call,
        limit: Duration,
    ) -> Option<(
        impl Future<Output = Result<Moment, WriteError>> + Send + use<>,
        bool,
    )> {
        let fleet = self.shared.fleet.clone()?;
        self.fleet_desk().call_term = self.calling_term();
        let term = self.fleet_desk().call_term?;
        let (account, record) = (self.schedule.account().clone(), self.schedule.record());
        let is_limited = call.is_token() && account.terms().overlap().is_some();
        let limit = if is_limited {
            limit.min(fleet.lease())
        } else {
            limit
        };
        let intent = async move { fleet.intend(&account, term, &record, limit).await };
        Some((intent, is_limited))
    }

    /// The account takes part in the fleet.
    pub(super) fn take_seat(&self) {
        if let Some(fleet) = &self.shared.fleet {
            let holds = self.schedule.stands(clock::now().at);
            fleet.seat(
                self.schedule.account(),
                self.desk.handle.inbox.clone(),
                holds,
            );
        }
    }

    /// The term under which the next call is made: `None` for a host that is alone or cut off.
    pub(super) fn calling_term(&self) -> Option<Term> {
        let desk = self.fleet.as_ref()?;
        desk.term.filter(|_| self.schedule.part() == Part::Leads)
    }

    /// The moment before which no call may begin: a write is under way, or the last one was not made.
    pub(super) fn calls_after(&self, now: &Now) -> Option<Moment> {
        let leads = self.schedule.part() == Part::Leads;
        let desk = self.fleet.as_ref().filter(|_| leads)?;
        let after = desk.share_after.filter(|after| *after > now.at);
        if self.sharing.is_some() || desk.unshared {
            return Some(after.unwrap_or(now.at + SHARE_AGAIN));
        }
        after
    }

    pub(super) fn on_not_called(&mut self, error: &WriteError) {
        let now = clock::now();
        self.schedule.on_not_called();
        self.fleet_desk().share_after = Some(now.at + SHARE_AGAIN);
        if *error == WriteError::NotLeader {
            self.fleet_desk().seen = None;
        }
    }

    /// The last write of a task that stops.
    pub(super) fn last_share(&mut self) -> Option<impl Future<Output = FleetWrite> + use<>> {
        let fleet = self.shared.fleet.clone()?;
        let term = self.calling_term()?;
        let (account, record) = (self.schedule.account().clone(), self.schedule.record());
        self.fleet_desk()
            .unshared
            .then_some(async move { fleet.share(&account, term, &record, false).await })
    }

    /// True while it is not known yet what part this host has.
    pub(super) fn is_joining(&self) -> bool {
        let Some(desk) = &self.fleet else {
            return false;
        };
        let Some(view) = &desk.view else {
            return true;
        };
        let is_led = view.leads || (view.leader.is_some() && desk.seen.is_some());
        view.is_joining || (!view.is_away && !is_led)
    }
}

/// Begins with a part that makes no call.
pub(super) fn view_before(fleet: Option<&Fleet>) -> Option<FleetView> {
    fleet.map(|_| FleetView {
        leads: false,
        leader: None,
        is_joining: true,
        is_away: false,
    })
}
