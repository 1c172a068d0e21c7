//! Writes to the engine: each is made only while this host leads the account.

use super::error::EngineError;
use super::record::{ORPHAN, RECORD, RecordWriter};
use super::state::{Term, key_of};
use super::wire::{Condition, Op, Transaction};
use super::{Fleet, member};
use crate::account::Account;
use crate::clock;
use crate::schedule::Record;
use crate::time::Moment;
use std::time::Duration;

/// The reason why a write was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WriteError {
    /// This host does not lead the account any more.
    NotLeader,
    /// The engine does not answer; the reason.
    Away(Box<str>),
}

impl From<EngineError> for WriteError {
    fn from(error: EngineError) -> Self {
        Self::Away(error.to_string().into())
    }
}

impl Fleet {
    /// Writes that a call is about to be made, with the day's count. Returns the moment by which the call must have ended.
    pub(crate) async fn intend(
        &self,
        account: &Account,
        term: Term,
        record: &Record,
        limit: Duration,
    ) -> Result<Moment, WriteError> {
        let shared = &self.0;
        // A fresh lease gives the call most time.
        let is_old = |renewed: Moment| renewed + Duration::from_millis(300) < clock::now().at;
        let renewed = shared.lock().lease.map(|lease| lease.renewed);
        if renewed.is_none_or(is_old) {
            member::renew(shared, term.lease).await?;
        }
        self.write(account, term, record, Some(limit), false)
            .await?;
        let lease = shared.lock().lease.filter(|lease| lease.id == term.lease);
        lease
            .map(|lease| lease.until())
            .ok_or(WriteError::NotLeader)
    }

    /// Writes the record of an account, if this host still leads it.
    pub(crate) async fn share(
        &self,
        account: &Account,
        term: Term,
        record: &Record,
        drop_orphan: bool,
    ) -> Result<(), WriteError> {
        self.write(account, term, record, None, drop_orphan).await
    }

    async fn write(
        &self,
        account: &Account,
        term: Term,
        record: &Record,
        intent: Option<Duration>,
        drop_orphan: bool,
    ) -> Result<(), WriteError> {
        let shared = &self.0;
        let key = |what| format!("{}{}", shared.section.prefix, key_of(&account.name, what));
        let bytes = self.envelope(account, term.fence, RECORD, record, intent)?;
        let mut then = vec![Op::Put(key(RECORD), bytes.clone(), 0)];
        if drop_orphan {
            then.push(Op::Delete(key(ORPHAN)));
        }
        let write = Transaction {
            conditions: vec![Condition::Is {
                key: key("leader"),
                revision: term.fence,
                lease: term.lease,
            }],
            then,
            otherwise: vec![Op::Get(key("leader"))],
        };
        let done = shared.etcd.transact(&write).await?;
        let mut state = shared.lock();
        if done.succeeded {
            return Ok(());
        }
        // Whatever this host believed: another one leads, or nobody.
        let prefix = &shared.section.prefix;
        if done.found.is_empty() {
            state.keys.remove(key_of(&account.name, "leader").as_str());
        }
        for kv in done.found {
            state.take(prefix, kv, false);
        }
        Err(WriteError::NotLeader)
    }

    /// Writes an answer that came after this host had ceased to lead, for the host that leads now.
    pub(crate) async fn leave_orphan(
        &self,
        account: &Account,
        term: Term,
        record: &Record,
    ) -> Result<(), WriteError> {
        let bytes = self.envelope(account, term.fence, ORPHAN, record, None)?;
        let key = format!("{}{}", self.0.section.prefix, key_of(&account.name, ORPHAN));
        self.put(key, bytes, 0).await
    }

    /// Writes a key, with a lease or 0.
    pub(super) async fn put(
        &self,
        key: String,
        bytes: Vec<u8>,
        lease: i64,
    ) -> Result<(), WriteError> {
        let put = Transaction {
            then: vec![Op::Put(key, bytes, lease)],
            ..Transaction::default()
        };
        self.0.etcd.transact(&put).await?;
        Ok(())
    }

    fn envelope(
        &self,
        account: &Account,
        fence: i64,
        value: &str,
        record: &Record,
        intent: Option<Duration>,
    ) -> Result<Vec<u8>, WriteError> {
        let keys = self.0.lock().secrets.clone();
        let keys =
            keys.ok_or_else(|| WriteError::Away("there is no key to encrypt with".into()))?;
        let writer = RecordWriter {
            keys: &keys,
            host: &self.0.section.host,
            ahead: self.0.etcd.clock_ahead(),
            fence,
        };
        let bytes = writer.envelope(account, value, record, intent, &clock::now());
        bytes.ok_or_else(|| WriteError::Away("the host has no random numbers".into()))
    }
}
