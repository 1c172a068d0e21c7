//! Values, and reports of tokens that failed.

use super::ApiState;
use super::asker::Asker;
use super::body::{RefreshOutcome, RefreshRequest, ValueBody};
use super::error::{ApiError, Reason, no_such_account};
use super::response::{HttpAnswer, json, stopping};
use super::route::TokenWish;
use crate::clock;
use crate::counters::Counters;
use crate::handle::{AccountHandle, Command};
use crate::logging::Entry;
use crate::snapshot::{Snapshot, Verdict};
use crate::time::Moment;
use crate::trouble::LastError;
use crate::value::{Grant, Value, ValueName};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::StatusCode;
use hyper::body::{Bytes, Incoming};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

/// The largest body that a request may have, bytes.
const MAX_BODY: usize = 16 * 1024;
/// Time that a client may take to send a body.
const BODY_LIMIT: Duration = Duration::from_secs(10);
/// Time to wait for an account that asks the platform.
const VERDICT_LIMIT: Duration = Duration::from_secs(25);
/// `Retry-After` where nothing better is known.
const DEFAULT_RETRY: Duration = Duration::from_secs(5);

/// Answers with a value that has enough life if the platform grants one, and with another one if that comes in time.
pub(super) async fn give(
    state: &ApiState,
    asker: &Asker,
    handle: AccountHandle,
    wish: &TokenWish,
) -> Result<HttpAnswer, ApiError> {
    let kept = |name| {
        handle
            .snapshot
            .latest()
            .account
            .values()
            .any(|kept| kept == name)
    };
    if !kept(wish.value) {
        return Err(ApiError::new(
            Reason::NoSuchValue,
            format!("the account does not keep `{}`", wish.value),
            "an administrator adds it to the account's `tickets`",
        ));
    }
    let mut stopping = state.stopping.clone();
    unless_set(&mut stopping, renew(&handle, wish)).await;
    let snapshot = &handle.snapshot;
    let wanted = |snapshot: &Snapshot| {
        snapshot
            .valid(wish.value, clock::now().at)
            .is_some_and(|grant| {
                wish.after.is_empty() || wish.after != grant.value.fingerprint().to_string()
            })
    };
    // When the daemon stops, the time is up: what stands is still valid.
    let found = timeout(wish.wait, snapshot.when(|snapshot| wanted(snapshot)));
    unless_set(&mut stopping, found).await;
    // The readers may have changed meanwhile.
    if snapshot.is_gone() || !asker.may_read(&snapshot.latest().account, state) {
        return Err(no_such_account(snapshot.latest().account.name.as_str()));
    }
    answer(&handle, wish.value, None, None)
}

/// Has the value renewed if less than wished for is left of it. What comes of it shows in what stands afterwards.
async fn renew(handle: &AccountHandle, wish: &TokenWish) {
    let now = clock::now().at;
    let until = now + wish.min_valid;
    let lasts = |grant: &Grant| grant.expires >= until;
    if wish.min_valid.is_zero()
        || handle
            .snapshot
            .latest()
            .valid(wish.value, now)
            .is_some_and(lasts)
    {
        return;
    }
    let (reply, verdict) = oneshot::channel();
    handle.inbox.send(Command::Renew {
        value: wish.value,
        until,
        reply,
    });
    let _ = timeout(VERDICT_LIMIT, verdict).await;
}

/// Has the token looked at, as the body asks for.
pub(super) async fn refresh(
    state: &ApiState,
    asker: &Asker,
    handle: AccountHandle,
    body: Incoming,
) -> Result<HttpAnswer, ApiError> {
    let RefreshRequest { bad_token, errcode } = read(body).await?;
    let admin = asker.is_admin(state);
    let bad = match bad_token {
        Some(text) => Some(Value::parse(&text).ok_or_else(|| {
            bad_body(
                "`bad_token` is nothing that the platform grants: send the token as it was used",
            )
        })?),
        None if admin => None,
        None => {
            return Err(ApiError::new(
                Reason::NotAllowed,
                "only an administrator of the daemon may ask for a refresh without a token that failed",
                "send the token that failed as `bad_token`",
            ));
        }
    };
    let fingerprint = bad.as_ref().map(|bad| bad.fingerprint().to_string());
    Entry::of(&handle.snapshot.latest().account.name).debug(format_args!(
        "somebody doubts the token {}, errcode {errcode:?}",
        fingerprint.as_deref().unwrap_or("that stands")
    ));
    let (reply, verdict) = oneshot::channel();
    handle.inbox.send(Command::Suspect {
        bad,
        admin,
        reply: Some(reply),
    });
    let verdict = timeout(VERDICT_LIMIT, verdict);
    match unless_set(&mut state.stopping.clone(), verdict).await {
        Some(Ok(Ok(verdict))) => judge(&handle, verdict),
        Some(Err(_)) => Err(try_later(None, DEFAULT_RETRY)),
        Some(Ok(Err(_))) | None => Err(stopping()),
    }
}

/// Waits for something, but no longer than until a flag is set.
async fn unless_set<T>(
    flag: &mut watch::Receiver<bool>,
    future: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        output = future => Some(output),
        _ = flag.wait_for(|set| *set) => None,
    }
}

fn judge(handle: &AccountHandle, verdict: Verdict) -> Result<HttpAnswer, ApiError> {
    let verified = match verdict {
        Verdict::Verified(at) => Some(at),
        _ => None,
    };
    let outcome = match verdict {
        Verdict::Superseded => RefreshOutcome::Superseded,
        Verdict::StillValid | Verdict::Verified(_) => RefreshOutcome::StillValid,
        Verdict::Refreshed => RefreshOutcome::Refreshed,
        Verdict::TooSoon { retry_at } => {
            return Err(ApiError::new(
                Reason::TooSoon,
                "the token was looked at a moment ago",
                "use the one that `GET /v1/accounts/ACCOUNT/token` gives, or ask again later",
            )
            .retry_after(clock::now().at.until(retry_at)));
        }
        Verdict::Unavailable { retry_at, error } => {
            let now = clock::now().at;
            let after = now.until(retry_at);
            let snapshot = handle.snapshot.latest();
            return Err(match snapshot.valid(ValueName::AccessToken, now) {
                Some(_) => try_later(error.as_deref(), after),
                None => no_valid_value(ValueName::AccessToken, error.as_deref(), after),
            });
        }
    };
    answer(handle, ValueName::AccessToken, Some(outcome), verified)
}

/// The value that stands now.
fn answer(
    handle: &AccountHandle,
    name: ValueName,
    outcome: Option<RefreshOutcome>,
    verified: Option<Moment>,
) -> Result<HttpAnswer, ApiError> {
    let now = clock::now();
    let snapshot = handle.snapshot.latest();
    let Some(grant) = snapshot.valid(name, now.at) else {
        let after = snapshot
            .next_refresh
            .map_or(DEFAULT_RETRY, |at| now.at.until(at));
        return Err(no_valid_value(name, snapshot.last_error.as_deref(), after));
    };
    Counters::add(&handle.counters.api_reads);
    Ok(json(
        StatusCode::OK,
        &ValueBody {
            outcome,
            verified_seconds_ago: verified.map(|at| at.until(now.at).as_secs()),
            name,
            grant,
            now,
        },
    ))
}

fn no_valid_value(name: ValueName, error: Option<&LastError>, after: Duration) -> ApiError {
    unavailable(
        Reason::NoValidValue,
        format!("no valid `{name}` now"),
        error,
        after,
    )
}

fn try_later(error: Option<&LastError>, after: Duration) -> ApiError {
    unavailable(
        Reason::TryLater,
        "the platform could not be asked; the token that stands may still be valid".to_owned(),
        error,
        after,
    )
}

fn unavailable(
    reason: Reason,
    message: String,
    error: Option<&LastError>,
    after: Duration,
) -> ApiError {
    match error {
        Some(error) => ApiError::new(
            reason,
            format!("{message}: {}", error.message),
            error.hint.as_str(),
        ),
        None => ApiError::new(reason, message, "ask again later"),
    }
    .retry_after(after)
}

/// Reads the body of a refresh; none at all is an empty one.
async fn read(body: Incoming) -> Result<RefreshRequest, ApiError> {
    let collected = timeout(BODY_LIMIT, Limited::new(body, MAX_BODY).collect())
        .await
        .map_err(|_| bad_body("the body took too long to arrive"))?;
    let bytes: Bytes = match collected {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(ApiError::new(
                Reason::BodyTooLarge,
                format!("the body is larger than {MAX_BODY} bytes"),
                BODY_HINT,
            ));
        }
        Err(_) => return Err(bad_body("the body did not arrive whole")),
    };
    if bytes.trim_ascii().is_empty() {
        return Ok(RefreshRequest::default());
    }
    // The parser's own words would repeat what it read, and that may be a token.
    serde_json::from_slice(&bytes).map_err(|error| {
        bad_body(&format!(
            "the body is wrong at line {}, column {}",
            error.line(),
            error.column()
        ))
    })
}

const BODY_HINT: &str =
    r#"send JSON: {"bad_token":"…","errcode":40001}; administrators may leave out both"#;

fn bad_body(message: &str) -> ApiError {
    ApiError::new(Reason::BadRequest, message, BODY_HINT)
}
