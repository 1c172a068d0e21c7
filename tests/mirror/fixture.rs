//! The start of these tests: a daemon with a mirror, accounts that apps have keys of, and a platform beside it.

use crate::common::{ApiReply, Bench, RunningDaemon, call};
use crate::http::{HttpClient, MirrorAnswer};
use crate::port::free_port;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use wxtokend::sim::{Endpoint, SimAccount, SimPlatform, World};

/// The AppSecret of every account. No app has it, and nothing that is printed or logged holds it.
pub(crate) const SECRET: &str = "CANARY0123456789abcdef0CANARY123";
pub(crate) const SHOP: &str = "wx0000000000000000";
pub(crate) const BLOG: &str = "wx0000000000000001";
pub(crate) const CORP: &str = "ww0123456789abcdef";
/// The agents of the corp.
pub(crate) const AGENTS: [(&str, u32); 2] = [("office", 1_000_002), ("door", 1_000_003)];

/// The keys of apps by account and name: each in a file `ACCOUNT-NAME`.
pub(crate) const KEYS: [(&str, &str, &str); 5] = [
    ("shop", "cms", "CANARY-key-of-the-cms-at-shop-01"),
    ("shop", "pos", "CANARY-key-of-the-pos-at-shop-02"),
    ("blog", "cms", "CANARY-key-of-the-cms-at-blog-03"),
    ("office", "erp", "CANARY-key-of-erp-at-office-0004"),
    ("door", "lock", "CANARY-key-of-lock-at-door-00005"),
];

/// The key of an app.
pub(crate) fn key(account: &str, name: &str) -> &'static str {
    let mut keys = KEYS.iter();
    keys.find(|(of, app, _)| (*of, *app) == (account, name))
        .unwrap()
        .2
}

/// A bench, a platform, and an address for the mirror.
pub(crate) struct Stage {
    pub(crate) bench: Bench,
    pub(crate) platform: Arc<SimPlatform>,
    pub(crate) address: SocketAddr,
}

impl Stage {
    /// A platform whose tokens live so long; a replaced one lives 5 minutes more, as with the real one. A stable token that
    /// lives for less than two minutes is replaced by the first call after a quarter of its life, so that a busy machine has
    /// the rest for it.
    pub(crate) fn new(life: Duration) -> Self {
        let mut world = World::new();
        for id in [SHOP, BLOG] {
            let account = world.account(id, SECRET);
            account.lifetime(life);
            account.overlap = Some(Duration::from_secs(300));
            if life < Duration::from_secs(120) {
                account.window = Some(life * 3 / 4);
            }
        }
        for (name, agentid) in AGENTS {
            let mut account = SimAccount::new(CORP, &format!("{SECRET}-{name}"));
            account.agentid = Some(agentid);
            account.lifetime(life);
            world.add(account);
        }
        Self::with(world)
    }

    pub(crate) fn with(world: World) -> Self {
        let platform = Arc::new(SimPlatform::start(([127, 0, 0, 1], 0).into(), world).unwrap());
        let bench = Bench::new();
        for name in ["shop", "blog"] {
            bench.secret(name, SECRET);
        }
        for (name, _) in AGENTS {
            bench.secret(name, &format!("{SECRET}-{name}"));
        }
        for (account, name, key) in KEYS {
            bench.secret(&format!("{account}-{name}"), key);
        }
        let address = (Ipv4Addr::LOCALHOST, free_port()).into();
        Self {
            bench,
            platform,
            address,
        }
    }

    /// The configuration with all accounts and all keys, the margins of `shop` being `margin`.
    pub(crate) fn configure(&self, shop: &str, margin: &str) {
        self.write(&self.text(shop, margin));
    }

    pub(crate) fn write(&self, text: &str) {
        self.bench.configure(&self.platform, text);
    }

    pub(crate) fn text(&self, shop: &str, margin: &str) -> String {
        let mut text = format!(
            "[mirror]\nlisten = \"{}\"\nsocket = \"{{dir}}/run/mirror.sock\"\n\
             [accounts.shop]\nappid = \"{SHOP}\"\nsecret_file = \"{{dir}}/shop\"\ntickets = [\"jsapi\"]\n{shop}\n\
             [accounts.blog]\nappid = \"{BLOG}\"\nsecret_file = \"{{dir}}/blog\"\nmethod = \"classic\"\n",
            self.address
        );
        for (name, agentid) in AGENTS {
            let _ = write!(
                text,
                "[accounts.{name}]\ncorpid = \"{CORP}\"\nagentid = {agentid}\nsecret_file = \"{{dir}}/{name}\"\n\
                 tickets = [\"jsapi\", \"agent\"]\n"
            );
        }
        for (account, name, _) in KEYS {
            text += &entry(account, name, if account == "shop" { margin } else { "0" });
        }
        text
    }

    /// Starts the daemon and waits until the mirror listens and every account has all of its values.
    pub(crate) fn start(&self) -> RunningDaemon<'_> {
        let daemon = self.start_without_values();
        daemon.wait_until("every account is fresh", || {
            let accounts = self.api("/v1/accounts").json();
            let accounts = accounts["accounts"].as_array().unwrap();
            accounts.iter().all(|account| account["state"] == "fresh")
        });
        daemon
    }

    /// Starts the daemon and waits until the mirror listens.
    pub(crate) fn start_without_values(&self) -> RunningDaemon<'_> {
        let daemon = self.bench.start();
        self.wait(&daemon);
        daemon
    }

    /// Waits until the mirror listens.
    pub(crate) fn wait(&self, daemon: &RunningDaemon<'_>) {
        daemon.wait_until("the mirror listens", || {
            TcpStream::connect(self.address).is_ok()
        });
    }

    pub(crate) fn client(&self) -> HttpClient<TcpStream> {
        HttpClient::connect(self.address)
    }

    /// Asks for a token as a classic client does.
    pub(crate) fn ask(&self, id: &str, key: &str) -> MirrorAnswer {
        self.client().get(&token_target(id, key))
    }

    /// Asks for a stable token.
    pub(crate) fn ask_stable(&self, id: &str, key: &str, force: bool) -> MirrorAnswer {
        let body = stable_body(id, key, force);
        (self.client()).post("/cgi-bin/stable_token", "application/json", &body)
    }

    /// Asks for a ticket with a token.
    pub(crate) fn ask_ticket(&self, token: &str) -> MirrorAnswer {
        self.client().get(&format!(
            "/cgi-bin/ticket/getticket?access_token={token}&type=jsapi"
        ))
    }

    /// Asks the API as root.
    pub(crate) fn api(&self, target: &str) -> ApiReply {
        call(&self.bench.socket(), "GET", target, "").unwrap()
    }

    /// Tells whether a token lives, in truth.
    pub(crate) fn is_alive(&self, token: &str) -> bool {
        self.platform
            .with(|world, now| world.probe(now, token).alive)
    }

    /// All calls that the platform got.
    pub(crate) fn calls(&self) -> u64 {
        let all = |world: &mut World, id| {
            Endpoint::ALL
                .map(|at| world.calls(id, at))
                .iter()
                .sum::<u64>()
        };
        self.platform
            .with(|world, _| [SHOP, BLOG].map(|id| all(world, id)).iter().sum())
    }

    /// The calls of one kind for `shop`.
    pub(crate) fn calls_of(&self, endpoint: Endpoint) -> u64 {
        self.platform.with(|world, _| world.calls(SHOP, endpoint))
    }
}

/// A key in the configuration.
pub(crate) fn entry(account: &str, name: &str, margin: &str) -> String {
    format!(
        "[[accounts.{account}.mirror]]\nname = \"{name}\"\nkey_file = \"{{dir}}/{account}-{name}\"\nmargin = {margin}\n"
    )
}

pub(crate) fn token_target(id: &str, key: &str) -> String {
    format!("/cgi-bin/token?grant_type=client_credential&appid={id}&secret={key}")
}

pub(crate) fn stable_body(id: &str, key: &str, force: bool) -> String {
    format!(
        r#"{{"grant_type":"client_credential","appid":"{id}","secret":"{key}","force_refresh":{force}}}"#
    )
}
