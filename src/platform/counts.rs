//! Asks a platform for its own count of an account's calls, and has it cleared.

use super::answer::read;
use super::client::Client;
use super::errcode::AskedFor;
use super::json;
use super::{CountCalls, Platform, Request};
use crate::account::Account;
use crate::call::{Call, Refusal};
use crate::quota::{EndpointCount, NoQuota};
use crate::secret::Secret;
use crate::value::Value;

fn calls(
    client: &Client,
    account: &Account,
) -> Result<(&'static Platform, &'static CountCalls), NoQuota> {
    let platform = client
        .platform(account.terms.kind)
        .ok_or(NoQuota::NotThere)?;
    let calls = platform.counts.ok_or(NoQuota::NotThere)?;
    Ok((platform, calls))
}

/// The platform's count of each endpoint that the account calls.
pub(crate) async fn show_counts(
    client: &Client,
    account: &Account,
    token: &Value,
) -> Result<Vec<EndpointCount>, NoQuota> {
    let (platform, calls) = calls(client, account)?;
    let mut paths = vec![(platform.endpoint)(account.terms, Call::Token)];
    let others = account
        .tickets
        .iter()
        .map(|name| Call::Ticket(*name))
        .chain([Call::Verify]);
    for call in others {
        let path = (platform.endpoint)(account.terms, call);
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    let mut counts = Vec::new();
    for path in paths {
        let request = (calls.show)(calls.show_path, path, token.expose());
        let count = ask(
            client,
            platform,
            &request,
            AskedFor::WithToken,
            token.expose(),
            |object| {
                let number = |at: usize| {
                    let found = object.get(calls.fields[at]).and_then(json::integer);
                    found.ok_or_else(|| {
                        Refusal::transient(
                            format!("the answer has no {}", calls.fields[at]),
                            "the platform changed its interface: look for a newer wxtokend",
                        )
                    })
                };
                Ok(EndpointCount {
                    path,
                    limit: number(0)?,
                    used: number(1)?,
                    left: number(2)?,
                })
            },
        );
        counts.push(count.await?);
    }
    Ok(counts)
}

/// Has all counts of an account cleared.
pub(crate) async fn clear_counts(
    client: &Client,
    account: &Account,
    secret: &Secret,
) -> Result<(), NoQuota> {
    let (platform, calls) = calls(client, account)?;
    let request = (calls.clear)(calls.clear_path, &account.id, secret.expose());
    ask(
        client,
        platform,
        &request,
        AskedFor::Token,
        secret.expose(),
        |_| Ok(()),
    )
    .await
}

async fn ask<T>(
    client: &Client,
    platform: &'static Platform,
    request: &Request,
    asked: AskedFor,
    credential: &str,
    understand: impl FnOnce(&json::Object<'_>) -> Result<T, Refusal>,
) -> Result<T, NoQuota> {
    let called = client.call(platform.kind, request, None).await;
    let answer = called.outcome.and_then(|received| {
        read(
            platform,
            asked,
            credential,
            received.status,
            &received.body,
            understand,
        )
    });
    answer.map_err(|refusal| NoQuota::Refused(Box::new(refusal)))
}
