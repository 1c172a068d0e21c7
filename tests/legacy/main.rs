//! Apps as they are out there, on real PHP, Mono, .NET and a real web server, as other Unix users, while tokens rotate
//! and the daemon is reloaded and restarted. The programs are the examples that are shipped.
//!
//! Needs root and the runtimes; without them it says so and tests nothing, or fails where `CI` is set.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test panics and reports"
)]

mod answers;
mod apps;
#[path = "../common/mod.rs"]
mod common;
mod csharp;
mod database;
mod fallback;
#[path = "../common/port.rs"]
mod port;
mod reader;
mod rotation;
mod web;

use common::{Bench, RunningDaemon, call};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use wxtokend::sim::{SimPlatform, World};

/// The zone of daemon and apps: one that shows whether they mean it.
const ZONE: (&str, &str) = ("TZ", "Asia/Shanghai");

/// Returns whether a test can run here. If not, it says so on the terminal, past the capture of tests.
fn can_run(test: &str) -> bool {
    let mut missing: Vec<&str> = ["php", "nginx", "mcs", "mono", "curl", "sqlite3"]
        .into_iter()
        .filter(|program| {
            let found =
                ["/usr/bin", "/usr/sbin", "/bin"].map(|dir| Path::new(dir).join(program).exists());
            !found.contains(&true)
        })
        .collect();
    if web::php_fpm().is_none() {
        missing.push("php-fpm");
    }
    missing.extend(csharp::missing());
    if !nix::unistd::geteuid().is_root() {
        missing.push("root");
    }
    if missing.is_empty() {
        return true;
    }
    let message = format!(
        "SKIPPED 1 test: legacy::{test} lacks {}\n",
        missing.join(", ")
    );
    assert!(std::env::var_os("CI").is_none(), "{message}");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), message.as_bytes());
    false
}

/// A bench with the binary, the examples and the templates where every user can use them, and a platform beside it.
struct LegacyStage {
    bench: Bench,
    platform: Arc<SimPlatform>,
}

impl LegacyStage {
    fn new(world: World) -> Self {
        let platform = Arc::new(SimPlatform::start(([127, 0, 0, 1], 0).into(), world).unwrap());
        let stage = Self {
            bench: Bench::new(),
            platform,
        };
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        stage.bring(Path::new(env!("CARGO_BIN_EXE_wxtokend")));
        for source in [
            "packaging/examples/php",
            "packaging/examples/shell",
            "packaging/examples/database",
            "packaging/templates",
            "tests/legacy",
        ] {
            for entry in fs::read_dir(repository.join(source)).unwrap() {
                stage.bring(&entry.unwrap().path());
            }
        }
        stage
    }

    fn bring(&self, file: &Path) {
        let copy = self.path(file.file_name().unwrap().to_str().unwrap());
        // By another process: what a thread of ours has open for writing, another may be about to hand to its child, and
        // then it cannot be run.
        common::output_of(Command::new("cp").arg(file).arg(&copy));
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bench.path(name)
    }

    /// The text with the directory of outputs in the place of `OUT`.
    fn expand(&self, text: &str) -> String {
        text.replace("OUT", self.path("run").to_str().unwrap())
    }

    /// Writes the configuration: these accounts, on this platform.
    fn configure(&self, accounts: &str) {
        self.bench.configure(&self.platform, &self.expand(accounts));
    }

    /// Starts the daemon and waits until it is ready.
    fn start(&self) -> RunningDaemon<'_> {
        let daemon = self.bench.spawn_with(|command| {
            command.env(ZONE.0, ZONE.1);
        });
        daemon.wait_until("READY=1", || daemon.said("READY=1"));
        // READY does not wait for a platform that takes its time.
        daemon.wait_until("a token for every account", || {
            let accounts = call(&self.bench.socket(), "GET", "/v1/accounts", "")
                .unwrap()
                .json();
            let accounts = accounts["accounts"].as_array().unwrap();
            accounts.iter().all(|account| account["state"] == "fresh")
        });
        daemon
    }

    /// A program that runs where the outputs are.
    fn program(&self, name: &str) -> Command {
        let path = format!("{}:/usr/bin:/bin", self.path("").display());
        let mut command = Command::new(name);
        command
            .env_clear()
            .env("PATH", path)
            .env(ZONE.0, ZONE.1)
            .current_dir(self.path("run"));
        command
    }

    /// An example in PHP, in a loop.
    fn php(&self, example: &str, expression: &str) -> Command {
        let mut command = self.program("php");
        command
            .arg(self.path("loop.php"))
            .arg(self.path(example))
            .arg(self.expand(expression));
        command
    }

    /// A line of shell, in a loop.
    fn shell(&self, line: &str) -> Command {
        let line = self.expand(line);
        let mut command = self.program("sh");
        command.args([
            "-c",
            &format!("while :; do {line} || echo \"! failed\"; sleep 0.1; done"),
        ]);
        command
    }
}
