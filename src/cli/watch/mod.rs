//! `wxtokend watch`

mod command;
mod runs;

use super::client::{ApiClient, CommandError, complain, path, print, socket};
use super::{CommonArgs, Exit};
use crate::account::AccountName;
use crate::follow::{FollowError, Holding, StreamEvent, StreamLine, Subject, Wanted, follow};
use crate::systemd::Notifier;
use crate::value::{Fingerprint, ValueName};
use futures_core::Stream;
use jiff::Timestamp;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::time::Duration;
use tokio::runtime;

/// Follow access tokens and tickets as they change
///
/// Prints a line for each value that stands and for each change, and connects again by itself when the daemon restarts.
/// With COMMAND, runs it once for each value that stands and each new one, one run at a time for each account and value.
/// A run that fails is tried again after 1 s, doubling to 60 s, while its value stands.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct WatchArgs {
    /// The accounts [default: all that you may read]
    #[arg(value_name = "ACCOUNT")]
    accounts: Vec<String>,

    /// Only this value; may be given several times [default: all]
    #[arg(long = "value", value_name = "VALUE",
        value_parser = ["access_token", "jsapi_ticket", "wx_card_ticket", "agent_ticket"])]
    values: Vec<String>,

    /// Print the stream itself: JSON, one object a line, with the values
    #[arg(long)]
    json: bool,

    /// Time that a run of COMMAND may take; then its whole process group is killed
    #[arg(long, value_name = "DURATION", value_parser = super::duration, default_value = "30s", requires = "command")]
    timeout: Duration,

    /// Run COMMAND, with empty input, also when there is no valid value
    #[arg(long, requires = "command")]
    on_none: bool,

    /// The command to run for each value
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

const AFTER_HELP: &str = "\
COMMAND gets the value on its standard input. Its environment holds WXTOKEND_ACCOUNT, WXTOKEND_APPID, WXTOKEND_VALUE,
WXTOKEND_EXPIRE_TIME and WXTOKEND_OBTAINED_TIME (Unix seconds), and of ours only PATH, HOME, USER, LANG and TZ.

Exit status:
   0  Stopped by SIGTERM or Ctrl-C.
  66  There is no such account, or it does not keep that value.
  69  No daemon answered at the start.
  77  You are not allowed to.

Examples:
  wxtokend watch
  wxtokend watch shop -- sh -c 'cat > /srv/app/token.new && mv /srv/app/token.new /srv/app/token'
  wxtokend watch --json --value jsapi_ticket";

/// Follows values until it is told to stop.
pub fn run(common: &CommonArgs, args: &WatchArgs) -> Exit {
    watch(common, args).unwrap_or_else(|trouble| trouble.report())
}

fn watch(common: &CommonArgs, args: &WatchArgs) -> Result<Exit, CommandError> {
    // Values pass through this process: neither core dumps nor debuggers of the same user.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let accounts = (args.accounts.iter())
        .map(|name| path(name, "").map(|_| AccountName::parse(name)))
        .collect::<Result<Vec<_>, CommandError>>()?;
    let wanted = Wanted {
        socket: socket(common),
        accounts: accounts.into_iter().flatten().collect(),
        values: (args.values.iter().filter_map(|name| ValueName::parse(name))).collect(),
    };
    if wanted.accounts.is_empty() {
        // Says so when there is no account that this user may see.
        ApiClient::new(common)?.accounts()?;
    }
    let own = |error| CommandError::Own(format!("cannot start: {error}"));
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(own)?;
    let ended = runtime.block_on(async {
        let signals = Signals::new([SIGINT, SIGTERM]).map_err(own)?;
        WatchCommand::new(args, wanted).run(signals).await
    });
    match ended {
        Err(refused @ CommandError::Refused(..)) => {
            // A user who may see nothing at all is told so, rather than that this account is not there.
            let client = ApiClient::new(common)?;
            client.accounts()?;
            Err(client.explained(refused))
        }
        ended => ended,
    }
}

/// Everything that is followed.
struct WatchCommand<'a> {
    args: &'a WatchArgs,
    wanted: Wanted,
    /// The last state of each value that was printed.
    printed: HashMap<Subject, Option<(Fingerprint, i64)>>,
    runs: Option<runs::Runs>,
    notifier: Notifier,
    /// All that stands has been told once.
    synced: bool,
    /// The daemon answers.
    connected: bool,
    ready: bool,
}

impl<'a> WatchCommand<'a> {
    fn new(args: &'a WatchArgs, wanted: Wanted) -> Self {
        let runs = (!args.command.is_empty())
            .then(|| runs::Runs::new(args.command.clone(), args.timeout, args.on_none));
        Self {
            args,
            wanted,
            printed: HashMap::new(),
            runs,
            notifier: Notifier::from_process(),
            synced: false,
            connected: false,
            ready: false,
        }
    }

    async fn run(mut self, mut signals: Signals) -> Result<Exit, CommandError> {
        let mut events = follow(self.wanted.clone());
        loop {
            tokio::select! {
                () = next_signal(&mut signals) => break,
                Some(event) = events.recv() => self.on_event(event)?,
                () = runs::progress(self.runs.as_mut()) => {}
            }
            self.tell_ready();
        }
        self.notifier.stopping();
        if let Some(runs) = self.runs {
            runs.stop().await;
        }
        Ok(Exit::Success)
    }

    fn on_event(&mut self, event: StreamEvent) -> Result<(), CommandError> {
        let (line, text) = match event {
            StreamEvent::Line(line, text) => (line, text),
            StreamEvent::Away(error) if self.connected => {
                self.connected = false;
                complain(&format!(
                    "wxtokend: the daemon is away: {error}; waiting for it"
                ));
                self.notifier.status("the daemon is away");
                return Ok(());
            }
            StreamEvent::Away(_) if self.synced => return Ok(()),
            StreamEvent::Away(error) => return Err(self.trouble(error)),
        };
        if self.args.json {
            let mut text = String::from_utf8_lossy(&text).into_owned();
            text.push('\n');
            print(&text)?;
        }
        match line {
            StreamLine::Value {
                subject,
                appid,
                holding,
            } => {
                self.show(&subject, holding.as_ref())?;
                if let Some(runs) = &mut self.runs {
                    runs.on_value(&subject, appid, holding);
                }
            }
            StreamLine::Gone(account) => {
                self.printed.retain(|subject, _| subject.account != account);
                if !self.args.json {
                    print(&format!("{account} gone\n"))?;
                }
                if let Some(runs) = &mut self.runs {
                    runs.on_gone(&account);
                }
            }
            StreamLine::Synced => {
                if self.synced && !self.connected {
                    complain("wxtokend: the daemon is back");
                }
                self.synced = true;
                self.connected = true;
                if self.ready {
                    self.notifier.status(&self.status());
                }
            }
            StreamLine::Heartbeat | StreamLine::Unknown => {}
        }
        Ok(())
    }

    /// Prints a value unless it was printed before.
    fn show(&mut self, subject: &Subject, holding: Option<&Holding>) -> Result<(), CommandError> {
        let now = holding.map(|holding| (holding.token.fingerprint(), holding.expire_time));
        if self.args.json || self.printed.insert(subject.clone(), now) == Some(now) {
            return Ok(());
        }
        let mut line = format!("{} {}", subject.account, subject.value);
        match now {
            Some((fingerprint, end)) => {
                let end = Timestamp::from_second(end).unwrap_or(Timestamp::MAX);
                let _ = write!(line, " {fingerprint} until {end}");
            }
            None => line.push_str(" none"),
        }
        line.push('\n');
        print(&line)
    }

    /// Tells the service manager once: when all that stood has been told, and COMMAND has run for each of it.
    fn tell_ready(&mut self) {
        let done = self.runs.as_ref().is_none_or(runs::Runs::first_runs_ended);
        if self.synced && done && !self.ready {
            self.ready = true;
            self.notifier.ready(&self.status());
        }
    }

    fn status(&self) -> String {
        match self.printed.len() {
            1 => "following 1 value".to_owned(),
            values => format!("following {values} values"),
        }
    }

    /// The reason why there was no stream at the start.
    fn trouble(&self, error: FollowError) -> CommandError {
        let socket = self.wanted.socket.clone();
        match error {
            FollowError::Unreachable(error) => CommandError::Nobody(socket, error),
            FollowError::Broken(what) => CommandError::NoAnswer(socket, what.to_owned()),
            FollowError::Refused(status, body) => match serde_json::from_slice(&body) {
                Ok(refusal) => CommandError::Refused(refusal, None),
                Err(_) => CommandError::NoAnswer(socket, format!("something else says {status}")),
            },
        }
    }
}

async fn next_signal(signals: &mut Signals) {
    let next = std::future::poll_fn(|context| std::pin::Pin::new(&mut *signals).poll_next(context));
    next.await;
}
