//! A fleet: hosts with a daemon each, one platform and one cluster for all.

use crate::cluster::{Cluster, Door};
use crate::common::{Bench, Findings, Freshness, PATIENCE, ReadFrom, call, json, raw, wait_until};
use crate::network::{NetMachine, TestNetwork};
use crate::stalls::{Stalls, Stopwatch};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use wxtokend::sim::{Endpoint, SimPlatform, World};

/// Longest time without a leader.
pub(crate) const TAKEOVER_LIMIT: Duration = Duration::from_secs(10);
/// The time for which a replaced classic token lives on.
const OVERLAP: Duration = Duration::from_secs(300);
/// The pause between two reads of a reader: there are many, and few processors.
const READ_EVERY: Duration = Duration::from_millis(4);
/// The longest time for which a stall of the machine may keep a daemon from taking away what has ended, milliseconds.
const OVERDUE_LIMIT: i64 = 10_000;
/// The port of the platform.
const PLATFORM_PORT: u16 = 8080;
/// The key of every fleet.
pub(crate) const KEY: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const SECRET: &str = "CANARY-0123456789abcdef-CANARY";

/// The accounts of every fleet: a name, the platform's id of it, and its keys.
pub(crate) const ACCOUNTS: [(&str, &str, &str); 3] = [
    ("classic", "wx00000000000000c1", "method = \"classic\""),
    ("stable", "wx00000000000000a1", "poll_every = \"10s\""),
    ("corp", "ww00000000000000b1", ""),
];

/// A host of the fleet.
pub(crate) struct FleetHost {
    bench: Bench,
    pub(crate) machine: NetMachine,
    /// Variables that the daemon starts with.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    daemon: Option<Child>,
}

/// The hosts, and all that they talk to.
pub(crate) struct TestFleet {
    pub(crate) hosts: Vec<FleetHost>,
    pub(crate) cluster: Cluster,
    pub(crate) platform: Arc<SimPlatform>,
    pub(crate) platform_machine: NetMachine,
    config: String,
    stalls: Stalls,
    _network: TestNetwork,
}

impl TestFleet {
    /// A fleet of three hosts whose tokens live so long. Every host serves all accounts when it returns.
    pub(crate) fn start(lifetime: Duration) -> Self {
        Self::start_with(lifetime, 3)
    }

    pub(crate) fn start_with(lifetime: Duration, hosts: usize) -> Self {
        let mut fleet = Self::prepare(lifetime, hosts);
        for number in 0..hosts {
            fleet.start_host(number);
        }
        for number in 0..hosts {
            fleet.wait_for_files(number);
        }
        for (name, ..) in ACCOUNTS {
            fleet.wait_until("a leader", |fleet| fleet.leader(name).is_some());
        }
        fleet
    }

    /// The same with no daemon running yet.
    pub(crate) fn prepare(lifetime: Duration, hosts: usize) -> Self {
        Self::prepare_with(lifetime, hosts, 3, Door::Open)
    }

    /// The same with so many members of etcd, that let clients in by this door.
    pub(crate) fn prepare_with(
        lifetime: Duration,
        hosts: usize,
        members: usize,
        door: Door,
    ) -> Self {
        let network = TestNetwork::new();
        let platform_machine = network.add();
        let mut world = World::new();
        for (_, id, _) in ACCOUNTS {
            let account = world.account(id, SECRET);
            account.lifetime(lifetime);
            // As the platform promises, however short the lives are here: a host that is cut off relies on it.
            account.overlap = Some(OVERLAP);
        }
        let platform = platform_machine.inside(|| {
            let listener = TcpListener::bind((platform_machine.address, PLATFORM_PORT)).unwrap();
            SimPlatform::start_on(listener, world).unwrap()
        });
        let cluster = Cluster::start(&network, members, door);
        let hosts = (0..hosts).map(|_| FleetHost {
            bench: Bench::new(),
            machine: network.add(),
            environment: Vec::new(),
            daemon: None,
        });
        let platform_address = format!("{}:{PLATFORM_PORT}", platform_machine.address);
        let config = config(&platform_address, &cluster);
        Self {
            hosts: hosts.collect(),
            cluster,
            platform: Arc::new(platform),
            platform_machine,
            config,
            stalls: Stalls::watch(),
            _network: network,
        }
    }

    /// Starts the daemon of a host and waits until it is ready.
    pub(crate) fn start_host(&mut self, number: usize) {
        self.start_changed_host(number, |config| config);
    }

    /// The same with another configuration.
    pub(crate) fn start_changed_host(
        &mut self,
        number: usize,
        change: impl FnOnce(String) -> String,
    ) {
        let config = self.config.replace("{host}", &format!("host{number}"));
        let host = &mut self.hosts[number];
        host.bench.secret("secret", SECRET);
        host.bench.secret("key", KEY);
        host.bench.write_config(&change(config));
        let mut options = OpenOptions::new();
        let log = options
            .append(true)
            .create(true)
            .open(host.bench.path("log"));
        let log = log.unwrap();
        let mut command = host.wxtokend(&["run"]);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let before = host.bench.manager.count();
        host.daemon = Some(command.spawn().unwrap());
        let host = &self.hosts[number];
        let ready = || host.bench.manager.said_since(before, "READY=1");
        wait_until("READY=1", PATIENCE, || host.log(), ready);
    }

    fn wait_for_files(&self, number: usize) {
        for (name, ..) in ACCOUNTS {
            self.wait_until(&format!("the file of {name} on host {number}"), |fleet| {
                fleet.hosts[number].token(name).is_some()
            });
        }
    }

    /// Waits until a condition holds; panics with the logs of all hosts.
    pub(crate) fn wait_until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        wait_until(what, PATIENCE, || self.logs(), || condition(self));
    }

    /// Waits until there is something to return.
    pub(crate) fn wait_for<T>(&self, what: &str, find: impl Fn(&Self) -> Option<T>) -> T {
        let mut found = None;
        let log = || self.logs();
        wait_until(what, PATIENCE, log, || {
            found = find(self);
            found.is_some()
        });
        found.unwrap()
    }

    /// Starts to measure a time.
    pub(crate) fn stopwatch(&self) -> Stopwatch {
        self.stalls.stopwatch()
    }

    pub(crate) fn logs(&self) -> String {
        let mut logs = String::new();
        for (number, host) in self.hosts.iter().enumerate() {
            let _ = writeln!(logs, "--- host {number}\n{}", host.log());
        }
        logs
    }

    /// The host that says that it leads an account, and that is the only one that does.
    pub(crate) fn leader(&self, account: &str) -> Option<usize> {
        let leads = |host: &&FleetHost| host.fleet(account)["leader"] == true;
        let leaders: Vec<_> = (0..self.hosts.len())
            .filter(|&number| leads(&&self.hosts[number]))
            .collect();
        match leaders[..] {
            [one] => Some(one),
            _ => None,
        }
    }

    /// The leader, as soon as there is one. It may change at any moment, but not in these tests.
    pub(crate) fn find_leader(&self, account: &str) -> usize {
        self.wait_for("a leader", |fleet| fleet.leader(account))
    }

    /// Waits until another host than this leads an account. Returns it, and how long that took.
    pub(crate) fn wait_for_other_leader(&self, account: &str, old: usize) -> (usize, Duration) {
        let watch = self.stopwatch();
        let other = self.wait_for("another leader", |fleet| {
            (0..fleet.hosts.len()).find(|&number| {
                number != old && fleet.hosts[number].fleet(account)["leader"] == true
            })
        });
        (other, watch.elapsed())
    }

    /// Readers of the files on some hosts, which never may find a dead token.
    pub(crate) fn read_files(&self, hosts: &[usize]) -> Freshness {
        let sources: Vec<_> = (hosts.iter())
            .flat_map(|&number| {
                ACCOUNTS.map(|(name, ..)| {
                    let path = self.hosts[number].bench.path(&format!("run/{name}.json"));
                    ReadFrom::File(path, json)
                })
            })
            .collect();
        Freshness::watch_every(READ_EVERY, &self.platform, &sources)
    }

    /// Readers of the files and sockets of `classic` and `stable` on some hosts: there is a token at every moment. One of
    /// 企业微信 is replaced only when it has ended.
    pub(crate) fn read_all(&self, hosts: &[usize]) -> Freshness {
        let sources: Vec<_> = (hosts.iter())
            .flat_map(|&number| {
                ["classic", "stable"].into_iter().flat_map(move |name| {
                    let bench = &self.hosts[number].bench;
                    [
                        ReadFrom::File(bench.path(&format!("run/{name}.json")), json),
                        ReadFrom::Socket(bench.path(&format!("run/{name}.sock")), raw),
                    ]
                })
            })
            .collect();
        Freshness::watch_every(READ_EVERY, &self.platform, &sources)
    }

    /// Readers of the sockets of `classic` and `stable` on some hosts: there is a token at every moment, and nobody tells when
    /// it ends.
    pub(crate) fn read_sockets(&self, hosts: &[usize]) -> Freshness {
        let sources: Vec<_> = (hosts.iter())
            .flat_map(|&number| {
                ["classic", "stable"].map(|name| {
                    ReadFrom::Socket(self.hosts[number].path(&format!("run/{name}.sock")), raw)
                })
            })
            .collect();
        Freshness::watch_every(READ_EVERY, &self.platform, &sources)
    }

    /// Calls for tokens of an account, by any host.
    pub(crate) fn calls(&self, account: &str) -> u64 {
        let (_, id, _) = ACCOUNTS
            .into_iter()
            .find(|(name, ..)| *name == account)
            .unwrap();
        let endpoints = [Endpoint::StableToken, Endpoint::Token, Endpoint::GetToken];
        let count = |world: &World| endpoints.iter().map(|at| world.calls(id, *at)).sum();
        self.platform.with(|world, _| count(world))
    }

    /// True if the platform accepts a token.
    pub(crate) fn is_alive(&self, token: &str) -> bool {
        self.platform
            .with(|world, now| world.probe(now, token).alive)
    }

    /// Waits until every host has published the same token of an account, and another one than `old`.
    pub(crate) fn wait_for_rotation(&self, account: &str, old: &str, hosts: &[usize]) -> String {
        self.wait_for(&format!("another token of {account}"), |fleet| {
            let mut tokens = hosts
                .iter()
                .map(|&number| fleet.hosts[number].token(account));
            let first = tokens.next()??;
            let is_one = tokens.all(|token| token.as_ref() == Some(&first));
            (is_one && first != old).then_some(first)
        })
    }

    /// Waits until a host has a token that lives of each of these accounts.
    pub(crate) fn wait_for_tokens(&self, host: usize, accounts: &[&str]) {
        for name in accounts {
            self.wait_until(&format!("a token of {name}"), |fleet| {
                let token = fleet.hosts[host].token(name);
                token.is_some_and(|token| fleet.is_alive(&token))
            });
        }
    }

    /// Waits until `check --online` on a host says something and ends so.
    pub(crate) fn wait_for_check(&self, host: usize, status: i32, words: &str) {
        let arguments = ["check", "--online", "--account", "stable"];
        let said = |fleet: &Self| fleet.hosts[host].run(&arguments);
        let is_said = |fleet: &Self| {
            let (found, text) = said(fleet);
            let mut lines = text.lines().filter(|line| line.starts_with("fleet: "));
            found == status && lines.any(|line| line.contains(words))
        };
        let log = || format!("{:?}\n{}", said(self), self.logs());
        wait_until(&format!("check: {words}"), PATIENCE, log, || is_said(self));
    }

    /// Cuts a host off from all members of the cluster, or joins them again.
    pub(crate) fn cut_from_engine(&self, host: usize, cut: bool) {
        for member in &self.cluster.members {
            self.hosts[host].machine.cut(&member.machine, cut);
        }
    }

    /// Cuts a host off from the platform, or joins them again.
    pub(crate) fn cut_from_platform(&self, host: usize, cut: bool) {
        self.hosts[host].machine.cut(&self.platform_machine, cut);
    }

    /// Waits until a command on a host ends so and says something. Returns what it printed.
    pub(crate) fn wait_for_run(
        &self,
        host: usize,
        arguments: &[&str],
        status: i32,
        words: &str,
    ) -> String {
        let run = || self.hosts[host].run(arguments);
        let mut text = String::new();
        let log = || format!("{:?}\n{}", run(), self.logs());
        wait_until(&format!("{arguments:?}: {words}"), PATIENCE, log, || {
            let (found, said) = run();
            text = said;
            found == status && text.contains(words)
        });
        text
    }

    /// Asserts that no daemon has panicked or shown a secret.
    pub(crate) fn assert_quiet_logs(&self) {
        let logs = self.logs();
        assert!(!logs.contains("panicked"), "{logs}");
        assert!(!logs.contains(SECRET), "a secret in the log");
    }
}

/// Asserts that no reader was handed a dead token as one that lives, or half a file.
pub(crate) fn assert_not_misled(found: &Findings) {
    let bad = (found.misled(), found.partial, found.errors);
    assert_eq!(bad, (0, 0, 0), "misled, partial, errors: {found:?}");
    assert!(found.overdue_ms < OVERDUE_LIMIT, "{found:?}");
}

impl FleetHost {
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.bench.path("log")).unwrap_or_default()
    }

    /// The token in the file of an account.
    pub(crate) fn token(&self, account: &str) -> Option<String> {
        let path = self.bench.path(&format!("run/{account}.json"));
        let text = fs::read_to_string(path).ok()?;
        Some(json(&text).expect("a whole file").value)
    }

    /// The API's answer; null if there is none.
    pub(crate) fn get(&self, target: &str) -> Json {
        let answer = self
            .is_running()
            .then(|| call(&self.bench.socket(), "GET", target, ""));
        match answer {
            Some(Ok(answer)) => answer.json(),
            _ => Json::Null,
        }
    }

    /// The place of an account in the fleet, as this host sees it.
    pub(crate) fn fleet(&self, account: &str) -> Json {
        self.get(&format!("/v1/accounts/{account}"))["fleet"].take()
    }

    fn wxtokend(&self, arguments: &[&str]) -> Command {
        let mut command = self.bench.wxtokend(arguments);
        command.env("NOTIFY_SOCKET", self.bench.manager.path());
        command.envs(self.environment.iter().cloned());
        self.machine.surround(&mut command);
        command
    }

    /// A file of this host.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.bench.path(name)
    }

    /// The line that the service manager shows.
    pub(crate) fn status(&self) -> String {
        self.bench.manager.status().unwrap()
    }

    /// Runs a command of wxtokend on this host. Returns its exit status and what it printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.wxtokend(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8(text).unwrap(),
        )
    }

    /// The lines of the log that hold some words.
    pub(crate) fn told(&self, words: &str) -> Vec<String> {
        let log = self.log();
        let lines = log.lines().filter(|line| line.contains(words));
        lines.map(str::to_owned).collect()
    }

    /// Writes a file that only root may read.
    pub(crate) fn write(&self, name: &str, text: &str) {
        self.bench.secret(name, text);
    }

    /// Makes another key of the fleet, `other-key`.
    pub(crate) fn write_key(&self, text: &str) {
        self.bench.secret("other-key", text);
    }

    pub(crate) fn post(&self, target: &str, body: &str) -> Json {
        let answer = call(&self.bench.socket(), "POST", target, body);
        answer.unwrap().json()
    }

    /// A daemon that is stopped answers nobody.
    fn is_running(&self) -> bool {
        let Some(daemon) = &self.daemon else {
            return false;
        };
        let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.id())).unwrap_or_default();
        let state = stat.rsplit(") ").next().unwrap_or_default();
        !state.starts_with(['T', 'Z']) && !state.is_empty()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let daemon = self.daemon.as_ref().unwrap();
        kill_process(Pid::from_child(daemon), signal).unwrap();
    }

    /// Ends the daemon as a crash does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    /// Ends the daemon as systemd does.
    pub(crate) fn terminate(&mut self) {
        let Some(mut daemon) = self.daemon.take() else {
            return;
        };
        kill_process(Pid::from_child(&daemon), Signal::TERM).unwrap();
        assert!(daemon.wait().unwrap().success(), "{}", self.log());
    }
}

impl Drop for FleetHost {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- the log of a host:\n{}", self.log());
        }
    }
}

fn config(platform: &str, cluster: &Cluster) -> String {
    let mut text = format!(
        "[daemon]\nstate_dir = \"{{dir}}/state\"\nlog_level = \"debug\"\n\n\
         [api]\nsocket = \"{{dir}}/run/api.sock\"\n\n\
         [platform]\nhosts = [\"http://{platform}\"]\nwecom_hosts = [\"http://{platform}\"]\n\
         allow_http = [\"{platform}\", {}]\nconnect_timeout = \"1s\"\ntimeout = \"3s\"\n\n\
         [fleet]\nengine = \"etcd\"\nendpoints = {}\nkey_file = \"{{dir}}/key\"\nhost = \"{{host}}\"\n",
        cluster.hosts(),
        cluster.endpoints()
    );
    for (name, id, keys) in ACCOUNTS {
        let kind = if id.starts_with("ww") {
            "corpid"
        } else {
            "appid"
        };
        let _ = write!(
            text,
            "\n[accounts.{name}]\n{kind} = \"{id}\"\nsecret_file = \"{{dir}}/secret\"\n{keys}\n\
             [[accounts.{name}.file]]\npath = \"{{dir}}/run/{name}.json\"\n\
             [[accounts.{name}.socket]]\npath = \"{{dir}}/run/{name}.sock\"\nformat = \"raw\"\n"
        );
    }
    text
}
