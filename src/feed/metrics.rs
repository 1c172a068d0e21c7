//! Metrics and health over HTTP on loopback.

use crate::report::{Reports, status_line};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, GaugeVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at one time.
const MAX_CONNECTIONS: usize = 16;
/// The longest time that a client may take to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The counts of the feed as a whole.
#[derive(Debug, Default)]
pub struct FeedMetrics {
    /// The daemon's stream is followed.
    pub is_connected: AtomicBool,
    /// Reloads that succeeded.
    pub reloads: AtomicU64,
    /// Reloads that were rejected.
    pub rejected_reloads: AtomicU64,
    /// The reports of the targets.
    pub reports: Reports,
}

impl FeedMetrics {
    /// The text format of Prometheus.
    pub fn text(&self) -> prometheus::Result<String> {
        let registry = Registry::new();
        self.register_feed(&registry)?;
        self.register_targets(&registry)?;
        let mut families = registry.gather();
        families.extend(prometheus::core::Collector::collect(
            &ProcessCollector::for_self(),
        ));
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The feed as a whole.
    fn register_feed(&self, registry: &Registry) -> prometheus::Result<()> {
        let build = Opts::new(
            "wxtokend_feed_build_info",
            "Version and commit of this build.",
        )
        .const_label("version", wxtokend::VERSION)
        .const_label("commit", wxtokend::COMMIT);
        let build = IntGauge::with_opts(build)?;
        build.set(1);
        registry.register(Box::new(build))?;
        let connected = IntGauge::new(
            "wxtokend_feed_connected",
            "Whether the daemon's stream is followed.",
        )?;
        connected.set(self.is_connected.load(Ordering::Relaxed).into());
        registry.register(Box::new(connected))?;
        let reloads = counter(
            registry,
            "config_reloads_total",
            "Reloads of the configuration.",
            &["result"],
        )?;
        for (result, count) in [
            ("success", &self.reloads),
            ("rejected", &self.rejected_reloads),
        ] {
            reloads
                .with_label_values(&[result])
                .inc_by(count.load(Ordering::Relaxed));
        }
        Ok(())
    }

    /// Each target.
    fn register_targets(&self, registry: &Registry) -> prometheus::Result<()> {
        let gauge = |name: &str, help: &str| -> prometheus::Result<GaugeVec> {
            let gauge = GaugeVec::new(
                Opts::new(format!("wxtokend_feed_{name}"), help),
                &["target"],
            )?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let up = gauge(
            "target_up",
            "Whether the target can be used and holds what it is to hold.",
        )?;
        let values = gauge("target_values", "Values that the target is to hold.")?;
        let behind = gauge("target_behind", "Values that the target does not hold yet.")?;
        let last = gauge(
            "last_write_timestamp_seconds",
            "When a write last succeeded, Unix seconds.",
        )?;
        let writes = counter(
            registry,
            "writes_total",
            "Writes by result.",
            &["target", "result"],
        )?;
        let repairs = counter(
            registry,
            "repairs_total",
            "Rows and keys that somebody else had changed.",
            &["target"],
        )?;
        for report in self.reports.all() {
            let name = &[report.name.as_str()];
            up.with_label_values(name)
                .set(f64::from(u8::from(report.failure.is_none())));
            #[expect(
                clippy::cast_precision_loss,
                reason = "a sample is a float; far below 2^53"
            )]
            {
                values.with_label_values(name).set(report.values as f64);
                behind.with_label_values(name).set(report.behind as f64);
                last.with_label_values(name).set(report.last_write as f64);
            }
            writes
                .with_label_values(&[name[0], "success"])
                .inc_by(report.written);
            writes
                .with_label_values(&[name[0], "failure"])
                .inc_by(report.failed);
            repairs.with_label_values(name).inc_by(report.repaired);
        }
        Ok(())
    }

    fn answer(&self, path: &str) -> (StatusCode, String) {
        match path {
            "/metrics" => match self.text() {
                Ok(text) => (StatusCode::OK, text),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            },
            "/healthz" => {
                let reports = self.reports.all();
                let is_connected = self.is_connected.load(Ordering::Relaxed);
                let is_well = is_connected && reports.iter().all(|report| report.failure.is_none());
                let status = if is_well {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                (status, status_line(&reports, is_connected) + "\n")
            }
            _ => (
                StatusCode::NOT_FOUND,
                "there are /metrics and /healthz\n".to_owned(),
            ),
        }
    }
}

/// A counter of this registry.
fn counter(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    let counter = IntCounterVec::new(Opts::new(format!("wxtokend_feed_{name}"), help), labels)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

/// Binds the address at once; serves until the task is aborted.
pub async fn serve(
    address: SocketAddr,
    metrics: Arc<FeedMetrics>,
) -> std::io::Result<tokio::task::JoinHandle<()>> {
    let listener = TcpListener::bind(address).await?;
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    Ok(tokio::spawn(async move {
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let metrics = Arc::clone(&metrics);
            tokio::spawn(async move {
                let _slot = slot;
                let service = service_fn(move |request: Request<Incoming>| {
                    let (status, text) = metrics.answer(request.uri().path());
                    let answer = Response::builder()
                        .status(status)
                        .header(
                            header::CONTENT_TYPE,
                            "text/plain; version=0.0.4; charset=utf-8",
                        )
                        .body(Full::new(Bytes::from(text)));
                    async move { Ok::<_, Infallible>(answer.unwrap_or_default()) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(REQUEST_TIMEOUT)
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream), service);
                // A client that went is no fault.
                let _ = connection.await;
            });
        }
    }))
}
