//! The stream: what a follower is told, and when.

use crate::fixture::{ApiDaemon, Fake, HttpReply, PATIENCE, Who, account, directory, grant, user};
use serde_json::{Value as Json, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use wxtokend::value::ValueName;

const READER: u32 = 4102;

/// A follower, which reads the chunks of one answer.
struct StreamReader<R> {
    reader: BufReader<R>,
    unread: Vec<u8>,
}

impl StreamReader<UnixStream> {
    fn start(daemon: &ApiDaemon, query: &str) -> Self {
        let mut stream = UnixStream::connect(&daemon.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "GET /v1/watch{query} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        .unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
        }
        let reply = HttpReply::parse(head.as_bytes());
        assert_eq!(reply.status, 200, "{head}");
        assert_eq!(reply.headers["content-type"], "application/x-ndjson");
        assert_eq!(reply.headers["transfer-encoding"], "chunked");
        assert_eq!(reply.headers["cache-control"], "no-store");
        Self {
            reader,
            unread: Vec::new(),
        }
    }
}

impl<R: Read> StreamReader<R> {
    /// The next line, which may be a heartbeat; `None` when the stream has ended as it should.
    fn any(&mut self) -> Option<Json> {
        loop {
            if let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let mut size = String::new();
            self.reader.read_line(&mut size).unwrap();
            let size = usize::from_str_radix(size.trim_end(), 16).expect("the size of a chunk");
            let mut chunk = vec![0; size + 2];
            self.reader.read_exact(&mut chunk).unwrap();
            if size == 0 {
                assert!(self.unread.is_empty());
                return None;
            }
            self.unread.extend(&chunk[..size]);
        }
    }

    /// The next line that is no heartbeat.
    fn line(&mut self) -> Json {
        loop {
            let line = self.any().expect("the stream goes on");
            if line.get("heartbeat").is_none() {
                return line;
            }
        }
    }

    fn lines(&mut self, count: usize) -> Vec<Json> {
        (0..count).map(|_| self.line()).collect()
    }

    /// All that stands at the start.
    fn synced(&mut self) -> Vec<Json> {
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            if line == json!({"synced": true}) {
                return lines;
            }
            lines.push(line);
        }
    }
}

/// Account, value name, value.
fn brief(line: &Json) -> (String, String, Option<String>) {
    let text = |key: &str| line[key].as_str().map(str::to_owned);
    let name = text("value").unwrap();
    let value = text(&name);
    assert_eq!(value.is_none(), line["none"] == json!(true), "{line}");
    (text("account").unwrap(), name, value)
}

fn triple(account: &str, name: &str, value: Option<&str>) -> (String, String, Option<String>) {
    (account.into(), name.into(), value.map(str::to_owned))
}

fn rotate(fake: &Fake, value: ValueName, text: &str) {
    fake.publish(|snapshot| {
        let grants = snapshot.grants.iter().cloned();
        snapshot.grants = grants
            .map(|(name, old)| {
                (
                    name,
                    if name == value {
                        grant(text, 7000)
                    } else {
                        old
                    },
                )
            })
            .collect();
    });
}

fn two() -> (Fake, Fake, ApiDaemon) {
    let (shop, blog) = (account("shop", vec![user(READER)]), account("blog", vec![]));
    let daemon = ApiDaemon::of(&[shop.clone(), blog.clone()]);
    (shop, blog, daemon)
}

#[test]
fn stream_begins_with_what_stands_and_goes_on_with_changes() {
    let (shop, blog, daemon) = two();
    let mut follower = StreamReader::start(&daemon, "");
    let lines = follower.synced();
    let first = &lines[0];
    let end = first["expire_time"].as_i64().unwrap();
    let start = first["obtained_time"].as_i64().unwrap();
    assert_eq!(
        *first,
        json!({
            "account": "blog", "appid": "wx0123456789abcdef", "value": "access_token",
            "access_token": "TOKEN-blog-1", "expire_time": end, "obtained_time": start,
        })
    );
    assert!((13_918..13_923).contains(&(end - start)), "{first}");
    let lines: Vec<_> = lines.iter().map(brief).collect();
    let all = [
        triple("blog", "access_token", Some("TOKEN-blog-1")),
        triple("blog", "jsapi_ticket", Some("TICKET-blog-1")),
        triple("shop", "access_token", Some("TOKEN-shop-1")),
        triple("shop", "jsapi_ticket", Some("TICKET-shop-1")),
    ];
    assert_eq!(lines, all);
    rotate(&shop, ValueName::AccessToken, "TOKEN-shop-2");
    assert_eq!(
        brief(&follower.line()),
        triple("shop", "access_token", Some("TOKEN-shop-2"))
    );
    rotate(&blog, ValueName::JsapiTicket, "TICKET-blog-2");
    assert_eq!(
        brief(&follower.line()),
        triple("blog", "jsapi_ticket", Some("TICKET-blog-2"))
    );
    assert_eq!(shop.counters.api_reads.load(Ordering::Relaxed), 3);
    assert_eq!(blog.counters.api_reads.load(Ordering::Relaxed), 3);
}

#[test]
fn only_named_accounts_and_values_are_followed() {
    let (shop, blog, daemon) = two();
    let mut follower =
        StreamReader::start(&daemon, "?account=shop&account=shop&value=jsapi_ticket");
    assert_eq!(
        follower.synced().iter().map(brief).collect::<Vec<_>>(),
        [triple("shop", "jsapi_ticket", Some("TICKET-shop-1"))]
    );
    let mut both = StreamReader::start(
        &daemon,
        "?value=jsapi_ticket&value=access_token&account=blog&account=shop",
    );
    assert_eq!(both.synced().len(), 4);
    rotate(&blog, ValueName::JsapiTicket, "TICKET-blog-2");
    rotate(&shop, ValueName::AccessToken, "TOKEN-shop-2");
    rotate(&shop, ValueName::JsapiTicket, "TICKET-shop-2");
    assert_eq!(
        brief(&follower.line()),
        triple("shop", "jsapi_ticket", Some("TICKET-shop-2"))
    );
}

#[test]
fn wrong_wishes_are_refused() {
    let (_shop, _blog, daemon) = two();
    for (query, expected) in [
        ("?account=nope", (404, "no_such_account")),
        ("?account=shop&account=nope", (404, "no_such_account")),
        ("?account=Shop", (404, "no_such_account")),
        ("?account=shop&value=wx_card_ticket", (404, "no_such_value")),
        ("?value=ticket", (400, "bad_request")),
        ("?wait=5", (400, "bad_request")),
    ] {
        let reply = daemon.get(&format!("/v1/watch{query}"));
        assert_eq!((reply.status, &*reply.error()), expected, "{query}");
    }
    assert_eq!(daemon.post("/v1/watch", "").status, 405);
    assert_eq!(daemon.scrape("GET", "/v1/watch").status, 404);
}

#[test]
fn value_that_is_not_valid_any_more_is_none() {
    let (shop, _blog, daemon) = two();
    let mut follower = StreamReader::start(&daemon, "?account=shop");
    follower.synced();
    shop.publish(|snapshot| {
        snapshot.grants[0].1 = grant("TOKEN-shop-1", -1);
        snapshot.valid_values = 1;
    });
    let line = follower.line();
    assert_eq!(
        line,
        json!({
            "account": "shop", "appid": "wx0123456789abcdef", "value": "access_token", "none": true,
        })
    );
    // A follower that begins now is told too.
    let mut late = StreamReader::start(&daemon, "?account=shop&value=access_token");
    assert_eq!(late.synced(), [line]);
    // Nothing that its values do not show is told.
    shop.publish(|snapshot| snapshot.calls_today += 1);
    shop.publish(|snapshot| snapshot.grants[0].1 = grant("TOKEN-shop-1", -2));
    rotate(&shop, ValueName::AccessToken, "TOKEN-shop-2");
    assert_eq!(
        brief(&follower.line()),
        triple("shop", "access_token", Some("TOKEN-shop-2"))
    );
}

#[test]
fn reader_is_told_gone_as_soon_as_access_is_taken_away() {
    crate::root::needs_root!();
    let (shop, blog, daemon) = two();
    let reader = Who {
        uid: READER,
        gid: READER,
        groups: vec![],
    };
    let mut curl = reader
        .command("curl")
        .args(["-sSN", "--unix-socket"])
        .arg(&daemon.socket)
        .arg("http://localhost/v1/watch")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(curl.stdout.take().unwrap()).lines();
    let mut line = || serde_json::from_str::<Json>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(brief(&line()).0, "shop");
    assert_eq!(brief(&line()).0, "shop");
    assert_eq!(line(), json!({"synced": true}));
    let readers_become = |fake: &Fake, readers: &[_]| {
        let readers: Arc<[_]> = readers.into();
        fake.publish(|snapshot| {
            let mut account = wxtokend::account::Account::clone(&snapshot.account);
            account.readers = readers;
            snapshot.account = Arc::new(account);
        });
    };
    readers_become(&shop, &[]);
    assert_eq!(line(), json!({"account": "shop", "gone": true}));
    rotate(&shop, ValueName::AccessToken, "TOKEN-shop-2");
    readers_become(&blog, &[user(READER)]);
    assert_eq!(
        brief(&line()),
        triple("blog", "access_token", Some("TOKEN-blog-1"))
    );
    assert_eq!(brief(&line()).0, "blog");
    // Whoever becomes an administrator sees all, and no more than its own afterwards.
    daemon.admins.send_replace([user(READER)].into());
    assert_eq!(
        brief(&line()),
        triple("shop", "access_token", Some("TOKEN-shop-2"))
    );
    assert_eq!(brief(&line()).0, "shop");
    daemon.admins.send_replace([user(0)].into());
    assert_eq!(line(), json!({"account": "shop", "gone": true}));
    curl.kill().unwrap();
    curl.wait().unwrap();
}

#[test]
fn accounts_come_and_go_with_reloads() {
    let (shop, blog, daemon) = two();
    let mut all = StreamReader::start(&daemon, "");
    let mut named = StreamReader::start(&daemon, "?account=shop&value=access_token");
    all.synced();
    named.synced();
    daemon
        .accounts
        .send_replace(directory(std::slice::from_ref(&blog)));
    let gone = json!({"account": "shop", "gone": true});
    assert_eq!((all.line(), named.line()), (gone.clone(), gone));
    let news = account("news", vec![]);
    daemon.accounts.send_replace(directory(&[blog, news, shop]));
    let back = triple("shop", "access_token", Some("TOKEN-shop-1"));
    assert_eq!(brief(&named.line()), back);
    let lines: Vec<_> = all.lines(4).iter().map(|line| brief(line).0).collect();
    assert_eq!(lines, ["news", "news", "shop", "shop"]);
}

#[test]
fn ticket_that_is_configured_no_more_is_none() {
    let (shop, _blog, daemon) = two();
    let mut follower = StreamReader::start(&daemon, "?account=shop");
    follower.synced();
    shop.publish(|snapshot| {
        let mut account = wxtokend::account::Account::clone(&snapshot.account);
        account.tickets = [].into();
        snapshot.account = Arc::new(account);
    });
    assert_eq!(
        brief(&follower.line()),
        triple("shop", "jsapi_ticket", None)
    );
}

#[test]
fn slow_reader_gets_the_newest_of_each_value() {
    let fakes: Vec<_> = (0..500)
        .map(|number| account(&format!("a{number:03}"), vec![]))
        .collect();
    let daemon = ApiDaemon::of(&fakes);
    let mut follower = StreamReader::start(&daemon, "?value=access_token");
    // It does not read. Far more is told than sockets hold.
    for round in 1..=200 {
        for fake in &fakes {
            let name = fake.snapshot.latest().account.name.to_string();
            rotate(
                fake,
                ValueName::AccessToken,
                &format!("{name}-{round}-{}", "x".repeat(400)),
            );
        }
    }
    let mut seen = std::collections::BTreeMap::new();
    let mut count = 0;
    while seen.len() < fakes.len() || seen.values().any(|round| round != "200") {
        let line = follower.line();
        if line != json!({"synced": true}) {
            let (name, _, value) = brief(&line);
            let round = value.unwrap().split('-').nth(1).unwrap().to_owned();
            count += 1;
            seen.insert(name, round);
        }
    }
    assert!(count < 50_000, "{count} of 100,000 rotations were told");
}

/// The items up to the first for which something holds, with it.
fn up_to<T>(items: impl Iterator<Item = T>, holds: impl Fn(&T) -> bool) -> Vec<T> {
    let mut taken = Vec::new();
    for item in items {
        let is_last = holds(&item);
        taken.push(item);
        if is_last {
            break;
        }
    }
    taken
}

#[test]
fn idle_stream_wakes_the_daemon_for_heartbeats_only() {
    let (shop, _blog, daemon) = two();
    let mut follower = StreamReader::start(&daemon, "?account=shop&value=access_token");
    follower.synced();
    let unix = || {
        let now = std::time::SystemTime::now();
        now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
    };
    let asked = unix();
    let mut heartbeat = || follower.any().unwrap()["heartbeat"].as_u64().unwrap();
    let mut last = heartbeat();
    assert!((asked..=unix()).contains(&last), "{asked} {last}");
    // What the daemon does by itself it does in each interval; a machine that is short of memory wakes it in some.
    let wake_ups = (0..6).map(|_| {
        let before = daemon.wake_ups();
        let next = heartbeat();
        // The second one follows 30 s later, but for a machine that stands still.
        assert!((29..60).contains(&(next - last)), "{last} {next}");
        last = next;
        daemon.wake_ups() - before
    });
    // One for the heartbeat, and up to four by which tokio's timer comes closer to it.
    let wake_ups: Vec<u64> = up_to(wake_ups, |count| *count <= 5);
    assert!(*wake_ups.last().unwrap() <= 5, "{wake_ups:?} wake-ups");
    // And it was not cut off for its silence.
    rotate(&shop, ValueName::AccessToken, "TOKEN-shop-2");
    assert_eq!(brief(&follower.line()).2.unwrap(), "TOKEN-shop-2");
}

#[test]
fn stream_ends_when_the_daemon_stops() {
    let (_shop, _blog, daemon) = two();
    let mut follower = StreamReader::start(&daemon, "");
    follower.synced();
    daemon.stopping.send_replace(true);
    assert_eq!(follower.any(), None);
}
