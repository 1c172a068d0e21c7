//! Asks a platform for its own count of an account's calls, and has it cleared.

use super::answer::read;
use super::client::Client;
use super::errcode::AskedFor;
use super::json;
use super::{CountCalls, Platform, Request};
use crate::account::Account;
use crate::call::{Call, Refusal};
use crate::clock;
use crate::quota::{EndpointCount, NoQuota};
use crate::secret::Secret;
use crate::value::Value;
use std::time::Duration;

/// A question for the platform's count, or a clearing, that has ended.
pub(crate) struct CountCall {
    /// Its path, which is its name in metrics.
    pub(crate) endpoint: &'static str,
    /// Its duration.
    pub(crate) took: Duration,
    /// Requests that may have reached the platform.
    pub(crate) reached: u32,
    /// The platform's refusal.
    pub(crate) refusal: Option<Refusal>,
}

/// The questions for an account's counts, each with its answer.
pub(crate) struct CountQuestions<'a> {
    client: &'a Client,
    account: &'a Account,
    /// The questions that have ended.
    pub(crate) ended: Vec<CountCall>,
}

/// The endpoints whose calls an account makes and the platform counts.
pub(crate) fn counted_paths(platform: &Platform, account: &Account) -> Vec<&'static str> {
    let tickets = account.tickets.iter().map(|name| Call::Ticket(*name));
    let calls = [Call::Token]
        .into_iter()
        .chain(tickets)
        .chain([Call::Verify]);
    let mut paths = Vec::new();
    for path in calls.map(|call| (platform.endpoint)(account.terms, call)) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

impl<'a> CountQuestions<'a> {
    pub(crate) const fn new(client: &'a Client, account: &'a Account) -> Self {
        Self {
            client,
            account,
            ended: Vec::new(),
        }
    }

    fn calls(&self) -> Result<(&'static Platform, &'static CountCalls), NoQuota> {
        let platform = self.client.platform(self.account.terms.kind);
        let platform = platform.ok_or(NoQuota::NotThere)?;
        let calls = platform.counts.ok_or(NoQuota::NotThere)?;
        Ok((platform, calls))
    }

    /// The number of requests that the platform's counts take; none where it has no counts.
    pub(crate) fn planned(&self) -> u32 {
        let paths = self
            .calls()
            .map(|(platform, _)| counted_paths(platform, self.account).len());
        paths.map_or(0, |paths| u32::try_from(paths).unwrap_or(u32::MAX))
    }

    /// The platform's count of each endpoint that the account calls.
    pub(crate) async fn show(&mut self, token: &Value) -> Result<Vec<EndpointCount>, NoQuota> {
        let (platform, calls) = self.calls()?;
        let mut counts = Vec::new();
        for path in counted_paths(platform, self.account) {
            let request = (calls.show)(calls.show_path, path, token.expose());
            let understand = |object: &json::Object<'_>| {
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
            };
            let asked = (calls.show_path, AskedFor::WithToken, token.expose());
            counts.push(self.ask(platform, &request, asked, understand).await?);
        }
        Ok(counts)
    }

    /// Has all counts of the account cleared.
    pub(crate) async fn clear(&mut self, secret: &Secret) -> Result<(), NoQuota> {
        let (platform, calls) = self.calls()?;
        let request = (calls.clear)(calls.clear_path, &self.account.id, secret.expose());
        let asked = (calls.clear_path, AskedFor::Token, secret.expose());
        self.ask(platform, &request, asked, |_| Ok(())).await
    }

    async fn ask<T>(
        &mut self,
        platform: &'static Platform,
        request: &Request,
        (endpoint, asked, credential): (&'static str, AskedFor, &str),
        understand: impl FnOnce(&json::Object<'_>) -> Result<T, Refusal>,
    ) -> Result<T, NoQuota> {
        let began = clock::now().at;
        let called = self.client.call(platform.kind, request, None).await;
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
        self.ended.push(CountCall {
            endpoint,
            took: began.until(clock::now().at),
            reached: called.reached,
            refusal: answer.as_ref().err().cloned(),
        });
        answer.map_err(|refusal| NoQuota::Refused(Box::new(refusal)))
    }
}
