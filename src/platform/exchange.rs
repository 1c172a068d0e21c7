//! One exchange with the platform for an account: the secret is read, the request sent, the answer understood.

use super::Platform;
use super::answer::interpret;
use super::client::{Called, Client};
use super::hosts::Switched;
use super::request::Ask;
use crate::account::{Account, SecretSource};
use crate::call::{Answer, Call, Refusal};
use crate::clock;
use crate::files;
use crate::logging::Entry;
use crate::secret::Secret;
use crate::time::Moment;
use crate::value::Value;
use std::sync::Arc;
use std::time::Duration;

/// The result of an exchange.
pub struct Exchange {
    /// The question.
    pub call: Call,
    /// Its path, which is its name in metrics.
    pub endpoint: &'static str,
    /// Just before the request was sent.
    pub sent: Moment,
    /// Its duration.
    pub took: Duration,
    /// Requests that may have reached the platform.
    pub reached: u32,
    /// Set when another host serves now than before.
    pub switched: Option<Switched>,
    /// Its outcome.
    pub answer: Result<Answer, Refusal>,
}

/// The credential of a call.
#[derive(Debug)]
pub enum Credential {
    /// A call for an access token: the AppSecret.
    Secret(Secret),
    /// Any other call: the access token.
    Token(Value),
}

impl Credential {
    fn expose(&self) -> &str {
        match self {
            Self::Secret(secret) => secret.expose(),
            Self::Token(token) => token.expose(),
        }
    }
}

/// The credential of a call. The AppSecret is read anew for each: a reset one needs no reload. Blocks.
pub fn credential(
    account: &Account,
    call: Call,
    token: Option<Value>,
) -> Result<Credential, Refusal> {
    if !call.is_token() {
        let none = || {
            Refusal::local(
                "there is no access token to call with",
                "nothing to do here",
            )
        };
        return token.map(Credential::Token).ok_or_else(none);
    }
    let secret = match &account.secret {
        SecretSource::Inline(secret) => Ok(secret.clone()),
        SecretSource::File(path) => files::read_secret(path),
        SecretSource::Absent => Err("this host has no AppSecret for the account".to_owned()),
    };
    secret.map(Credential::Secret).map_err(|message| {
        Refusal::local(
            message,
            "put the AppSecret, and nothing else, into that file and let only the daemon's user read it; no reload is needed",
        )
    })
}

/// Makes a call for an account, if there is something to make it with. It ends before `until`. Cancelled by dropping.
pub async fn exchange(
    client: &Client,
    account: &Account,
    call: Call,
    credential: Result<Credential, Refusal>,
    until: Option<Moment>,
) -> Exchange {
    let began = clock::now().at;
    let none = |endpoint, refusal| Exchange {
        call,
        endpoint,
        sent: began,
        took: Duration::ZERO,
        reached: 0,
        switched: None,
        answer: Err(refusal),
    };
    let Some(platform) = client.platform(account.terms.kind) else {
        let why = format!("nothing is known of the platform `{}`", account.terms.kind);
        return none("", Refusal::operator(why, "correct the configuration"));
    };
    if until.is_some_and(|until| began >= until) {
        let why = "the time for which this host leads ended before the call";
        return none("", Refusal::transient(why, "nothing to do here"));
    }
    let credential = match credential {
        Ok(credential) => credential,
        Err(refusal) => return none((platform.endpoint)(account.terms, call), refusal),
    };
    let mut ask = Ask::of(platform, account, call, credential.expose());
    let mut all_reached = 0;
    loop {
        if call == Call::Verify {
            ask.path = client.verify_path(platform, account);
        }
        let left = until.map(|until| clock::now().at.until(until));
        let Called {
            outcome,
            reached,
            switched,
        } = client
            .call(platform.kind, &(platform.request)(&ask), left)
            .await;
        all_reached += reached;
        let (sent, answer) = match outcome {
            Ok(received) => (
                received.sent,
                interpret(platform, &ask, received.status, &received.body),
            ),
            Err(refusal) => (began, Err(refusal)),
        };
        if let Err(refusal) = &answer
            && says_nothing(platform, call, refusal)
            && let Some(next) = client.next_verify_path(platform, account, ask.path)
        {
            Entry::of(&account.name).info(format_args!(
                "{} is not for this account and says nothing about its token: {next} is asked from now on ({})",
                ask.path, refusal.message
            ));
            continue;
        }
        return Exchange {
            call,
            endpoint: ask.path,
            sent,
            took: began.until(clock::now().at),
            reached: all_reached,
            switched,
            answer,
        };
    }
}

/// True for an answer that tells of the account's rights and not of its token.
fn says_nothing(platform: &Platform, call: Call, refusal: &Refusal) -> bool {
    let errcode = refusal.errcode.unwrap_or_default();
    call == Call::Verify && platform.no_verdict.contains(&errcode)
}

/// Asks for an access token once, to see whether the platform accepts the account. Says how long one lives.
pub(crate) async fn try_account(
    client: Arc<Client>,
    account: Arc<Account>,
) -> Result<Duration, Refusal> {
    let _permit = client.permit(account.terms.kind, false).await;
    let secret = credential(&account, Call::Token, None);
    match exchange(&client, &account, Call::Token, secret, None)
        .await
        .answer
    {
        Ok(Answer::Granted(_, life)) => Ok(life),
        Ok(Answer::Alive) => Ok(Duration::ZERO),
        Err(refusal) => Err(refusal),
    }
}
