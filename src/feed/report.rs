//! The state of each target, for STATUS=, metrics and readiness.

use crate::config::Target;
use parking_lot::{Mutex, MutexGuard};
use std::fmt::Write as _;
use std::sync::Arc;
use tokio::sync::Notify;

/// The state of one target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Its name.
    pub name: String,
    /// Values that it is to hold.
    pub values: usize,
    /// Those of them that it does not hold yet.
    pub behind: usize,
    /// Some value was not tried yet.
    pub is_untried: bool,
    /// The reason why it does not hold them.
    pub failure: Option<String>,
    /// Writes that succeeded.
    pub written: u64,
    /// Writes that failed.
    pub failed: u64,
    /// Rows and keys that somebody else had changed.
    pub repaired: u64,
    /// Unix seconds of the last write that succeeded.
    pub last_write: i64,
}

/// The reports of all targets. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Reports(Arc<ReportBoard>);

#[derive(Debug, Default)]
struct ReportBoard {
    reports: Mutex<Vec<Report>>,
    changed: Notify,
}

impl Reports {
    /// Starts anew with these targets; counts go on for those that stay.
    pub fn reset(&self, targets: &[Target]) {
        let mut reports = self.lock();
        let old = std::mem::take(&mut *reports);
        *reports = (targets.iter())
            .map(|target| {
                let same = old.iter().find(|report| report.name == target.name);
                let mut report = same.cloned().unwrap_or_default();
                report.name.clone_from(&target.name);
                report.is_untried = same.is_none();
                report
            })
            .collect();
        self.0.changed.notify_one();
    }

    /// A copy of all, in the order of the targets.
    pub fn all(&self) -> Vec<Report> {
        self.lock().clone()
    }

    /// Waits until something has changed.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    pub(crate) fn set(
        &self,
        index: usize,
        values: usize,
        behind: usize,
        is_untried: bool,
        failure: Option<String>,
    ) {
        self.change(index, |report| {
            report.values = values;
            report.behind = behind;
            report.is_untried = is_untried;
            report.failure = failure;
        });
    }

    pub(crate) fn count_write(&self, index: usize, succeeded: bool) {
        self.change(index, |report| {
            if succeeded {
                report.written += 1;
                report.last_write = crate::statement::unix_now();
            } else {
                report.failed += 1;
            }
        });
    }

    pub(crate) fn count_repair(&self, index: usize) {
        self.change(index, |report| report.repaired += 1);
    }

    fn change(&self, index: usize, change: impl FnOnce(&mut Report)) {
        let mut reports = self.lock();
        if let Some(report) = reports.get_mut(index) {
            let before = report.clone();
            change(report);
            if *report != before {
                self.0.changed.notify_one();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Report>> {
        self.0.reports.lock()
    }
}

/// The line that `systemctl status` shows.
pub fn status_line(reports: &[Report], is_connected: bool) -> String {
    let values: usize = reports.iter().map(|report| report.values).sum();
    let behind: usize = reports.iter().map(|report| report.behind).sum();
    let mut line = format!("{}/{values} values in place", values - behind.min(values));
    for report in reports {
        if let Some(failure) = &report.failure {
            let _ = write!(line, "; {}: {failure}", report.name);
        }
    }
    if !is_connected {
        line.push_str("; the daemon is away");
    }
    line
}
