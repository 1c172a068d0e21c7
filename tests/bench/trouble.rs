//! The effect on readers of a trouble that is none of theirs: a silent name server, a hung disk, a standard error that
//! nobody reads, hosts that hang, an attack on the API. `cargo bench --bench trouble`; `-- disk` for one of them. As
//! root.
//!
//! For each trouble, two daemons run at the same time, one with it and one without, and readers of a healthy account read
//! from both. `WXTOKEND_OLD=/path/to/the/one/before` adds an older build. It prints and judges nothing.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark panics, reports and rounds"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "side.rs"]
mod side;

use common::{Bench, RunningDaemon, as_user, call, read_socket, root};
use side::{Build, builds};
use std::any::Any;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use wxtokend::sim::{SimAccount, SimPlatform, World};

/// Time that readers read under each trouble.
const WINDOW: Duration = Duration::from_secs(12);
const APPID: &str = "wx00000000000000d1";
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A way to read the token.
type Read = Box<dyn Fn() -> Option<String> + Send>;

/// A name server that never answers.
const NAME_SERVER: &str = "127.77.0.1:53";

struct TroubleCase {
    name: &'static str,
    title: &'static str,
    /// Changes the configuration; `HOST` is the base URL of the platform.
    configure: fn(&mut String, &TroubleSite),
    /// Changes the command that starts the daemon.
    spawn: fn(&mut Command, &TroubleSite),
    /// Begins once the daemon is ready, and lasts until what it returns is dropped.
    begin: fn(&TroubleSite) -> Box<dyn Any>,
}

const TROUBLES: &[TroubleCase] = &[
    TroubleCase {
        name: "names",
        title: "silent name server, 200 accounts",
        configure: |text, _| {
            replace_wecom_hosts(text, "https://silent.example.com");
            wecom_accounts(text, 200);
        },
        spawn: with_silent_name_server,
        begin: |_| Box::new(()),
    },
    TroubleCase {
        name: "disk",
        title: "hung disk below 20 files",
        configure: |text, site| {
            for n in 0..20 {
                account(
                    text,
                    &format!("disk{n}"),
                    &site.path("disk").join(format!("{n}.json")),
                );
            }
        },
        spawn: |_, _| {},
        begin: |site| Box::new(Frozen::freeze(&site.path("disk"))),
    },
    TroubleCase {
        name: "stderr",
        title: "nobody reads standard error",
        configure: |text, _| {
            *text = text.replace("\"debug\"", "\"trace\"");
            wecom_accounts(text, 100);
        },
        spawn: with_unread_stderr,
        begin: |_| Box::new(()),
    },
    TroubleCase {
        name: "hosts",
        title: "300 accounts on hosts that hang",
        configure: |text, site| {
            let url = format!("http://{}", site.silent.local_addr().unwrap());
            replace_wecom_hosts(text, &url);
            wecom_accounts(text, 300);
        },
        spawn: |_, _| {},
        begin: |_| Box::new(()),
    },
    TroubleCase {
        name: "api",
        title: "two users hold the API's connections",
        configure: |_, _| {},
        spawn: |_, _| {},
        begin: |site| Box::new(Attack::begin(&site.bench.socket())),
    },
];

fn main() {
    if !root::may_run() {
        return;
    }
    let wanted: Vec<_> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let name_server = UdpSocket::bind(NAME_SERVER);
    let builds = builds();
    let builds = if builds[0].program == builds[1].program {
        &builds[1..]
    } else {
        &builds[..]
    };
    println!(
        "p50 / p99 of a read in µs, without the trouble -> with it; and how many of 100 reads gave no live token"
    );
    for trouble in TROUBLES {
        let is_wanted = wanted.is_empty() || wanted.iter().any(|name| name == trouble.name);
        if is_wanted && trouble.name == "names" && name_server.is_err() {
            println!("{}: left out, {NAME_SERVER} cannot be had", trouble.title);
        } else if is_wanted {
            println!("{}", trouble.title);
            for build in builds {
                measure(trouble, build);
            }
        }
    }
}

fn measure(trouble: &'static TroubleCase, build: &Build) {
    let (calm, troubled) = (TroubleSite::new(None), TroubleSite::new(Some(trouble)));
    let daemons = [&calm, &troubled].map(|site| site.start(build));
    let lasting = (trouble.begin)(&troubled);
    let readers = [calm.read(), troubled.read()];
    thread::sleep(WINDOW);
    let [without, with] = readers.map(Readers::stop);
    // The disk comes back before the daemons have to end.
    drop(lasting);
    drop(daemons);
    print!("  {}", if build.is_new { "new" } else { "old" });
    for ((way, without), (_, with)) in without.into_iter().zip(with) {
        print!("   {way} {without} -> {with}");
    }
    println!();
}

/// A bench with a healthy account whose tokens live for seconds, and a platform for all accounts.
struct TroubleSite {
    bench: Bench,
    platform: Arc<SimPlatform>,
    /// It takes connections and never answers.
    silent: TcpListener,
    trouble: Option<&'static TroubleCase>,
}

impl TroubleSite {
    fn new(trouble: Option<&'static TroubleCase>) -> Self {
        let mut world = World::new();
        world.add(SimAccount {
            lifetime: Duration::from_secs(8),
            window: Some(Duration::from_secs(4)),
            overlap: Some(Duration::from_secs(4)),
            ..SimAccount::new(APPID, SECRET)
        });
        let mut model = SimAccount::new("", "");
        model.lifetime(Duration::from_secs(8));
        world.accept_any_account(model);
        let site = Self {
            bench: Bench::new(),
            platform: Arc::new(SimPlatform::start(([127, 0, 0, 1], 0).into(), world).unwrap()),
            silent: TcpListener::bind("127.0.0.1:0").unwrap(),
            trouble,
        };
        site.bench.configure(
            &site.platform,
            &format!(
                "[accounts.shop]\nappid = '{APPID}'\nsecret = '{SECRET}'\npoll_every = '1s'\n\
                 [[accounts.shop.file]]\npath = '{{dir}}/run/shop.json'\n\
                 [[accounts.shop.socket]]\npath = '{{dir}}/run/shop.sock'\nformat = 'json'\n"
            ),
        );
        if let Some(trouble) = trouble {
            if trouble.name == "disk" {
                mount(&site.path("disk"));
            }
            let path = site.path("config.toml");
            let mut text = fs::read_to_string(&path).unwrap();
            (trouble.configure)(&mut text, &site);
            fs::write(path, text).unwrap();
        }
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bench.path(name)
    }

    fn start(&self, build: &Build) -> RunningDaemon<'_> {
        let daemon = build.spawn_with(&self.bench, |command| {
            if let Some(trouble) = self.trouble {
                (trouble.spawn)(command, self);
            }
        });
        daemon.wait_until("READY=1", || daemon.said("READY=1"));
        daemon
    }

    fn read(&self) -> Readers {
        let over = Arc::new(AtomicBool::new(false));
        let (file, socket, api) = (
            self.path("run/shop.json"),
            self.path("run/shop.sock"),
            self.bench.socket(),
        );
        let ways: [(&'static str, Read); 3] = [
            ("file", Box::new(move || fs::read_to_string(&file).ok())),
            ("socket", Box::new(move || read_socket(&socket).ok())),
            (
                "API",
                Box::new(move || Some(call(&api, "GET", "/v1/accounts/shop/token", "").ok()?.body)),
            ),
        ];
        let threads = ways.map(|(way, read)| {
            let (over, platform) = (over.clone(), self.platform.clone());
            thread::spawn(move || (way, Figures::of(&over, &platform, &*read)))
        });
        Readers { over, threads }
    }
}

impl Drop for TroubleSite {
    fn drop(&mut self) {
        if self.trouble.is_some_and(|trouble| trouble.name == "disk") {
            let _ = Command::new("umount")
                .arg("-l")
                .arg(self.path("disk"))
                .status();
        }
    }
}

struct Readers {
    over: Arc<AtomicBool>,
    threads: [JoinHandle<(&'static str, Figures)>; 3],
}

impl Readers {
    fn stop(self) -> [(&'static str, Figures); 3] {
        self.over.store(true, Ordering::Relaxed);
        self.threads.map(|thread| thread.join().unwrap())
    }
}

/// The figures of one reader.
struct Figures {
    times: Vec<Duration>,
    without_token: usize,
}

impl Figures {
    fn of(over: &AtomicBool, platform: &SimPlatform, read: &dyn Fn() -> Option<String>) -> Self {
        let (mut times, mut without_token) = (Vec::new(), 0);
        while !over.load(Ordering::Relaxed) {
            let began = Instant::now();
            let text = read();
            times.push(began.elapsed());
            let token = text.and_then(|text| {
                let json: serde_json::Value = serde_json::from_str(&text).ok()?;
                Some(json["access_token"].as_str()?.to_owned())
            });
            let is_alive =
                |token: String| platform.with(|world, now| world.probe(now, &token)).alive;
            if !token.is_some_and(is_alive) {
                without_token += 1;
            }
            thread::sleep(Duration::from_millis(2));
        }
        times.sort_unstable();
        Self {
            times,
            without_token,
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.times.len();
        let [middle, slow] = [count / 2, count * 99 / 100].map(|at| self.times[at].as_micros());
        let without = 100.0 * self.without_token as f64 / count as f64;
        write!(f, "{middle}/{slow} ({without:.1} %)")
    }
}

fn account(text: &mut String, name: &str, file: &Path) {
    let appid = name
        .bytes()
        .fold(7_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
    write!(
        text,
        "[accounts.{name}]\nappid = 'wx{appid:016x}'\nsecret = '{SECRET}'\npoll_every = '1s'\n\
         [[accounts.{name}.file]]\npath = '{}'\n",
        file.display()
    )
    .unwrap();
}

fn replace_wecom_hosts(text: &mut String, url: &str) {
    let lines = text.lines().map(|line| match line.split_once(" = ") {
        Some(("wecom_hosts", _)) => format!("wecom_hosts = ['{url}']\n"),
        _ => format!("{line}\n"),
    });
    *text = lines.collect();
}

fn wecom_accounts(text: &mut String, count: usize) {
    for n in 0..count {
        write!(
            text,
            "[accounts.corp{n}]\ncorpid = 'ww{n:016x}'\nsecret = '{SECRET}'\n"
        )
        .unwrap();
    }
}

/// Has a shell do something and then become the program.
fn by_shell(command: &mut Command, script: &str, first: &Path) {
    let mut shell = Command::new("unshare");
    shell
        .args(["--mount", "sh", "-euc", script, "sh"])
        .arg(first)
        .arg(command.get_program())
        .args(command.get_args());
    shell.env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    *command = shell;
}

fn with_silent_name_server(command: &mut Command, site: &TroubleSite) {
    let (address, _) = NAME_SERVER.split_once(':').unwrap();
    let path = site.path("resolv.conf");
    fs::write(&path, format!("nameserver {address}\n")).unwrap();
    let script = "mount --bind \"$1\" \"$(readlink -f /etc/resolv.conf)\"; shift; exec \"$@\"";
    by_shell(command, script, &path);
}

fn with_unread_stderr(command: &mut Command, site: &TroubleSite) {
    let path = site.path("stderr");
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    // A reader that never reads: without one, opening the other end would wait.
    let reader = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    std::mem::forget(reader);
    by_shell(command, "exec 2>\"$1\"; shift; exec \"$@\"", &path);
}

/// Makes a file system of its own.
fn mount(path: &Path) {
    fs::create_dir(path).unwrap();
    let image = path.with_extension("image");
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&image)
        .unwrap();
    file.set_len(32 << 20).unwrap();
    for arguments in [
        &["mkfs.ext4", "-q", "-F", image.to_str().unwrap()][..],
        &[
            "mount",
            "-o",
            "loop",
            image.to_str().unwrap(),
            path.to_str().unwrap(),
        ],
    ] {
        let status = Command::new(arguments[0])
            .args(&arguments[1..])
            .status()
            .unwrap();
        assert!(status.success(), "{arguments:?}");
    }
}

/// A file system on which every write hangs until this is dropped.
struct Frozen(PathBuf);

impl Frozen {
    fn freeze(path: &Path) -> Self {
        let status = Command::new("fsfreeze")
            .arg("--freeze")
            .arg(path)
            .status()
            .unwrap();
        assert!(status.success(), "fsfreeze");
        Self(path.to_owned())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze")
            .arg("--unfreeze")
            .arg(&self.0)
            .status();
    }
}

/// Two users who connect whenever they can, begin a request and keep the connection.
struct Attack {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Attack {
    fn begin(socket: &Path) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let attacker = |uid: u32| {
            let (over, socket) = (over.clone(), socket.to_owned());
            thread::spawn(move || {
                as_user(uid, uid, &[], || {
                    let mut held: Vec<UnixStream> = Vec::new();
                    while !over.load(Ordering::Relaxed) {
                        let connected = UnixStream::connect(&socket).and_then(|mut stream| {
                            stream
                                .write_all(b"GET /v1/accounts/shop/token?wait=300 HTTP/1.1\r\n")?;
                            Ok(stream)
                        });
                        match connected {
                            Ok(stream) if held.len() < 2000 => held.push(stream),
                            _ => {
                                held.truncate(1000);
                                thread::sleep(Duration::from_millis(20));
                            }
                        }
                    }
                });
            })
        };
        let threads = [30_001, 30_002].map(attacker).into();
        Self { over, threads }
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
