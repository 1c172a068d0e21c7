//! A stand-in for the daemon that serves `GET /v1/watch` and nothing else: what stands is set by the test.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, SystemTime};

/// Runs until dropped.
pub struct StandIn {
    path: PathBuf,
    state: Arc<StandInState>,
    stopped: Arc<AtomicBool>,
}

#[derive(Default)]
struct StandInState {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    standing: BTreeMap<(String, String), Value>,
    log: Vec<Value>,
}

pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(now.unwrap().as_secs()).unwrap()
}

impl StandIn {
    pub fn start(path: &Path) -> Self {
        Self::serve(path, Arc::default())
    }

    fn serve(path: &Path, state: Arc<StandInState>) -> Self {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let stand_in = Self {
            path: path.to_path_buf(),
            state: Arc::clone(&state),
            stopped: Arc::clone(&stopped),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (state, stopped) = (Arc::clone(&state), Arc::clone(&stopped));
                std::thread::spawn(move || {
                    // A client that went is no fault.
                    let _ = serve(&stream.unwrap(), &state, &stopped);
                });
            }
        });
        stand_in
    }

    /// Stops as a daemon does, and starts again with what stands.
    pub fn restart(self, away: Duration) -> Self {
        let (path, state) = (self.path.clone(), Arc::clone(&self.state));
        drop(self);
        std::thread::sleep(away);
        Self::serve(&path, state)
    }

    /// A value that ends after so many seconds.
    pub fn set(&self, account: &str, value: &str, token: &str, life: i64) {
        let mut told = json!({"account": account, "appid": "wx0123456789abcdef", "value": value});
        told[value] = token.into();
        let now = now();
        told["expire_time"] = (now + life).into();
        told["obtained_time"] = now.into();
        self.change(account, value, told);
    }

    /// No valid value.
    pub fn set_none(&self, account: &str, value: &str) {
        let line = json!({"account": account, "appid": "wx0123456789abcdef", "value": value, "none": true});
        self.change(account, value, line);
    }

    /// The account is no more.
    pub fn remove(&self, account: &str) {
        let mut inner = self.state.inner.lock().unwrap();
        inner.standing.retain(|(name, _), _| name != account);
        inner.log.push(json!({"account": account, "gone": true}));
        self.state.changed.notify_all();
    }

    fn change(&self, account: &str, value: &str, line: Value) {
        let mut inner = self.state.inner.lock().unwrap();
        let key = (account.to_owned(), value.to_owned());
        inner.standing.insert(key, line.clone());
        inner.log.push(line);
        self.state.changed.notify_all();
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        // Under the lock, so that no connection that has looked a moment ago waits past the notice.
        let inner = self.state.inner.lock();
        self.stopped.store(true, Ordering::SeqCst);
        self.state.changed.notify_all();
        drop(inner);
        let _ = UnixStream::connect(&self.path);
        let _ = std::fs::remove_file(&self.path);
    }
}

fn serve(
    mut stream: &UnixStream,
    state: &StandInState,
    stopped: &AtomicBool,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? < 3 {
            break;
        }
        head.push(line);
    }
    let path = head.first().and_then(|line| line.split(' ').nth(1));
    let path = path.unwrap_or_default().to_owned();
    if !path.starts_with("/v1/watch") {
        let body = r#"{"version":"0","uptime_seconds":1,"accounts":[]}"#;
        return write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
    }
    let query = path.split_once('?').map_or("", |(_, query)| query);
    let named = |key: &str| -> Vec<String> {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let named = pairs.filter(|(name, _)| *name == key);
        named.map(|(_, value)| value.to_owned()).collect()
    };
    let (accounts, values) = (named("account"), named("value"));
    let wanted = |line: &Value| {
        let is_wanted = |list: &[String], field: &str| {
            let field = line[field].as_str();
            list.is_empty() || field.is_none_or(|field| list.iter().any(|item| item == field))
        };
        is_wanted(&accounts, "account") && is_wanted(&values, "value")
    };
    if accounts.iter().any(|name| name == "nobody") {
        let body =
            r#"{"error":"no_such_account","message":"there is no account `nobody`","hint":""}"#;
        return write!(
            stream,
            "HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n")?;
    let send = |mut stream: &UnixStream, line: &Value| {
        let line = format!("{line}\n");
        stream.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes())
    };
    let mut inner = state.inner.lock().unwrap();
    let standing: Vec<Value> = inner.standing.values().cloned().collect();
    let mut seen = inner.log.len();
    drop(inner);
    for line in standing.iter().filter(|line| wanted(line)) {
        send(stream, line)?;
    }
    send(stream, &json!({"synced": true}))?;
    loop {
        inner = state.inner.lock().unwrap();
        while inner.log.len() == seen && !stopped.load(Ordering::SeqCst) {
            inner = state.changed.wait(inner).unwrap();
        }
        let news = inner.log[seen..].to_vec();
        seen = inner.log.len();
        drop(inner);
        for line in news.iter().filter(|line| wanted(line)) {
            send(stream, line)?;
        }
        if stopped.load(Ordering::SeqCst) {
            return stream.write_all(b"0\r\n\r\n");
        }
    }
}
