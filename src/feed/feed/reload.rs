//! A reload: what is new is loaded first, then swapped; a faulty configuration changes nothing.

use super::{Feed, wanted};
use crate::config::FeedConfig;
use crate::report::status_line;
use crate::wish::WishChange;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use wxtokend::config::Looks;
use wxtokend::event::Event as LogEvent;
use wxtokend::fault::Fault;
use wxtokend::follow::{Subject, follow};
use wxtokend::logging::Entry;

impl Feed {
    /// Loads the configuration anew. A faulty one changes nothing.
    pub(super) async fn reload(&mut self) {
        self.notifier.reloading();
        let credentials = self.credentials.as_deref();
        match FeedConfig::load(&self.config.path, credentials, &Looks::patient()) {
            Ok(config) => self.swap(config).await,
            Err(faults) => self.reject(&faults),
        }
        let is_connected = self.metrics.is_connected.load(Ordering::Relaxed);
        self.notifier
            .ready(&status_line(&self.reports.all(), is_connected));
        self.tell_status();
    }

    fn reject(&mut self, faults: &[Fault]) {
        self.metrics
            .rejected_reloads
            .fetch_add(1, Ordering::Relaxed);
        for fault in faults {
            Entry::new()
                .by_words()
                .event(LogEvent::ConfigRejected)
                .warn(format_args!("reload rejected: {fault}"));
        }
        self.rejected = faults.first().map(ToString::to_string);
    }

    async fn swap(&mut self, config: FeedConfig) {
        let old = std::mem::replace(&mut self.config, config);
        if old.metrics != self.config.metrics {
            let server = self.metrics_server.take();
            if let Err(fault) = self.serve_metrics().await {
                self.metrics_server = server;
                self.config = old;
                return self.reject(&[fault]);
            }
            if let Some(server) = server {
                server.abort();
            }
        }
        self.metrics.reloads.fetch_add(1, Ordering::Relaxed);
        self.rejected = None;
        self.log.set_level(self.config.log_level);
        let accounts = |config: &FeedConfig| {
            (
                config.socket.clone(),
                config.accounts.clone(),
                config.values(),
            )
        };
        if accounts(&old) != accounts(&self.config) {
            self.forget_unwanted();
            self.heard = Some(BTreeSet::new());
            self.events = follow(wanted(&self.config));
        }
        self.start_targets();
        Entry::new()
            .event(LogEvent::ConfigReloaded)
            .info("the configuration was reloaded");
    }

    /// Accounts that are configured no more are left as they stand.
    fn forget_unwanted(&mut self) {
        let (accounts, values) = (&self.config.accounts, self.config.values());
        let is_wanted = |subject: &Subject| {
            (accounts.is_empty() || accounts.contains(&subject.account))
                && values.contains(&subject.value)
        };
        for subject in self.standing.keys().filter(|subject| !is_wanted(subject)) {
            for running in self
                .targets
                .iter()
                .filter(|running| running.target.value == subject.value)
            {
                let _ = running
                    .changes
                    .send(WishChange::Forget(subject.account.clone()));
            }
        }
        self.standing.retain(|subject, _| is_wanted(subject));
    }
}
