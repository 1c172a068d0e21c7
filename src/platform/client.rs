//! Sends a request to the platform over HTTPS and returns status and bytes. Knows hosts, limits and time-outs, and
//! nothing of what an answer means.

use super::Platform;
use super::bad_section::BadSection;
use super::certificates;
use super::failure::explain;
use super::hosts::{Hosts, Switched};
use super::limits::Limits;
pub use super::limits::Permit;
use super::request::Request;
use super::resolver::Resolver;
use super::route::Proxies;
use crate::account::Account;
use crate::call::Refusal;
use crate::clock;
use crate::config::{Host, PlatformSection};
use crate::time::Moment;
use parking_lot::Mutex;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Url, redirect, retry};
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// The longest answer that is read, bytes. The platform's have a few hundred.
const MAX_BODY: usize = 64 * 1024;
/// No further host is asked when less than this is left.
const LEAST: Duration = Duration::from_millis(50);
/// Unused connections are closed after this: a dead one must not wait for the next call.
const IDLE: Duration = Duration::from_secs(20);

/// A client for all accounts together.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    groups: Box<[Hosts]>,
    limits: Limits,
    /// Limit on a whole call, over all hosts.
    timeout: Duration,
    resolver: Resolver,
    proxies: Proxies,
    /// Ids of accounts, and paths of calls that they may not use.
    refused_paths: Mutex<HashSet<(Box<str>, &'static str)>>,
}

/// An answer in HTTP, of the platform or of something in between.
pub struct Received {
    /// HTTP status.
    pub status: u16,
    /// The body, at most 64 KiB.
    pub body: Zeroizing<Vec<u8>>,
    /// Just before the request was sent.
    pub sent: Moment,
}

/// The result of asking one host, and whether the request may have reached it.
type HostReply = (Result<Received, Refusal>, bool);

/// The result of a call, over all hosts.
pub struct Called {
    /// The bytes that came back, or why none did.
    pub outcome: Result<Received, Refusal>,
    /// Requests that may have reached the platform: more than one when a host failed.
    pub reached: u32,
    /// Set when another host serves now than before.
    pub switched: Option<Switched>,
}

impl Called {
    fn none() -> Self {
        let why = "there is no host to ask";
        Self {
            outcome: Err(Refusal::transient(why, "set `hosts` of [platform]")),
            reached: 0,
            switched: None,
        }
    }
}

impl Client {
    /// Makes a client. Reads the system's root certificates when a host is reached over HTTPS.
    pub fn new(config: &PlatformSection) -> Result<Self, BadSection> {
        Self::with(config, &Resolver::new(Duration::ZERO))
    }

    /// A client for another configuration that shares this one's look-ups of names: those that hang are not begun
    /// again.
    pub(crate) fn renewed(&self, config: &PlatformSection) -> Result<Self, BadSection> {
        Self::with(config, &self.resolver)
    }

    fn with(config: &PlatformSection, resolver: &Resolver) -> Result<Self, BadSection> {
        // A second client finds the provider installed; that is no error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let connecting = connect_timeout(config);
        // Its own message says more than that of the time to connect, so it comes first.
        let resolver = resolver.with_patience(connecting.mul_f64(0.9));
        let (proxies, proxy) = Proxies::new(config)?;
        let hosts = config.hosts.iter().flat_map(|group| group.hosts.iter());
        let trusted = certificates::trusted(hosts, config.ca_file.as_deref());
        let builder = reqwest::Client::builder()
            .user_agent(concat!("wxtokend/", env!("CARGO_PKG_VERSION")))
            .tls_certs_only(trusted.map_err(BadSection::CaFile)?)
            .http1_only()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .no_proxy()
            .connect_timeout(connecting)
            .dns_resolver(resolver.clone())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(config.concurrency);
        let builder = match proxy {
            Some(proxy) => builder.proxy(proxy),
            None => builder,
        };
        Ok(Self {
            http: builder
                .build()
                .map_err(|_| BadSection::Build("the TLS library refuses it".to_owned()))?,
            groups: (config.hosts.iter())
                .map(|group| Hosts::new(group.platform, &group.hosts))
                .collect(),
            limits: Limits::new(config.concurrency, config.hosts.len()),
            timeout: config.timeout,
            resolver,
            proxies,
            refused_paths: Mutex::default(),
        })
    }

    /// Waits until a call may be made. `in_trouble` says that the account's last call brought no answer: such accounts
    /// leave room for the others. The permit is dropped when the call has ended.
    pub async fn permit(&self, kind: &str, in_trouble: bool) -> Permit {
        let is_of = |group: &Hosts| group.platform.kind == kind;
        let platform = self.groups.iter().position(is_of);
        self.limits
            .permit(platform.unwrap_or(usize::MAX), in_trouble)
            .await
    }

    /// The path that tells whether a token of the account lives.
    pub(super) fn verify_path(&self, platform: &Platform, account: &Account) -> &'static str {
        let refused = self.refused_paths.lock();
        let may_use = |path: &&&'static str| !refused.contains(&(account.id.clone(), **path));
        let paths = platform.verify_paths;
        // When none may be used, the last one says so.
        paths
            .iter()
            .find(may_use)
            .or(paths.last())
            .copied()
            .unwrap_or_default()
    }

    /// Another such path, now that the account may not use this one.
    pub(super) fn next_verify_path(
        &self,
        platform: &Platform,
        account: &Account,
        refused: &'static str,
    ) -> Option<&'static str> {
        self.refused_paths
            .lock()
            .insert((account.id.clone(), refused));
        let next = self.verify_path(platform, account);
        (next != refused).then_some(next)
    }

    /// The platform of this kind, if it is one that the configuration knows.
    pub(super) fn platform(&self, kind: &str) -> Option<&'static Platform> {
        let group = self.groups.iter().find(|group| group.platform.kind == kind);
        group.map(|group| group.platform)
    }

    /// Limit on a whole call, over all hosts.
    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends a request to the platform's hosts, one after the other while they fail. A limit is shorter than the configured one. Cancelled by dropping.
    pub async fn call(&self, kind: &str, request: &Request, limit: Option<Duration>) -> Called {
        let Some(hosts) = self.groups.iter().find(|group| group.platform.kind == kind) else {
            return Called::none();
        };
        let mut reached = 0;
        let mut last = None;
        let limit = limit.map_or(self.timeout, |limit| limit.min(self.timeout));
        let ends = Instant::now() + limit;
        let order = hosts.order(clock::now().at);
        for (n, at) in order.iter().copied().enumerate() {
            let left = ends.saturating_duration_since(Instant::now());
            if n > 0 && left < LEAST {
                break;
            }
            // A host that hangs leaves time for the next one.
            let limit = if n + 1 < order.len() { left / 2 } else { left };
            let (reply, sent) = self.ask(&hosts.list[at], request, limit).await;
            reached += u32::from(sent);
            let failed = match &reply {
                Ok(reply) => reply.status >= 500,
                Err(_) => true,
            };
            if !failed {
                return Called {
                    outcome: reply,
                    reached,
                    switched: hosts.on_answer(at),
                };
            }
            hosts.on_failure(at, clock::now().at);
            last = Some(match (last, reply) {
                (Some(Err(first)), Err(second)) => Err(both(first, &second)),
                (_, reply) => reply,
            });
        }
        last.map_or_else(Called::none, |outcome| Called {
            outcome,
            reached,
            switched: None,
        })
    }

    /// Says why a request failed, and whether it may have been sent.
    async fn failed(&self, host: &Host, error: &reqwest::Error, ends: Instant) -> HostReply {
        let via = self.proxies.via(host);
        let refusal = explain(host, via.as_ref(), &self.resolver, error, ends).await;
        (Err(refusal), !error.is_connect())
    }

    /// One request to one host; says too whether it may have been sent.
    async fn ask(&self, host: &Host, request: &Request, limit: Duration) -> HostReply {
        let ends = Instant::now() + limit;
        let Ok(mut url) = Url::parse(&format!("{}{}", host.as_str(), request.path)) else {
            let message = format!("`{}` is not a URL", host.as_str());
            return (
                Err(Refusal::transient(message, "correct `hosts` of [platform]")),
                false,
            );
        };
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(
                request
                    .query
                    .iter()
                    .map(|(key, value)| (key, value.as_str())),
            );
        }
        let builder = match &request.body {
            // A body of known length is sent with Content-Length; the platform refuses chunked ones.
            Some(body) => self
                .http
                .post(url)
                .header(CONTENT_TYPE, "application/json")
                .body(body.to_vec()),
            None => self.http.get(url),
        };
        let builder = request
            .headers
            .iter()
            .fold(builder, |builder, (name, value)| {
                builder.header(*name, value.as_str())
            });
        let sent = clock::now().at;
        let response = match builder.timeout(limit).send().await {
            Ok(response) => response,
            Err(error) => return self.failed(host, &error, ends).await,
        };
        let status = response.status().as_u16();
        let body = match read(response).await {
            Ok(Some(body)) => body,
            Ok(None) => {
                let message = format!("the answer of {} is longer than 64 KiB", host.as_str());
                return (Err(Refusal::transient(message, ANSWERED_BY_ANOTHER)), true);
            }
            Err(error) => return self.failed(host, &error, ends).await,
        };
        (Ok(Received { status, body, sent }), true)
    }
}

/// The failures of two hosts as one. The first host is the preferred one, so its hint stands.
fn both(first: Refusal, second: &Refusal) -> Refusal {
    let message = format!("{}; {}", first.message, second.message);
    Refusal { message, ..first }
}

/// Limit on connecting to one host: so that the next one has its turn, and the call ends in time.
fn connect_timeout(config: &PlatformSection) -> Duration {
    let several = config.hosts.iter().any(|group| group.hosts.len() > 1);
    let share = if several {
        config.timeout.mul_f64(0.45)
    } else {
        config.timeout.mul_f64(0.9)
    };
    config.connect_timeout.min(share)
}

const ANSWERED_BY_ANOTHER: &str =
    "something between here and the platform answers instead: look for a proxy or captive portal";

/// Reads a body up to the limit; nothing when it is longer.
async fn read(mut response: reqwest::Response) -> reqwest::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut body = Zeroizing::new(Vec::with_capacity(1024));
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_BODY {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}
