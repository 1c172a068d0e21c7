//! From what an app wants to what it gets: everything is answered from the snapshots that the accounts publish.

use super::guest::Guest;
use super::keys::{App, KeyMatch, KeyRing};
use super::life::{MarginRange, expires_in};
use super::request::{AppCall, AppRequest};
use super::tokens::{TokenMemory, token};
use crate::account::AccountName;
use crate::clock;
use crate::counters::{Counted, Counters};
use crate::handle::{AccountHandle, AccountHandles, Command};
use crate::logging::Entry;
use crate::platform::{Platform, Platforms, RefusalSign, Refused};
use crate::value::{Value, ValueName};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

/// The largest body that a request may have, in bytes.
const MAX_BODY: usize = 16 * 1024;
/// The longest time that an app may take to send it.
const BODY_TIME: Duration = Duration::from_secs(10);
/// The delay of an answer to a wrong key.
const WRONG_KEY_DELAY: Duration = Duration::from_secs(1);
/// The longest wait for the platform's word on a token that an app doubts: SDKs wait longer for an answer.
const DOUBT_TIME: Duration = Duration::from_secs(3);
/// The longest text of a request that a log line shows, in bytes.
const MAX_SHOWN: usize = 31;

/// Answers requests from what the accounts published.
pub(super) struct Service {
    pub(super) accounts: watch::Receiver<Arc<AccountHandles>>,
    pub(super) keys: watch::Receiver<Arc<KeyRing>>,
    pub(super) tokens: Arc<TokenMemory>,
    pub(super) platforms: Platforms,
}

impl Service {
    /// Answers one request: always with HTTP 200, as the platform does.
    pub(super) async fn respond(
        &self,
        guest: &Guest,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let body = if let Some(call) = AppCall::at(request.uri().path(), self.platforms) {
            let answer = self.answer(guest, call, request).await;
            answer.unwrap_or_else(|refused| refusal(call.platform, refused, guest))
        } else {
            log_astray(request.uri().path());
            let first = self.platforms.0.first();
            first.map_or_else(String::new, |first| refusal(first, Refused::BadPath, guest))
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        let no_store = HeaderValue::from_static("no-store");
        headers.insert(header::CACHE_CONTROL, no_store);
        response
    }

    async fn answer(
        &self,
        guest: &Guest,
        call: AppCall,
        request: Request<Incoming>,
    ) -> Result<String, Refused> {
        call.check_method(request.method())?;
        let wanted = if call.has_body() {
            call.parse("", &read(request.into_body()).await?)?
        } else {
            call.parse(request.uri().query().unwrap_or_default(), b"")?
        };
        let platform = call.platform;
        match wanted {
            AppRequest::Token { id, key, doubted } => {
                let app = self.app(guest, &id, platform, &key).await?;
                self.give_token(guest, &app, platform, doubted).await
            }
            AppRequest::Ticket { value, token } => self.give_ticket(guest, value, &token, platform),
        }
    }

    /// The app that shows a key.
    async fn app(
        &self,
        guest: &Guest,
        id: &str,
        platform: &Platform,
        key: &str,
    ) -> Result<Arc<App>, Refused> {
        let keys = self.keys.borrow().clone();
        let (account, reason) = match keys.find(id, platform.kind, key) {
            KeyMatch::App(app) => return Ok(app.clone()),
            KeyMatch::UnknownId => {
                log_stranger(id);
                return Err(Refused::UnknownId);
            }
            KeyMatch::WrongKey(account) => (account, WRONG_KEY),
            KeyMatch::AppSecret(account) => (account, APP_SECRET),
        };
        self.refuse_key(guest, account, reason);
        guest.on_wrong_key();
        sleep(WRONG_KEY_DELAY).await;
        Err(Refused::WrongKey)
    }

    async fn give_token(
        &self,
        guest: &Guest,
        app: &Arc<App>,
        platform: &Platform,
        doubted: bool,
    ) -> Result<String, Refused> {
        let handle = self.handle(&app.account).ok_or(Refused::NoValue)?;
        guest.on_key(app);
        if doubted {
            let latest = handle.snapshot.latest();
            let (reply, verdict) = oneshot::channel();
            doubt(&handle, token(&latest).cloned(), reply);
            // The answer is in what stands then, whatever the verdict.
            let _ = timeout(DOUBT_TIME, verdict).await;
        }
        let margin = MarginRange::exactly(app.margins.of(ValueName::AccessToken));
        let answer = give(&handle, ValueName::AccessToken, margin, platform)?;
        Self::count(&handle, app, ValueName::AccessToken);
        Ok(answer)
    }

    fn give_ticket(
        &self,
        guest: &Guest,
        value: ValueName,
        shown: &str,
        platform: &Platform,
    ) -> Result<String, Refused> {
        let keys = self.keys.borrow().clone();
        let account = self.owner(&keys, shown).ok_or(Refused::UnknownToken)?;
        let handle = self.handle(&account).ok_or(Refused::UnknownToken)?;
        let apps = keys.apps(&account);
        let known = guest.app_of(&account);
        let app = known.as_ref().or(match apps {
            [only] => Some(only),
            _ => None,
        });
        if apps.first().is_none_or(|app| app.kind != platform.kind) {
            return Err(Refused::UnknownToken);
        }
        let latest = handle.snapshot.latest();
        let stands = latest.valid(ValueName::AccessToken, clock::now().at);
        if stands.is_none_or(|grant| grant.value.expose() != shown) {
            // Nobody waits for the verdict: the ticket is as good with an old token.
            doubt(&handle, Value::parse(shown), oneshot::channel().0);
        }
        if !latest.account.values().any(|kept| kept == value) {
            log_not_kept(&handle, &account, value);
            return Err(Refused::NoValue);
        }
        let margins = || apps.iter().map(|app| app.margins.of(value));
        let margin = match app {
            Some(app) => MarginRange::exactly(app.margins.of(value)),
            None => MarginRange {
                least: margins().min().unwrap_or(0),
                most: margins().max().unwrap_or(0),
            },
        };
        let answer = give(&handle, value, margin, platform)?;
        match app {
            Some(app) => Self::count(&handle, app, value),
            // One of several apps that have the same token.
            None => Counters::add(&handle.counters.mirror_reads),
        }
        Ok(answer)
    }

    /// The account whose token this is or was.
    fn owner(&self, keys: &KeyRing, shown: &str) -> Option<AccountName> {
        let now = clock::now().at;
        self.tokens.owner(shown, now).or_else(|| {
            // One that was published this very moment.
            let accounts = self.accounts.borrow().clone();
            let mut named = keys.accounts();
            let has = |name: &&AccountName| {
                let latest = accounts.get(*name).map(|handle| handle.snapshot.latest());
                latest.is_some_and(|latest| token(&latest).is_some_and(|t| t.expose() == shown))
            };
            named.find(has).cloned()
        })
    }

    fn handle(&self, account: &AccountName) -> Option<AccountHandle> {
        self.accounts.borrow().get(account).cloned()
    }

    fn count(handle: &AccountHandle, app: &App, value: ValueName) {
        Counters::add(&handle.counters.mirror_reads);
        let before = handle.counters.count_mirror_read(&app.name, value);
        if before == 0 {
            Entry::of(&app.account)
                .info(format_args!("`{}` reads {value} from the mirror", app.name));
        }
    }

    fn refuse_key(&self, guest: &Guest, account: &AccountName, reason: &'static str) {
        if let Some(handle) = self.handle(account) {
            handle.counters.count(Counted::MirrorRefusal(reason), 1);
        }
        let (entry, who) = (Entry::of(account), guest.who());
        if reason == APP_SECRET {
            entry.warn(format_args!(
                "the mirror refuses the AppSecret itself, which {who} shows: make a key with `wxtokend mirror-key PATH`, name it under [[accounts.{account}.mirror]], and give the app that key instead"
            ));
        } else {
            entry.warn(format_args!(
                "the mirror refuses a wrong key, which {who} shows: give the app the content of a `key_file` under [[accounts.{account}.mirror]] as its AppSecret"
            ));
        }
    }
}

fn log_not_kept(handle: &AccountHandle, account: &AccountName, value: ValueName) {
    let refused = Counted::MirrorRefusal("ticket_not_kept");
    handle.counters.count(refused, 1);
    let word = value.as_str().trim_end_matches("_ticket");
    Entry::of(account).warn(format_args!(
        "an app asks the mirror for {value}, which the account does not keep: add \"{word}\" to its `tickets`"
    ));
}

fn log_stranger(id: &str) {
    Entry::new().warn(format_args!(
        "an app asks the mirror for `{}`, an appid or corpid that no account with keys has: add [[accounts.NAME.mirror]] to the account, or correct the app",
        shown(id)
    ));
}

fn log_astray(path: &str) {
    Entry::new().warn(format_args!(
        "an app sends the mirror a request for `{}`: it answers for tokens and tickets alone; have the app send all others to the platform",
        shown(path)
    ));
}

/// Reasons for a refusal, as metrics spell them.
const WRONG_KEY: &str = "wrong_key";
const APP_SECRET: &str = "app_secret";

/// Has the account's task look at a token that an app doubts.
fn doubt(
    handle: &AccountHandle,
    bad: Option<Value>,
    reply: oneshot::Sender<crate::snapshot::Verdict>,
) {
    handle.inbox.send(Command::Suspect {
        bad,
        admin: false,
        reply: Some(reply),
    });
}

/// A value from memory, with the life that the app may believe in.
fn give(
    handle: &AccountHandle,
    value: ValueName,
    margin: MarginRange,
    platform: &Platform,
) -> Result<String, Refused> {
    let now = clock::now().at;
    let snapshot = handle.snapshot.latest();
    let grant = snapshot.valid(value, now).ok_or(Refused::NoValue)?;
    let told = expires_in(now.until(grant.expires), margin).ok_or(Refused::NoValue)?;
    Ok((platform.mirrored.grant)(value, grant.value.expose(), told))
}

/// The body of a refusal, in the platform's words.
fn refusal(platform: &Platform, refused: Refused, guest: &Guest) -> String {
    let now = clock::now();
    let sign = RefusalSign {
        at: now.unix(now.at),
        random: [fastrand::u32(..), fastrand::u32(..)],
        from: guest.ip(),
    };
    (platform.mirrored.refuse)(refused, &sign)
}

async fn read(body: Incoming) -> Result<Bytes, Refused> {
    let collected = timeout(BODY_TIME, Limited::new(body, MAX_BODY).collect()).await;
    match collected {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        _ => Err(Refused::BadFormat),
    }
}

/// A part of a request as a log line may show it: what is as long as a key may be one.
fn shown(text: &str) -> String {
    if text.len() <= MAX_SHOWN {
        text.escape_debug().to_string()
    } else {
        "…".to_owned()
    }
}
