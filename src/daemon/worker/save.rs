//! Stores the record beside the task: no reader waits for the state's disk.

use super::Worker;
use crate::offload::Stopping;
use crate::store::StoreError;
use crate::time::Now;

/// The result of a write.
pub(super) type Saved = Result<Result<(), StoreError>, Stopping>;

impl Worker {
    /// Begins to store what outlives a restart, after all that was begun before.
    pub(super) fn save(&mut self, durable: bool, now: &Now) {
        self.note_unshared();
        self.begin_saving(durable, now);
    }

    /// The same where the others know it already.
    pub(super) fn save_here(&mut self, now: &Now) {
        self.begin_saving(false, now);
    }

    fn begin_saving(&mut self, durable: bool, now: &Now) {
        let saving = self.write(durable, now);
        self.saving = Some(Box::pin(saving));
    }

    pub(super) fn write(
        &self,
        durable: bool,
        now: &Now,
    ) -> impl Future<Output = Saved> + Send + use<> {
        let store = self.shared.store.clone();
        let account = self.schedule.account().clone();
        let (record, now) = (self.schedule.record(), *now);
        let save = move || store.save(&account.name, &record, durable, &now);
        self.shared.state().run(save)
    }

    pub(super) fn on_saved(&mut self, saved: Saved) {
        // Else the daemon is stopping.
        if let Ok(saved) = saved {
            self.reporter.on_saved(&self.schedule.account().name, saved);
        }
    }
}
