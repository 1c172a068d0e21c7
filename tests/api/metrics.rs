//! The metrics, as Prometheus reads them.

use crate::fixture::{ApiDaemon, account};
use serde_json::{Value as Json, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use wxtokend::api::metrics::ReadVia;
use wxtokend::clock;
use wxtokend::counters::{Counted, Counters};
use wxtokend::snapshot::State;

/// Every metric that is promised, with the labels in the order in which they are written.
const PROMISED: &[&str] = &[
    "wxtokend_build_info{commit,version}",
    "wxtokend_account_state{account,state}",
    "wxtokend_value_expire_timestamp_seconds{account,value}",
    "wxtokend_last_success_timestamp_seconds{account}",
    "wxtokend_platform_calls_total{account,endpoint,result}",
    "wxtokend_platform_errors_total{account,errcode}",
    "wxtokend_platform_call_duration_seconds_bucket{endpoint,le}",
    "wxtokend_platform_call_duration_seconds_sum{endpoint}",
    "wxtokend_platform_call_duration_seconds_count{endpoint}",
    "wxtokend_calls_today{account}",
    "wxtokend_daily_budget{account}",
    "wxtokend_superseded_total{account}",
    "wxtokend_passive_refresh_total{account,outcome}",
    "wxtokend_output_errors_total{account,path}",
    "wxtokend_output_repairs_total{account,path}",
    "wxtokend_reads_total{account,via}",
    "wxtokend_reads_denied_total{via}",
    "wxtokend_config_reloads_total{result}",
    "wxtokend_config_last_reload_success_timestamp_seconds",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_max_fds",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_start_time_seconds",
];

/// A server to which everything has happened that is counted.
fn daemon() -> ApiDaemon {
    let (shop, blog) = (account("shop", vec![]), account("blog", vec![]));
    for (what, count) in [
        (Counted::Call("stable_token", "ok"), 30),
        (Counted::Call("stable_token", "refused"), 1),
        (Counted::Refusal(40164), 1),
        (Counted::PassiveRefresh("superseded"), 2),
        (Counted::OutputError(0), 3),
        (Counted::OutputRepair(1), 4),
        // Of an output that a reload has taken away.
        (Counted::OutputError(7), 5),
    ] {
        shop.counters.count(what, count);
    }
    Counters::add(&shop.counters.socket_reads);
    Counters::add(&shop.counters.superseded);
    blog.publish(|snapshot| {
        snapshot.state = State::Degraded;
        snapshot.calls_day -= 1;
        snapshot.last_success = None;
    });
    let daemon = ApiDaemon::of(&[shop, blog]);
    daemon
        .metrics
        .observe_call("stable_token", Duration::from_millis(30));
    daemon
        .metrics
        .observe_call("getticket", Duration::from_secs(60));
    daemon.metrics.denied(ReadVia::Socket).inc();
    daemon.metrics.config_loaded(&clock::now());
    daemon.metrics.config_reloaded(true, &clock::now());
    daemon.metrics.config_reloaded(false, &clock::now());
    daemon
}

#[test]
fn promtool_accepts_them() {
    let daemon = daemon();
    for text in [
        daemon.get("/metrics").body,
        ApiDaemon::of(&[]).get("/metrics").body,
    ] {
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool is needed (Debian: prometheus)");
        promtool
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        let output = promtool.wait_with_output().unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{}\n{text}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn every_promised_metric_is_there_and_no_other() {
    let text = daemon().get("/metrics").body;
    let mut seen: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let series = line.rsplit_once(' ').unwrap().0;
            let Some((name, labels)) = series.split_once('{') else {
                return series.to_owned();
            };
            let mut names: Vec<_> = labels
                .split("\",")
                .map(|label| label.split_once('=').unwrap().0)
                .collect();
            names.sort_unstable();
            format!("{name}{{{}}}", names.join(","))
        })
        .collect();
    seen.sort_unstable();
    seen.dedup();
    seen.retain(|name| name != "process_threads");
    let mut promised = PROMISED.to_vec();
    promised.sort_unstable();
    assert_eq!(seen, promised);
}

#[test]
fn samples_say_what_is_so() {
    let daemon = daemon();
    daemon.get("/v1/accounts/shop/token");
    let text = daemon.get("/metrics").body;
    for line in [
        r#"wxtokend_account_state{account="shop",state="fresh"} 1"#,
        r#"wxtokend_account_state{account="shop",state="expired"} 0"#,
        r#"wxtokend_account_state{account="blog",state="degraded"} 1"#,
        r#"wxtokend_platform_calls_total{account="shop",endpoint="stable_token",result="ok"} 30"#,
        r#"wxtokend_platform_errors_total{account="shop",errcode="40164"} 1"#,
        r#"wxtokend_platform_call_duration_seconds_bucket{endpoint="stable_token",le="0.025"} 0"#,
        r#"wxtokend_platform_call_duration_seconds_bucket{endpoint="stable_token",le="0.05"} 1"#,
        r#"wxtokend_platform_call_duration_seconds_bucket{endpoint="getticket",le="30"} 0"#,
        r#"wxtokend_platform_call_duration_seconds_bucket{endpoint="getticket",le="+Inf"} 1"#,
        r#"wxtokend_calls_today{account="shop"} 31"#,
        r#"wxtokend_calls_today{account="blog"} 0"#,
        r#"wxtokend_daily_budget{account="shop"} 10000"#,
        r#"wxtokend_superseded_total{account="shop"} 1"#,
        r#"wxtokend_passive_refresh_total{account="shop",outcome="superseded"} 2"#,
        r#"wxtokend_output_errors_total{account="shop",path="/run/wxtokend/shop.json"} 3"#,
        r#"wxtokend_output_errors_total{account="shop",path="/run/wxtokend/shop.sock"} 0"#,
        r#"wxtokend_output_repairs_total{account="shop",path="/run/wxtokend/shop.sock"} 4"#,
        r#"wxtokend_reads_total{account="shop",via="socket"} 1"#,
        r#"wxtokend_reads_total{account="shop",via="api"} 1"#,
        r#"wxtokend_reads_total{account="blog",via="api"} 0"#,
        r#"wxtokend_reads_denied_total{via="socket"} 1"#,
        r#"wxtokend_reads_denied_total{via="api"} 0"#,
        r#"wxtokend_config_reloads_total{result="success"} 1"#,
        r#"wxtokend_config_reloads_total{result="failure"} 1"#,
    ] {
        assert!(
            text.lines().any(|other| other == line),
            "no `{line}` in\n{text}"
        );
    }
    assert!(!text.contains(r#"last_success_timestamp_seconds{account="blog"}"#));
    assert!(!text.contains("TOKEN"));
}

#[test]
fn the_listener_for_metrics_serves_nothing_else() {
    let daemon = daemon();
    let reply = daemon.scrape("GET", "/metrics");
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert!(
        reply
            .body
            .contains(r#"wxtokend_calls_today{account="shop"} 31"#)
    );
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/v1/accounts", 404),
        ("GET", "/v1/accounts/shop", 404),
        ("GET", "/v1/accounts/shop/token", 404),
        ("GET", "/v1/accounts/shop/token?wait=300", 404),
        ("POST", "/v1/accounts/shop/refresh", 404),
        ("POST", "/v1/reload", 404),
        ("POST", "/metrics", 405),
    ] {
        let reply = daemon.scrape(method, path);
        assert_eq!(reply.status, status, "{method} {path}");
        assert!(!reply.body.contains("TOKEN"));
    }
}

fn shipped(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn promtool(args: &[&str]) {
    let output = Command::new("promtool")
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("promtool is needed (Debian: prometheus)");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn alerts_fire_when_they_should() {
    promtool(&["check", "rules", "packaging/prometheus/alerts.yml"]);
    promtool(&["test", "rules", "tests/api/alerts_test.yml"]);
    let alerts = shipped("packaging/prometheus/alerts.yml");
    let tested = shipped("tests/api/alerts_test.yml");
    for alert in alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
    {
        assert!(
            tested.contains(&format!("alertname=\"{alert}\"")),
            "{alert} is not tested"
        );
    }
}

#[test]
fn alerts_and_dashboard_use_metrics_that_exist() {
    let exists: Vec<_> = PROMISED
        .iter()
        .map(|metric| metric.split('{').next().unwrap())
        .collect();
    for path in [
        "packaging/prometheus/alerts.yml",
        "packaging/grafana/dashboard.json",
    ] {
        let text = shipped(path);
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let used: Vec<_> = words
            .filter(|word| word.starts_with("wxtokend_") || word.starts_with("process_"))
            .collect();
        assert!(used.len() > 10, "{path}");
        for metric in used {
            assert!(exists.contains(&metric), "{path}: no metric `{metric}`");
        }
    }
}

#[test]
fn every_panel_of_the_dashboard_asks_something_valid() {
    let dashboard: Json =
        serde_json::from_str(&shipped("packaging/grafana/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let asked = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap());
    let asked = asked.chain(dashboard["annotations"]["list"].as_array().unwrap());
    let expressions: Vec<_> = asked
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    assert!(expressions.len() >= panels.len());
    // Prometheus checks them as rules, Grafana's variables replaced as Grafana would.
    let rules: Vec<Json> = expressions
        .iter()
        .enumerate()
        .map(|(i, expression)| {
            let expression = expression
                .replace("$__rate_interval", "1m")
                .replace("$__interval", "1m")
                .replace("$instance", ".*")
                .replace("$account", ".*");
            json!({"record": format!("panel:{i}"), "expr": expression})
        })
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    let groups = json!({"groups": [{"name": "dashboard", "rules": rules}]});
    std::fs::write(file.path(), groups.to_string()).unwrap();
    promtool(&["check", "rules", file.path().to_str().unwrap()]);
}
