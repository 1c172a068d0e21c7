//! The platform's own count of an account's calls.

use super::ApiState;
use super::asker::Asker;
use super::body::{EndpointBody, QuotaBody};
use super::error::{ApiError, Reason};
use super::response::{HttpAnswer, json, stopping};
use crate::clock;
use crate::handle::{AccountHandle, Command};
use crate::logging::Entry;
use crate::quota::NoQuota;
use crate::trouble::Class;
use hyper::StatusCode;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Time to wait for an account that asks the platform.
const COUNT_LIMIT: Duration = Duration::from_secs(28);
/// `Retry-After` where nothing better is known.
const LATER: Duration = Duration::from_secs(60);

/// Shows the platform's count beside ours, cleared first if wanted.
pub(super) async fn quota(
    state: &ApiState,
    asker: &Asker,
    handle: AccountHandle,
    clear: bool,
) -> Result<HttpAnswer, ApiError> {
    let admin = asker.is_admin(state);
    if clear && !admin {
        return Err(ApiError::new(
            Reason::NotAllowed,
            "only an administrator of the daemon may have the platform's count cleared",
            "run it as root, or add yourself to `admins` under [api]",
        ));
    }
    let (reply, report) = oneshot::channel();
    let wish = Command::Quota {
        clear,
        admin,
        reply,
    };
    handle.inbox.send(wish);
    let report = match timeout(COUNT_LIMIT, report).await {
        Ok(Ok(report)) => report,
        Ok(Err(_)) => return Err(stopping()),
        Err(_) => {
            return Err(later(
                "the platform has not answered yet",
                "ask again later",
            ));
        }
    };
    let report = report.map_err(|error| refused(&error))?;
    if clear {
        let name = handle.snapshot.latest().account.name.clone();
        Entry::of(&name).info("the platform's counts of its calls are cleared");
    }
    let endpoints = report.endpoints.iter().map(|count| EndpointBody {
        path: count.path.to_owned(),
        limit: count.limit,
        used: count.used,
        left: count.left,
    });
    let body = QuotaBody {
        endpoints: endpoints.collect(),
        calls_today: report.calls_today,
        calls_listed: report.listed_today,
    };
    Ok(json(StatusCode::OK, &body))
}

fn later(message: &str, hint: &str) -> ApiError {
    ApiError::new(Reason::TryLater, message, hint).retry_after(LATER)
}

fn refused(error: &NoQuota) -> ApiError {
    match error {
        NoQuota::NotThere => ApiError::new(
            Reason::NoSuchValue,
            "the account's platform shows no count of its calls",
            "only 公众号, 小程序 and their like have one; `calls_today` is ours",
        ),
        NoQuota::Follower => ApiError::new(
            Reason::NotAllowed,
            "this host is a follower in its fleet and never calls the platform",
            "ask on the host that leads; `wxtokend status` names it",
        ),
        NoQuota::NoToken => ApiError::new(
            Reason::NoValidValue,
            "no valid `access_token` to ask the platform with",
            "see `wxtokend status`; an administrator may clear the count without one",
        )
        .retry_after(LATER),
        NoQuota::TooSoon(next) => ApiError::new(
            Reason::TooSoon,
            "the platform was asked less than a minute ago, or few of the day's calls are left",
            "ask again later, or as an administrator",
        )
        .retry_after(clock::now().at.until(*next)),
        NoQuota::Refused(refusal) => {
            let message = format!("the platform gives no count: {}", refusal.message);
            let reason = match refusal.class {
                Class::Operator | Class::Local => Reason::NoValidValue,
                _ => Reason::TryLater,
            };
            ApiError::new(reason, message, refusal.hint.as_str()).retry_after(LATER)
        }
    }
}
