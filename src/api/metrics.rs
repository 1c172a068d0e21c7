//! Metrics in the text format of Prometheus. What there is to say of an account is computed from what it published when
//! somebody asks, so that metrics cost an account no memory.

pub use super::families::ReadVia;
use super::families::{AccountView, FAMILIES};
use crate::handle::AccountHandles;
use crate::time::Now;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use std::time::Duration;

/// The content type of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Bounds of the durations of calls, seconds: from a warm connection to the longest time-out that makes sense.
const CALL_BUCKETS: [f64; 10] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Counts of the daemon as a whole.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    call_duration: HistogramVec,
    reads_denied: IntCounterVec,
    reloads: IntCounterVec,
    fleet_requests: IntCounterVec,
    last_load: IntGauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Starts to count.
    pub fn new() -> Self {
        Self::try_new().expect("the names of the metrics are valid and distinct")
    }

    fn try_new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let build = IntGaugeVec::new(
            Opts::new("wxtokend_build_info", "The build that runs; always 1."),
            &["version", "commit"],
        )?;
        build
            .with_label_values(&[crate::VERSION, crate::COMMIT])
            .set(1);
        let call_duration = HistogramVec::new(
            HistogramOpts::new(
                "wxtokend_platform_call_duration_seconds",
                "How long calls to the platform took, answered or not.",
            )
            .buckets(CALL_BUCKETS.to_vec()),
            &["endpoint"],
        )?;
        let reads_denied = IntCounterVec::new(
            Opts::new(
                "wxtokend_reads_denied_total",
                "Reads by local processes that are not among the readers.",
            ),
            &["via"],
        )?;
        let reloads = IntCounterVec::new(
            Opts::new(
                "wxtokend_config_reloads_total",
                "Reloads of the configuration.",
            ),
            &["result"],
        )?;
        let fleet_requests = IntCounterVec::new(
            Opts::new(
                "wxtokend_fleet_requests_total",
                "Requests to the fleet's engine.",
            ),
            &["result"],
        )?;
        let last_load = IntGauge::new(
            "wxtokend_config_last_reload_success_timestamp_seconds",
            "When the configuration that is in force was loaded.",
        )?;
        // Present from the start: a rate over a series that appears with its first event misses that event.
        for via in [ReadVia::Socket, ReadVia::Api] {
            reads_denied.with_label_values(&[via.as_str()]);
        }
        for accepted in [true, false] {
            reloads.with_label_values(&[result(accepted)]);
        }
        let collectors: [Box<dyn Collector>; 7] = [
            Box::new(build),
            Box::new(call_duration.clone()),
            Box::new(reads_denied.clone()),
            Box::new(reloads.clone()),
            Box::new(fleet_requests.clone()),
            Box::new(last_load.clone()),
            Box::new(ProcessCollector::for_self()),
        ];
        for collector in collectors {
            registry.register(collector)?;
        }
        Ok(Self {
            registry,
            call_duration,
            reads_denied,
            reloads,
            fleet_requests,
            last_load,
        })
    }

    /// A call to the platform has ended, one way or another.
    pub fn observe_call(&self, endpoint: &str, took: Duration) {
        self.call_duration
            .with_label_values(&[endpoint])
            .observe(took.as_secs_f64());
    }

    /// Counts processes that were not given a value because they are none of its readers.
    pub fn denied(&self, via: ReadVia) -> IntCounter {
        self.reads_denied.with_label_values(&[via.as_str()])
    }

    /// Counts requests to the fleet's engine: those that were answered, and those that were not.
    pub(crate) fn fleet_requests(&self) -> [IntCounter; 2] {
        [true, false].map(|answered| self.fleet_requests.with_label_values(&[result(answered)]))
    }

    /// A configuration came into force.
    pub fn config_loaded(&self, now: &Now) {
        self.last_load.set(now.unix(now.at));
    }

    /// A reload ended. If the new configuration was accepted, it came into force.
    pub fn config_reloaded(&self, accepted: bool, now: &Now) {
        self.reloads.with_label_values(&[result(accepted)]).inc();
        if accepted {
            self.config_loaded(now);
        }
    }

    /// Everything that there is to say at `now`, in the text format.
    pub fn render(&self, directory: &AccountHandles, now: &Now) -> String {
        let views: Vec<AccountView> = directory
            .iter()
            .map(|(name, handle)| AccountView::of(name, handle))
            .collect();
        let mut text = String::new();
        // One family at a time: of ten thousand accounts, all samples at once would be a hundred megabytes.
        let own = FAMILIES.iter().map(|family| family.collect(&views, now));
        for family in own.chain(self.registry.gather()) {
            if !family.get_metric().is_empty() {
                // Fails only for a family without name or samples.
                let _ = TextEncoder::new().encode_utf8(&[family], &mut text);
            }
        }
        text
    }
}

const fn result(accepted: bool) -> &'static str {
    if accepted { "success" } else { "failure" }
}
