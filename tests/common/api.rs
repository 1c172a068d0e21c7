//! A client of the API socket, as simple as a legacy app's.

use super::PATIENCE;
use serde_json::Value as Json;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// An answer of the API.
#[derive(Debug)]
pub struct ApiReply {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

impl ApiReply {
    /// The body, which has to be JSON.
    pub fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Sends one request as whoever the thread is.
pub fn call(socket: &Path, method: &str, target: &str, body: &str) -> std::io::Result<ApiReply> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nHost: wxtokend\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let parsed = text.split_once("\r\n\r\n").and_then(|(head, body)| {
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(ApiReply {
            status,
            head: head.to_ascii_lowercase(),
            body: body.into(),
        })
    });
    parsed.ok_or_else(|| std::io::Error::other(format!("not HTTP: {text}")))
}
