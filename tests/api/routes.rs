//! The answers of each path to an administrator.

use crate::fixture::{ApiDaemon, Fake, account, directory, grant, until};
use serde_json::{Value as Json, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use wxtokend::api::Listener;
use wxtokend::changes::Changes;
use wxtokend::clock;
use wxtokend::fault::Fault;
use wxtokend::handle::Command as TaskCommand;
use wxtokend::snapshot::{State, Verdict};
use wxtokend::trouble::Class;
use wxtokend::trouble::LastError;
use wxtokend::value::{Value, ValueName};

fn fingerprint(value: &str) -> String {
    Value::parse(value).unwrap().fingerprint().to_string()
}

fn rotate(shop: &Fake, token: &str) {
    shop.publish(|snapshot| snapshot.grants[0].1 = grant(token, 7200));
}

fn last_error() -> Arc<LastError> {
    Arc::new(LastError {
        at: clock::now().at,
        class: Class::Operator,
        errcode: Some(40164),
        rid: Some("6aac005a-01bfdbee-79769285".to_owned()),
        message: "IP 203.0.113.7 is not whitelisted".to_owned(),
        hint: "add 203.0.113.7 to the IP whitelist".to_owned(),
    })
}

#[test]
fn accounts() {
    let (blog, shop) = (account("blog", vec![]), account("shop", vec![]));
    let daemon = ApiDaemon::of(&[shop.clone(), blog]);
    let all = daemon.get("/v1/accounts");
    assert_eq!(all.status, 200);
    assert_eq!(all.headers["content-type"], "application/json");
    assert_eq!(all.headers["cache-control"], "no-store");
    let all = all.json();
    assert_eq!(all["version"], env!("CARGO_PKG_VERSION"));
    assert!((100..200).contains(&all["uptime_seconds"].as_i64().unwrap()));
    let names: Vec<_> = all["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| &a["account"])
        .collect();
    assert_eq!(names, ["blog", "shop"]);

    let one = daemon.get("/v1/accounts/shop");
    assert_eq!(one.status, 200);
    assert_eq!(one.json()["token_fingerprint"], fingerprint("TOKEN-shop-1"));
    assert!(!one.body.contains("TOKEN"), "a value in {one:?}");
    assert!(!one.body.contains("TICKET"), "a value in {one:?}");
    assert!(
        !one.body.contains("0123456789abcdef0123"),
        "a secret in {one:?}"
    );

    let none = daemon.get("/v1/accounts/none");
    assert_eq!((none.status, &*none.error()), (404, "no_such_account"));
}

#[test]
fn token() {
    let shop = account("shop", vec![]);
    let daemon = ApiDaemon::of_one(&shop);
    let expires = |index: usize| {
        let now = clock::now();
        now.unix(shop.snapshot.latest().grants[index].1.expires)
    };
    let reply = daemon.get("/v1/accounts/shop/token");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["cache-control"], "no-store");
    let body = reply.json();
    assert_eq!(body["access_token"], "TOKEN-shop-1");
    assert!((body["expire_time"].as_i64().unwrap() - expires(0)).abs() <= 1);
    assert!((6700..=6720).contains(&body["expires_in"].as_i64().unwrap()));
    assert_eq!(body.as_object().unwrap().len(), 3);
    assert!(
        reply.body.starts_with(r#"{"access_token":"#),
        "{}",
        reply.body
    );

    let body = daemon
        .get("/v1/accounts/shop/token?value=jsapi_ticket")
        .json();
    assert_eq!(body["jsapi_ticket"], "TICKET-shop-1");
    assert!((body["expire_time"].as_i64().unwrap() - expires(1)).abs() <= 1);

    let head = daemon.ask("HEAD", "/v1/accounts/shop/token", "");
    assert_eq!((head.status, &*head.body), (200, ""));

    for (path, status, error) in [
        ("?value=wx_card_ticket", 404, "no_such_value"),
        ("?value=ticket", 400, "bad_request"),
        ("?min_valid=soon", 400, "bad_request"),
        ("?wait=301", 400, "bad_request"),
        ("?after=xyz", 400, "bad_request"),
        ("?token=x", 400, "bad_request"),
    ] {
        let reply = daemon.get(&format!("/v1/accounts/shop/token{path}"));
        assert_eq!((reply.status, &*reply.error()), (status, error), "{path}");
    }
    let reply = daemon.ask("DELETE", "/v1/accounts/shop/token", "");
    assert_eq!((reply.status, &*reply.error()), (405, "method_not_allowed"));
    assert_eq!(reply.headers["allow"], "GET, HEAD");

    assert_eq!(shop.counters.api_reads.load(Ordering::Relaxed), 3);
}

#[test]
fn an_expired_value_is_never_given() {
    let shop = account("shop", vec![]);
    let daemon = ApiDaemon::of_one(&shop);
    shop.publish(|snapshot| {
        snapshot.grants[0].1 = grant("TOKEN-shop-1", -1);
        snapshot.last_error = Some(last_error());
    });
    let reply = daemon.get("/v1/accounts/shop/token");
    assert_eq!((reply.status, &*reply.error()), (503, "no_valid_value"));
    assert!(!reply.body.contains("TOKEN"));
    assert_eq!(
        reply.json()["message"],
        "no valid `access_token` now: IP 203.0.113.7 is not whitelisted"
    );
    assert_eq!(reply.json()["hint"], "add 203.0.113.7 to the IP whitelist");
    let retry: i64 = reply.headers["retry-after"].parse().unwrap();
    assert!(
        (200..=250).contains(&retry),
        "as long as to the next call: {retry}"
    );
    assert_eq!(daemon.get("/v1/accounts/shop").json()["state"], "expired");
    assert_eq!(daemon.get("/v1/accounts/shop").json()["expires_in"], 0);
}

#[test]
fn a_value_that_is_good_enough_is_not_renewed() {
    let shop = account("shop", vec![]);
    let daemon = ApiDaemon::of_one(&shop);
    let (asked, requests) = std::sync::mpsc::channel();
    shop.on_request(move |_, _| {
        asked.send(()).unwrap();
        None
    });
    let reply = daemon.get("/v1/accounts/shop/token?min_valid=6000");
    assert!(requests.try_recv().is_err());
    assert_eq!(reply.json()["access_token"], "TOKEN-shop-1");
}

#[test]
fn a_value_with_too_little_life_is_renewed_first() {
    let shop = account("shop", vec![]);
    let daemon = ApiDaemon::of_one(&shop);
    shop.on_request(|request, snapshot| {
        let TaskCommand::Renew { value, until, .. } = request else {
            panic!("{request:?}")
        };
        assert_eq!(*value, ValueName::AccessToken);
        let wanted = clock::now().at.until(*until).as_secs();
        assert!((6990..=7000).contains(&wanted), "{wanted}");
        crate::fixture::modify(snapshot, |snapshot| {
            snapshot.grants[0].1 = grant("TOKEN-shop-2", 7200);
        });
        Some(Verdict::Refreshed)
    });
    let reply = daemon.get("/v1/accounts/shop/token?min_valid=7000");
    assert_eq!(reply.json()["access_token"], "TOKEN-shop-2");
}

#[test]
fn the_value_that_stands_is_given_when_the_platform_grants_no_better() {
    let shop = account("shop", vec![]);
    let daemon = ApiDaemon::of_one(&shop);
    shop.on_request(|_, _| {
        Some(Verdict::Unavailable {
            retry_at: clock::now().at + Duration::from_secs(10),
            error: None,
        })
    });
    let reply = daemon.get("/v1/accounts/shop/token?min_valid=7000");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["access_token"], "TOKEN-shop-1");
}

/// Asks for another value in a thread of its own, once the server has it waiting.
fn waiting(
    daemon: &ApiDaemon,
    shop: &Fake,
    query: &str,
) -> std::thread::JoinHandle<crate::fixture::HttpReply> {
    let before = Arc::strong_count(&shop.snapshot);
    let path = format!("/v1/accounts/shop/token?{query}");
    let stream = std::os::unix::net::UnixStream::connect(&daemon.socket).unwrap();
    let asking = std::thread::spawn(move || crate::fixture::ask(stream, "GET", &path, ""));
    until("the request waits", || {
        Arc::strong_count(&shop.snapshot) > before
    });
    asking
}

#[test]
fn a_rotation_wakes_who_waits_at_once() {
    let shop = account("shop", vec![]);
    let daemon = ApiDaemon::of_one(&shop);
    let after = fingerprint("TOKEN-shop-1");
    let alone = Arc::strong_count(&shop.snapshot);
    let start = Instant::now();
    let asking: Vec<_> = (0..50)
        .map(|before| {
            until("those before wait, and nothing else is under way", || {
                Arc::strong_count(&shop.snapshot) == alone + before
            });
            waiting(&daemon, &shop, &format!("wait=300&after={after}"))
        })
        .collect();
    until("all of them wait", || {
        Arc::strong_count(&shop.snapshot) == alone + asking.len()
    });
    // What changes otherwise wakes nobody.
    shop.publish(|snapshot| snapshot.calls_today += 1);
    shop.publish(|snapshot| snapshot.grants[1].1 = grant("TICKET-shop-2", 7200));
    assert_eq!(Arc::strong_count(&shop.snapshot), alone + asking.len());
    rotate(&shop, "TOKEN-shop-2");
    for asking in asking {
        assert_eq!(
            asking.join().unwrap().json()["access_token"],
            "TOKEN-shop-2"
        );
    }
    assert!(start.elapsed() < Duration::from_secs(290));
}

#[test]
fn long_poll_that_times_out_gets_the_present_value() {
    let shop = account("shop", vec![]);
    let daemon = ApiDaemon::of_one(&shop);
    let start = Instant::now();
    let path = format!(
        "/v1/accounts/shop/token?wait=1&after={}",
        fingerprint("TOKEN-shop-1")
    );
    let reply = daemon.get(&path);
    assert_eq!(reply.json()["access_token"], "TOKEN-shop-1");
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn another_value_than_the_one_named_is_given_without_waiting() {
    let daemon = ApiDaemon::of(&[account("shop", vec![])]);
    let start = Instant::now();
    for query in ["wait=300&after=00000000", "wait=300&after=", "wait=300"] {
        let reply = daemon.get(&format!("/v1/accounts/shop/token?{query}"));
        assert_eq!(reply.json()["access_token"], "TOKEN-shop-1");
    }
    assert!(start.elapsed() < Duration::from_secs(290));
}

#[test]
fn the_first_value_is_waited_for_too() {
    let shop = account("shop", vec![]);
    let daemon = ApiDaemon::of_one(&shop);
    shop.publish(|snapshot| {
        snapshot.grants = Box::default();
        snapshot.state = State::Starting;
    });
    assert_eq!(daemon.get("/v1/accounts/shop/token").status, 503);
    let asking = waiting(&daemon, &shop, "wait=300");
    shop.publish(|snapshot| {
        snapshot.grants = [(ValueName::AccessToken, grant("TOKEN-shop-1", 7200))].into();
    });
    assert_eq!(
        asking.join().unwrap().json()["access_token"],
        "TOKEN-shop-1"
    );
}

#[test]
fn long_poll_ends_when_the_account_goes() {
    let shop = account("shop", vec![]);
    let daemon = ApiDaemon::of(&[account("blog", vec![])]);
    {
        let going = account("shop", vec![]);
        daemon
            .accounts
            .send_replace(directory(std::slice::from_ref(&going)));
        let asking = waiting(
            &daemon,
            &going,
            &format!("wait=300&after={}", fingerprint("TOKEN-shop-1")),
        );
        daemon.accounts.send_replace(directory(&[shop]));
        going.snapshot.end(true);
        let reply = asking.join().unwrap();
        assert_eq!((reply.status, &*reply.error()), (404, "no_such_account"));
    }
    assert_eq!(daemon.get("/v1/accounts/shop/token").status, 200);
}

#[test]
fn long_poll_gets_what_stands_when_the_daemon_stops() {
    let shop = account("shop", vec![]);
    let daemon = ApiDaemon::of_one(&shop);
    let after = fingerprint("TOKEN-shop-1");
    let asking = waiting(&daemon, &shop, &format!("wait=300&after={after}"));
    shop.snapshot.end(false);
    assert_eq!(
        asking.join().unwrap().json()["access_token"],
        "TOKEN-shop-1"
    );
}

#[test]
fn a_refresh_ends_as_the_account_says() {
    let shop = account("shop", vec![]);
    let daemon = ApiDaemon::of_one(&shop);
    let later = || clock::now().at + Duration::from_millis(12_999);
    let refresh = || {
        daemon.post(
            "/v1/accounts/shop/refresh",
            r#"{"bad_token":"TOKEN-shop-0","errcode":40001}"#,
        )
    };
    for (verdict, outcome) in [
        (Verdict::Superseded, "superseded"),
        (Verdict::StillValid, "still_valid"),
        (Verdict::Refreshed, "refreshed"),
    ] {
        shop.on_request(move |request, _| {
            let TaskCommand::Suspect { bad, admin, .. } = request else {
                panic!("{request:?}")
            };
            assert_eq!(bad.as_ref().unwrap().expose(), "TOKEN-shop-0");
            assert!(admin);
            Some(verdict.clone())
        });
        let reply = refresh();
        assert_eq!(reply.status, 200);
        assert_eq!(reply.headers["cache-control"], "no-store");
        let body = reply.json();
        assert_eq!(
            (&body["outcome"], &body["access_token"]),
            (&json!(outcome), &json!("TOKEN-shop-1"))
        );
        assert!(body["expire_time"].is_i64() && body["expires_in"].is_i64());
        assert_eq!(body.as_object().unwrap().len(), 4);
    }

    shop.on_request(move |_, _| Some(Verdict::TooSoon { retry_at: later() }));
    let reply = refresh();
    assert_eq!((reply.status, &*reply.error()), (429, "too_soon"));
    assert_eq!(reply.headers["retry-after"], "13");

    let unavailable = move || Verdict::Unavailable {
        retry_at: later(),
        error: Some(last_error()),
    };
    shop.on_request(move |_, _| Some(unavailable()));
    let reply = refresh();
    assert_eq!((reply.status, &*reply.error()), (503, "try_later"));
    assert_eq!(reply.headers["retry-after"], "13");
    assert_eq!(reply.json()["hint"], "add 203.0.113.7 to the IP whitelist");

    shop.publish(|snapshot| snapshot.grants[0].1 = grant("TOKEN-shop-1", -1));
    let reply = refresh();
    assert_eq!((reply.status, &*reply.error()), (503, "no_valid_value"));
    assert_eq!(reply.headers["retry-after"], "13");
}

#[test]
fn the_body_of_a_refresh() {
    let shop = account("shop", vec![]);
    let daemon = ApiDaemon::of_one(&shop);
    shop.on_request(|_, _| Some(Verdict::StillValid));
    let long = format!(r#"{{"bad_token":"{}"}}"#, "x".repeat(20_000));
    for (body, status) in [
        ("", 200),
        (" \r\n", 200),
        ("{}", 200),
        (r#"{"errcode":40001}"#, 200),
        (r#"{"bad_token":null}"#, 200),
        (r#"{"bad_token":"SECRET-TOKEN"}"#, 200),
        ("{", 400),
        ("[]", 400),
        ("bad_token=SECRET-TOKEN", 400),
        (r#""SECRET-TOKEN""#, 400),
        (r#"{"bad_token":40001}"#, 400),
        (r#"{"bad_token":""}"#, 400),
        (r#"{"bad_token":"SECRET TOKEN"}"#, 400),
        (r#"{"bad_token":"x","errcode":"SECRET-TOKEN"}"#, 400),
        (r#"{"badtoken":"SECRET-TOKEN"}"#, 400),
        (long.as_str(), 413),
    ] {
        let reply = daemon.post("/v1/accounts/shop/refresh", body);
        assert_eq!(reply.status, status, "{body} {reply:?}");
        assert!(
            !reply.body.contains("SECRET"),
            "repeats what may be a token: {reply:?}"
        );
        let error = match status {
            200 => continue,
            400 => "bad_request",
            _ => "body_too_large",
        };
        assert_eq!(reply.error(), error, "{body}");
    }
}

#[test]
fn a_reload_says_what_changed() {
    let changes = Changes {
        added: vec!["blog".to_owned()],
        unchanged: vec!["shop".to_owned()],
        ..Changes::default()
    };
    let daemon = ApiDaemon::start(&[], move || Some(Ok(changes.clone())));
    let reply = daemon.post("/v1/reload", "");
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.body,
        r#"{"reloaded":true,"accounts":{"added":["blog"],"changed":[],"removed":[],"unchanged":["shop"]}}"#
    );
}

#[test]
fn a_reload_says_what_is_wrong() {
    let fault = Fault {
        file: PathBuf::from("/etc/wxtokend/config.toml"),
        line: 7,
        column: 3,
        message: "`shop` is wrong".to_owned(),
        is_warning: false,
    };
    let daemon = ApiDaemon::start(&[], move || Some(Err(vec![fault.clone()])));
    let reply = daemon.post("/v1/reload", "");
    assert_eq!(reply.status, 422);
    assert_eq!(
        reply.body,
        r#"{"reloaded":false,"faults":[{"file":"/etc/wxtokend/config.toml","line":7,"column":3,"message":"`shop` is wrong"}]}"#
    );
}

#[test]
fn a_reload_that_the_daemon_does_not_end_is_an_error() {
    let daemon = ApiDaemon::start(&[], || None);
    let reply = daemon.post("/v1/reload", "");
    assert_eq!((reply.status, &*reply.error()), (503, "stopping"));
}

#[test]
fn health() {
    let (blog, shop) = (account("blog", vec![]), account("shop", vec![]));
    let daemon = ApiDaemon::of(&[blog.clone(), shop.clone()]);
    let ask = || daemon.get("/healthz");
    assert_eq!((ask().status, &*ask().body), (200, "ok\n"));
    assert_eq!(daemon.scrape("GET", "/healthz").status, 200);
    blog.publish(|snapshot| {
        let mut error = LastError::clone(&last_error());
        error.message.push_str("\nshop fresh");
        snapshot.last_error = Some(Arc::new(error));
        snapshot.state = State::Degraded;
    });
    shop.publish(|snapshot| snapshot.grants[0].1 = grant("TOKEN-shop-1", -1));
    let expected = "blog degraded: IP 203.0.113.7 is not whitelisted shop fresh\nshop expired\n";
    assert_eq!((ask().status, &*ask().body), (503, expected));
    assert_eq!(daemon.scrape("GET", "/healthz").body, expected);
}

#[test]
fn one_connection_carries_many_requests() {
    use std::io::{Read, Write};
    let daemon = ApiDaemon::of(&[account("shop", vec![])]);
    let mut stream = std::os::unix::net::UnixStream::connect(&daemon.socket).unwrap();
    let request = "GET /v1/accounts/shop/token HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request.repeat(3).as_bytes()).unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("TOKEN-shop-1").count(), 3);
    assert!(answers.ends_with("ok\n"));
}

#[test]
fn an_old_client_is_served() {
    use std::io::{Read, Write};
    let daemon = ApiDaemon::of(&[account("shop", vec![])]);
    let mut stream = std::os::unix::net::UnixStream::connect(&daemon.socket).unwrap();
    stream
        .write_all(b"GET /v1/accounts/shop/token HTTP/1.0\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
}

#[test]
fn a_client_that_says_no_more_is_answered() {
    use std::io::{Read, Write};
    let shop = account("shop", vec![]);
    let daemon = ApiDaemon::of_one(&shop);
    shop.on_request(|_, _| Some(Verdict::StillValid));
    for request in [
        "GET /v1/accounts/shop/token HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /v1/accounts/shop/refresh HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    ] {
        let mut stream = std::os::unix::net::UnixStream::connect(&daemon.socket).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("TOKEN-shop-1"), "{request} {answer}");
    }
}

#[test]
fn the_socket_moves_and_what_is_under_way_goes_on() {
    let shop = account("shop", vec![]);
    let daemon = ApiDaemon::of_one(&shop);
    let asking = waiting(
        &daemon,
        &shop,
        &format!("wait=300&after={}", fingerprint("TOKEN-shop-1")),
    );
    let moved = daemon.dir.path().join("moved.sock");
    let listener = {
        let _entered = daemon.runtime.enter();
        Arc::new(Listener::open(&moved, None).unwrap())
    };
    daemon.listeners.send_replace(listener).retire();
    until("the old socket is gone", || !daemon.socket.exists());
    let stream = std::os::unix::net::UnixStream::connect(&moved).unwrap();
    let answer = crate::fixture::ask(stream, "GET", "/healthz", "");
    assert_eq!(answer.status, 200);
    rotate(&shop, "TOKEN-shop-2");
    assert_eq!(
        asking.join().unwrap().json()["access_token"],
        "TOKEN-shop-2"
    );
    assert!(moved.exists());
}

#[test]
fn the_socket_replaces_what_a_killed_daemon_left_and_nothing_else() {
    use std::os::unix::fs::PermissionsExt;
    let daemon = ApiDaemon::of(&[]);
    let _entered = daemon.runtime.enter();
    let mode = std::fs::metadata(&daemon.socket)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o666);

    let left = daemon.dir.path().join("left.sock");
    drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
    let first = Listener::open(&left, None).unwrap();
    let second = Listener::open(&left, None).unwrap();
    first.retire();
    assert!(left.exists(), "the first went with the second's socket");
    second.retire();
    assert!(!left.exists());

    let precious = daemon.dir.path().join("precious");
    std::fs::write(&precious, "data").unwrap();
    let error = Listener::open(&precious, None).unwrap_err().to_string();
    assert!(error.contains("no socket is there"), "{error}");
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "data");

    let nested = daemon.dir.path().join("made/api.sock");
    drop(Listener::open(&nested, None).unwrap());
    let mode = std::fs::metadata(nested.parent().unwrap())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o755);
    assert!(Listener::open(&daemon.dir.path().join("not/made/api.sock"), None).is_err());
    let rest: Vec<_> = std::fs::read_dir(daemon.dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(rest.len(), 3, "temporaries are left: {rest:?}");
}

#[test]
fn unknown_paths_say_what_there_is() {
    let daemon = ApiDaemon::of(&[]);
    let reply = daemon.get("/v1/account/shop");
    assert_eq!((reply.status, &*reply.error()), (404, "no_such_path"));
    let hint: Json = reply.json()["hint"].clone();
    assert!(
        hint.as_str()
            .unwrap()
            .contains("/v1/accounts/ACCOUNT/token")
    );
}
