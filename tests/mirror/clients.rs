//! Real SDKs and the programs of the guide, each with its base URL changed and nothing else, through rotations, a reload,
//! a restart and an outage of the platform.

use crate::common::{PATIENCE, wait_until};
use crate::fixture::{BLOG, SHOP, Stage, entry};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wxtokend::sim::SimPlatform;

/// Packages of `PyPI` and npm, as `tests/run` installs them.
const PACKAGES: &str = "target/clients";
const LIFE: Duration = Duration::from_secs(40);
/// A value that ended so shortly before its line was read was alive when it was used, in milliseconds: programs and their
/// reader wait for a processor.
const ON_THE_WAY: i64 = 3000;
/// A failure of the time when nobody listened is read so much later at most.
const LATE: Duration = Duration::from_secs(15);

/// The lines that a program printed so far.
#[derive(Debug, Default)]
struct SeenByClient {
    lines: usize,
    /// Different first values.
    tokens: BTreeSet<String>,
    /// The platform's words on values that were dead.
    dead: Vec<String>,
    failures: Vec<(Instant, String)>,
}

/// A program that uses its token again and again, and prints it each time, or `! why`.
struct ClientApp {
    name: &'static str,
    child: Child,
    seen: Arc<Mutex<SeenByClient>>,
    thread: Option<JoinHandle<()>>,
}

impl ClientApp {
    fn start(name: &'static str, mut command: Command, platform: &Arc<SimPlatform>) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{name}: {error}"));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let seen = Arc::<Mutex<SeenByClient>>::default();
        let (theirs, platform) = (seen.clone(), platform.clone());
        let thread = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let truths: Vec<_> = line
                    .split(' ')
                    .map(|value| platform.with(|world, now| world.probe(now, value)))
                    .collect();
                let mut seen = theirs.lock().unwrap();
                seen.lines += 1;
                if line.starts_with('!') {
                    seen.failures.push((Instant::now(), line));
                    continue;
                }
                for truth in truths {
                    let was_alive = truth.ended_ms_ago.is_some_and(|ago| ago < ON_THE_WAY);
                    if !truth.alive && !was_alive {
                        seen.dead.push(format!("{truth:?}"));
                    }
                }
                let token = line.split(' ').next().unwrap().to_owned();
                seen.tokens.insert(token);
            }
        });
        Self {
            name,
            child,
            seen,
            thread: Some(thread),
        }
    }

    fn tokens(&self) -> usize {
        self.seen.lock().unwrap().tokens.len()
    }

    fn lines(&self) -> usize {
        self.seen.lock().unwrap().lines
    }

    /// For a failed test.
    fn story(&self) -> String {
        let seen = self.seen.lock().unwrap();
        let last = seen.failures.last().map(|(_, why)| why.as_str());
        format!(
            "{}: {} lines, {} tokens, last failure {last:?}",
            self.name,
            seen.lines,
            seen.tokens.len()
        )
    }
}

impl Drop for ClientApp {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Tells whether a test can run here. If not, it says so on the terminal, past the capture of tests.
fn can_run(test: &str) -> bool {
    let programs = ["node", "php", "mcs", "mono", "curl"].map(|name| ("/usr/bin", name));
    let packages = [
        ("target/clients/py", "wechatpy"),
        ("target/clients/node/node_modules", "co-wechat-api"),
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let missing: Vec<_> = (programs.iter().chain(&packages))
        .filter(|(directory, name)| !root.join(directory).join(name).exists())
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() {
        return true;
    }
    let message = format!(
        "SKIPPED 1 test: mirror::{test} lacks {}\n",
        missing.join(", ")
    );
    assert!(std::env::var_os("CI").is_none(), "{message}");
    let _ = std::io::stderr().write_all(message.as_bytes());
    false
}

fn client(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/mirror/clients").join(name)
}

fn example(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("packaging/examples").join(name)
}

/// A Node program that finds the packages: their directory is beside it.
fn node(stage: &Stage, name: &str) -> Command {
    let (program, packages) = (stage.bench.path(name), stage.bench.path("node_modules"));
    std::fs::copy(client(name), &program).unwrap();
    if !packages.exists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let installed = root.join(PACKAGES).join("node/node_modules");
        std::os::unix::fs::symlink(installed, packages).unwrap();
    }
    let mut command = Command::new("node");
    command.arg(program);
    command
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story")]
fn sdks_with_another_base_url_always_hold_living_tokens() {
    if !can_run("sdks_with_another_base_url_always_hold_living_tokens") {
        return;
    }
    let stage = Stage::new(LIFE);
    let exe = stage.bench.path("loop.exe");
    let compiled = Command::new("mcs")
        .arg(format!("-out:{}", exe.display()))
        .args([example("csharp/MirrorToken.cs"), client("Loop.cs")])
        .status();
    assert!(compiled.unwrap().success());
    let base = format!("http://{}", stage.address);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = |name: &str| stage.bench.path(name).display().to_string();
    let with = |mut command: Command, args: &[&str]| {
        command.args(args);
        command
    };
    let program = |name: &str, arg: PathBuf| {
        let mut command = Command::new(name);
        command.arg(arg);
        command
    };
    let key = |account: &str, app: &str| format!("key-of-{app}-at-{account}-00000000");
    let mut wechatpy = program("python3", client("wechatpy_loop.py"));
    wechatpy.env("PYTHONPATH", root.join(PACKAGES).join("py"));
    // Each with the account that it asks for, and the seconds that it takes off.
    let apps: Vec<(&'static str, &str, &str, Command)> = vec![
        (
            "wechatpy",
            "shop",
            "{ access_token = 60, jsapi_ticket = 0 }",
            with(wechatpy, &[&base, SHOP, &key("shop", "wechatpy")]),
        ),
        (
            "co-wechat-api",
            "shop",
            "10",
            with(
                node(&stage, "co_wechat_api.js"),
                &[&base, SHOP, &key("shop", "co-wechat-api")],
            ),
        ),
        (
            "node-easywechat",
            "shop",
            "0",
            with(
                node(&stage, "node_easywechat.js"),
                &[
                    &base,
                    SHOP,
                    &key("shop", "node-easywechat"),
                    "stable",
                    &path("cache-1"),
                ],
            ),
        ),
        (
            "node-easywechat-classic",
            "blog",
            "0",
            with(
                node(&stage, "node_easywechat.js"),
                &[
                    &base,
                    BLOG,
                    &key("blog", "node-easywechat-classic"),
                    "classic",
                    &path("cache-2"),
                ],
            ),
        ),
        (
            "curl",
            "blog",
            "0",
            with(
                program("sh", client("loop.sh")),
                &[&base, BLOG, &key("blog", "curl")],
            ),
        ),
        (
            "php",
            "shop",
            "0",
            with(
                program("php", client("loop.php")),
                &[
                    example("php/mirror.php").to_str().unwrap(),
                    &base,
                    SHOP,
                    &key("shop", "php"),
                    &path("php-cache"),
                ],
            ),
        ),
        (
            "csharp",
            "blog",
            "0",
            with(
                program("mono", exe.clone()),
                &[&base, BLOG, &key("blog", "csharp")],
            ),
        ),
    ];
    let configure = |poll: &str| {
        let keys = format!("poll_every = \"{poll}\"");
        let text = stage.text(&keys, "0");
        let mut text = text.replace(
            "method = \"classic\"",
            "method = \"classic\"\ntickets = [\"jsapi\"]",
        );
        for (name, account, margin, _) in &apps {
            stage
                .bench
                .secret(&format!("{account}-{name}"), &key(account, name));
            text += &entry(account, name, margin);
        }
        stage.write(&text);
    };
    configure("5s");
    let daemon = stage.start();
    configure("6s");
    let apps: Vec<ClientApp> = apps
        .into_iter()
        .map(|(name, _, _, command)| ClientApp::start(name, command, &stage.platform))
        .collect();
    let story = || {
        apps.iter()
            .map(ClientApp::story)
            .collect::<Vec<_>>()
            .join("\n")
    };
    let all = |what: &str, holds: &dyn Fn(&ClientApp) -> bool| {
        wait_until(what, 6 * LIFE, story, || apps.iter().all(holds));
    };
    let more_lines = |what: &str| {
        let before: Vec<_> = apps.iter().map(ClientApp::lines).collect();
        wait_until(what, PATIENCE, story, || {
            apps.iter()
                .zip(&before)
                .all(|(app, before)| app.lines() > before + 5)
        });
    };
    all("a second token each", &|app| app.tokens() >= 2);
    daemon.reload();
    more_lines("uses after the reload");
    // An outage of the platform, shorter than what is left of the tokens.
    stage.platform.stop();
    more_lines("uses during an outage");
    stage.platform.restart().unwrap();
    let tokens = apps.iter().map(ClientApp::tokens).max().unwrap();
    all("another token after the outage", &|app| {
        app.tokens() > tokens.min(2)
    });
    // A restart: nobody listens for a moment.
    let down = Instant::now();
    assert_eq!(daemon.terminate().code(), Some(0));
    let daemon = stage.start();
    let up = Instant::now() + LATE;
    more_lines("uses after the restart");
    all("a fourth token each", &|app| app.tokens() >= 4);
    for app in &apps {
        let seen = app.seen.lock().unwrap();
        let dead = seen.dead.first();
        assert!(
            dead.is_none(),
            "{}: {} times {dead:?}",
            app.name,
            seen.dead.len()
        );
        let unexpected = (seen.failures.iter()).find(|(at, _)| *at < down || *at > up);
        assert!(unexpected.is_none(), "{}: {unexpected:?}", app.name);
    }
    drop(apps);
    let log = daemon.log_with(&["shop: `wechatpy` reads jsapi_ticket from the mirror"]);
    assert!(!log.contains("key-of-"), "{log}");
    daemon.terminate();
}
