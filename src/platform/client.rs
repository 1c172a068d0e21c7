//! Sends a request to the platform over HTTPS and returns status and bytes. Knows hosts, limits and time-outs, and nothing
//! of what an answer means.

use super::Platform;
use super::hosts::{Hosts, Switched};
use super::request::Request;
use crate::call::Refusal;
use crate::clock;
use crate::config::{Host, PlatformSection};
use crate::time::Moment;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Certificate, NoProxy, Proxy, Url, redirect, retry};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, fs, io};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

/// The longest answer that is read, bytes. The platform's have a few hundred.
const MAX_BODY: usize = 64 * 1024;
/// Unused connections are closed after this: a dead one must not wait for the next call.
const IDLE: Duration = Duration::from_secs(20);

/// A client for all accounts together.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    groups: Box<[Hosts]>,
    limit: Arc<Semaphore>,
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

/// The result of a call, over all hosts.
pub struct Reply {
    /// The bytes that came back, or why none did.
    pub outcome: Result<Received, Refusal>,
    /// How many requests may have reached the platform: more than one when a host failed.
    pub reached: u32,
    /// Set when another host serves now than before.
    pub switched: Option<Switched>,
}

impl Reply {
    fn none() -> Self {
        let why = "there is no host to ask";
        Self {
            outcome: Err(Refusal::transient(why, "set `hosts` of [platform]")),
            reached: 0,
            switched: None,
        }
    }
}

/// Why no client could be made of the configuration.
#[derive(Debug)]
pub enum ClientError {
    /// `ca_file` cannot be read or holds no certificate.
    CaFile(String),
    /// Anything else that the library says.
    Build(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CaFile(reason) => write!(f, "cannot use `ca_file` of [platform]: {reason}"),
            Self::Build(reason) => write!(f, "cannot make a client of [platform]: {reason}"),
        }
    }
}

impl Error for ClientError {}

impl Client {
    /// Makes a client. Reads the system's root certificates when a host is reached over HTTPS.
    pub fn new(config: &PlatformSection) -> Result<Self, ClientError> {
        // A second client finds the provider installed; that is no error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            .user_agent(concat!("wxtokend/", env!("CARGO_PKG_VERSION")))
            .tls_certs_only(certificates(config)?)
            .http1_only()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .no_proxy()
            .connect_timeout(config.connect_timeout)
            .timeout(config.timeout)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(config.concurrency);
        let builder = match proxy(config) {
            Some(proxy) => builder.proxy(proxy?),
            None => builder,
        };
        Ok(Self {
            http: builder
                .build()
                .map_err(|error| ClientError::Build(innermost(&error)))?,
            groups: (config.hosts.iter())
                .map(|group| Hosts::new(group.platform, &group.hosts))
                .collect(),
            limit: Arc::new(Semaphore::new(config.concurrency)),
        })
    }

    /// Waits until a call may be made: so many at once, all accounts together. The permit is dropped when it has ended.
    pub async fn permit(&self) -> OwnedSemaphorePermit {
        match self.limit.clone().acquire_owned().await {
            Ok(permit) => permit,
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// The platform of this kind, if it is one that the configuration knows.
    pub(super) fn platform(&self, kind: &str) -> Option<&'static Platform> {
        let group = self.groups.iter().find(|group| group.platform.kind == kind);
        group.map(|group| group.platform)
    }

    /// Sends a request to the platform's hosts, one after the other while they fail. Cancelled by dropping.
    pub async fn call(&self, kind: &str, request: &Request) -> Reply {
        let Some(hosts) = self.groups.iter().find(|group| group.platform.kind == kind) else {
            return Reply::none();
        };
        let mut reached = 0;
        let mut last = None;
        for at in hosts.order(clock::now().at) {
            let (reply, sent) = self.ask(&hosts.list[at], request).await;
            reached += u32::from(sent);
            let failed = match &reply {
                Ok(reply) => reply.status >= 500,
                Err(_) => true,
            };
            if !failed {
                return Reply {
                    outcome: reply,
                    reached,
                    switched: hosts.on_answer(at),
                };
            }
            hosts.on_failure(at, clock::now().at);
            last = Some(reply);
        }
        match last {
            Some(outcome) => Reply {
                outcome,
                reached,
                switched: None,
            },
            None => Reply::none(),
        }
    }

    /// One request to one host; says too whether it may have been sent.
    async fn ask(&self, host: &Host, request: &Request) -> (Result<Received, Refusal>, bool) {
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
        let response = match builder.send().await {
            Ok(response) => response,
            Err(error) => return (Err(explain(host, &error)), !error.is_connect()),
        };
        let status = response.status().as_u16();
        let body = match read(response).await {
            Ok(Some(body)) => body,
            Ok(None) => {
                let message = format!("the answer of {} is longer than 64 KiB", host.as_str());
                return (Err(Refusal::transient(message, ANSWERED_BY_ANOTHER)), true);
            }
            Err(error) => return (Err(explain(host, &error)), true),
        };
        (Ok(Received { status, body, sent }), true)
    }
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

/// What a failed request means. The library's own text holds URLs, which hold secrets: it is never used.
fn explain(host: &Host, error: &reqwest::Error) -> Refusal {
    let host = host.as_str();
    if error.is_timeout() {
        let what = if error.is_connect() {
            "does not let connect"
        } else {
            "does not answer"
        };
        return Refusal::transient(
            format!("{host} {what} in time"),
            "look at this host's network, DNS, firewall and proxy; asked again soon",
        );
    }
    let reason = innermost(error);
    if error.is_connect() {
        let hint = if reason.contains("certificate") {
            "the certificate is not trusted: install the system's CA certificates, or set `ca_file` of [platform] when a proxy inspects TLS"
        } else {
            "look at this host's network, DNS, firewall and proxy; asked again soon"
        };
        return Refusal::transient(format!("cannot connect to {host}: {reason}"), hint);
    }
    Refusal::transient(
        format!("the connection to {host} broke before the answer was complete: {reason}"),
        "asked again soon; if it lasts, look for a proxy or firewall that cuts connections",
    )
}

/// The cause that the operating system or the TLS library gave: they know of no URL.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    let mut reason = None;
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            reason = Some(crate::fault::reason(error));
        } else if let Some(error) = error.downcast_ref::<rustls::Error>() {
            reason = Some(error.to_string());
        }
        cause = error.source();
    }
    reason.unwrap_or_else(|| "no answer in HTTP".to_owned())
}

fn certificates(config: &PlatformSection) -> Result<Vec<Certificate>, ClientError> {
    let mut hosts = config.hosts.iter().flat_map(|group| group.hosts.iter());
    let tls = hosts.any(|host| host.as_str().starts_with("https:"));
    let mut certificates = Vec::new();
    if tls {
        // Single unreadable certificates of the system are not our concern; a host that needs one says so.
        for certificate in rustls_native_certs::load_native_certs().certs {
            certificates.extend(Certificate::from_der(&certificate));
        }
    }
    if let Some(path) = &config.ca_file {
        let wrong = |reason: &str| ClientError::CaFile(format!("`{}`: {reason}", path.display()));
        let pem = fs::read(path).map_err(|error| wrong(&crate::fault::reason(&error)))?;
        let more = Certificate::from_pem_bundle(&pem).map_err(|_| wrong("not PEM certificates"))?;
        if more.is_empty() {
            return Err(wrong("no PEM certificate in it"));
        }
        certificates.extend(more);
    }
    Ok(certificates)
}

/// The configured proxy for everything, else that of `HTTPS_PROXY` for HTTPS; `NO_PROXY` exempts from both.
fn proxy(config: &PlatformSection) -> Option<Result<Proxy, ClientError>> {
    let wrong = |what: &str| ClientError::Build(format!("{what} is not the URL of a proxy"));
    let proxy = if let Some(url) = &config.proxy {
        Proxy::all(url.expose()).map_err(|_| wrong("`proxy`"))
    } else {
        let url = ["HTTPS_PROXY", "https_proxy"]
            .into_iter()
            .find_map(|name| std::env::var(name).ok())?;
        if url.is_empty() {
            return None;
        }
        Proxy::https(url).map_err(|_| wrong("$HTTPS_PROXY"))
    };
    Some(proxy.map(|proxy| proxy.no_proxy(NoProxy::from_env())))
}
