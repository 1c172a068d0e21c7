//! Answers as HTTP.

use super::error::{ApiError, Reason};
use super::watch_body::WatchBody;
use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

pub(super) type HttpAnswer = Response<AnswerBody>;

/// The body of an answer.
pub(super) enum AnswerBody {
    Whole(Full<Bytes>),
    Watch(WatchBody),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(context),
            Self::Watch(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Watch(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Watch(body) => body.size_hint(),
        }
    }
}

pub(super) const TEXT: &str = "text/plain; charset=utf-8";

pub(super) fn json(status: StatusCode, body: &impl Serialize) -> HttpAnswer {
    // These types have nothing that JSON cannot hold.
    let body = serde_json::to_string(body).unwrap_or_default();
    text_answer(status, "application/json", body)
}

pub(super) fn text_answer(
    status: StatusCode,
    content_type: &'static str,
    body: String,
) -> HttpAnswer {
    answer(
        status,
        content_type,
        AnswerBody::Whole(Full::new(body.into())),
    )
}

/// An answer whose body is yet to come.
pub(super) fn watch_answer(body: WatchBody) -> HttpAnswer {
    answer(
        StatusCode::OK,
        "application/x-ndjson",
        AnswerBody::Watch(body),
    )
}

fn answer(status: StatusCode, content_type: &'static str, body: AnswerBody) -> HttpAnswer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    // All of it is of the moment, and some of it secret.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

pub(super) fn refuse(refusal: &ApiError) -> HttpAnswer {
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
pub(super) fn stopping() -> ApiError {
    ApiError::new(
        Reason::Stopping,
        "the daemon is stopping",
        "ask again when it is back",
    )
    .retry_after(Duration::from_secs(1))
}
