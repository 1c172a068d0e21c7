//! Follows values as they change: the client of `GET /v1/watch`.
//!
//! [`follow`] connects, reads the stream, and connects again whenever it ends. Nothing in here holds more than one
//! line and the names of what it has heard of.

mod line;

pub use line::{BadLine, Holding, StreamLine, Subject};

use crate::account::AccountName;
use crate::fault::reason;
use crate::value::ValueName;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

/// The longest line that is read, bytes.
const MAX_LINE: usize = 8192;
/// The longest error answer that is read, bytes.
const MAX_ERROR: usize = 16 * 1024;
/// Longest silence of the stream: twice the interval of its heartbeats, and some more.
const MAX_SILENCE: Duration = Duration::from_secs(75);
/// Longest wait for an answer to the request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// The first and the longest wait before connecting again.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Events that may wait for the reader. Beyond that the daemon keeps only the newest of each value.
const QUEUE: usize = 16;

/// The reason why nothing can be followed now.
#[derive(Debug)]
pub enum FollowError {
    /// Nobody is at the socket.
    Unreachable(io::Error),
    /// The daemon refuses; the body of its answer says why.
    Refused(StatusCode, Vec<u8>),
    /// The stream ended or is none.
    Broken(&'static str),
}

impl std::fmt::Display for FollowError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        #[derive(Deserialize)]
        struct RefusalText {
            message: String,
        }
        match self {
            Self::Unreachable(error) => f.write_str(&reason(error)),
            Self::Refused(status, body) => match serde_json::from_slice(body) {
                Ok(RefusalText { message }) => f.write_str(&message),
                Err(_) => write!(f, "the answer is {status}"),
            },
            Self::Broken(what) => f.write_str(what),
        }
    }
}

/// An event of the stream.
#[derive(Debug)]
pub enum StreamEvent {
    /// A line of the stream, and its text.
    Line(StreamLine, Zeroizing<Box<[u8]>>),
    /// The stream ended, or an attempt to connect failed. Attempts go on.
    Away(FollowError),
}

/// The accounts and values to follow.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The daemon's API socket.
    pub socket: PathBuf,
    /// The accounts; empty for all that this user may read.
    pub accounts: Vec<AccountName>,
    /// The values; empty for all.
    pub values: Vec<ValueName>,
}

impl Wanted {
    fn path(&self) -> String {
        let accounts = self.accounts.iter().map(|name| ("account", name.as_str()));
        let values = self.values.iter().map(|name| ("value", name.as_str()));
        form_urlencoded::Serializer::for_suffix("/v1/watch?".to_owned(), 10)
            .extend_pairs(accounts.chain(values))
            .finish()
            .trim_end_matches('?')
            .to_owned()
    }
}

/// Follows until the receiver is dropped. Needs a runtime with I/O and time.
pub fn follow(wanted: Wanted) -> mpsc::Receiver<StreamEvent> {
    let (events, receiver) = mpsc::channel(QUEUE);
    let follower = Follower {
        wanted,
        events,
        known: BTreeMap::new(),
        heard: BTreeSet::new(),
    };
    tokio::spawn(follower.run());
    receiver
}

/// The receiver of events is gone.
struct NobodyListens;

struct Follower {
    wanted: Wanted,
    events: mpsc::Sender<StreamEvent>,
    /// All that was told of, with the appid of its account: a stream that begins anew does not tell what went
    /// meanwhile.
    known: BTreeMap<Subject, Box<str>>,
    /// The values that the present stream has told of.
    heard: BTreeSet<Subject>,
}

impl Follower {
    async fn run(mut self) {
        let mut wait = RECONNECT.0;
        let events = self.events.clone();
        loop {
            let followed = tokio::select! {
                followed = self.follow_once() => followed,
                () = events.closed() => return,
            };
            let (synced, error) = match followed {
                Ok(ended) => ended,
                Err(NobodyListens) => return,
            };
            if synced {
                wait = RECONNECT.0;
            }
            if self.events.send(StreamEvent::Away(error)).await.is_err() {
                return;
            }
            // Followers of one daemon do not all come back in the same instant.
            sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            wait = (wait * 2).min(RECONNECT.1);
        }
    }

    /// Follows one stream to its end. Says whether all that stood was told, and why it ended.
    async fn follow_once(&mut self) -> Result<(bool, FollowError), NobodyListens> {
        let mut stream = match timeout(ANSWER_TIMEOUT, self.connect()).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Ok((false, error)),
            Err(_) => return Ok((false, FollowError::Broken("there is no answer"))),
        };
        self.heard.clear();
        let mut synced = false;
        loop {
            let line = match timeout(MAX_SILENCE, stream.next_line()).await {
                Ok(Ok(line)) => line,
                Ok(Err(error)) => return Ok((synced, error)),
                Err(_) => return Ok((synced, FollowError::Broken("the stream is silent"))),
            };
            let Ok(parsed) = StreamLine::parse(&line) else {
                let what = "the stream holds what no version of wxtokend says";
                return Ok((synced, FollowError::Broken(what)));
            };
            match &parsed {
                StreamLine::Value { subject, appid, .. } => {
                    self.known.insert(subject.clone(), appid.clone());
                    if !synced {
                        self.heard.insert(subject.clone());
                    }
                }
                StreamLine::Gone(account) => {
                    self.known.retain(|known, _| known.account != *account);
                }
                StreamLine::Synced if !synced => {
                    synced = true;
                    self.tell_missing().await?;
                }
                StreamLine::Synced | StreamLine::Heartbeat | StreamLine::Unknown => {}
            }
            self.tell(parsed, line).await?;
        }
    }

    /// Tells what earlier streams told of and this one does not.
    async fn tell_missing(&mut self) -> Result<(), NobodyListens> {
        let heard = std::mem::take(&mut self.heard);
        let accounts: BTreeSet<&AccountName> = heard.iter().map(|heard| &heard.account).collect();
        let mut missing = Vec::new();
        self.known.retain(|subject, appid| {
            let is_there = heard.contains(subject);
            if !is_there {
                missing.push((subject.clone(), appid.clone()));
            }
            is_there
        });
        let mut gone = BTreeSet::new();
        for (subject, appid) in missing {
            let Subject { account, value } = subject.clone();
            if accounts.contains(&account) {
                let text = format!(
                    r#"{{"account":"{account}","appid":"{appid}","value":"{value}","none":true}}"#
                );
                let line = StreamLine::Value {
                    subject,
                    appid,
                    holding: None,
                };
                self.tell(line, text.into_bytes()).await?;
            } else if gone.insert(account.clone()) {
                let text = format!(r#"{{"account":"{account}","gone":true}}"#);
                self.tell(StreamLine::Gone(account), text.into_bytes())
                    .await?;
            }
        }
        Ok(())
    }

    async fn tell(
        &self,
        line: StreamLine,
        text: impl Into<Box<[u8]>>,
    ) -> Result<(), NobodyListens> {
        let event = StreamEvent::Line(line, Zeroizing::new(text.into()));
        self.events.send(event).await.map_err(|_| NobodyListens)
    }

    async fn connect(&self) -> Result<LineReader, FollowError> {
        let broken = |_: hyper::Error| FollowError::Broken("whoever listens speaks no HTTP");
        let socket = UnixStream::connect(&self.wanted.socket)
            .await
            .map_err(FollowError::Unreachable)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
            .await
            .map_err(broken)?;
        // It ends with the stream.
        tokio::spawn(connection);
        let request = Request::get(self.wanted.path())
            .header(header::HOST, "localhost")
            .body(Empty::<Bytes>::new())
            .map_err(|_| FollowError::Broken("the request cannot be made"))?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        if status != StatusCode::OK {
            let body = Limited::new(answer.into_body(), MAX_ERROR).collect().await;
            let body = body.map(|body| body.to_bytes().to_vec());
            return Err(FollowError::Refused(status, body.unwrap_or_default()));
        }
        Ok(LineReader {
            _sender: sender,
            body: answer.into_body(),
            buffer: Zeroizing::new(Vec::new()),
            read: 0,
        })
    }
}

/// The lines of a stream.
struct LineReader {
    /// Dropping it would end the connection.
    _sender: hyper::client::conn::http1::SendRequest<Empty<Bytes>>,
    body: Incoming,
    buffer: Zeroizing<Vec<u8>>,
    /// Bytes of the buffer that have been returned.
    read: usize,
}

impl LineReader {
    async fn next_line(&mut self) -> Result<Vec<u8>, FollowError> {
        loop {
            let rest = &self.buffer[self.read..];
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = rest[..end].to_vec();
                self.read += end + 1;
                return Ok(line);
            }
            if rest.len() > MAX_LINE {
                return Err(FollowError::Broken("a line of the stream has no end"));
            }
            self.buffer.drain(..self.read);
            self.read = 0;
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) => return Err(FollowError::Broken("the connection broke")),
                None => return Err(FollowError::Broken("the daemon stopped")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_names_accounts_and_values() {
        let wanted = |accounts: &[&str], values: &[ValueName]| Wanted {
            socket: PathBuf::new(),
            accounts: accounts
                .iter()
                .map(|text| AccountName::parse(text).unwrap())
                .collect(),
            values: values.to_vec(),
        };
        assert_eq!(wanted(&[], &[]).path(), "/v1/watch");
        assert_eq!(
            wanted(&["a", "b"], &[ValueName::JsapiTicket]).path(),
            "/v1/watch?account=a&account=b&value=jsapi_ticket"
        );
    }
}
