//! One exchange with the platform for an account: the secret is read, the request sent, the answer understood.

use super::client::{self, Client};
use super::request::{self, Call};
use super::response::{self, Answer, Refusal};
use crate::account::{Account, SecretSource};
use crate::clock;
use crate::config::Host;
use crate::secret::Secret;
use crate::time::Moment;
use crate::value::Value;
use std::sync::Arc;
use std::time::Duration;

/// How an exchange went.
pub struct Exchange {
    /// What was asked.
    pub call: Call,
    /// Just before the request was sent.
    pub sent: Moment,
    /// How long it took.
    pub took: Duration,
    /// How many requests may have reached the platform.
    pub reached: u32,
    /// Set when another host serves now than before, and whether it is the preferred one.
    pub switched: Option<(Host, bool)>,
    /// What it brought.
    pub answer: Result<Answer, Refusal>,
}

/// Makes a call for an account. `token` is the access token for calls that carry one. Cancelled by dropping.
pub async fn exchange(
    client: &Client,
    account: &Arc<Account>,
    call: Call,
    token: Option<Value>,
) -> Exchange {
    let began = clock::now().at;
    let not_made = |refusal| Exchange {
        call,
        sent: began,
        took: Duration::ZERO,
        reached: 0,
        switched: None,
        answer: Err(refusal),
    };
    let (request, secret) = match (call.is_token(), &token) {
        (true, _) => match read_secret(account).await {
            Ok(secret) => (
                request::token(account, call == Call::ForceToken, &secret),
                Some(secret),
            ),
            Err(refusal) => return not_made(refusal),
        },
        (false, Some(token)) => (request::with_token(account, call, token), None),
        (false, None) => {
            return not_made(Refusal::local(
                "there is no access token to call with",
                "nothing to do here",
            ));
        }
    };
    let began = clock::now().at;
    let client::Call {
        reply,
        reached,
        switched,
    } = client.call(account.method, &request).await;
    let secrets = [
        secret.as_ref().map_or("", Secret::expose),
        token.as_ref().map_or("", Value::expose),
    ];
    let (sent, answer) = match reply {
        Ok(reply) => {
            let answer =
                response::interpret(call, account.method, reply.status, &reply.body, &secrets);
            (reply.sent, answer)
        }
        Err(refusal) => (began, Err(refusal)),
    };
    Exchange {
        call,
        sent,
        took: began.until(clock::now().at),
        reached,
        switched,
        answer,
    }
}

async fn read_secret(account: &Account) -> Result<Secret, Refusal> {
    let path = match &account.secret {
        SecretSource::Inline(secret) => return Ok(secret.clone()),
        SecretSource::File(path) => path.clone(),
    };
    let read = tokio::task::spawn_blocking(move || Secret::read(&path)).await;
    let read = read.unwrap_or_else(|_| Err("the daemon is stopping".to_owned()));
    read.map_err(|message| {
        Refusal::local(
            message,
            "put the AppSecret, and nothing else, into that file and let only the daemon's user read it; no reload is needed",
        )
    })
}

/// Asks for an access token once, to see whether the platform accepts the account. Says how long one lives.
pub async fn try_account(client: Arc<Client>, account: Arc<Account>) -> Result<Duration, Refusal> {
    let _permit = client.permit().await;
    match exchange(&client, &account, Call::Token, None).await.answer {
        Ok(Answer::Granted(_, life)) => Ok(life),
        Ok(Answer::Alive) => Ok(Duration::ZERO),
        Err(refusal) => Err(refusal),
    }
}
