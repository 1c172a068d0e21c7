//! Requests and their answers, as the peer may have them.

use super::ApiState;
use super::asker::{Asker, find};
use super::body::{AccountBody, AccountsBody, ReloadBody};
use super::error::{ApiError, Reason};
use super::metrics;
use super::quota;
use super::response::{HttpAnswer, TEXT, json, refuse, stopping, text_answer, watch_answer};
use super::route::{QuotaWish, Route, no_such_path};
use super::token;
use super::watch_body::WatchBody;
use crate::clock;
use crate::snapshot::State;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Time to wait for a reload.
const RELOAD_LIMIT: Duration = Duration::from_secs(60);

/// Answers one request.
pub(super) async fn respond(
    state: &Arc<ApiState>,
    asker: &Arc<Asker>,
    request: Request<Incoming>,
) -> HttpAnswer {
    answer(state, asker, request)
        .await
        .unwrap_or_else(|refusal| refuse(&refusal))
}

async fn answer(
    state: &Arc<ApiState>,
    asker: &Arc<Asker>,
    request: Request<Incoming>,
) -> Result<HttpAnswer, ApiError> {
    let uri = request.uri();
    let route = Route::parse(
        request.method(),
        uri.path(),
        uri.query().unwrap_or_default(),
    )?;
    match (route, &**asker) {
        (Route::Metrics, asker) => metrics(state, asker),
        (Route::Health, asker) => Ok(health(state, asker)),
        (_, Asker::Scraper) => Err(no_such_path("/metrics and /healthz")),
        (Route::Accounts, asker) => Ok(accounts(state, asker)),
        (Route::Account(name), asker) => {
            let handle = find(state, asker, &name)?;
            let account = AccountBody::of(&handle.snapshot.latest(), &clock::now());
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
        (Route::Quota(name, wish), asker) => {
            let handle = find(state, asker, &name)?;
            quota::quota(state, asker, handle, wish == QuotaWish::Clear).await
        }
        (Route::Reload, asker) => reload(state, asker).await,
        (Route::Watch(wish), _) => WatchBody::start(state, asker, wish).map(watch_answer),
    }
}

fn accounts(state: &ApiState, asker: &Asker) -> HttpAnswer {
    let now = clock::now();
    let accounts = Arc::clone(&state.accounts.borrow());
    let visible = accounts.values().filter_map(|handle| {
        let snapshot = handle.snapshot.latest();
        asker
            .may_read(&snapshot.account, state)
            .then(|| AccountBody::of(&snapshot, &now))
    });
    let rejected = if asker.is_admin(state) {
        state.rejected.borrow().to_vec()
    } else {
        Vec::new()
    };
    json(
        StatusCode::OK,
        &AccountsBody {
            version: crate::VERSION.to_owned(),
            uptime_seconds: state.started.until(now.at).as_secs(),
            rejected,
            accounts: visible.collect(),
        },
    )
}

async fn reload(state: &ApiState, asker: &Asker) -> Result<HttpAnswer, ApiError> {
    if !asker.is_admin(state) {
        return Err(ApiError::new(
            Reason::NotAllowed,
            "only an administrator of the daemon may have it reload",
            "run it as root, or add yourself to `admins` under [api]",
        ));
    }
    let reloaded = timeout(RELOAD_LIMIT, async {
        let (reply, reloaded) = oneshot::channel();
        state.reload.send(reply).await.ok()?;
        reloaded.await.ok()
    });
    match reloaded.await {
        Ok(Some(Ok(mut changes))) => Ok(json(
            StatusCode::OK,
            &ReloadBody {
                reloaded: true,
                sections: std::mem::take(&mut changes.sections),
                warnings: std::mem::take(&mut changes.warnings),
                accounts: Some(changes),
                faults: None,
            },
        )),
        Ok(Some(Err(faults))) => Ok(json(
            StatusCode::UNPROCESSABLE_ENTITY,
            &ReloadBody {
                reloaded: false,
                sections: Vec::new(),
                warnings: Vec::new(),
                accounts: None,
                faults: Some(faults),
            },
        )),
        Ok(None) => Err(stopping()),
        Err(_) => Err(ApiError::new(
            Reason::TryLater,
            "the reload has not ended yet",
            "the daemon's log will say how it ends",
        )
        .retry_after(RELOAD_LIMIT)),
    }
}

/// The metrics name every account, so over the socket they are for administrators.
fn metrics(state: &ApiState, asker: &Asker) -> Result<HttpAnswer, ApiError> {
    if matches!(asker, Asker::Peer(_)) && !asker.is_admin(state) {
        return Err(ApiError::new(
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
fn health(state: &ApiState, asker: &Asker) -> HttpAnswer {
    let now = clock::now();
    let mut troubled = String::new();
    for handle in state.accounts.borrow().values() {
        let snapshot = handle.snapshot.latest();
        let visible = matches!(asker, Asker::Scraper) || asker.may_read(&snapshot.account, state);
        if visible && snapshot.state_at(now.at) != State::Fresh {
            troubled.push_str(&line(&AccountBody::of(&snapshot, &now)));
            troubled.push('\n');
        }
    }
    if troubled.is_empty() {
        text_answer(StatusCode::OK, TEXT, "ok\n".to_owned())
    } else {
        text_answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, troubled)
    }
}

/// The state of an account, on one line whatever the platform wrote.
fn line(account: &AccountBody) -> String {
    let AccountBody {
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
