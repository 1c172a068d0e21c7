//! The network between the daemon and the platform: proxies, and TLS that is trusted or not.

use crate::common::Bench;
use crate::fixture::{
    self, SHOP, bench, get, in_file, is_alive, platform, shop, state, token_calls,
};
use crate::tls::Tls;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A forward proxy that remembers the first line of each request.
struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let remembered = Arc::clone(&asked);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let asked = Arc::clone(&remembered);
                thread::spawn(move || forward(client, &asked));
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Serves one connection; what breaks it ends it.
fn forward(client: TcpStream, asked: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        (reader.read_line(&mut head).ok()? > 0).then_some(())?;
    }
    let first = head.lines().next()?.to_owned();
    let mut words = first.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let host = target
        .trim_start_matches("http://")
        .split(['/', '?'])
        .next()?;
    let server = TcpStream::connect(host).ok()?;
    asked.lock().unwrap().push(first.clone());
    let (mut to_server, mut from_server) = (server.try_clone().ok()?, server);
    let mut to_client = client;
    if method == "CONNECT" {
        to_client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    } else {
        to_server.write_all(head.as_bytes()).ok()?;
    }
    thread::spawn(move || std::io::copy(&mut from_server, &mut to_client));
    std::io::copy(&mut reader, &mut to_server).ok()?;
    Some(())
}

/// Puts keys into `[platform]`, or another URL in place of the platform's.
fn edit(bench: &Bench, from: &str, to: &str) {
    let text = fs::read_to_string(bench.path("config.toml")).unwrap();
    assert!(text.contains(from), "{text}");
    bench.write_config(&text.replace(from, to));
}

#[test]
fn the_configured_proxy_is_used_but_not_where_it_should_not_be() {
    let (bench, platform, proxy) = (bench(), platform(|_| ()), Proxy::start());
    bench.configure(
        &platform,
        &format!(
            "proxy = \"http://{}\"\n{}",
            proxy.address,
            shop("method = \"classic\"")
        ),
    );
    bench.start().terminate();
    let asked = proxy.asked();
    assert_eq!(asked.len(), 1, "{}", asked.len());
    let host = platform.base_url();
    assert!(asked[0].starts_with(&format!("GET {host}/cgi-bin/token?")));
    assert!(is_alive(&platform, &in_file(&bench, "shop").unwrap()));
    fs::remove_file(bench.path("state/state.jsonl")).unwrap();
    let daemon = bench.start_with(|command| {
        command.env("NO_PROXY", "127.0.0.1");
    });
    assert_eq!((token_calls(&platform, SHOP), proxy.asked().len()), (2, 1));
    daemon.terminate();
}

#[test]
fn tls_is_trusted_with_the_ca_file_and_by_way_of_https_proxy() {
    let (bench, platform, proxy) = (bench(), platform(|_| ()), Proxy::start());
    let tls = Tls::start(&bench, platform.address());
    bench.configure(
        &platform,
        &("ca_file = \"ca.pem\"\n".to_owned() + &shop("")),
    );
    edit(&bench, &platform.base_url(), &tls.url);
    bench.start().terminate();
    let token = in_file(&bench, "shop").unwrap();
    assert!(is_alive(&platform, &token));
    fs::remove_file(bench.path("state/state.jsonl")).unwrap();
    let daemon = bench.start_with(|command| {
        command.env("HTTPS_PROXY", format!("http://{}", proxy.address));
    });
    daemon.terminate();
    assert_eq!(token_calls(&platform, SHOP), 2);
    let host = tls.url.trim_start_matches("https://");
    assert_eq!(
        proxy.asked(),
        [format!("CONNECT {host} HTTP/1.1")],
        "it sees nothing but the host"
    );
}

#[test]
fn a_certificate_that_is_not_trusted_is_refused_with_what_to_do() {
    let (bench, platform) = (bench(), platform(|_| ()));
    let tls = Tls::start(&bench, platform.address());
    bench.configure(&platform, &shop(""));
    edit(&bench, &platform.base_url(), &tls.url);
    let daemon = bench.start();
    assert_eq!(state(&bench, "shop"), "expired");
    assert_eq!(in_file(&bench, "shop"), None);
    let error = get(&bench, "/v1/accounts/shop").json()["last_error"].clone();
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains(&format!(
            "cannot connect to {}: invalid peer certificate",
            tls.url
        )),
        "{error}"
    );
    assert!(
        error["hint"]
            .as_str()
            .unwrap()
            .contains("set `ca_file` of [platform]"),
        "{error}"
    );
    assert_eq!(token_calls(&platform, SHOP), 0);
    // As the hint says, and without a restart: first the wrong one, then the right one under the same name.
    let another = fixture::bench();
    drop(Tls::start(&another, platform.address()));
    fs::copy(another.path("ca.pem"), bench.path("trusted.pem")).unwrap();
    edit(
        &bench,
        "[platform]\n",
        "[platform]\nca_file = \"trusted.pem\"\n",
    );
    daemon.reload();
    let refresh = bench.wxtokend(&["refresh", "shop"]).output().unwrap();
    assert_ne!(refresh.status.code(), Some(0));
    assert_eq!(token_calls(&platform, SHOP), 0);
    fs::copy(bench.path("ca.pem"), bench.path("trusted.pem")).unwrap();
    daemon.reload();
    daemon.wait_until("a token", || in_file(&bench, "shop").is_some());
    daemon.terminate();
}
