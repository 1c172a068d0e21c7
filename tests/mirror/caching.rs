//! Apps that cache as their SDKs do, each taking its margin off `expires_in`: none ever uses a dead token.

use crate::fixture::{BLOG, SHOP, Stage, entry, stable_body, token_target};
use crate::http::HttpClient;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
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
        let (value, expires_in) = fetch();
        self.fetches += 1;
        assert!(
            expires_in > self.margin,
            "an SDK with a margin of {} would choke on {expires_in}",
            self.margin
        );
        let until = Instant::now() + Duration::from_secs(expires_in - self.margin);
        self.held = Some((value.clone(), until));
        value
    }
}

/// Tokens that live so long, of which the last 10 s are kept by nobody.
const LIFE: Duration = Duration::from_secs(24);
const ROTATIONS: usize = 4;

#[test]
fn no_sdk_ever_uses_a_dead_value() {
    let stage = Stage::new(LIFE);
    let mut text = stage.text("", "0");
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
    let seen = std::thread::scope(|scope| {
        let apps: Vec<_> = (SDKS.iter())
            .flat_map(|sdk| [(SHOP, "shop", sdk), (BLOG, "blog", sdk)])
            .map(|(id, account, &(name, token, ticket))| {
                let (stage, stop) = (&stage, &stop);
                scope.spawn(move || {
                    let key = key_of(account, name);
                    run(stage, id, &key, (token, ticket), stop)
                })
            })
            .collect();
        // The tokens of the classic account change twice in a life, those of the stable one once.
        let began = Instant::now();
        let mut tokens = std::collections::BTreeSet::new();
        while tokens.len() <= ROTATIONS {
            tokens.insert(stage.ask(SHOP, &key_of("shop", "wechatpy")).token());
            assert!(began.elapsed() < LIFE * 2 * u32::try_from(ROTATIONS).unwrap());
            std::thread::sleep(Duration::from_millis(100));
        }
        stop.store(true, Ordering::Relaxed);
        let seen: Vec<_> = apps.into_iter().map(|app| app.join().unwrap()).collect();
        seen
    });
    for (uses, values, dead) in seen {
        assert_eq!(dead, 0, "of {uses} uses");
        // The last one may not have reached every cache.
        assert!(values >= ROTATIONS, "{values} values in {uses} uses");
    }
    daemon.terminate();
}

fn key_of(account: &str, name: &str) -> String {
    format!("key-{account}-{name}-0000000000000000")
}

/// Uses token and ticket all the time. Returns how often, how many different tokens, and how many of the uses were dead.
fn run(
    stage: &Stage,
    id: &str,
    key: &str,
    margins: (u64, u64),
    stop: &AtomicBool,
) -> (usize, usize, usize) {
    let (mut tokens, mut tickets) = (CachingCaller::new(margins.0), CachingCaller::new(margins.1));
    let (mut uses, mut dead) = (0, 0);
    let mut values = std::collections::BTreeSet::new();
    let mut client = HttpClient::connect(stage.address);
    while !stop.load(Ordering::Relaxed) {
        let body = stable_body(id, key, false);
        let token = tokens.get(|| {
            let answer = if uses % 2 == 0 {
                client.post("/cgi-bin/stable_token", "application/json", &body)
            } else {
                client.get(&token_target(id, key))
            };
            (answer.token(), u64::try_from(answer.expires_in()).unwrap())
        });
        let ticket = tickets.get(|| {
            let target = format!("/cgi-bin/ticket/getticket?access_token={token}&type=jsapi");
            let answer = client.get(&target);
            (answer.token(), u64::try_from(answer.expires_in()).unwrap())
        });
        for value in [&token, &ticket] {
            let truth = stage.platform.with(|world, now| world.probe(now, value));
            // What ended within the last moment was alive when the app took it out of its cache.
            let was_alive = truth.alive || truth.ended_ms_ago.is_some_and(|ago| ago < 50);
            dead += usize::from(!was_alive);
        }
        values.insert(token);
        uses += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    (uses, values.len(), dead)
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
