//! Who may ask what, and the answer.

use super::ApiState;
use super::answer::{Account, Accounts, Reload};
use super::metrics;
use super::refusal::{Reason, Refusal, no_such_account};
use super::route::{Route, no_such_path};
use super::token;
use crate::account::{self, AccountName};
use crate::clock;
use crate::handle::AccountHandle;
use crate::peer::Peer;
use crate::snapshot::State;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long to wait for a reload.
const RELOAD_TIME: Duration = Duration::from_secs(60);

pub(super) type Answer = Response<Full<Bytes>>;

/// Who asks.
#[derive(Debug)]
pub(super) enum Asker {
    /// A local process, over the API socket.
    Peer(Peer),
    /// Whoever can reach the loopback address of the metrics.
    Scraper,
}

impl Asker {
    pub(super) fn is_admin(&self, state: &ApiState) -> bool {
        match self {
            Self::Peer(peer) => peer.is_any_of(&state.admins.borrow()),
            Self::Scraper => false,
        }
    }

    pub(super) fn may_read(&self, account: &account::Account, state: &ApiState) -> bool {
        match self {
            Self::Peer(peer) => peer.is_any_of(&account.readers) || self.is_admin(state),
            Self::Scraper => false,
        }
    }
}

/// Answers one request.
pub(super) async fn respond(state: &ApiState, asker: &Asker, request: Request<Incoming>) -> Answer {
    answer(state, asker, request)
        .await
        .unwrap_or_else(|refusal| refuse(&refusal))
}

async fn answer(
    state: &ApiState,
    asker: &Asker,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let uri = request.uri();
    let route = Route::parse(
        request.method(),
        uri.path(),
        uri.query().unwrap_or_default(),
    )?;
    match (route, asker) {
        (Route::Metrics, asker) => metrics(state, asker),
        (Route::Health, asker) => Ok(health(state, asker)),
        (_, Asker::Scraper) => Err(no_such_path("/metrics and /healthz")),
        (Route::Accounts, asker) => Ok(accounts(state, asker)),
        (Route::Account(name), asker) => {
            let handle = find(state, asker, &name)?;
            let account = Account::of(&handle.snapshot.latest(), &clock::now());
            Ok(json(StatusCode::OK, &account))
        }
        (Route::Token(name, wish), asker) => {
            let handle = find(state, asker, &name)?;
            token::give(state, asker, handle, &wish).await
        }
        (Route::Refresh(name), asker) => {
            let handle = find(state, asker, &name)?;
            token::refresh(state, asker, handle, request.into_body()).await
        }
        (Route::Reload, asker) => reload(state, asker).await,
    }
}

/// The account of that name, if the asker may read it.
fn find(state: &ApiState, asker: &Asker, name: &AccountName) -> Result<AccountHandle, Refusal> {
    let accounts = Arc::clone(&state.accounts.borrow());
    let handle = accounts
        .get(name)
        .ok_or_else(|| no_such_account(name.as_str()))?;
    if !asker.may_read(&handle.snapshot.latest().account, state) {
        state.metrics.denied(metrics::Via::Api).inc();
        return Err(no_such_account(name.as_str()));
    }
    Ok(handle.clone())
}

fn accounts(state: &ApiState, asker: &Asker) -> Answer {
    let now = clock::now();
    let accounts = Arc::clone(&state.accounts.borrow());
    let visible = accounts.values().filter_map(|handle| {
        let snapshot = handle.snapshot.latest();
        asker
            .may_read(&snapshot.account, state)
            .then(|| Account::of(&snapshot, &now))
    });
    json(
        StatusCode::OK,
        &Accounts {
            version: crate::VERSION.to_owned(),
            uptime_seconds: state.started.until(now.at).as_secs(),
            accounts: visible.collect(),
        },
    )
}

async fn reload(state: &ApiState, asker: &Asker) -> Result<Answer, Refusal> {
    if !asker.is_admin(state) {
        return Err(Refusal::new(
            Reason::NotAllowed,
            "only an administrator of the daemon may have it reload",
            "run it as root, or add yourself to `admins` under [api]",
        ));
    }
    let reloaded = timeout(RELOAD_TIME, async {
        let (reply, reloaded) = oneshot::channel();
        state.reload.send(reply).await.ok()?;
        reloaded.await.ok()
    });
    match reloaded.await {
        Ok(Some(Ok(changes))) => Ok(json(
            StatusCode::OK,
            &Reload {
                reloaded: true,
                accounts: Some(changes),
                faults: None,
            },
        )),
        Ok(Some(Err(faults))) => Ok(json(
            StatusCode::UNPROCESSABLE_ENTITY,
            &Reload {
                reloaded: false,
                accounts: None,
                faults: Some(faults),
            },
        )),
        Ok(None) => Err(stopping()),
        Err(_) => Err(Refusal::new(
            Reason::TryLater,
            "the reload has not ended yet",
            "the daemon's log will say how it ends",
        )
        .retry_after(RELOAD_TIME)),
    }
}

/// The metrics name every account, so over the socket they are for administrators.
fn metrics(state: &ApiState, asker: &Asker) -> Result<Answer, Refusal> {
    if matches!(asker, Asker::Peer(_)) && !asker.is_admin(state) {
        return Err(Refusal::new(
            Reason::NotAllowed,
            "only an administrator of the daemon may have its metrics",
            "have `metrics` under [api] serve them on a loopback address, or add yourself to `admins`",
        ));
    }
    let text = state
        .metrics
        .render(&state.accounts.borrow(), &clock::now());
    Ok(text_answer(StatusCode::OK, metrics::CONTENT_TYPE, text))
}

/// Judges the accounts that the asker may see.
fn health(state: &ApiState, asker: &Asker) -> Answer {
    let now = clock::now();
    let mut troubled = String::new();
    for handle in state.accounts.borrow().values() {
        let snapshot = handle.snapshot.latest();
        let visible = matches!(asker, Asker::Scraper) || asker.may_read(&snapshot.account, state);
        if visible && snapshot.state_at(now.at) != State::Fresh {
            troubled.push_str(&line(&Account::of(&snapshot, &now)));
            troubled.push('\n');
        }
    }
    if troubled.is_empty() {
        text_answer(StatusCode::OK, TEXT, "ok\n".to_owned())
    } else {
        text_answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, troubled)
    }
}

/// How an account is, on one line whatever the platform wrote.
fn line(account: &Account) -> String {
    let Account {
        account: name,
        state,
        ..
    } = account;
    let mut line = format!("{name} {}", state.as_str());
    if let Some(trouble) = account.trouble() {
        line.push_str(": ");
        line.extend(
            trouble
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c }),
        );
    }
    line
}

const TEXT: &str = "text/plain; charset=utf-8";

pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    // These types have nothing that JSON cannot hold.
    let body = serde_json::to_string(body).unwrap_or_default();
    text_answer(status, "application/json", body)
}

fn text_answer(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    // All of it is of the moment, and some of it secret.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn refuse(refusal: &Refusal) -> Answer {
    let mut answer = json(refusal.error.status(), refusal);
    let headers = answer.headers_mut();
    if let Some(after) = refusal.retry_after {
        headers.insert(header::RETRY_AFTER, seconds_up(after).into());
    }
    if let Some(allow) = refusal.allow {
        headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    answer
}

/// Whole seconds, rounded up, at least one: asking again then is not too early.
fn seconds_up(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis().div_ceil(1000).max(1)).unwrap_or(u64::MAX)
}

/// The account or the daemon is gone, and the request with it.
pub(super) fn stopping() -> Refusal {
    Refusal::new(
        Reason::Stopping,
        "the daemon is stopping",
        "ask again when it is back",
    )
    .retry_after(Duration::from_secs(1))
}
