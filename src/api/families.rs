//! The metrics of accounts: a table of what they are called and how each is read off an account.

use crate::account::AccountName;
use crate::counters::{AppReads, Counted};
use crate::handle::AccountHandle;
use crate::snapshot::{Snapshot, State};
use crate::time::Now;
use crate::value::ValueName;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The way by which a value is read from the daemon itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadVia {
    /// A token socket.
    Socket,
    /// The API.
    Api,
}

impl ReadVia {
    /// The name as metrics spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Api => "api",
        }
    }
}

/// One metric, with a sample or more for each account.
pub(super) struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    samples: fn(&AccountView, &Now, &mut Samples),
}

/// The snapshot and the counts of an account, taken at one time.
pub(super) struct AccountView<'a> {
    name: &'a str,
    snapshot: Arc<Snapshot>,
    socket_reads: u64,
    api_reads: u64,
    mirror_reads: u64,
    app_reads: Vec<AppReads>,
    superseded: u64,
    counts: Vec<(Counted, u64)>,
}

impl<'a> AccountView<'a> {
    pub(super) fn of(name: &'a AccountName, handle: &AccountHandle) -> Self {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            name: name.as_str(),
            snapshot: handle.snapshot.latest(),
            socket_reads: read(&handle.counters.socket_reads),
            api_reads: read(&handle.counters.api_reads),
            mirror_reads: read(&handle.counters.mirror_reads),
            app_reads: handle.counters.app_reads(),
            superseded: read(&handle.counters.superseded),
            counts: handle.counters.counts(),
        }
    }

    fn count(&self, what: Counted) -> u64 {
        let found = self.counts.iter().find(|(counted, _)| *counted == what);
        found.map_or(0, |(_, count)| *count)
    }
}

/// The samples of a family, so far.
pub(super) struct Samples<'a> {
    kind: MetricType,
    account: &'a str,
    metrics: Vec<Metric>,
}

impl Samples<'_> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a sample is a float; counts and times are far below 2^53"
    )]
    fn add(&mut self, labels: &[(&str, &str)], value: impl TryInto<i64>) {
        let value = value.try_into().unwrap_or(i64::MAX) as f64;
        let account = ("account", self.account);
        let labels = std::iter::once(&account).chain(labels);
        let mut metric = Metric::from_label(
            labels
                .map(|(name, value)| {
                    let mut pair = LabelPair::default();
                    pair.set_name((*name).to_owned());
                    pair.set_value((*value).to_owned());
                    pair
                })
                .collect(),
        );
        if self.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.metrics.push(metric);
    }
}

impl Family {
    /// The samples of these accounts.
    pub(super) fn collect(&self, views: &[AccountView], now: &Now) -> MetricFamily {
        let mut samples = Samples {
            kind: self.kind,
            account: "",
            metrics: Vec::with_capacity(views.len()),
        };
        for view in views {
            samples.account = view.name;
            (self.samples)(view, now, &mut samples);
        }
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(self.kind);
        family.set_metric(samples.metrics);
        family
    }
}

/// Every metric that has an account.
pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "wxtokend_account_state",
        help: "1 for the state that the account is in, 0 for the others.",
        kind: MetricType::GAUGE,
        samples: |view, now, samples| {
            let current = view.snapshot.state_at(now.at);
            for state in State::ALL {
                samples.add(&[("state", state.as_str())], i64::from(state == current));
            }
        },
    },
    Family {
        name: "wxtokend_value_expire_timestamp_seconds",
        help: "When the platform will no longer honour the value, or has ceased to.",
        kind: MetricType::GAUGE,
        samples: |view, _, samples| {
            for (name, grant) in &view.snapshot.grants {
                samples.add(&[("value", name.as_str())], grant.expire_time());
            }
        },
    },
    Family {
        name: "wxtokend_last_success_timestamp_seconds",
        help: "When a call for the access token last succeeded.",
        kind: MetricType::GAUGE,
        samples: |view, now, samples| {
            if let Some(at) = view.snapshot.last_success {
                samples.add(&[], now.unix(at));
            }
        },
    },
    Family {
        name: "wxtokend_platform_calls_total",
        help: "Calls to the platform, by what was asked and how it ended.",
        kind: MetricType::COUNTER,
        samples: |view, _, samples| {
            for (counted, count) in &view.counts {
                if let Counted::Call(endpoint, result) = counted {
                    samples.add(&[("endpoint", endpoint), ("result", result)], *count);
                }
            }
        },
    },
    Family {
        name: "wxtokend_platform_errors_total",
        help: "Refusals of the platform, by errcode.",
        kind: MetricType::COUNTER,
        samples: |view, _, samples| {
            for (counted, count) in &view.counts {
                if let Counted::Refusal(errcode) = counted {
                    samples.add(&[("errcode", &errcode.to_string())], *count);
                }
            }
        },
    },
    Family {
        name: "wxtokend_calls_today",
        help: "Calls in the platform's current day, which begins at midnight in UTC+8.",
        kind: MetricType::GAUGE,
        samples: |view, now, samples| samples.add(&[], view.snapshot.calls_today_at(now)),
    },
    Family {
        name: "wxtokend_daily_budget",
        help: "Calls that the account may make in a day.",
        kind: MetricType::GAUGE,
        samples: |view, _, samples| samples.add(&[], view.snapshot.account.daily_budget),
    },
    Family {
        name: "wxtokend_superseded_total",
        help: "Tokens that died long before their time: somebody else fetches for this appid.",
        kind: MetricType::COUNTER,
        samples: |view, _, samples| samples.add(&[], view.superseded),
    },
    Family {
        name: "wxtokend_passive_refresh_total",
        help: "Doubts about a token that apps reported, by how they ended.",
        kind: MetricType::COUNTER,
        samples: |view, _, samples| {
            for (counted, count) in &view.counts {
                if let Counted::PassiveRefresh(outcome) = counted {
                    samples.add(&[("outcome", outcome)], *count);
                }
            }
        },
    },
    Family {
        name: "wxtokend_output_errors_total",
        help: "Failures to publish a file or socket.",
        kind: MetricType::COUNTER,
        samples: |view, _, samples| {
            for (index, output) in view.snapshot.account.outputs.iter().enumerate() {
                let count = view.count(Counted::OutputError(index));
                samples.add(&[("path", &output.path.to_string_lossy())], count);
            }
        },
    },
    Family {
        name: "wxtokend_output_repairs_total",
        help: "Files and sockets that somebody else changed and that were put right.",
        kind: MetricType::COUNTER,
        samples: |view, _, samples| {
            for (index, output) in view.snapshot.account.outputs.iter().enumerate() {
                let count = view.count(Counted::OutputRepair(index));
                samples.add(&[("path", &output.path.to_string_lossy())], count);
            }
        },
    },
    Family {
        name: "wxtokend_reads_total",
        help: "Values given out by the daemon itself. Reads of files are not seen.",
        kind: MetricType::COUNTER,
        samples: |view, _, samples| {
            samples.add(&[("via", ReadVia::Socket.as_str())], view.socket_reads);
            samples.add(&[("via", ReadVia::Api.as_str())], view.api_reads);
            if view.mirror_reads > 0 {
                samples.add(&[("via", "mirror")], view.mirror_reads);
            }
        },
    },
    Family {
        name: "wxtokend_mirror_reads_total",
        help: "Values that the mirror gave out, by the app whose key was shown.",
        kind: MetricType::COUNTER,
        samples: |view, _, samples| {
            for app in &view.app_reads {
                for (value, reads) in ValueName::ALL.into_iter().zip(app.reads) {
                    if reads > 0 {
                        samples.add(&[("app", &app.name), ("value", value.as_str())], reads);
                    }
                }
            }
        },
    },
    Family {
        name: "wxtokend_mirror_refusals_total",
        help: "Requests that the mirror refused: wrong keys, the AppSecret itself, tickets that are not kept.",
        kind: MetricType::COUNTER,
        samples: |view, _, samples| {
            for (counted, count) in &view.counts {
                if let Counted::MirrorRefusal(reason) = counted {
                    samples.add(&[("reason", reason)], *count);
                }
            }
        },
    },
];
