//! A client of etcd's HTTP gateway (3.4 or later): leases, transactions, one watch. Members are asked in turn.

use super::error::EngineError;
use super::tls::identity;
use super::watch::EtcdWatch;
use super::wire::{
    EngineHeader, ErrorReply, KeyValue, LeaseReply, RangeReply, Streamed, Transaction,
    TransactionDone, TransactionReply, encode, range_end, to_body,
};
use crate::clock;
use crate::config::{FleetSection, Host};
use crate::files;
use crate::offload::{Device, Hazard, Lane, Offload};
use crate::platform::certificates;
use crate::platform::failure::why_unreachable;
use crate::platform::resolver::Resolver;
use parking_lot::Mutex;
use prometheus::IntCounter;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE};
use reqwest::{RequestBuilder, Response, redirect, retry};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// Keys that are read at a time.
const PAGE: usize = 512;
/// Unused connections are closed after this.
const IDLE: Duration = Duration::from_secs(30);

/// A client of one etcd cluster.
#[derive(Debug)]
pub(crate) struct Etcd {
    http: reqwest::Client,
    endpoints: Arc<[Host]>,
    /// The member that is asked first. Grows when one fails.
    current: AtomicUsize,
    /// Of one question to one member.
    limit: Duration,
    /// True if this host shows a certificate.
    has_certificate: bool,
    user: Option<(Box<str>, PathBuf)>,
    token: Mutex<Option<Zeroizing<String>>>,
    files: Lane,
    /// This host's clock less that of the member that answered last, milliseconds; `i64::MIN` before the first answer.
    ahead: AtomicI64,
    /// Requests that were answered, and that were not.
    requests: [IntCounter; 2],
}

impl Etcd {
    /// Makes a client. Blocks on the files of certificates.
    pub(crate) fn new(
        section: &FleetSection,
        offload: &Offload,
        requests: [IntCounter; 2],
    ) -> Result<Self, String> {
        // A second client finds the provider installed; that is no error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let limit = (section.lease / 4).clamp(Duration::from_millis(750), Duration::from_secs(3));
        let resolver = Resolver::new(limit.mul_f64(0.6));
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("wxtokend/", env!("CARGO_PKG_VERSION")))
            .tls_certs_only(certificates::trusted(
                section.endpoints.iter(),
                section.ca_file.as_deref(),
            )?)
            .http1_only()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .connect_timeout(limit.mul_f64(0.7))
            .dns_resolver(resolver)
            .pool_idle_timeout(IDLE);
        if let Some(identity) = identity(section)? {
            builder = builder.identity(identity);
        }
        Ok(Self {
            http: builder
                .build()
                .map_err(|_| "the TLS library refuses the certificates".to_owned())?,
            endpoints: section.endpoints.clone(),
            current: AtomicUsize::new(0),
            limit,
            has_certificate: section.certificate.is_some(),
            user: section.user.clone(),
            token: Mutex::default(),
            files: offload.lane(Hazard::Secrets(Device::default())),
            ahead: AtomicI64::new(i64::MIN),
            requests,
        })
    }

    /// The number of the member that is asked first: changes whenever one has failed.
    pub(crate) fn generation(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// The member that is asked first.
    pub(crate) fn endpoint(&self) -> &Host {
        &self.endpoints[self.generation() % self.endpoints.len()]
    }

    /// Milliseconds by which this host's clock is ahead of the member's that answered last.
    pub(crate) fn clock_ahead(&self) -> Option<i64> {
        Some(self.ahead.load(Ordering::Relaxed)).filter(|ahead| *ahead != i64::MIN)
    }

    /// The version of the server.
    pub(crate) async fn version(&self) -> Result<String, EngineError> {
        #[derive(Deserialize)]
        struct Version {
            version: String,
        }
        let version: Version = self
            .call("/v3/maintenance/status", &to_body(&json!({})))
            .await?;
        Ok(version.version)
    }

    /// Takes a lease. Returns its id and its life.
    pub(crate) async fn grant(&self, ttl: Duration) -> Result<(i64, Duration), EngineError> {
        let body = to_body(&json!({"TTL": ttl.as_secs().to_string()}));
        let granted: LeaseReply = self.call("/v3/lease/grant", &body).await?;
        Ok((granted.id, seconds(granted.ttl)))
    }

    /// Keeps a lease alive. Returns its life, counted from just before the question; nothing if it is gone.
    pub(crate) async fn keep_alive(
        &self,
        lease: i64,
    ) -> Result<(Option<Duration>, EngineHeader), EngineError> {
        let body = to_body(&json!({"ID": lease.to_string()}));
        let kept: Streamed<LeaseReply> = self.call("/v3/lease/keepalive", &body).await?;
        match (kept.result, kept.error) {
            (Some(kept), _) => Ok(((kept.ttl > 0).then(|| seconds(kept.ttl)), kept.header)),
            (None, Some(error)) => Err(EngineError::of_code(error.grpc_code, &error.message)),
            (None, None) => Err(EngineError::away("etcd's answer cannot be understood")),
        }
    }

    /// Ends a lease, and with it all its keys.
    pub(crate) async fn revoke(&self, lease: i64) -> Result<(), EngineError> {
        let body = to_body(&json!({"ID": lease.to_string()}));
        let _: serde::de::IgnoredAny = self.call("/v3/lease/revoke", &body).await?;
        Ok(())
    }

    /// Makes a transaction.
    pub(crate) async fn transact(
        &self,
        what: &Transaction,
    ) -> Result<TransactionDone, EngineError> {
        let reply: TransactionReply = self.call("/v3/kv/txn", &what.body()).await?;
        Ok(reply.into())
    }

    /// All keys of a prefix.
    pub(crate) async fn all(
        &self,
        prefix: &str,
    ) -> Result<(Vec<KeyValue>, EngineHeader), EngineError> {
        let mut all: Vec<KeyValue> = Vec::new();
        let mut from = prefix.as_bytes().to_vec();
        let mut first = None;
        loop {
            let revision = first.map_or(0, |header: EngineHeader| header.revision);
            let body = to_body(&json!({
                "key": encode(&from),
                "range_end": range_end(prefix),
                "limit": PAGE.to_string(),
                // All pages show the same moment.
                "revision": revision.to_string(),
            }));
            let page: RangeReply = self.call("/v3/kv/range", &body).await?;
            let header = *first.get_or_insert(page.header);
            all.extend(page.kvs);
            match all.last().filter(|_| page.more) {
                Some(last) => from = [last.key.as_bytes(), &[0]].concat(),
                None => return Ok((all, header)),
            }
        }
    }

    /// Watches all keys of a prefix from a revision on, at the member that is asked first.
    pub(crate) async fn watch(&self, prefix: &str, from: i64) -> Result<EtcdWatch, EngineError> {
        let body = to_body(&json!({"create_request": {
            "key": encode(prefix),
            "range_end": range_end(prefix),
            "start_revision": from.to_string(),
        }}));
        let at = self.generation();
        let begun = async {
            let response = self.send(at, "/v3/watch", &body, None).await?;
            let mut watch = EtcdWatch::new(response);
            // The first line says that it stands.
            watch.next().await.map(|_| watch)
        };
        match timeout(self.limit, begun).await {
            Ok(Ok(watch)) => Ok(watch),
            Ok(Err(error)) => {
                if matches!(error, EngineError::Away(_)) {
                    self.leave(at);
                }
                Err(error)
            }
            Err(_) => {
                self.leave(at);
                Err(self.silent(at))
            }
        }
    }

    /// Asks one member after the other.
    async fn call<T: DeserializeOwned>(&self, path: &str, body: &[u8]) -> Result<T, EngineError> {
        let mut last = None;
        // One more than there are members: a token may have to be renewed.
        for _ in 0..=self.endpoints.len() {
            let at = self.generation();
            // A login takes etcd long: it hashes the password, slowly by intent.
            let is_logged_in = self.user.is_none() || self.token.lock().is_some();
            let limit = self.limit * if is_logged_in { 1 } else { 3 };
            let asked = timeout(limit, self.ask(at, path, body)).await;
            let answer = asked.unwrap_or_else(|_| Err(self.silent(at)));
            let result = usize::from(answer.is_err());
            self.requests[result].inc();
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) if error.wants_login() && self.user.is_some() => {
                    *self.token.lock() = None;
                    last = Some(error);
                }
                Err(error @ EngineError::Away(_)) => {
                    self.leave(at);
                    let first = last.get_or_insert(error);
                    if matches!(first, EngineError::Refused { .. }) {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| EngineError::away("no member of etcd answers")))
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        at: usize,
        path: &str,
        body: &[u8],
    ) -> Result<T, EngineError> {
        let response = self.send(at, path, body, Some(self.limit)).await?;
        let bytes = response.bytes().await;
        let bytes = bytes.map_err(|error| self.unreachable(at, &error))?;
        serde_json::from_slice(&bytes).map_err(|_| {
            let endpoint = self.member(at).as_str();
            EngineError::away(format!(
                "{endpoint} answers what is not etcd's JSON: look whether the port is that of clients, and the version 3.4 or later"
            ))
        })
    }

    /// Sends a question to one member. The answer's status is good.
    async fn send(
        &self,
        at: usize,
        path: &str,
        body: &[u8],
        limit: Option<Duration>,
    ) -> Result<Response, EngineError> {
        let token = self.log_in(at).await?;
        let mut request = self.post(at, path, body);
        if let Some(token) = &token {
            request = request.header(AUTHORIZATION, token.as_str());
        }
        if let Some(limit) = limit {
            request = request.timeout(limit);
        }
        let sent = request.send().await;
        let response = sent.map_err(|error| self.unreachable(at, &error))?;
        self.note_clock(&response);
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, endpoint) = (response.status().as_u16(), self.member(at).as_str());
        let text = response.bytes().await.unwrap_or_default();
        match serde_json::from_slice::<ErrorReply>(&text) {
            Ok(error) if error.code != 0 => Err(EngineError::of_code(error.code, &error.message)),
            _ => Err(EngineError::away(format!(
                "{endpoint} answers {status}: look whether etcd, 3.4 or later, listens there for clients"
            ))),
        }
    }

    /// The token of the user, asked for when there is none yet.
    async fn log_in(&self, at: usize) -> Result<Option<Zeroizing<String>>, EngineError> {
        #[derive(Deserialize)]
        struct Authenticated {
            token: String,
        }
        let Some((name, file)) = &self.user else {
            return Ok(None);
        };
        if let Some(token) = &*self.token.lock() {
            return Ok(Some(token.clone()).filter(|token| !token.is_empty()));
        }
        let file = file.clone();
        let password = self.files.run(move || files::read_secret(&file)).await;
        let password = password
            .map_err(|stopping| EngineError::away(stopping.to_string()))?
            .map_err(|error| EngineError::away(format!("the password of etcd: {error}")))?;
        let body = to_body(&json!({"name": name, "password": password.expose()}));
        let request = self.post(at, "/v3/auth/authenticate", &body);
        let sent = request.timeout(self.limit * 2).send().await;
        let response = sent.map_err(|error| self.unreachable(at, &error))?;
        let text = Zeroizing::new(response.bytes().await.unwrap_or_default().to_vec());
        let token = match serde_json::from_slice::<Authenticated>(&text) {
            Ok(granted) => Zeroizing::new(granted.token),
            Err(_) => match serde_json::from_slice::<ErrorReply>(&text) {
                // A login is not wanted: none is needed then.
                Ok(error) if error.message.contains("not enabled") => Zeroizing::default(),
                Ok(error) => return Err(EngineError::of_code(error.code, &error.message)),
                Err(_) => {
                    return Err(EngineError::away(
                        "etcd's answer to the login cannot be understood",
                    ));
                }
            },
        };
        *self.token.lock() = Some(token.clone());
        Ok(Some(token).filter(|token| !token.is_empty()))
    }

    fn post(&self, at: usize, path: &str, body: &[u8]) -> RequestBuilder {
        let url = format!("{}{path}", self.member(at).as_str());
        let request = self.http.post(url).body(body.to_vec());
        request.header(CONTENT_TYPE, "application/json")
    }

    fn member(&self, at: usize) -> &Host {
        &self.endpoints[at % self.endpoints.len()]
    }

    /// Another member is asked first from now on, unless somebody has seen to that.
    pub(crate) fn leave(&self, at: usize) {
        let _ = self
            .current
            .compare_exchange(at, at + 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn unreachable(&self, at: usize, error: &reqwest::Error) -> EngineError {
        EngineError::away(why_unreachable(
            self.member(at),
            error,
            self.has_certificate,
        ))
    }

    fn silent(&self, at: usize) -> EngineError {
        EngineError::away(format!(
            "{} does not answer in time",
            self.member(at).as_str()
        ))
    }

    /// Compares this host's clock with the member's, which tells whole seconds.
    fn note_clock(&self, response: &Response) {
        let date = response
            .headers()
            .get(DATE)
            .and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        if let Some(date) = date {
            let ahead = clock::now().unix_millis - date.timestamp().as_millisecond();
            // It is in that second somewhere.
            self.ahead.store(ahead - 500, Ordering::Relaxed);
        }
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}
