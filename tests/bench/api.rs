//! Tokens a second that the API gives, beside nginx giving a file of the same size and Redis giving a value of the same
//! length, all over Unix sockets: by the same clients, in turns, in one run. And how much memory a thousand idle
//! connections to it cost. It prints and judges nothing: how fast something is depends on the host and what else it
//! does.

#![expect(clippy::print_stdout, reason = "a benchmark reports")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]
#![expect(clippy::cast_precision_loss, reason = "counts are small")]

mod duel;
#[path = "../api/fixture.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod fixture;

use duel::{BenchResult, Contestant, compare, place};
use rustix::process::Pid;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const IDLE: usize = 1000;

fn main() -> BenchResult<()> {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        serve();
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let daemon = ServerProcess::daemon()?;
    let nginx = ServerProcess::nginx(directory.path(), &daemon.body()?)?;
    let redis = ServerProcess::redis(directory.path())?;
    println!(
        "requests a second, in how long 99 of 100 are answered, and what each costs the server"
    );
    let servers = [&daemon, &nginx, &redis];
    place(&servers)?;
    for clients in [1, 4, 16] {
        compare(servers, clients, false)?;
        compare(servers, clients, true)?;
    }
    memory(&daemon, false)?;
    memory(&daemon, true)
}

/// As long as today's tokens.
fn token() -> String {
    "t".repeat(157)
}

/// The memory of this many connections that say nothing, or nothing more after one request.
fn memory(daemon: &ServerProcess, after_a_request: bool) -> BenchResult<()> {
    let before = daemon.resident()?;
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        let mut stream = UnixStream::connect(&daemon.socket)?;
        if after_a_request {
            stream.write_all(&daemon.request)?;
            stream.read_exact(&mut vec![0; daemon.length])?;
        }
        idle.push(stream);
    }
    // They are accepted in order: once this one is answered, all before it are there.
    daemon.body()?;
    let each = (daemon.resident()? - before) as f64 / IDLE as f64;
    let what = if after_a_request {
        "silent after a request"
    } else {
        "silent from the start"
    };
    println!("{IDLE} connections {what}: {each:.1} kB each");
    Ok(())
}

/// A process that serves a socket until this is dropped.
struct ServerProcess {
    name: &'static str,
    process: Child,
    socket: PathBuf,
    request: Vec<u8>,
    /// Of an answer, bytes.
    length: usize,
}

impl ServerProcess {
    fn start(
        name: &'static str,
        process: Child,
        socket: PathBuf,
        request: &[u8],
    ) -> BenchResult<Self> {
        let mut server = Self {
            name,
            process,
            socket,
            request: request.to_owned(),
            length: 0,
        };
        while UnixStream::connect(&server.socket).is_err() {
            if let Some(status) = server.process.try_wait()? {
                return Err(format!("{name} ended: {status}").into());
            }
            thread::yield_now();
        }
        server.length = server.answer()?.len();
        Ok(server)
    }

    /// The answer to a request, until the server waits for the next one.
    fn answer(&self) -> BenchResult<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.write_all(&self.request)?;
        let mut answer = Vec::new();
        // Ends with the time-out.
        let _ = stream.read_to_end(&mut answer);
        Ok(answer)
    }

    fn body(&self) -> BenchResult<Vec<u8>> {
        let answer = String::from_utf8(self.answer()?)?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        Ok(body.as_bytes().to_owned())
    }

    fn daemon() -> BenchResult<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut socket = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut socket)?;
        let request = b"GET /v1/accounts/shop/token HTTP/1.1\r\nHost: x\r\n\r\n";
        Self::start("wxtokend", process, socket.trim().into(), request)
    }

    fn nginx(directory: &Path, body: &[u8]) -> BenchResult<Self> {
        std::fs::write(directory.join("token"), body)?;
        let config = directory.join("nginx.conf");
        let place = directory.display();
        std::fs::write(
            &config,
            format!(
                "user root; master_process off; daemon off; pid {place}/pid; error_log stderr crit;
                 events {{ worker_connections 4096; }}
                 http {{ access_log off; sendfile on; open_file_cache max=10; keepalive_requests 1000000000;
                         server {{ listen unix:{place}/nginx.sock; root {place}; }} }}"
            ),
        )?;
        let process = Command::new("nginx").arg("-c").arg(&config).spawn()?;
        let request = b"GET /token HTTP/1.1\r\nHost: x\r\n\r\n";
        Self::start("nginx", process, directory.join("nginx.sock"), request)
    }

    fn redis(directory: &Path) -> BenchResult<Self> {
        let socket = directory.join("redis.sock");
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()?;
        let set = format!("SET token {}\r\n", token());
        let mut server = Self::start("redis", process, socket, set.as_bytes())?;
        server.request = b"GET token\r\n".to_vec();
        server.length = server.answer()?.len();
        Ok(server)
    }

    /// Memory, kilobytes.
    fn resident(&self) -> BenchResult<i64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        Ok(line
            .ok_or("no VmRSS")?
            .trim()
            .trim_end_matches(" kB")
            .parse()?)
    }
}

impl Contestant for ServerProcess {
    fn name(&self) -> &'static str {
        self.name
    }

    fn process(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    fn ask_until(&self, is_over: &AtomicBool, keep: bool) -> BenchResult<Vec<Duration>> {
        let token = token();
        let mut times = Vec::new();
        let connect = || UnixStream::connect(&self.socket);
        let mut kept = keep.then(connect).transpose()?;
        let mut answer = vec![0; self.length];
        while !is_over.load(Ordering::Relaxed) {
            let start = Instant::now();
            let stream = match &mut kept {
                Some(stream) => stream,
                None => &mut connect()?,
            };
            stream.write_all(&self.request)?;
            stream.read_exact(&mut answer)?;
            times.push(start.elapsed());
            let mut windows = answer.windows(token.len()).rev();
            if !windows.any(|bytes| bytes == token.as_bytes()) {
                return Err(format!("{} gave something else", self.name).into());
            }
        }
        Ok(times)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // The daemon's side ends with its input, and cleans up.
        if self.process.stdin.take().is_none() {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

/// The daemon's side, until the other side ends.
fn serve() {
    let shop = fixture::account("shop", vec![]);
    shop.publish(|snapshot| snapshot.grants[0].1 = fixture::grant(&token(), 7200));
    let daemon = fixture::ApiDaemon::of_one(&shop);
    println!("{}", daemon.socket.display());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
