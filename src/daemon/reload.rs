//! A reload: everything is parsed, checked and bound first, then swapped; on any fault the old configuration goes on.

use super::binding::{enough_files, listen, listen_tcp, unbound};
use super::{Daemon, warn_of};
use crate::api;
use crate::changes::Reloaded;
use crate::clock;
use crate::config::{self, Loaded, Subject};
use crate::event::Event;
use crate::logging::Entry;
use crate::publish::socket::stored_name;
use crate::systemd::KeptSockets;
use std::sync::Arc;
use tokio::sync::mpsc;

impl Daemon {
    /// Loads the configuration anew: everything is parsed, checked and bound first, then swapped.
    pub(super) async fn reload(&mut self) -> Reloaded {
        self.shared.notifier.reloading();
        let reloaded = self.try_reload().await;
        self.shared
            .metrics
            .config_reloaded(reloaded.is_ok(), &clock::now());
        match &reloaded {
            Ok(changes) => {
                self.rejected = None;
                warn_of(&changes.warnings);
                let list = |names: &[String]| {
                    if names.is_empty() {
                        "none".to_owned()
                    } else {
                        names.join(", ")
                    }
                };
                Entry::new().event(Event::ConfigReloaded).info(format_args!(
                    "configuration reloaded: added {}; changed {}; removed {}; {} unchanged",
                    list(&changes.added),
                    list(&changes.changed),
                    list(&changes.removed),
                    changes.unchanged.len()
                ));
            }
            Err(faults) => {
                for fault in faults {
                    Entry::new().event(Event::ConfigRejected).warn(fault);
                }
                Entry::new().warn("configuration rejected: the old one goes on; correct the faults above and reload");
                let more = if faults.len() > 1 {
                    format!(" (and {} more)", faults.len() - 1)
                } else {
                    String::new()
                };
                let first = faults.first().map(ToString::to_string).unwrap_or_default();
                self.rejected = Some(format!(
                    "configuration rejected, the old one goes on: {first}{more}"
                ));
            }
        }
        self.said = self.status_line();
        self.shared.notifier.ready(&self.said);
        reloaded
    }

    async fn try_reload(&mut self) -> Reloaded {
        let (path, environment) = (self.config.path.clone(), self.environment.clone());
        let load = move || config::load(&path, &environment);
        let loaded = tokio::task::spawn_blocking(load)
            .await
            .unwrap_or_else(|_| Err(Vec::new()))
            .map_err(|mut faults| {
                faults.retain(|fault| !fault.is_warning);
                faults
            })?;
        let Loaded {
            config: new,
            warnings,
            places,
        } = loaded;
        let fault = |subject, message: String| vec![places.fault(&subject, message)];
        if new.daemon.state_dir != self.config.daemon.state_dir {
            return Err(fault(
                Subject::StateDir,
                "`state_dir` cannot change while the daemon runs: restart it".to_owned(),
            ));
        }
        enough_files(&new).map_err(|message| fault(Subject::Platform, message))?;
        // What is in a `ca_file` may be new although its name is not.
        let same_platform = new.platform == self.config.platform && new.platform.ca_file.is_none();
        let client = if same_platform {
            None
        } else {
            let renewed = self.client.borrow().renewed(&new.platform);
            Some(renewed.map_err(|error| fault(Subject::Platform, error.to_string()))?)
        };
        let tcp = match new.api.metrics {
            Some(address) if new.api.metrics != self.config.api.metrics => {
                let listening = listen_tcp(address).await;
                Some(listening.map_err(|message| fault(Subject::ApiMetrics, message))?)
            }
            _ => None,
        };
        let prepared = self
            .supervisor
            .prepare(&new.accounts, KeptSockets::default())
            .await;
        let (prepared, _) = prepared.map_err(|faults| unbound(&places, faults))?;
        let mirror = self.mirror.prepare(&new.mirror);
        let mirror = mirror.map_err(|(subject, message)| fault(subject, message))?;
        // Last, since it takes its place at once.
        let listener = if new.api.socket == self.config.api.socket {
            None
        } else {
            let listening = listen(&new.api.socket, None, &self.shared.notifier);
            Some(listening.map_err(|message| fault(Subject::ApiSocket, message))?)
        };
        // From here on nothing can fail.
        if let Some(client) = client {
            self.client.send_replace(Arc::new(client));
            self.supervisor.on_platform_changed();
        }
        if let Some(listener) = listener {
            if let Some(name) = stored_name(&self.config.api.socket) {
                self.shared.notifier.drop_kept(&name);
            }
            self.listener.send_replace(Arc::new(listener)).retire();
        }
        if new.api.metrics != self.config.api.metrics {
            if let Some(server) = self.metrics_server.take() {
                server.abort();
            }
            let serve =
                |tcp| tokio::spawn(api::serve_metrics(tcp, self.api.clone())).abort_handle();
            self.metrics_server = tcp.map(serve);
        }
        self.admins.send_replace(new.api.admins.clone());
        self.log.set_level(new.daemon.log_level);
        self.mirror.withdraw(&new.mirror);
        let (unready, _) = mpsc::channel(1);
        let mut changes = self
            .supervisor
            .apply(&new.accounts, prepared, &unready)
            .await;
        let accounts = self.supervisor.directory();
        self.mirror
            .apply(&new.mirror, mirror, accounts, &self.shared.subscribers)
            .await;
        self.config = new;
        if let Some(watch) = &mut self.watch {
            watch.replace(self.supervisor.places());
        }
        changes.warnings = warnings;
        Ok(changes)
    }
}
