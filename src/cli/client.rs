//! The common part of the client commands: finding the daemon, asking it, and saying what went wrong.

use super::{CommonArgs, Exit};
use crate::account::AccountName;
use crate::api::body::AccountsBody;
use crate::api::error::{ApiError, Reason, no_such_account};
use crate::config::{Environment, api_socket, keys};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::runtime::{self, Runtime};
use tokio::time::timeout;

/// Longest wait for an answer: longer than the daemon takes for anything but a long poll.
const ANSWER_LIMIT: Duration = Duration::from_secs(70);

/// Pause before the second try, in which a restart of the daemon may end.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// A way to ask the daemon.
pub(super) struct ApiClient {
    socket: PathBuf,
    runtime: Runtime,
}

/// An answer that is not an error; a faulty configuration is none.
pub(super) struct DaemonAnswer {
    socket: PathBuf,
    body: Bytes,
}

/// The reason why there is no answer, or not the one that was asked for.
#[derive(Debug)]
pub(super) enum CommandError {
    /// Nobody is at the socket.
    Nobody(PathBuf, io::Error),
    /// Somebody is, but does not answer as the daemon does.
    NoAnswer(PathBuf, String),
    /// The connection broke before the answer was whole.
    Broken(PathBuf, String),
    /// The daemon refuses, and perhaps says after how many seconds to ask again.
    Refused(ApiError, Option<u64>),
    /// The daemon has no account for this user.
    Stranger,
    /// Whoever read our output wants no more.
    NobodyReads,
    /// Something of our own failed.
    Own(String),
}

impl ApiClient {
    /// A client of the daemon that the command line or the configuration names.
    pub(super) fn new(common: &CommonArgs) -> Result<Self, CommandError> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| CommandError::Own(format!("cannot start: {error}")))?;
        Ok(Self {
            socket: socket(common),
            runtime,
        })
    }

    /// Asks for something that is read.
    pub(super) fn get(&self, path: &str) -> Result<DaemonAnswer, CommandError> {
        self.ask(Method::GET, path, Bytes::new())
    }

    /// Asks for something to be done.
    pub(super) fn post(&self, path: &str, body: Bytes) -> Result<DaemonAnswer, CommandError> {
        self.ask(Method::POST, path, body)
    }

    /// The accounts that this user may see. Having none, and not being the administrator of a daemon without any, is
    /// not being allowed to.
    pub(super) fn accounts(&self) -> Result<AccountsBody, CommandError> {
        let accounts: AccountsBody = self.get("/v1/accounts")?.parse()?;
        if accounts.accounts.is_empty() && self.is_not_allowed("/metrics") {
            return Err(CommandError::Stranger);
        }
        Ok(accounts)
    }

    /// Asks for something of an account, and finds out why when there is none of that name for this user.
    pub(super) fn of_account(
        &self,
        ask: impl FnOnce(&Self) -> Result<DaemonAnswer, CommandError>,
    ) -> Result<DaemonAnswer, CommandError> {
        ask(self).map_err(|error| self.explained(error))
    }

    /// The same trouble, with the account that was meant if there is none of that name for this user.
    pub(super) fn explained(&self, error: CommandError) -> CommandError {
        let CommandError::Refused(mut refusal, after) = error else {
            return error;
        };
        if refusal.error == Reason::NoSuchAccount {
            let accounts = match self.accounts() {
                Err(CommandError::Stranger) => return CommandError::Stranger,
                accounts => accounts.ok(),
            };
            let wrong = refusal.message.split('`').nth(1).unwrap_or_default();
            let right = accounts.as_ref().and_then(|all| similar(wrong, all));
            if let Some(right) = right {
                refusal.message = format!("{}; did you mean `{right}`?", refusal.message);
            }
        }
        CommandError::Refused(refusal, after)
    }

    fn is_not_allowed(&self, path: &str) -> bool {
        let answer = self.get(path);
        matches!(answer, Err(CommandError::Refused(refusal, _)) if refusal.error == Reason::NotAllowed)
    }

    /// Asks, and once more if the daemon went away meanwhile: it may be restarting.
    fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<DaemonAnswer, CommandError> {
        let answer = self.ask_once(method.clone(), path, body.clone());
        let restarting = match &answer {
            Err(CommandError::Broken(..)) => true,
            Err(CommandError::Nobody(_, error)) => error.kind() == ErrorKind::ConnectionRefused,
            Err(CommandError::Refused(refusal, _)) => refusal.error == Reason::Stopping,
            _ => false,
        };
        if !restarting {
            return answer;
        }
        std::thread::sleep(RESTART_PAUSE);
        self.ask_once(method, path, body)
    }

    fn ask_once(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<DaemonAnswer, CommandError> {
        let asking = async {
            let stream = UnixStream::connect(&self.socket)
                .await
                .map_err(|error| CommandError::Nobody(self.socket.clone(), error))?;
            match timeout(ANSWER_LIMIT, exchange(stream, method, path, body)).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Err(CommandError::Broken(self.socket.clone(), error)),
                Err(_) => {
                    let why = "nothing for a minute".to_owned();
                    Err(CommandError::NoAnswer(self.socket.clone(), why))
                }
            }
        };
        let (status, retry_after, body) = self.runtime.block_on(asking)?;
        let socket = self.socket.clone();
        if status.is_success() || status == StatusCode::UNPROCESSABLE_ENTITY {
            return Ok(DaemonAnswer { socket, body });
        }
        Err(match serde_json::from_slice(&body) {
            Ok(refusal) => CommandError::Refused(refusal, retry_after),
            Err(_) => CommandError::NoAnswer(socket, format!("something else says {status}")),
        })
    }
}

async fn exchange(
    stream: UnixStream,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, Option<u64>, Bytes), String> {
    let said = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(said)?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(said)?;
        let status = answer.status();
        let retry_after = answer.headers().get(header::RETRY_AFTER);
        let retry_after = retry_after.and_then(|seconds| seconds.to_str().ok()?.parse().ok());
        let body = answer.into_body().collect().await.map_err(said)?;
        Ok((status, retry_after, body.to_bytes()))
    };
    tokio::select! {
        answer = answer => answer,
        // Without the connection the answer ends too, and says so better.
        Err(error) = connection => Err(error.to_string()),
    }
}

impl DaemonAnswer {
    /// The body as it came.
    pub(super) fn text(&self) -> Result<&str, CommandError> {
        std::str::from_utf8(&self.body).map_err(|_| self.unknown())
    }

    /// The body, which is what the daemon answers to that request or nothing that we know.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, CommandError> {
        serde_json::from_slice(&self.body).map_err(|_| self.unknown())
    }

    /// It is not what was asked for.
    pub(super) fn unknown(&self) -> CommandError {
        let why = "what comes is nothing that wxtokend says, or of another version";
        CommandError::NoAnswer(self.socket.clone(), why.to_owned())
    }
}

/// The socket of the command line, else that of the configuration if it can be read, else the usual one.
pub(super) fn socket(common: &CommonArgs) -> PathBuf {
    let configured = || api_socket(&common.config, &Environment::from_process());
    common.socket.clone().unwrap_or_else(configured)
}

impl CommandError {
    /// The exit status that goes with it.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Nobody(_, error) if error.kind() == ErrorKind::PermissionDenied => {
                Exit::NotAllowed
            }
            Self::Nobody(..) | Self::NoAnswer(..) | Self::Broken(..) => Exit::Unavailable,
            Self::Stranger => Exit::NotAllowed,
            Self::NobodyReads | Self::Own(_) => Exit::Failure,
            Self::Refused(refusal, _) => match refusal.error {
                Reason::NotAllowed => Exit::NotAllowed,
                Reason::NoSuchAccount | Reason::NoSuchValue => Exit::NoSuchAccount,
                Reason::TooSoon | Reason::TryLater => Exit::TryLater,
                Reason::NoValidValue | Reason::TooManyConnections | Reason::Stopping => {
                    Exit::Unavailable
                }
                Reason::BadRequest
                | Reason::NoSuchPath
                | Reason::MethodNotAllowed
                | Reason::BodyTooLarge
                | Reason::HeaderTooLarge
                | Reason::Other => Exit::Failure,
            },
        }
    }

    fn hint(&self) -> &str {
        match self {
            Self::Nobody(_, error) if error.kind() == ErrorKind::PermissionDenied => {
                "every directory above the socket must let you through"
            }
            Self::Nobody(..) => {
                "start the daemon (systemctl start wxtokend), or name its socket with --socket"
            }
            Self::NoAnswer(..) | Self::Broken(..) => {
                "see what the daemon logs (journalctl -u wxtokend), or name its socket with --socket"
            }
            Self::Refused(refusal, _) => &refusal.hint,
            Self::Stranger => {
                "run this as root, or have an administrator add you to the `readers` of an account"
            }
            Self::NobodyReads | Self::Own(_) => "",
        }
    }

    /// Says it on standard error, and how to go on.
    pub(super) fn report(&self) -> Exit {
        if matches!(self, Self::NobodyReads) {
            return self.exit();
        }
        complain(&format!("wxtokend: {self}"));
        if !self.hint().is_empty() {
            complain(&format!("  {}", self.hint()));
        }
        if let Self::Refused(_, Some(seconds)) = self {
            complain(&format!("  try again in {seconds} s"));
        }
        self.exit()
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody(socket, error) => {
                let why = match error.kind() {
                    ErrorKind::NotFound => "it does not exist".to_owned(),
                    ErrorKind::ConnectionRefused => "nobody listens".to_owned(),
                    ErrorKind::PermissionDenied => "permission denied".to_owned(),
                    _ => error.to_string(),
                };
                write!(f, "no daemon answers on `{}`: {why}", socket.display())
            }
            Self::NoAnswer(socket, why) | Self::Broken(socket, why) => {
                write!(f, "no daemon answers on `{}`: {why}", socket.display())
            }
            Self::Refused(refusal, _) => f.write_str(&refusal.message),
            Self::Stranger => f.write_str("there is no account that you may see"),
            Self::NobodyReads => f.write_str("nobody reads the output"),
            Self::Own(why) => f.write_str(why),
        }
    }
}

/// Text without what a terminal would obey.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The account whose name is nearest to one that is not there.
pub(super) fn similar<'a>(wrong: &str, accounts: &'a AccountsBody) -> Option<&'a str> {
    let names: Vec<&str> = accounts
        .accounts
        .iter()
        .map(|a| a.account.as_str())
        .collect();
    keys::nearest(wrong, &names)
}

/// The path of something of an account; there is none of a name that cannot be.
pub(super) fn path(account: &str, rest: &str) -> Result<String, CommandError> {
    match AccountName::parse(account) {
        Some(name) => Ok(format!("/v1/accounts/{name}/{rest}")),
        None => Err(CommandError::Refused(no_such_account(account), None)),
    }
}

/// One line on standard error, whatever it holds.
pub(super) fn complain(line: &str) {
    // There is nowhere else to say that it cannot be said.
    let _ = writeln!(io::stderr(), "{}", printable(line));
}

/// Writes to standard output.
pub(super) fn print(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(CommandError::NobodyReads),
        Err(error) => Err(CommandError::Own(format!(
            "cannot write to standard output: {error}"
        ))),
        Ok(()) => Ok(()),
    }
}
