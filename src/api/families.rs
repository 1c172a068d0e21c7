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
    samples: Sampler,
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

/// Reads the samples of one metric off an account.
type Sampler = fn(&AccountView, &Now, &mut Samples);

const fn gauge(name: &'static str, help: &'static str, samples: Sampler) -> Family {
    Family {
        name,
        help,
        kind: MetricType::GAUGE,
        samples,
    }
}

const fn counter(name: &'static str, help: &'static str, samples: Sampler) -> Family {
    Family {
        kind: MetricType::COUNTER,
        ..gauge(name, help, samples)
    }
}

fn by_output(view: &AccountView, samples: &mut Samples, counted: fn(usize) -> Counted) {
    for (index, output) in view.snapshot.account.outputs.iter().enumerate() {
        let count = view.count(counted(index));
        samples.add(&[("path", &output.path.to_string_lossy())], count);
    }
}

/// Every metric that has an account.
pub(super) const FAMILIES: &[Family] = &[
    gauge(
        "wxtokend_fleet_leader",
        "1 if this host leads the account in its fleet, 0 if another one does or none.",
        |view, _, samples| {
            if let Some(fleet) = &view.snapshot.fleet {
                samples.add(&[], i64::from(fleet.leads));
            }
        },
    ),
    gauge(
        "wxtokend_fleet_engine_up",
        "1 while the fleet's engine answers, 0 while it is away or this host may take no part.",
        |view, _, samples| {
            if let Some(fleet) = &view.snapshot.fleet {
                samples.add(&[], i64::from(!fleet.is_away && !fleet.is_joining));
            }
        },
    ),
    gauge(
        "wxtokend_account_state",
        "1 for the state that the account is in, 0 for the others.",
        |view, now, samples| {
            let current = view.snapshot.state_at(now.at);
            for state in State::ALL {
                samples.add(&[("state", state.as_str())], i64::from(state == current));
            }
        },
    ),
    gauge(
        "wxtokend_value_expire_timestamp_seconds",
        "When the platform will no longer honour the value, or has ceased to.",
        |view, _, samples| {
            for (name, grant) in &view.snapshot.grants {
                samples.add(&[("value", name.as_str())], grant.expire_time());
            }
        },
    ),
    gauge(
        "wxtokend_last_success_timestamp_seconds",
        "When a call for the access token last succeeded.",
        |view, now, samples| {
            if let Some(at) = view.snapshot.last_success {
                samples.add(&[], now.unix(at));
            }
        },
    ),
    counter(
        "wxtokend_platform_calls_total",
        "Calls to the platform, by what was asked and how it ended.",
        |view, _, samples| {
            for (counted, count) in &view.counts {
                if let Counted::Call(endpoint, result) = counted {
                    samples.add(&[("endpoint", endpoint), ("result", result)], *count);
                }
            }
        },
    ),
    counter(
        "wxtokend_platform_errors_total",
        "Refusals of the platform, by errcode.",
        |view, _, samples| {
            for (counted, count) in &view.counts {
                if let Counted::Refusal(errcode) = counted {
                    samples.add(&[("errcode", &errcode.to_string())], *count);
                }
            }
        },
    ),
    gauge(
        "wxtokend_calls_today",
        "Calls in the platform's current day, which begins at midnight in UTC+8.",
        |view, now, samples| samples.add(&[], view.snapshot.calls_today_at(now)),
    ),
    gauge(
        "wxtokend_daily_budget",
        "Calls that the account may make in a day.",
        |view, _, samples| samples.add(&[], view.snapshot.account.daily_budget),
    ),
    counter(
        "wxtokend_superseded_total",
        "Tokens that died long before their time: somebody else fetches for this appid.",
        |view, _, samples| samples.add(&[], view.superseded),
    ),
    counter(
        "wxtokend_passive_refresh_total",
        "Doubts about a token that apps reported, by how they ended.",
        |view, _, samples| {
            for (counted, count) in &view.counts {
                if let Counted::PassiveRefresh(outcome) = counted {
                    samples.add(&[("outcome", outcome)], *count);
                }
            }
        },
    ),
    counter(
        "wxtokend_output_errors_total",
        "Failures to publish a file or socket.",
        |view, _, samples| by_output(view, samples, Counted::OutputError),
    ),
    counter(
        "wxtokend_output_repairs_total",
        "Files and sockets that somebody else changed and that were put right.",
        |view, _, samples| by_output(view, samples, Counted::OutputRepair),
    ),
    counter(
        "wxtokend_reads_total",
        "Values given out by the daemon itself. Reads of files are not seen.",
        |view, _, samples| {
            samples.add(&[("via", ReadVia::Socket.as_str())], view.socket_reads);
            samples.add(&[("via", ReadVia::Api.as_str())], view.api_reads);
            if view.mirror_reads > 0 {
                samples.add(&[("via", "mirror")], view.mirror_reads);
            }
        },
    ),
    counter(
        "wxtokend_mirror_reads_total",
        "Values that the mirror gave out, by the app whose key was shown.",
        |view, _, samples| {
            for app in &view.app_reads {
                for (value, reads) in ValueName::ALL.into_iter().zip(app.reads) {
                    if reads > 0 {
                        samples.add(&[("app", &app.name), ("value", value.as_str())], reads);
                    }
                }
            }
        },
    ),
    counter(
        "wxtokend_mirror_refusals_total",
        "Requests that the mirror refused: wrong keys, the AppSecret itself, tickets that are not kept.",
        |view, _, samples| {
            for (counted, count) in &view.counts {
                if let Counted::MirrorRefusal(reason) = counted {
                    samples.add(&[("reason", reason)], *count);
                }
            }
        },
    ),
];
