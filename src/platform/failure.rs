//! Failed requests in words: where it failed, and what to do. The HTTP client's own text holds URLs, which hold secrets: it
//! is never used.

use super::resolver::{LookupError, Resolver};
use super::route::ProxyOf;
use crate::call::Refusal;
use crate::config::Host;
use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error as TlsError};
use std::error::Error;
use std::io;
use std::time::Duration;
use tokio::time::Instant;

/// A clock that is ahead of a certificate's end by more is more likely wrong than the certificate.
const LONG_EXPIRED: Duration = Duration::from_secs(400 * 86_400);

const NETWORK: &str = "look at this host's network, DNS, firewall and proxy; asked again soon";
const CLOCK: &str = "set this host's clock: its time server may not run yet; asked again soon";

/// The causes inside an error of the HTTP client that know of no URL.
#[derive(Default)]
struct Causes<'a> {
    lookup: Option<&'a LookupError>,
    tls: Option<&'a TlsError>,
    system: Option<&'a io::Error>,
}

impl<'a> Causes<'a> {
    fn of(error: &'a reqwest::Error) -> Self {
        let mut causes = Self::default();
        let mut cause = error.source();
        while let Some(error) = cause {
            causes.see(error);
            cause = error.source();
        }
        causes
    }

    fn see(&mut self, error: &'a (dyn Error + 'static)) {
        self.lookup = self.lookup.or(error.downcast_ref());
        self.tls = self.tls.or(error.downcast_ref());
        if let Some(error) = error.downcast_ref::<io::Error>() {
            // The source of one is the source of what it holds, not what it holds.
            match error.get_ref() {
                Some(inside) => self.see(inside),
                None => self.system = Some(error),
            }
        }
    }
}

/// Explains a request that failed.
pub(super) async fn explain(
    host: &Host,
    via: Option<&ProxyOf>,
    resolver: &Resolver,
    error: &reqwest::Error,
    ends: Instant,
) -> Refusal {
    let causes = Causes::of(error);
    let url = host.as_str();
    if let Some(lookup) = causes.lookup {
        return of_lookup(lookup, via);
    }
    if let Some(tls) = causes.tls {
        let (message, hint) = of_tls(tls);
        return Refusal::transient(format!("cannot connect to {url}: {message}"), hint);
    }
    let reason =
        (causes.system).map_or_else(|| "no answer in HTTP".to_owned(), crate::fault::reason);
    match (error.is_connect(), via) {
        (true, Some(via)) if error.is_timeout() => Refusal::transient(
            format!("connecting to {url} by the proxy {via} timed out"),
            "look at the proxy, and at the network between it and the platform; asked again soon",
        ),
        (true, Some(via)) if causes.system.is_some() => Refusal::transient(
            format!("cannot connect to the proxy {via}: {reason}"),
            "look whether the proxy runs, and at `proxy` of [platform] or $HTTPS_PROXY; asked again soon",
        ),
        (true, Some(via)) => of_proxy(host, via, via.status(host, resolver, ends).await),
        (true, None) if error.is_timeout() => {
            Refusal::transient(format!("connecting to {url} timed out"), NETWORK)
        }
        (true, None) => Refusal::transient(format!("cannot connect to {url}: {reason}"), NETWORK),
        (false, _) if error.is_timeout() => {
            Refusal::transient(format!("{url} does not answer in time"), NETWORK)
        }
        (false, _) => Refusal::transient(
            format!("the connection to {url} broke before the answer was complete: {reason}"),
            "asked again soon; if it lasts, look for a proxy or firewall that cuts connections",
        ),
    }
}

/// The words of a server that is not content with the certificate of its client.
const OF_OUR_CERTIFICATE: [AlertDescription; 7] = [
    AlertDescription::CertificateRequired,
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
];

/// Says why a host of another service than the platform cannot be reached: a member of etcd, as `[fleet]` names it, which may
/// want a certificate of this host too.
pub(crate) fn why_unreachable(
    host: &Host,
    error: &reqwest::Error,
    has_certificate: bool,
) -> String {
    let causes = Causes::of(error);
    let url = host.as_str();
    if let Some(lookup) = causes.lookup {
        return lookup.to_string();
    }
    if let Some(tls) = causes.tls {
        if let TlsError::AlertReceived(alert) = tls
            && OF_OUR_CERTIFICATE.contains(alert)
        {
            return if has_certificate {
                format!(
                    "{url} refuses this host's client certificate ({alert:?}): `cert_file` of [fleet] must be one of the CA that etcd trusts (its --trusted-ca-file), for clients, and not expired"
                )
            } else {
                format!(
                    "{url} wants a client certificate: set `cert_file` and `cert_key_file` of [fleet]"
                )
            };
        }
        let (message, hint) = of_tls(tls);
        let hint = hint.replace("[platform]", "[fleet]");
        return format!("cannot connect to {url}: {message}; {hint}");
    }
    match causes.system.map(crate::fault::reason) {
        _ if error.is_timeout() => format!("{url} does not answer in time"),
        Some(reason) if error.is_connect() => format!("cannot connect to {url}: {reason}"),
        Some(reason) => format!("the connection to {url} broke: {reason}"),
        None => format!("{url} gives no answer in HTTP"),
    }
}

fn of_lookup(error: &LookupError, via: Option<&ProxyOf>) -> Refusal {
    let hint = if via.is_some_and(|via| via.is_at(&error.name)) {
        "that is the proxy: correct `proxy` of [platform] or $HTTPS_PROXY, or the host's name service; asked again soon"
    } else {
        "look at /etc/resolv.conf and the name server of this host; asked again soon"
    };
    Refusal::transient(error.to_string(), hint)
}

fn of_proxy(host: &Host, via: &ProxyOf, status: Option<u16>) -> Refusal {
    let url = host.as_str();
    let message = match status {
        Some(status) => format!("the proxy {via} answers {status} and opens no tunnel to {url}"),
        None => format!("the proxy {via} opens no tunnel to {url}"),
    };
    let hint = match status {
        Some(407) => {
            "the proxy wants a login: put it into `proxy` of [platform], as http://user:password@host:port"
        }
        Some(401 | 403) => {
            "the proxy forbids the connection: have its administrator allow the platform's hosts"
        }
        Some(502..=504) => {
            "the proxy does not reach the platform: look at its network and DNS; asked again soon"
        }
        _ => {
            "look at the proxy and its log, and at `proxy` of [platform] or $HTTPS_PROXY; asked again soon"
        }
    };
    Refusal::transient(message, hint)
}

fn day(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds)
        .map_or_else(|_| "an impossible time".to_owned(), |time| time.to_string())
}

/// A failed handshake: message and hint.
fn of_tls(error: &TlsError) -> (String, &'static str) {
    if let TlsError::InvalidCertificate(error) = error {
        let (message, hint) = of_certificate(error);
        return (format!("invalid peer certificate: {message}"), hint);
    }
    (
        format!("no TLS: {error}"),
        "look whether the port is one for HTTPS, and for a proxy or firewall in between; asked again soon",
    )
}

fn of_certificate(error: &CertificateError) -> (String, &'static str) {
    match error {
        CertificateError::UnknownIssuer => (
            "its issuer is not trusted".into(),
            "install the system's CA certificates (package ca-certificates), or set `ca_file` of [platform] when a proxy \
             inspects TLS or the server is your own",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            format!("it is not for this name: {error}"),
            "write the host in [platform] as the certificate names it; if it is the platform's, look for a proxy or DNS \
             entry that leads elsewhere",
        ),
        CertificateError::NotValidYetContext { time, not_before } => (
            format!(
                "it is not valid yet: this host's clock says {}, it is valid from {}",
                day(*time),
                day(*not_before)
            ),
            CLOCK,
        ),
        CertificateError::NotValidYet => ("it is not valid yet".into(), CLOCK),
        CertificateError::ExpiredContext { time, not_after } => {
            let late = time.as_secs().saturating_sub(not_after.as_secs());
            let hint = if Duration::from_secs(late) > LONG_EXPIRED {
                CLOCK
            } else {
                EXPIRED
            };
            let (time, not_after) = (day(*time), day(*not_after));
            (
                format!(
                    "it has expired: this host's clock says {time}, it was valid until {not_after}"
                ),
                hint,
            )
        }
        CertificateError::Expired => ("it has expired".into(), EXPIRED),
        CertificateError::Other(other)
            if matches!(
                other.0.downcast_ref(),
                Some(webpki::Error::CaUsedAsEndEntity)
            ) =>
        {
            (
                "it is that of a CA, not of a server".into(),
                "a self-signed certificate for a server must not be one of a CA: make it with `openssl req -x509 … -addext \
                 basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:NAME`, and name it in `ca_file` of [platform]",
            )
        }
        other => (
            other.to_string(),
            "look at the server's certificate; if it is the platform's, look for a proxy that inspects TLS",
        ),
    }
}

const EXPIRED: &str = "whoever runs the server, or the proxy that inspects TLS, must renew its certificate; if that date is \
                       still to come, set this host's clock";
