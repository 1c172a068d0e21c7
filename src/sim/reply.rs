//! A description of the platform's answer: the server turns it into bytes on a connection.

use serde_json::Value as Json;
use std::time::Duration;

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The HTTP status: 200 for nearly everything.
    pub status: u16,
    /// The `Content-Type`.
    pub content_type: &'static str,
    /// The `Location` of a redirect.
    pub location: Option<String>,
    /// Delay of the answer.
    pub delay: Duration,
    /// The body after the head, or what happens instead of it.
    pub body: Body,
    /// The account that called, by index.
    pub(super) caller: Option<usize>,
}

/// The body of an answer, or what happens instead.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// These bytes, announced as twice as many; then the connection closes.
    Half(Vec<u8>),
    /// White space without an end, as fast as it is read.
    Endless,
    /// White space without an end, a byte each 100 ms.
    Drip,
    /// No answer, while the connection stays open.
    Never,
    /// The connection is reset.
    Reset,
}

/// `Content-Type` of JSON.
pub(super) const JSON: &str = "application/json";
/// `Content-Type` of web pages.
const HTML: &str = "text/html; charset=utf-8";

impl Reply {
    pub(super) fn new(content_type: &'static str, body: Body) -> Self {
        Self {
            status: 200,
            content_type,
            location: None,
            delay: Duration::ZERO,
            body,
            caller: None,
        }
    }

    /// JSON with status 200.
    pub(super) fn json(json: &Json) -> Self {
        Self::new(JSON, Body::Whole(json.to_string().into_bytes()))
    }

    /// A web page.
    pub(super) fn page(status: u16, body: &str) -> Self {
        Self {
            status,
            ..Self::new(HTML, Body::Whole(body.into()))
        }
    }

    /// The same head with another body.
    pub(super) fn with(self, body: Body) -> Self {
        Self { body, ..self }
    }

    /// The same JSON with another value for those of the keys that it has.
    pub(super) fn altered<const N: usize>(self, keys: [&str; N], value: &Json) -> Self {
        let mut json = self.to_json();
        for key in keys {
            if let Some(old) = json.get_mut(key) {
                old.clone_from(value);
            }
        }
        self.with(Body::Whole(json.to_string().into()))
    }

    /// The body as text, if it comes whole.
    pub fn text(&self) -> Option<&str> {
        match &self.body {
            Body::Whole(bytes) => str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The body as JSON; `Null` if it is none.
    pub fn to_json(&self) -> Json {
        self.text()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or(Json::Null)
    }
}
