//! Errors of HTTP itself: hyper answers them with a bare status line, and here they get a body as every error does.

use super::error::{ApiError, Reason};
use hyper::StatusCode;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection on which hyper's own error answers get a body.
pub(super) struct WithErrorBodies<S> {
    stream: S,
    /// Replaces an answer that hyper believes to have written.
    unsent: Vec<u8>,
}

impl<S> WithErrorBodies<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            unsent: Vec::new(),
        }
    }
}

/// A whole answer to a request that is no HTTP, in place of hyper's; nothing if it is one of ours, which all have a type.
fn replacement(answer: &[u8]) -> Option<Vec<u8>> {
    let head = str::from_utf8(answer).ok()?;
    let status = head
        .strip_prefix("HTTP/1.1 4")
        .or_else(|| head.strip_prefix("HTTP/1.0 4"))?;
    if head.contains("\r\ncontent-type: ") {
        return None;
    }
    let status = StatusCode::from_bytes(format!("4{}", status.get(..2)?).as_bytes()).ok()?;
    let (reason, message) = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::URI_TOO_LONG => (
            Reason::HeaderTooLarge,
            "the head of the request is too large",
        ),
        _ => (Reason::BadRequest, "this is no request in HTTP/1.1"),
    };
    Some(ApiError::new(reason, message, "for example GET /v1/accounts HTTP/1.1").to_http())
}

impl<S: AsyncRead + Unpin> AsyncRead for WithErrorBodies<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WithErrorBodies<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(answer) = replacement(bytes) {
            self.unsent = answer;
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match parts {
            [only] => self.poll_write(context, only),
            _ => Pin::new(&mut self.stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while !this.unsent.is_empty() {
            let sent = ready!(Pin::new(&mut this.stream).poll_write(context, &this.unsent))?;
            this.unsent.drain(..sent);
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_of_hyper_itself_are_replaced() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let answer = String::from_utf8(replacement(bare).unwrap()).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
        assert!(
            head.contains(&format!("Content-Length: {}", body.len())),
            "{head}"
        );
        assert!(
            body.starts_with(r#"{"error":"header_too_large","message":"#),
            "{body}"
        );
        for kept in [
            &b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 4",
            b"",
            b"\xff",
        ] {
            assert_eq!(replacement(kept), None);
        }
    }
}
