//! Hints for an administrator when the platform is not reached: which proxy, certificate or name is at fault, and what
//! to do about it.

use crate::common::Bench;
use crate::fixture::{self, SECRET, bench, get, in_file, platform, shop, token_calls};
use crate::tls::{CertificateKind, Tls, USUAL};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use wxtokend::sim::SimPlatform;

/// A configuration with another URL in place of the platform's.
fn configure(bench: &Bench, platform: &SimPlatform, url: &str, keys: &str) {
    bench.configure(platform, &format!("{keys}\n{}", shop("")));
    let text = fs::read_to_string(bench.path("config.toml")).unwrap();
    bench.write_config(&text.replace(&platform.base_url(), url));
}

/// The message and the hint of `shop`, once a daemon has tried. Nothing says the secret.
#[track_caller]
fn trouble(bench: &Bench, change: impl FnOnce(&mut Command)) -> (String, String) {
    let daemon = bench.spawn_with(change);
    let error = || get(bench, "/v1/accounts/shop").json()["last_error"].clone();
    daemon.wait_until("READY=1", || daemon.said("READY=1"));
    daemon.wait_until("an error", || error().is_object());
    let error = error();
    let text = |key: &str| error[key].as_str().unwrap().to_owned();
    // A later try may say the rest in other words.
    let begin: String = text("message").chars().take(40).collect();
    daemon.wait_until(&begin, || daemon.log().contains(&begin));
    assert!(!daemon.log().contains(SECRET) && !error.to_string().contains(SECRET));
    daemon.terminate();
    (text("message"), text("hint"))
}

#[track_caller]
fn says((message, hint): &(String, String), in_message: &[&str], in_hint: &str) {
    for part in in_message {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(hint.contains(in_hint), "{in_hint}: {hint}");
}

/// A proxy that opens no tunnel. Keeps the heads of the requests.
fn refusing_proxy(status: &'static str) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let kept = heads.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).unwrap_or(0) == 0 {
                    break;
                }
            }
            kept.lock().unwrap().push(head);
            // Whoever asked may have gone.
            let _ = write!(
                reader.get_mut(),
                "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
    });
    (address, heads)
}

#[test]
fn a_proxy_that_opens_no_tunnel_is_named_with_its_status() {
    for (status, number, hint) in [
        (
            "407 Proxy Authentication Required",
            "407",
            "put it into `proxy`",
        ),
        ("403 Forbidden", "403", "have its administrator allow"),
        ("502 Bad Gateway", "502", "does not reach the platform"),
        (
            "503 Service Unavailable",
            "503",
            "does not reach the platform",
        ),
        ("504 Gateway Timeout", "504", "does not reach the platform"),
        ("418 I'm a teapot", "418", "the proxy and its log"),
    ] {
        let (bench, platform) = (bench(), platform(|_| ()));
        let (address, heads) = refusing_proxy(status);
        let keys = format!("proxy = \"http://user:pass-CANARY@{address}\"");
        configure(&bench, &platform, "https://api.example", &keys);
        let said = trouble(&bench, |_| {});
        let proxy = format!("the proxy http://{address} answers {number} ");
        says(&said, &[&proxy, "https://api.example"], hint);
        assert!(!said.0.contains("CANARY") && !said.1.contains("CANARY"));
        for head in &*heads.lock().unwrap() {
            assert!(
                head.starts_with("CONNECT api.example:443 HTTP/1.1\r\n"),
                "{head}"
            );
            assert!(
                head.to_lowercase()
                    .contains("\r\nproxy-authorization: basic "),
                "{head}"
            );
        }
    }
}

#[test]
fn a_proxy_that_is_not_there_is_named_and_not_the_platform() {
    let (bench, platform) = (bench(), platform(|_| ()));
    // It keeps its port, so that nobody else listens there.
    let closed = fixture::platform(|_| ());
    closed.stop();
    let address = closed.address();
    configure(&bench, &platform, "https://api.example", "");
    let said = trouble(&bench, |command| {
        command.env("HTTPS_PROXY", format!("http://{address}"));
    });
    let proxy = format!("cannot connect to the proxy http://{address}: connection refused");
    says(&said, &[&proxy], "$HTTPS_PROXY");
}

#[test]
fn a_name_that_is_not_found_is_named_with_the_name_server() {
    let (bench, platform) = (bench(), platform(|_| ()));
    configure(&bench, &platform, "https://no.such.invalid", "");
    let said = trouble(&bench, |_| {});
    says(
        &said,
        &["the address of no.such.invalid: ", "/etc/resolv.conf"],
        "/etc/resolv.conf",
    );
    // The proxy's name is the one that is looked up then.
    let keys = "proxy = \"http://proxy.invalid:3128\"";
    configure(&bench, &platform, "https://api.example", keys);
    let said = trouble(&bench, |_| {});
    says(
        &said,
        &["the address of proxy.invalid: "],
        "that is the proxy: correct `proxy`",
    );
}

#[test]
fn each_fault_of_a_certificate_has_its_own_hint() {
    let cases: &[(CertificateKind, &[&str], &str)] = &[
        (
            CertificateKind {
                name: "DNS:other.example",
                ..USUAL
            },
            &["it is not for this name", "other.example"],
            "as the certificate names it",
        ),
        (
            CertificateKind {
                valid: Some(("20240101000000Z", "20240301000000Z")),
                ..USUAL
            },
            &["it has expired", "valid until 2024-03-01T00:00:00Z"],
            "set this host's clock: its time server",
        ),
        (
            CertificateKind {
                valid: Some(("20990101000000Z", "20990301000000Z")),
                ..USUAL
            },
            &["it is not valid yet", "valid from 2099-01-01T00:00:00Z"],
            "set this host's clock",
        ),
    ];
    for (kind, message, hint) in cases {
        let (bench, platform) = (bench(), platform(|_| ()));
        let tls = Tls::of_ca(&bench, platform.address(), *kind);
        configure(&bench, &platform, &tls.url, "ca_file = \"ca.pem\"");
        let said = trouble(&bench, |_| {});
        says(&said, message, hint);
        says(&said, &[&tls.url, "invalid peer certificate"], "");
    }
    let (bench, platform) = (bench(), platform(|_| ()));
    let tls = Tls::start(&bench, platform.address());
    configure(&bench, &platform, &tls.url, "");
    says(
        &trouble(&bench, |_| {}),
        &["its issuer is not trusted"],
        "set `ca_file` of [platform]",
    );
    let plain = platform.base_url().replace("http:", "https:");
    configure(&bench, &platform, &plain, "");
    says(
        &trouble(&bench, |_| {}),
        &[&plain, "no TLS"],
        "whether the port is one for HTTPS",
    );
}

#[test]
fn a_self_signed_certificate_is_trusted_when_it_is_made_as_the_hint_says() {
    let (bench, platform) = (bench(), platform(|_| ()));
    let tls = Tls::self_signed(&bench, platform.address(), &[]);
    configure(&bench, &platform, &tls.url, "ca_file = \"self.pem\"");
    let advice = "-addext basicConstraints=critical,CA:FALSE";
    says(&trouble(&bench, |_| {}), &["it is that of a CA"], advice);
    drop(tls);
    let words: Vec<_> = advice.split(' ').collect();
    let tls = Tls::self_signed(&bench, platform.address(), &words);
    configure(&bench, &platform, &tls.url, "ca_file = \"self.pem\"");
    let daemon = bench.start();
    assert!(in_file(&bench, "shop").is_some());
    assert_eq!(token_calls(&platform, fixture::SHOP), 1);
    daemon.terminate();
}
