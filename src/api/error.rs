//! Errors of the API.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The machine word of an error. Scripts branch on it, as do the client commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// 400: the query or the body is wrong.
    BadRequest,
    /// 403: only others may do that.
    NotAllowed,
    /// 404: nothing is at this path.
    NoSuchPath,
    /// 404: no account of that name that the peer may see.
    NoSuchAccount,
    /// 404: the account does not keep that value.
    NoSuchValue,
    /// 405: the path is right, the method is not.
    MethodNotAllowed,
    /// 413: more than the API ever needs.
    BodyTooLarge,
    /// 431: larger than the API ever needs.
    HeaderTooLarge,
    /// 429: the token was looked at a moment ago.
    TooSoon,
    /// 503: a valid token stands, but it could not be looked at.
    TryLater,
    /// 503: no valid value now.
    NoValidValue,
    /// 503: this user, or all together, hold too many connections.
    TooManyConnections,
    /// 503: the daemon is stopping.
    Stopping,
    /// One that a newer daemon may know.
    #[serde(other)]
    Other,
}

impl Reason {
    /// The status that goes with it.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::NotAllowed => StatusCode::FORBIDDEN,
            Self::NoSuchPath | Self::NoSuchAccount | Self::NoSuchValue => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TooSoon => StatusCode::TOO_MANY_REQUESTS,
            Self::TryLater
            | Self::NoValidValue
            | Self::TooManyConnections
            | Self::Stopping
            | Self::Other => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// The body of every answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// The reason, for programs.
    pub error: Reason,
    /// The reason, for people.
    pub message: String,
    /// Advice for whoever asked.
    pub hint: String,
    /// For `Retry-After`: when asking again makes sense.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
    /// For `Allow`: the methods that the path knows.
    #[serde(skip)]
    pub allow: Option<&'static str>,
}

impl ApiError {
    /// An error with its reason and advice.
    pub fn new(error: Reason, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            error,
            message: message.into(),
            hint: hint.into(),
            retry_after: None,
            allow: None,
        }
    }

    /// The whole answer as it goes over the wire, after which the connection ends.
    pub(super) fn to_http(&self) -> Vec<u8> {
        let (status, body) = (
            self.error.status(),
            serde_json::to_string(self).unwrap_or_default(),
        );
        let retry = match self.retry_after {
            Some(after) => format!("Retry-After: {}\r\n", after.as_secs().max(1)),
            None => String::new(),
        };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{retry}\
             Connection: close\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    /// With the time after which asking again makes sense.
    #[must_use]
    pub(crate) fn retry_after(self, after: Duration) -> Self {
        Self {
            retry_after: Some(after),
            ..self
        }
    }
}

/// The same for an account that is not there and for one that the peer may not see.
pub(crate) fn no_such_account(name: &str) -> ApiError {
    ApiError::new(
        Reason::NoSuchAccount,
        format!("no account `{name}` that you may see"),
        "`wxtokend status` lists the accounts that you may see; an administrator adds you to the account's `readers`",
    )
}
