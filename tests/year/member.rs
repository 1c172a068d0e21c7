//! A host of a fleet, as a member of it and as the task of an account: what the daemon does around the policy, without I/O.

use super::engine::{EngineKeys, LEASE, YearTerm, YearWrite};
use super::host::YearHost;
use super::platform::SECOND;
use fastrand::Rng;
use std::sync::Arc;
use std::time::Duration;
use wxtokend::account::Account;
use wxtokend::call::{Answer, Call, Refusal};
use wxtokend::schedule::{Outcome, Part, Record, Schedule, Step, StoredGrant};
use wxtokend::time::{End, Moment};
use wxtokend::trouble::Class;
use wxtokend::value::ValueName;

/// A leader stops so long before its lease may end.
const MARGIN: i64 = SECOND;
/// Wait after a write that was not made.
const SHARE_AGAIN: Duration = Duration::from_secs(1);
/// A host without a value leaves an empty record to those that hold one.
const OTHERS_FIRST: i64 = 1500;
/// A host that rests leads after this if nobody else does.
const OTHERS_LIMIT: i64 = 3 * SECOND;
const REST_FIRST: i64 = 15 * SECOND;
const REST_LONGEST: i64 = 300 * SECOND;
/// Limit on a call.
const CALL_LIMIT: i64 = 10 * SECOND;

/// The engine as a host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Joining,
    Present,
    Away { since: Moment },
}

/// Something that a host asks of the network.
#[derive(Debug)]
pub(crate) enum MemberAct {
    /// Tries to lead.
    Campaign(i64),
    /// Shares the record, and is told what became of it.
    Share(YearWrite),
    /// Writes that a call is about to be made, and is told.
    Intend(YearWrite),
    /// Writes, and waits for no answer.
    Leave(YearWrite),
    /// Calls the platform. The answer counts until then.
    Call(Call, i64),
}

/// The result of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteEnd {
    Done,
    NotLeader,
    Away,
}

/// A call from the moment when it is decided.
#[derive(Debug, Clone, Copy)]
struct MemberCall {
    call: Call,
    /// The term that it is made in; nothing where the host is cut off.
    term: Option<YearTerm>,
    sent: Moment,
}

/// A daemon that runs.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says of one thing whether it is under way or owed"
)]
pub(crate) struct FleetMember {
    pub(crate) schedule: Schedule,
    pub(crate) reach: Reach,
    pub(crate) lease: Option<i64>,
    /// Since when the lease is not kept alive.
    pub(crate) neglected: Option<i64>,
    pub(crate) view: EngineKeys,
    pub(crate) is_campaigning: bool,
    term: Option<YearTerm>,
    pub(crate) seen: Option<i64>,
    unshared: bool,
    share_after: Option<Moment>,
    sharing: bool,
    drop_orphan: bool,
    late: Option<Record>,
    resigns: bool,
    rest: Option<i64>,
    failures: u32,
    rests_until: i64,
    vacant_since: Option<i64>,
    flight: Option<MemberCall>,
    acts: Vec<MemberAct>,
}

impl FleetMember {
    /// Starts from what the host stored.
    pub(crate) fn start(account: &Arc<Account>, host: &YearHost, rng: Rng) -> Self {
        let now = host.now();
        let part = Part::Follows;
        let schedule = Schedule::restored(account.clone(), host.load(), &now, rng, part);
        Self {
            schedule,
            reach: Reach::Joining,
            lease: None,
            neglected: None,
            view: EngineKeys::default(),
            is_campaigning: false,
            term: None,
            seen: None,
            unshared: false,
            share_after: None,
            sharing: false,
            drop_orphan: false,
            late: None,
            resigns: false,
            rest: None,
            failures: 0,
            rests_until: 0,
            vacant_since: None,
            flight: None,
            acts: Vec::new(),
        }
    }

    /// The term in which this host leads, as far as it knows.
    pub(crate) fn leads(&self, truth: i64) -> Option<YearTerm> {
        let leader = self.view.leader?;
        let is_kept = self
            .neglected
            .is_none_or(|since| truth < since + LEASE - MARGIN);
        (self.reach == Reach::Present && is_kept && Some(leader.term.lease) == self.lease)
            .then_some(leader.term)
    }

    /// Does all that there is to do now. Returns until when to wait then, and what is asked of the network.
    pub(crate) fn turn(&mut self, host: &mut YearHost) -> (i64, Vec<MemberAct>) {
        self.attend(host);
        self.schedule.tell(&host.now());
        let wake = self.plan(host);
        let again = self.campaign(host);
        (wake.min(again), std::mem::take(&mut self.acts))
    }

    fn attend(&mut self, host: &mut YearHost) {
        let now = host.now();
        match (self.reach, self.leads(host.truth)) {
            (Reach::Present, Some(term)) => self.lead(host, term),
            (Reach::Present | Reach::Joining, _) => self.follow(host),
            (Reach::Away { since }, _) => {
                let part = Part::Cut {
                    since,
                    may_call: true,
                };
                self.schedule.set_part(part, &now);
            }
        }
    }

    fn lead(&mut self, host: &YearHost, term: YearTerm) {
        let now = host.now();
        if self.term == Some(term) {
            self.schedule.set_part(Part::Leads, &now);
        } else {
            self.begin_term(host, term);
        }
        if !self.drop_orphan
            && let Some(orphan) = &self.view.orphan
        {
            self.drop_orphan = true;
            self.unshared = true;
            let is_token = |grant: &&StoredGrant| grant.name == ValueName::AccessToken;
            if let Some(orphan) = orphan.grants.iter().find(is_token) {
                self.schedule.on_orphan(orphan.clone(), &now);
            }
        }
        let may_share = self.share_after.is_none_or(|after| now.at >= after);
        if self.unshared && may_share && !self.sharing && self.flight.is_none() {
            self.unshared = false;
            self.sharing = true;
            let record = self.schedule.record_to_share(&now);
            let write = record_of(record, term, None, self.drop_orphan);
            self.acts.push(MemberAct::Share(write));
        }
    }

    fn begin_term(&mut self, host: &YearHost, term: YearTerm) {
        let now = host.now();
        let shared = self.view.record.clone();
        let hold = shared.as_ref().and_then(|shared| shared.call_until);
        let hold = hold.filter(|until| *until > host.truth);
        let hold = hold.map(|until| host.moment_of(until));
        let record = shared.map(|shared| shared.record);
        self.schedule.begin_term(record, hold, &now);
        self.term = Some(term);
        self.seen = None;
        self.drop_orphan = false;
        self.resigns = false;
        self.unshared = true;
    }

    fn follow(&mut self, host: &mut YearHost) {
        let now = host.now();
        self.schedule.set_part(Part::Follows, &now);
        if self.reach == Reach::Joining {
            return;
        }
        if self.term.take().is_some()
            && self.schedule.is_unshared()
            && self.schedule.account().terms().overlap().is_some()
        {
            self.late = Some(self.schedule.record());
        }
        if let Some(late) = self.late.take() {
            self.acts.push(MemberAct::Leave(YearWrite::Orphan(late)));
        }
        if let Some(shared) = &self.view.record
            && Some(shared.revision) != self.seen
        {
            self.seen = Some(shared.revision);
            self.schedule.follow(shared.record.clone(), &now);
            host.save(self.schedule.record());
        }
    }

    fn plan(&mut self, host: &mut YearHost) -> i64 {
        let now = host.now();
        let mut wake = i64::MAX;
        if let Some(change) = self.schedule.next_change(now.at) {
            wake = host.truth_of(change);
        }
        let leads = self.schedule.part() == Part::Leads;
        let after = self.share_after.filter(|after| leads && now.at < *after);
        if let Some(after) = after.filter(|_| self.unshared) {
            wake = wake.min(host.truth_of(after));
        }
        if self.flight.is_some() {
            return wake;
        }
        match self.schedule.next(&now) {
            Step::Sleep(until) => {
                assert!(until > now.at, "it sleeps into the past");
                wake.min(host.truth_of(until))
            }
            // A write is under way, or was not made.
            Step::Call(_) if leads && (self.sharing || self.unshared || after.is_some()) => {
                let after = after.unwrap_or(now.at + SHARE_AGAIN);
                wake.min(host.truth_of(after))
            }
            Step::Call(call) => {
                self.begin_call(host, call);
                wake
            }
        }
    }

    fn begin_call(&mut self, host: &mut YearHost, call: Call) {
        let now = host.now();
        self.schedule.on_sent(&now, call);
        host.save(self.schedule.record());
        let term = self.term.filter(|_| self.schedule.part() == Part::Leads);
        self.flight = Some(MemberCall {
            call,
            term,
            sent: now.at,
        });
        let Some(term) = term else {
            self.acts
                .push(MemberAct::Call(call, host.truth + CALL_LIMIT));
            return;
        };
        let limit = if self.is_limited(call) {
            CALL_LIMIT.min(LEASE)
        } else {
            CALL_LIMIT
        };
        let record = self.schedule.record();
        let write = record_of(record, term, Some(host.truth + limit), false);
        self.acts.push(MemberAct::Intend(write));
    }

    /// True for a call that has to end with the lease.
    fn is_limited(&self, call: Call) -> bool {
        call.is_token() && self.schedule.account().terms().overlap().is_some()
    }

    /// The engine has what has to be written before a call, since `kept` the lease is kept alive.
    pub(crate) fn on_intended(&mut self, host: &mut YearHost, written: WriteEnd, kept: i64) {
        let now = host.now();
        let Some(flight) = &mut self.flight else {
            return;
        };
        if written == WriteEnd::Done {
            flight.sent = now.at;
            let call = flight.call;
            let until = if self.is_limited(call) {
                kept + LEASE - MARGIN
            } else {
                host.truth + CALL_LIMIT
            };
            if host.truth >= until {
                let ended = Err(Refusal::transient("the time to lead is over", "nothing"));
                self.on_ended(host, ended, false);
                return;
            }
            self.acts.push(MemberAct::Call(call, until));
            return;
        }
        self.flight = None;
        self.schedule.on_not_called();
        self.share_after = Some(now.at + SHARE_AGAIN);
        self.on_not_leading(written);
    }

    fn on_not_leading(&mut self, written: WriteEnd) {
        if written == WriteEnd::NotLeader {
            self.seen = None;
            if self.view.leader.map(|leader| leader.term) == self.term {
                self.view.leader = None;
            }
        }
    }

    /// A call has ended.
    pub(crate) fn on_ended(
        &mut self,
        host: &mut YearHost,
        answer: Result<Answer, Refusal>,
        has_reached: bool,
    ) -> Option<Outcome> {
        let now = host.now();
        let flight = self.flight.take()?;
        if flight.term.is_some() && self.leads(host.truth) != flight.term {
            self.schedule.on_late();
            if let Ok(Answer::Granted(value, life)) = answer
                && self.is_limited(flight.call)
            {
                let grant = StoredGrant {
                    name: ValueName::AccessToken,
                    value,
                    obtained: flight.sent,
                    life,
                    end: End::of(flight.sent + life, &now),
                    told: None,
                };
                self.late = Some(Record {
                    grants: vec![grant],
                    ..self.schedule.record()
                });
            }
            return None;
        }
        if !has_reached {
            self.schedule.on_unsent();
        }
        let (outcome, _) = self
            .schedule
            .on_answer(&now, flight.sent, flight.call, answer);
        self.consider_resigning(&outcome, now.at);
        host.save(self.schedule.record());
        self.unshared = true;
        Some(outcome)
    }

    fn consider_resigning(&mut self, outcome: &Outcome, now: Moment) {
        let (is_token, class, errcode) = match outcome {
            Outcome::Granted { .. } | Outcome::Alive | Outcome::FoundDead { .. } => {
                (self.rest, self.failures) = (None, 0);
                return;
            }
            Outcome::AskAgain => return,
            Outcome::Failed { name, error, .. } => {
                (*name == ValueName::AccessToken, error.class, error.errcode)
            }
            Outcome::Unsure(refusal) => (false, refusal.class, refusal.errcode),
        };
        let is_of_host = match class {
            Class::Transient => errcode.is_none(),
            Class::Local | Class::Operator | Class::TimedBlock(_) => is_token,
            _ => false,
        };
        self.failures += 1;
        self.resigns = is_of_host && (self.failures > 1 || !self.schedule.stands(now));
    }

    /// The engine has taken the record, or has not.
    pub(crate) fn on_shared(&mut self, host: &YearHost, written: WriteEnd) {
        let now = host.now();
        self.sharing = false;
        match written {
            WriteEnd::Done => {
                self.drop_orphan = false;
                self.share_after = None;
                if !self.unshared {
                    self.schedule.on_shared(&now);
                    self.resign(host);
                }
            }
            WriteEnd::NotLeader => self.on_not_leading(written),
            WriteEnd::Away => {
                self.unshared = true;
                self.share_after = Some(now.at + SHARE_AGAIN);
            }
        }
    }

    fn resign(&mut self, host: &YearHost) {
        let Some(term) = self.term.filter(|_| std::mem::take(&mut self.resigns)) else {
            return;
        };
        let rest = self
            .rest
            .map_or(REST_FIRST, |rest| rest * 2)
            .min(REST_LONGEST);
        self.rest = Some(rest);
        self.rests_until = host.truth + rest;
        self.acts.push(MemberAct::Leave(YearWrite::Resign(term)));
    }

    /// Tries to lead what nobody leads. Returns when to look again.
    fn campaign(&mut self, host: &YearHost) -> i64 {
        let Some(lease) = self.lease.filter(|_| self.reach == Reach::Present) else {
            return i64::MAX;
        };
        if self.view.leader.is_some() {
            self.vacant_since = None;
            return i64::MAX;
        }
        let since = *self.vacant_since.get_or_insert(host.truth);
        let rests = self.rests_until.min(since + OTHERS_LIMIT);
        let holds = self.view.record.is_some() || self.schedule.stands(host.now().at);
        let from = if holds { since } else { since + OTHERS_FIRST };
        let from = from.max(rests);
        if host.truth < from {
            return from;
        }
        if !self.is_campaigning {
            self.is_campaigning = true;
            self.acts.push(MemberAct::Campaign(lease));
        }
        i64::MAX
    }
}

/// The record for the other hosts: nothing that concerns this one alone.
fn record_of(
    mut record: Record,
    term: YearTerm,
    call_until: Option<i64>,
    drop_orphan: bool,
) -> YearWrite {
    record.secret = None;
    let is_of_all = |class| matches!(class, Class::DailyQuota | Class::Frequency);
    record.block = record.block.filter(|block| is_of_all(block.error.class));
    YearWrite::Record {
        term,
        record,
        call_until,
        drop_orphan,
    }
}
