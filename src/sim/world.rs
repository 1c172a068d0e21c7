//! The platform as a state machine: a request and the time go in, an answer comes out.

use super::account::SimAccount;
use super::call::Endpoint;
use super::fault::SimFault;
use super::line::TokenLine;
use super::quota::Usage;
use super::record::{CallLog, InFlight};
use super::token::{TokenHistory, Tokens};
use serde::Serialize;
use std::collections::HashMap;

/// The simulated platform, without network or clock: every time is Unix milliseconds and comes from the caller.
pub struct World {
    pub(super) members: Vec<Member>,
    by_id: HashMap<Box<str>, Vec<usize>>,
    pub(super) any_account: Option<SimAccount>,
    pub(super) tokens: Tokens,
    pub(super) faults: Vec<SimFault>,
    pub(super) log: CallLog,
    /// Corps whose ticket calls are refused, and until when.
    pub(super) blocked: HashMap<Box<str>, i64>,
}

/// An account with its past.
pub(super) struct Member {
    pub(super) account: SimAccount,
    pub(super) histories: [TokenHistory; TokenLine::ALL.len()],
    pub(super) usage: [Usage; Endpoint::ALL.len()],
    pub(super) calls: [u64; Endpoint::ALL.len()],
    pub(super) minted: [u64; TokenLine::ALL.len()],
    pub(super) forced: Usage,
    pub(super) clears: Usage,
    pub(super) last_forced: Option<i64>,
    pub(super) in_flight: InFlight,
}

/// The platform's knowledge of a token or ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Truth {
    /// True if it works.
    pub alive: bool,
    /// Its account: an appid, or corpid, with `/agentid` if there is one. `None` for a value that the platform never
    /// minted or has long forgotten.
    pub account: Option<String>,
    /// `access_token`, `jsapi_ticket`, `wx_card_ticket` or `agent_ticket`.
    pub kind: Option<&'static str>,
    /// Milliseconds since it was minted.
    pub age_ms: Option<i64>,
    /// Milliseconds until it ends, as things stand.
    pub ends_in_ms: Option<i64>,
    /// Milliseconds since it ended.
    pub ended_ms_ago: Option<i64>,
}

/// The way in which a token ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kill {
    /// It is dead, and the next call brings a new one.
    End,
    /// It is dead, and yet `stable_token` and `gettoken` hand it out until a refresh is forced or its life is over.
    Stuck,
    /// Somebody else fetches: the token lives on for the overlap under classic, and is not touched otherwise.
    SecondFetcher,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// A platform without accounts.
    pub fn new() -> Self {
        Self {
            members: Vec::new(),
            by_id: HashMap::new(),
            any_account: None,
            tokens: Tokens::new(fastrand::u64(..)),
            faults: Vec::new(),
            log: CallLog::default(),
            blocked: HashMap::new(),
        }
    }

    /// Adds an account that is treated as most are, and hands it out for changes; `ww…` is 企业微信. One that exists
    /// is handed out with this secret.
    pub fn account(&mut self, id: &str, secret: &str) -> &mut SimAccount {
        let index = match self.find(id).first() {
            Some(&index) => index,
            None => self.add(SimAccount::new(id, secret)),
        };
        let account = &mut self.members[index].account;
        account.secret = secret.into();
        account
    }

    /// Adds an account, or changes the one with the same id and agentid: its tokens stay.
    pub fn add(&mut self, account: SimAccount) -> usize {
        let same = |&i: &usize| self.members[i].account.agentid == account.agentid;
        if let Some(index) = self.apps(&account.id).iter().copied().find(same) {
            self.members[index].account = account;
            return index;
        }
        let index = self.members.len();
        self.by_id
            .entry(account.id.as_str().into())
            .or_default()
            .push(index);
        self.members.push(Member {
            account,
            histories: Default::default(),
            usage: Default::default(),
            calls: Default::default(),
            minted: Default::default(),
            forced: Usage::default(),
            clears: Usage::default(),
            last_forced: None,
            in_flight: InFlight::default(),
        });
        index
    }

    /// Accepts any appid with any secret from now on, and treats it like `model`.
    pub fn accept_any_account(&mut self, model: SimAccount) {
        self.any_account = Some(model);
    }

    /// Sets a fault, before those that are there.
    pub fn set_fault(&mut self, fault: SimFault) {
        self.faults.insert(0, fault);
    }

    /// Heals the faults of an account (of everybody: those set without one) at an endpoint (`None`: at any).
    pub fn heal(&mut self, account: Option<&str>, endpoint: Option<Endpoint>) {
        self.faults.retain(|fault| {
            fault.account.as_deref() != account || endpoint.is_some() && fault.endpoint != endpoint
        });
    }

    /// Heals everything.
    pub fn heal_all(&mut self) {
        self.faults.clear();
    }

    /// The truth about a token or ticket at `now`. Not a call of the platform: never counted.
    pub fn probe(&self, now: i64, value: &str) -> Truth {
        let token = self.tokens.get(value);
        Truth {
            alive: token.is_some_and(|token| token.is_alive(now)),
            account: token.map(|token| self.members[token.account].account.key()),
            kind: token.map(|token| token.line.kind()),
            age_ms: token.map(|token| now - token.minted),
            ends_in_ms: token.map(|token| token.ends - now).filter(|&ms| ms > 0),
            ended_ms_ago: token.map(|token| now - token.ends).filter(|&ms| ms >= 0),
        }
    }

    /// Every token and ticket that it knows, whoever's, alive or dead: for those who look whether one leaked.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.tokens.values()
    }

    /// Ends values of one kind (`access_token`, `jsapi_ticket`, …) of an account early. Says how many accounts it
    /// found.
    pub fn kill(&mut self, now: i64, account: &str, kind: &str, how: Kill) -> usize {
        let found = self.find(account);
        for &index in &found {
            for line in TokenLine::ALL
                .into_iter()
                .filter(|line| line.kind() == kind)
            {
                let history = &self.members[index].histories[line as usize];
                match how {
                    _ if history.is_empty() => {}
                    Kill::End => self.tokens.end(history, now, false),
                    Kill::Stuck => self.tokens.end(history, now, true),
                    Kill::SecondFetcher => {
                        self.fetch(now, index, line);
                    }
                }
            }
        }
        found.len()
    }

    /// Calls of an account at an endpoint, refused ones included.
    pub fn calls(&self, account: &str, endpoint: Endpoint) -> u64 {
        let calls = |&i: &usize| self.members[i].calls[endpoint as usize];
        self.find(account).iter().map(calls).sum()
    }

    /// Calls at the endpoints that grant access tokens, all accounts together.
    pub fn token_calls(&self) -> u64 {
        let granting = || Endpoint::ALL.into_iter().filter(|e| e.grants_tokens());
        let calls = |member: &Member| granting().map(|e| member.calls[e as usize]).sum::<u64>();
        self.members.iter().map(calls).sum()
    }

    /// The most calls of an account that were in flight at once.
    pub fn peak_in_flight(&self, account: &str) -> u32 {
        let peak = |&i: &usize| self.members[i].in_flight.peak;
        self.find(account).iter().map(peak).max().unwrap_or(0)
    }

    /// Counts over all accounts, and the last calls.
    pub fn log(&self) -> &CallLog {
        &self.log
    }

    /// Connections that are open now never get another answer; new ones do.
    pub fn freeze_connections(&mut self) {
        self.log.frozen = self.log.connections;
    }

    /// The indices of the accounts that `key` names: an appid, `corpid/agentid`, or a corpid for all of its apps.
    pub(super) fn find(&self, key: &str) -> Vec<usize> {
        match key.split_once('/') {
            None => self.apps(key).to_vec(),
            Some((id, _)) => {
                let named = |&i: &usize| self.members[i].account.key() == key;
                self.apps(id).iter().copied().filter(named).collect()
            }
        }
    }

    pub(super) fn apps(&self, id: &str) -> &[usize] {
        self.by_id.get(id).map_or(&[], Vec::as_slice)
    }

    /// Notes that a call has begun that takes its time.
    pub(super) fn began(&mut self, caller: Option<usize>) {
        self.log.in_flight.began();
        if let Some(index) = caller {
            self.members[index].in_flight.began();
        }
    }

    /// Notes that it is answered, or given up.
    pub(super) fn ended(&mut self, caller: Option<usize>) {
        self.log.in_flight.now -= 1;
        if let Some(index) = caller {
            self.members[index].in_flight.now -= 1;
        }
    }
}
