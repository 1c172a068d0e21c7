//! Reads a second that a token socket serves, beside the least that a C program can do (`accept.c`): by the same
//! clients, in turns, in one run; the best of twenty turns each counts, when nothing else disturbs. Fails below 70 %.

#![expect(clippy::print_stdout, reason = "a benchmark reports")]

use std::error::Error;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use wxtokend::account::{Access, Account, AccountName, Format, Output, OutputKind};
use wxtokend::api::metrics::{Metrics, ReadVia};
use wxtokend::clock;
use wxtokend::format::render;
use wxtokend::platform::wechat::STABLE;
use wxtokend::publish::socket::BoundSocket;
use wxtokend::publish::{Directories, Place, SocketServer};
use wxtokend::value::{Grant, Value, ValueName};

/// As long as today's tokens.
const LENGTH: usize = 157;
const ROUNDS: usize = 20;
const ROUND: Duration = Duration::from_millis(250);
const GOAL: f64 = 0.7;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let value = "t".repeat(LENGTH);
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("serve") {
        let path = arguments.next().ok_or("no path")?;
        return serve(Path::new(&path), &value);
    }

    let directory = tempfile::tempdir()?;
    let program = directory.path().join("accept");
    let compiled = Command::new("cc")
        .args(["-O2", "-o"])
        .arg(&program)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/accept.c"))
        .status()?;
    if !compiled.success() {
        return Err("cannot compile accept.c".into());
    }
    let (c, daemon) = (directory.path().join("c"), directory.path().join("daemon"));
    let _c = SocketProcess::start(Command::new(program).arg(&c).arg(&value), &c)?;
    let itself = std::env::current_exe()?;
    let _daemon = SocketProcess::start(Command::new(itself).arg("serve").arg(&daemon), &daemon)?;

    let mut is_fast = true;
    for clients in [1, 4, 16] {
        let (mut theirs, mut ours) = (0.0, 0.0);
        for _ in 0..ROUNDS {
            theirs = f64::max(theirs, rate(&c, clients, &value)?);
            ours = f64::max(ours, rate(&daemon, clients, &value)?);
        }
        println!(
            "{clients:>2} clients: accept-write-close in C {theirs:>7.0}/s, token socket {ours:>7.0}/s: {:.0} %",
            100.0 * ours / theirs
        );
        is_fast &= ours >= GOAL * theirs;
    }
    Ok(ExitCode::from(u8::from(!is_fast)))
}

/// Reads a second, by so many clients at once.
fn rate(path: &Path, clients: usize, value: &str) -> Result<f64, Box<dyn Error>> {
    let is_over = AtomicBool::new(false);
    let start = Instant::now();
    let reads: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|_| scope.spawn(|| read_until(&is_over, path, value)))
            .collect();
        thread::sleep(ROUND);
        is_over.store(true, Ordering::Relaxed);
        clients
            .into_iter()
            .map(|client| client.join().map_err(|_| "a client failed")?)
            .sum::<Result<usize, String>>()
    })?;
    #[expect(clippy::cast_precision_loss, reason = "a count of seconds' reads")]
    Ok(reads as f64 / start.elapsed().as_secs_f64())
}

fn read_until(is_over: &AtomicBool, path: &Path, value: &str) -> Result<usize, String> {
    let mut reads = 0;
    let mut text = Vec::with_capacity(4096);
    while !is_over.load(Ordering::Relaxed) {
        text.clear();
        UnixStream::connect(path)
            .and_then(|mut stream| stream.read_to_end(&mut text))
            .map_err(|error| error.to_string())?;
        if text != value.as_bytes() {
            return Err("not the value".into());
        }
        reads += 1;
    }
    Ok(reads)
}

/// A process that serves a socket until this is dropped.
struct SocketProcess(Child);

impl SocketProcess {
    fn start(command: &mut Command, path: &Path) -> Result<Self, Box<dyn Error>> {
        let mut server = Self(command.spawn()?);
        let read = || UnixStream::connect(path)?.read_to_end(&mut Vec::new());
        while read().is_err() {
            if let Some(status) = server.0.try_wait()? {
                return Err(format!("a server ended: {status}").into());
            }
            thread::yield_now();
        }
        Ok(server)
    }
}

impl Drop for SocketProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The daemon's side.
fn serve(path: &Path, value: &str) -> Result<ExitCode, Box<dyn Error>> {
    let name = AccountName::parse("shop").ok_or("a name")?;
    let account = Arc::new(Account {
        outputs: [Output {
            kind: OutputKind::Socket,
            path: path.into(),
            value: ValueName::AccessToken,
            format: Format::Raw,
            access: Access {
                mode: 0o600,
                owner: None,
                group: None,
                readers: [].into(),
            },
        }]
        .into(),
        ..Account::usual(name, "wx0123456789abcdef", STABLE)
    });
    let now = clock::now();
    let expires = now.at + Duration::from_secs(7200);
    let grant = Grant::new(Value::parse(value).ok_or("a value")?, now.at, expires, &now);
    let grants = [(ValueName::AccessToken, grant)];
    let rendered = render(&account, &account.outputs[0], &grants, &now)?;
    let server = SocketServer::start(Metrics::new().denied(ReadVia::Socket))?;
    let place = Arc::new(Place::new(account, 0, &Directories::new(path)));
    let _socket = BoundSocket::prepare(place, None)?.commit(rendered, &server, Arc::default())?;
    loop {
        thread::park();
    }
}
