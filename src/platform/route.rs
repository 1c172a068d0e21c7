//! The proxy that a host is reached by, and its answer to CONNECT.

use super::bad_section::BadSection;
use super::resolver::Resolver;
use crate::config::{Host, PlatformSection};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use reqwest::dns::{Name, Resolve};
use reqwest::{NoProxy, Proxy};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// The time to ask a proxy for the reason why it opened no tunnel.
const ASK: Duration = Duration::from_secs(2);
/// Longest status line that is read, bytes.
const MAX_LINE: usize = 1024;

/// The proxies of the configuration, or of the environment.
pub(super) struct Proxies {
    matcher: Option<Matcher>,
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A proxy's URL may hold a password.
        f.write_str("Proxies(…)")
    }
}

/// One proxy on the way to a host. Displays without the password that its URL may hold.
pub(super) struct ProxyOf(Intercept);

impl fmt::Display for ProxyOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = self.0.uri();
        let scheme = uri.scheme_str().unwrap_or("http");
        let host = uri.host().unwrap_or_default();
        match uri.port() {
            Some(port) => write!(f, "{scheme}://{host}:{port}"),
            None => write!(f, "{scheme}://{host}"),
        }
    }
}

impl Proxies {
    /// The configured proxy for everything, else that of `HTTPS_PROXY` for HTTPS; `NO_PROXY` exempts from both. Also as
    /// the HTTP client wants it.
    pub(super) fn new(config: &PlatformSection) -> Result<(Self, Option<Proxy>), BadSection> {
        let wrong = |what: &str| BadSection::Build(format!("{what} is not the URL of a proxy"));
        let variable = |names: [&str; 2]| {
            let values = names
                .into_iter()
                .filter_map(|name| std::env::var(name).ok());
            values.into_iter().find(|value| !value.is_empty())
        };
        let no_proxy = variable(["NO_PROXY", "no_proxy"]).unwrap_or_default();
        let builder = Matcher::builder().no(no_proxy);
        let (builder, proxy) = if let Some(url) = &config.proxy {
            let proxy = Proxy::all(url.expose()).map_err(|_| wrong("`proxy`"))?;
            (builder.all(url.expose()), proxy)
        } else if let Some(url) = variable(["HTTPS_PROXY", "https_proxy"]) {
            let proxy = Proxy::https(&url).map_err(|_| wrong("$HTTPS_PROXY"))?;
            (builder.https(url), proxy)
        } else {
            return Ok((Self { matcher: None }, None));
        };
        let matcher = Some(builder.build());
        Ok((Self { matcher }, Some(proxy.no_proxy(NoProxy::from_env()))))
    }

    /// The proxy that a host is reached by, if it is by one.
    pub(super) fn via(&self, host: &Host) -> Option<ProxyOf> {
        let uri = host.as_str().parse().ok()?;
        self.matcher.as_ref()?.intercept(&uri).map(ProxyOf)
    }
}

impl ProxyOf {
    /// Returns whether the proxy has this name.
    pub(super) fn is_at(&self, name: &str) -> bool {
        self.0.uri().host() == Some(name)
    }

    /// Asks the proxy for a tunnel once more, to learn the status that it answers: the HTTP client does not tell.
    pub(super) async fn status(
        &self,
        host: &Host,
        resolver: &Resolver,
        ends: Instant,
    ) -> Option<u16> {
        let ends = ends.min(Instant::now() + ASK);
        tokio::time::timeout_at(ends, self.ask(host, resolver))
            .await
            .ok()?
    }

    async fn ask(&self, host: &Host, resolver: &Resolver) -> Option<u16> {
        let uri = self.0.uri();
        if uri.scheme_str() != Some("http") {
            return None;
        }
        let name = uri.host()?.trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(80);
        let addresses: Vec<SocketAddr> = if let Ok(ip) = name.parse() {
            vec![SocketAddr::new(ip, port)]
        } else {
            {
                let name: Name = name.parse().ok()?;
                let found = resolver.resolve(name).await.ok()?;
                found
                    .map(|found| SocketAddr::new(found.ip(), port))
                    .collect()
            }
        };
        let mut stream = TcpStream::connect(&*addresses).await.ok()?;
        let target: hyper::Uri = host.as_str().parse().ok()?;
        let target = format!("{}:{}", target.host()?, target.port_u16().unwrap_or(443));
        let login = self.0.basic_auth().and_then(|login| login.to_str().ok());
        let login = login.map_or_else(String::new, |login| {
            format!("Proxy-Authorization: {login}\r\n")
        });
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut line = Vec::new();
        let mut stream = stream.take(MAX_LINE as u64);
        while !line.contains(&b'\n') {
            if stream.read_buf(&mut line).await.ok()? == 0 {
                break;
            }
        }
        let line = String::from_utf8_lossy(&line);
        let mut words = line.strip_prefix("HTTP/1.")?.split_ascii_whitespace();
        words.nth(1)?.parse().ok()
    }
}
