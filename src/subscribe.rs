//! Change notifications for those who follow many accounts at once. An account that nobody follows pays nothing.

use crate::account::AccountName;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::mem;
use std::sync::{Arc, Weak};
use tokio::sync::Notify;

/// Everybody who follows the accounts.
#[derive(Debug, Default)]
pub struct Subscribers(Mutex<Vec<Weak<Subscription>>>);

/// The accounts that changed since its owner last asked. Bounded by the number of accounts, however slow the owner is.
#[derive(Debug, Default)]
pub struct Subscription {
    changed: Mutex<BTreeSet<AccountName>>,
    arrived: Notify,
}

impl Subscribers {
    /// Adds one, which is told of every change until it is dropped.
    pub fn subscribe(&self) -> Arc<Subscription> {
        let subscription = Arc::default();
        let mut list = self.0.lock();
        list.retain(|other| other.strong_count() > 0);
        list.push(Arc::downgrade(&subscription));
        subscription
    }

    /// Tells everybody that the values or the readers of an account changed.
    pub fn tell(&self, name: &AccountName) {
        let list = self.0.lock();
        for subscription in list.iter().filter_map(Weak::upgrade) {
            subscription.changed.lock().insert(name.clone());
            subscription.arrived.notify_one();
        }
    }
}

impl Subscription {
    /// Takes out the accounts that changed.
    pub fn take(&self) -> BTreeSet<AccountName> {
        mem::take(&mut self.changed.lock())
    }

    /// Waits until an account changes. It may have been taken out already.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subscription_gets_each_changed_account_once() {
        let name = |name| AccountName::parse(name).unwrap();
        let subscribers = Subscribers::default();
        subscribers.tell(&name("early"));
        let (one, two) = (subscribers.subscribe(), subscribers.subscribe());
        for changed in ["shop", "blog", "shop"] {
            subscribers.tell(&name(changed));
        }
        assert_eq!(one.take(), [name("blog"), name("shop")].into());
        assert!(one.take().is_empty());
        drop(two);
        subscribers.tell(&name("shop"));
        assert_eq!(one.take(), [name("shop")].into());
        drop(subscribers.subscribe());
        assert_eq!(subscribers.0.lock().len(), 2);
    }
}
