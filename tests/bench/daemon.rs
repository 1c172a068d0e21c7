//! The daemon's costs: memory, wake-ups, processor and start-up, each beside its bound and, where there is one, a
//! comparison. `cargo bench --bench daemon`; about two minutes; `-- memory`, `start`, `poll`, `idle` for a part. It
//! prints and judges nothing but memory: times depend on the machine and on what else it does.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark panics, reports and rounds"
)]

#[path = "../common/mod.rs"]
mod common;

use common::{Bench, PATIENCE, RunningDaemon};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use wxtokend::account::Account;
use wxtokend::call::Call;
use wxtokend::config::{self, Environment};
use wxtokend::platform::Ask;
use wxtokend::platform::client::Client;
use wxtokend::platform::wechat::WECHAT;
use wxtokend::secret::Secret;
use wxtokend::sim::{self, SimPlatform, World};

const MB: f64 = 1e6;
const ROUNDS: usize = 5;
/// Time that an idle daemon is watched.
const WINDOW: Duration = Duration::from_secs(40);

fn main() -> ExitCode {
    // For the client that asks the platform for its counts; that another one installs it too is no error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let argument = |name: &str, n| std::env::args().skip_while(|arg| arg != name).nth(n);
    if let Some(accounts) = argument("platform", 1) {
        serve(accounts.parse().unwrap());
    }
    if let (Some(config), Some(accounts)) = (argument("bare", 1), argument("bare", 2)) {
        call_for(&config, accounts.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    row("figure", "measured", "comparison", "bound");
    let parts: Vec<_> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let is_small = !wanted("memory") || memory();
    if wanted("start") {
        start_up();
    }
    if wanted("poll") {
        polling();
    }
    if wanted("idle") {
        idle();
    }
    if is_small {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn row(figure: &str, measured: impl Display, comparison: impl Display, bound: &str) {
    println!("{figure:52} {measured:>10}   {comparison:34} {bound}");
}

/// Says whether the bounds are kept.
fn memory() -> bool {
    let three = resident(3, "");
    row("resident, 3 accounts", megabytes(three), "", "12 MB");
    let thousand = resident(1000, "");
    row("resident, 1,000 accounts", megabytes(thousand), "", "");
    let many = resident(10_000, "");
    let each = (many - three) / 9997.0;
    row("resident, 10,000 accounts", megabytes(many), "", "45 MB");
    row("  for each account", format!("{each:.0} B"), "", "3,000 B");
    let sockets = resident(1000, "socket");
    let each = (sockets - thousand) / 1000.0;
    let besides = "besides the file";
    row(
        "  for each token socket (of 1,000)",
        format!("{each:.0} B"),
        besides,
        "",
    );
    three <= 12.0 * MB && many <= 45.0 * MB
}

/// The resident memory of a daemon that has fetched the tokens of its accounts and rests, bytes.
fn resident(accounts: usize, more: &str) -> f64 {
    let platform = PlatformProcess::start(accounts);
    let site = configured(&platform, accounts, "5m", more);
    let daemon = fetched(&site, accounts);
    // What was needed to fetch is given back by then.
    sleep(Duration::from_secs(3));
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    field(&status, "VmRSS") * 1024.0
}

fn start_up() {
    let accounts = 1000;
    let platform = PlatformProcess::start(accounts);
    let (mut bare, mut fetch, mut stored) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(bare_loop(&platform, accounts).0);
        let site = configured(&platform, accounts, "5m", "");
        let began = Instant::now();
        let daemon = fetched(&site, accounts);
        fetch.push(began.elapsed());
        daemon.wait_until("READY=1", || daemon.said("READY=1"));
        daemon.terminate();
        let manager = &site.bench.manager;
        let before = manager.count();
        let began = Instant::now();
        let daemon = site.bench.start();
        stored.push(manager.with(|messages| {
            let ready = messages[before..].iter().find(|m| m.has("READY=1"));
            ready.unwrap().at - began
        }));
        daemon.terminate();
    }
    let (bare, fetch, stored) = (median(bare), median(fetch), median(stored));
    let times = fetch.as_secs_f64() / bare.as_secs_f64();
    row(
        "1,000 accounts from start to all files",
        milliseconds(fetch),
        format!("{times:.1} x bare loop of {}", milliseconds(bare)),
        "3 x",
    );
    row(
        "1,000 stored tokens from start to READY",
        milliseconds(stored),
        "",
        "200 ms",
    );
}

/// Has a process make the calls that the daemon has to make, with the daemon's own HTTP client, and do nothing else.
/// Says how long that took from its start to its end, and how much of it the processor was busy with the calls.
fn bare_loop(platform: &PlatformProcess, accounts: usize) -> (Duration, Duration) {
    let bench = Bench::new();
    bench.secret("secret", "0");
    bench.write_config(&format!(
        "[api]\nadmins = []\n[platform]\nhosts = ['{}', 'https://api.weixin.qq.com']\n\
         [accounts.a]\nappid = 'wx0000000000000000'\nsecret_file = '{{dir}}/secret'\n",
        platform.url
    ));
    let began = Instant::now();
    let done = Command::new(std::env::current_exe().unwrap())
        .arg("bare")
        .args([bench.path("config.toml"), accounts.to_string().into()])
        .output()
        .unwrap();
    let took = began.elapsed();
    let busy = String::from_utf8(done.stdout).unwrap();
    (took, Duration::from_micros(busy.trim().parse().unwrap()))
}

/// Makes a call for each account.
fn call_for(config: &str, accounts: usize) {
    let config = config::load(config.as_ref(), &Environment::from_process())
        .unwrap()
        .config;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = Arc::new(Client::new(&config.platform).unwrap());
    let account = config.accounts.values().next().unwrap();
    let began = processor_time();
    runtime.block_on(async {
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..accounts {
            let (client, mut account) = (client.clone(), Account::clone(account));
            account.id = format!("wx{number:016x}").into();
            let secret = Secret::parse(&format!("{number:032x}")).unwrap();
            calls.spawn(async move {
                let _permit = client.permit(WECHAT.kind, false).await;
                let ask = Ask::of(WECHAT, &account, Call::Token, secret.expose());
                let request = (WECHAT.request)(&ask);
                client
                    .call(WECHAT.kind, &request, None)
                    .await
                    .outcome
                    .unwrap()
            });
        }
        for answer in calls.join_all().await {
            let answer: Json = serde_json::from_slice(&answer.body).unwrap();
            assert!(answer["access_token"].is_string());
        }
    });
    println!("{}", processor_time().saturating_sub(began).as_micros());
}

fn polling() {
    let accounts = 200;
    let platform = PlatformProcess::start(accounts);
    let site = configured(&platform, accounts, "1s", "");
    let daemon = fetched(&site, accounts);
    let look = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split(' ').collect();
        // Ticks of 10 ms, of the user and of the system.
        let ticks: f64 = fields[12].parse::<f64>().unwrap() + fields[13].parse::<f64>().unwrap();
        (ticks * 10_000.0, platform.calls())
    };
    let before = look();
    sleep(Duration::from_secs(10));
    let after = look();
    let each = (after.0 - before.0) / (after.1 - before.1);
    let bare = bare_loop(&platform, accounts).1.as_secs_f64() * 1e6 / accounts as f64;
    row(
        "processor for a poll",
        format!("{each:.0} us"),
        format!("{bare:.0} us for the bare call"),
        "",
    );
}

fn idle() {
    let accounts = 100;
    let platform = PlatformProcess::start(accounts);
    let sites = [(); 2].map(|()| configured(&platform, accounts, "5m", ""));
    let daemons = [
        sites[0].bench.spawn(),
        sites[1].bench.spawn_with(|command| {
            command.env("WATCHDOG_USEC", "30000000");
        }),
    ];
    for (site, daemon) in sites.iter().zip(&daemons) {
        wait_for_files(site, daemon, accounts);
    }
    // Until connections and threads that wait for more to do have ended.
    sleep(Duration::from_secs(25));
    let mut switches = daemons.each_ref().map(Switches::watch);
    let began = Instant::now();
    while began.elapsed() < WINDOW {
        sleep(Duration::from_millis(50));
        switches.iter_mut().for_each(Switches::look);
    }
    for (what, switches) in ["", ", WatchdogSec=30"].iter().zip(switches) {
        let rate = switches.count() as f64 / WINDOW.as_secs_f64();
        row(
            &format!("wake-ups a second, 100 accounts{what}"),
            format!("{rate:.2}"),
            "",
            "1",
        );
    }
}

/// Times that threads of a daemon went to sleep, also those that have ended since: as often as they were woken.
struct Switches {
    pid: String,
    /// By thread: when the watch began, or 0, and last.
    threads: BTreeMap<String, (u64, u64)>,
}

impl Switches {
    fn watch(daemon: &RunningDaemon<'_>) -> Self {
        let mut this = Self {
            pid: daemon.pid().to_string(),
            threads: BTreeMap::new(),
        };
        this.look();
        this.threads
            .values_mut()
            .for_each(|(first, last)| *first = *last);
        this
    }

    fn look(&mut self) {
        for task in fs::read_dir(format!("/proc/{}/task", self.pid))
            .unwrap()
            .flatten()
        {
            // One that has just ended has nothing to read.
            if let Ok(status) = fs::read_to_string(task.path().join("status")) {
                let lines = status
                    .lines()
                    .filter(|line| line.starts_with("voluntary_ctxt"));
                let counts = lines.filter_map(|line| line.split('\t').nth(1)?.parse::<u64>().ok());
                let name = task.file_name().into_string().unwrap();
                self.threads.entry(name).or_default().1 = counts.sum();
            }
        }
    }

    fn count(&self) -> u64 {
        self.threads
            .values()
            .map(|(first, last)| last - first)
            .sum()
    }
}

/// A bench, and a place in memory for outputs: as `/run` is, where they lie unless somebody wants them elsewhere.
struct Site {
    bench: Bench,
    run: TempDir,
}

/// A site for so many accounts of a platform, each with a file and `more`. Some of the default hosts are left in: the
/// system's root certificates are loaded, as they are by nearly everybody.
fn configured(platform: &PlatformProcess, accounts: usize, poll_every: &str, more: &str) -> Site {
    let bench = Bench::new();
    let run = tempfile::tempdir_in("/dev/shm").unwrap();
    let out = run.path().display();
    fs::create_dir(bench.path("secrets")).unwrap();
    let mut text = format!(
        "[daemon]\nstate_dir = '{{dir}}/state'\n[api]\nsocket = '{{dir}}/run/api.sock'\n\
         [platform]\nhosts = ['{}', 'https://api.weixin.qq.com']\n",
        platform.url
    );
    for number in 0..accounts {
        bench.secret(&format!("secrets/{number}"), &format!("{number:032x}"));
        write!(
            text,
            "[accounts.a{number}]\nappid = 'wx{number:016x}'\nsecret_file = '{{dir}}/secrets/{number}'\n\
             poll_every = '{poll_every}'\nreaders = ['www-data']\n\
             [[accounts.a{number}.file]]\npath = '{out}/a{number}.json'\n"
        )
        .unwrap();
        if !more.is_empty() {
            let output = format!("[[accounts.a{number}.{more}]]\npath = '{out}/a{number}'\n");
            text.push_str(&output);
        }
    }
    bench.write_config(&text);
    Site { bench, run }
}

/// A daemon that has published all files.
fn fetched(site: &Site, accounts: usize) -> RunningDaemon<'_> {
    let daemon = site.bench.spawn();
    wait_for_files(site, &daemon, accounts);
    daemon
}

fn wait_for_files(site: &Site, daemon: &RunningDaemon<'_>, accounts: usize) {
    let deadline = Instant::now() + PATIENCE * 4;
    for number in 0..accounts {
        let path = site.run.path().join(format!("a{number}.json"));
        // Looks at little, and often: what waits takes time from what is measured.
        while !path.exists() {
            assert!(
                Instant::now() < deadline,
                "no file {number}: {}",
                daemon.log()
            );
            sleep(Duration::from_millis(1));
        }
    }
}

/// The simulated platform in a process of its own, so that it takes neither memory nor time of what is measured.
struct PlatformProcess {
    child: Child,
    url: String,
}

impl PlatformProcess {
    fn start(accounts: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["platform", &accounts.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        lines.read_line(&mut url).unwrap();
        let url = url.trim_end().to_owned();
        Self { child, url }
    }

    /// Calls for a stable token that it got.
    fn calls(&self) -> f64 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let counts = runtime.block_on(async {
            let http = reqwest::Client::builder()
                .no_proxy()
                .tls_certs_only([])
                .build();
            let request = http.unwrap().get(format!("{}/sim/counts", self.url));
            request.send().await.unwrap().bytes().await.unwrap()
        });
        let counts: Json = serde_json::from_slice(&counts).unwrap();
        let accounts = counts["accounts"].as_object().unwrap().values();
        accounts
            .filter_map(|account| account["stable_token"].as_f64())
            .sum()
    }
}

impl Drop for PlatformProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(accounts: u64) -> ! {
    let mut world = World::new();
    for number in 0..accounts {
        world.add(sim::SimAccount::numbered(number));
    }
    let platform = SimPlatform::start(([127, 0, 0, 1], 0).into(), world).unwrap();
    println!("{}", platform.base_url());
    std::io::stdout().flush().unwrap();
    platform.wait();
    std::process::exit(0)
}

fn field(status: &str, name: &str) -> f64 {
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.try_into().unwrap(),
        time.tv_nsec.try_into().unwrap(),
    )
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn megabytes(bytes: f64) -> String {
    format!("{:.1} MB", bytes / MB)
}

fn milliseconds(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}
