//! Apps that cache as their SDKs do, each taking its margin off `expires_in`: none ever uses a dead token.

use crate::common::wait_until;
use crate::fixture::{BLOG, SHOP, Stage, entry, stable_body, token_target};
use crate::http::HttpClient;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

/// Margins for token and ticket, and whose they are.
const SDKS: [(&str, u64, u64); 7] = [
    ("easywechat-3", 1500, 500),
    ("easywechat-4", 500, 500),
    ("easywechat-6", 0, 0),
    ("wxjava-memory", 200, 200),
    ("senparc-short", 30, 30),
    ("wechatpy", 60, 0),
    ("co-wechat-api", 10, 10),
];

/// An SDK's cache.
struct CachingCaller {
    margin: u64,
    held: Option<(String, Instant)>,
    fetches: usize,
}

impl CachingCaller {
    fn new(margin: u64) -> Self {
        Self {
            margin,
            held: None,
            fetches: 0,
        }
    }

    /// The value: of the cache, else fetched.
    fn get(&mut self, fetch: impl FnOnce() -> (String, u64)) -> String {
        if let Some((value, until)) = &self.held
            && Instant::now() < *until
        {
            return value.clone();
        }
        let asked = Instant::now();
        let (value, expires_in) = fetch();
        // As SDKs do it counts from the answer, but for one that a busy machine was slow to hand over.
        let answered = Instant::now().min(asked + Duration::from_secs(5));
        self.fetches += 1;
        assert!(
            expires_in > self.margin,
            "an SDK with a margin of {} would choke on {expires_in}",
            self.margin
        );
        let until = answered + Duration::from_secs(expires_in - self.margin);
        self.held = Some((value.clone(), until));
        value
    }
}

/// Tokens that live so long, of which the last 10 s are kept by nobody.
const LIFE: Duration = Duration::from_secs(40);
const ROTATIONS: usize = 4;

#[test]
fn no_sdk_ever_uses_a_dead_value() {
    let stage = Stage::new(LIFE);
    let mut text = stage.text("poll_every = \"5s\"", "0");
    for (name, token, ticket) in SDKS {
        for account in ["shop", "blog"] {
            stage
                .bench
                .secret(&format!("{account}-{name}"), &key_of(account, name));
            let margins = format!("{{ access_token = {token}, jsapi_ticket = {ticket} }}");
            text += &entry(account, name, &margins);
        }
    }
    stage.write(&text.replace(
        "method = \"classic\"",
        "method = \"classic\"\ntickets = [\"jsapi\"]",
    ));
    let daemon = stage.start();
    for id in [SHOP, BLOG] {
        let account = if id == SHOP { "shop" } else { "blog" };
        daemon.wait_until("the ticket", || {
            let answer = stage.ask(id, &key_of(account, "wechatpy"));
            answer.errcode() == 0 && stage.ask_ticket(&answer.token()).errcode() == 0
        });
    }
    let stop = AtomicBool::new(false);
    let values: Vec<_> = (0..2 * SDKS.len()).map(|_| AtomicUsize::new(0)).collect();
    let seen = std::thread::scope(|scope| {
        let apps: Vec<_> = (SDKS.iter())
            .flat_map(|sdk| [(SHOP, "shop", sdk), (BLOG, "blog", sdk)])
            .zip(&values)
            .map(|((id, account, &(name, token, ticket)), values)| {
                let (stage, stop) = (&stage, &stop);
                scope.spawn(move || {
                    let key = key_of(account, name);
                    run(stage, id, &key, (token, ticket), stop, values)
                })
            })
            .collect();
        // An app gets another token once it has kept one for as long as it was told: some 30 s.
        wait_until(
            "tokens in every app",
            10 * LIFE,
            || daemon.log(),
            || {
                values
                    .iter()
                    .all(|seen| seen.load(Ordering::Relaxed) >= ROTATIONS)
                    || apps.iter().any(ScopedJoinHandle::is_finished)
            },
        );
        stop.store(true, Ordering::Relaxed);
        let seen: Vec<_> = apps.into_iter().map(|app| app.join().unwrap()).collect();
        seen
    });
    for (uses, dead) in seen {
        assert_eq!(dead, 0, "of {uses} uses");
    }
    daemon.terminate();
}

fn key_of(account: &str, name: &str) -> String {
    format!("key-{account}-{name}-0000000000000000")
}

/// Uses token and ticket all the time, and counts the different tokens. Returns how often, and how many of the uses were dead.
fn run(
    stage: &Stage,
    id: &str,
    key: &str,
    margins: (u64, u64),
    stop: &AtomicBool,
    seen: &AtomicUsize,
) -> (usize, usize) {
    let (mut tokens, mut tickets) = (CachingCaller::new(margins.0), CachingCaller::new(margins.1));
    let (mut uses, mut dead) = (0, 0);
    let mut values = std::collections::BTreeSet::new();
    let mut client = HttpClient::connect(stage.address);
    let is_dead = |value: &str, asked: Instant| {
        let truth = stage.platform.with(|world, now| world.probe(now, value));
        // What ended since the app took it out of its cache was alive when it did.
        let since = i64::try_from(asked.elapsed().as_millis()).unwrap();
        !truth.alive && truth.ended_ms_ago.is_none_or(|ago| ago > since)
    };
    while !stop.load(Ordering::Relaxed) {
        let body = stable_body(id, key, false);
        let asked = Instant::now();
        let token = tokens.get(|| {
            let answer = if uses % 2 == 0 {
                client.post("/cgi-bin/stable_token", "application/json", &body)
            } else {
                client.get(&token_target(id, key))
            };
            (answer.token(), u64::try_from(answer.expires_in()).unwrap())
        });
        dead += usize::from(is_dead(&token, asked));
        let asked = Instant::now();
        let ticket = tickets.get(|| {
            let target = format!("/cgi-bin/ticket/getticket?access_token={token}&type=jsapi");
            let answer = client.get(&target);
            (answer.token(), u64::try_from(answer.expires_in()).unwrap())
        });
        dead += usize::from(is_dead(&ticket, asked));
        values.insert(token);
        seen.store(values.len(), Ordering::Relaxed);
        uses += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    (uses, dead)
}

#[test]
fn expires_in_is_the_margin_and_two_minutes() {
    let stage = Stage::new(Duration::from_secs(7200));
    let margins = "{ access_token = 1500, jsapi_ticket = 500 }";
    stage.configure("", margins);
    let daemon = stage.start();
    let told = |address: SocketAddr, name: &str| {
        let mut client = HttpClient::connect(address);
        let token = client.get(&token_target(SHOP, crate::fixture::key("shop", name)));
        let target = format!(
            "/cgi-bin/ticket/getticket?access_token={}&type=jsapi",
            token.token()
        );
        (token.expires_in(), client.get(&target).expires_in())
    };
    assert_eq!(told(stage.address, "cms"), (1620, 620));
    // Apps with other margins for the same token.
    let both = stage
        .text("", margins)
        .replace(&entry("shop", "pos", margins), &entry("shop", "pos", "0"));
    stage.write(&both);
    daemon.reload();
    assert_eq!(told(stage.address, "cms"), (1620, 620));
    assert_eq!(
        told(stage.address, "pos"),
        (120, 120),
        "each by its connection"
    );
    daemon.terminate();
}
