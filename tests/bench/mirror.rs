//! Compares the tokens a second that the mirror gives with nginx giving a file of the same size, both over loopback: by the
//! same clients, in turns, in one run, each request over a kept connection or over one of its own. Then the same with ten thousand
//! idle connections to the mirror. It prints and judges nothing: how fast something is depends on the host and what else it
//! does.

#![expect(clippy::print_stdout, reason = "a benchmark reports")]
#![expect(clippy::cast_precision_loss, reason = "counts are small")]

#[path = "../common/mod.rs"]
mod common;
mod duel;

use common::{Bench, RunningDaemon};
use duel::{BenchResult, Contestant, compare, place};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use wxtokend::sim::{SimPlatform, World};

const IDLE: usize = 10_000;
const APPID: &str = "wx0123456789abcdef";
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const KEY: &str = "fedcba9876543210fedcba9876543210";

fn main() -> BenchResult<()> {
    allow_many_files()?;
    let bench = Bench::new();
    let platform = platform()?;
    let port = free_address()?;
    let daemon = start_daemon(&bench, &platform, port);
    let mirror = TokenServer::new("mirror", daemon.pid(), port)?;
    let (nginx, mut process) = start_nginx(&bench, &mirror.body()?)?;
    let both = [&mirror, &nginx];
    place(&both)?;
    println!(
        "requests a second, in how long 99 of 100 are answered, and what each costs the server"
    );
    for clients in [1, 4, 16] {
        for keep in [true, false] {
            compare(both, clients, keep)?;
        }
    }
    let idle = connect_idle(port)?;
    println!("with {} idle connections to the mirror:", idle.len());
    for keep in [true, false] {
        compare(both, 4, keep)?;
    }
    drop(idle);
    process.kill()?;
    process.wait()?;
    daemon.terminate();
    Ok(())
}

/// A platform whose tokens are as long as today's.
fn platform() -> BenchResult<SimPlatform> {
    let mut world = World::new();
    world.account(APPID, SECRET);
    Ok(SimPlatform::start(([127, 0, 0, 1], 0).into(), world)?)
}

fn free_address() -> BenchResult<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn start_daemon<'a>(bench: &'a Bench, platform: &SimPlatform, at: SocketAddr) -> RunningDaemon<'a> {
    bench.secret("shop", SECRET);
    bench.secret("cms", KEY);
    bench.configure(
        platform,
        &format!(
            "[mirror]\nlisten = \"{at}\"\n[accounts.shop]\nappid = \"{APPID}\"\nsecret_file = \"{{dir}}/shop\"\n\
             [[accounts.shop.mirror]]\nname = \"cms\"\nkey_file = \"{{dir}}/cms\"\n"
        ),
    );
    let daemon = bench.start();
    daemon.wait_until("the mirror listens", || TcpStream::connect(at).is_ok());
    daemon
}

/// Serves the body as a file at the path that the mirror is asked at.
fn start_nginx(bench: &Bench, body: &[u8]) -> BenchResult<(TokenServer, Child)> {
    let place = bench.path("nginx");
    std::fs::create_dir_all(place.join("cgi-bin"))?;
    std::fs::write(place.join("cgi-bin/token"), body)?;
    let (at, shown) = (free_address()?, place.display());
    let config = place.join("nginx.conf");
    std::fs::write(
        &config,
        format!(
            "user root; master_process off; daemon off; pid {shown}/pid; error_log stderr crit;
             events {{ worker_connections 16384; }}
             http {{ access_log off; sendfile on; open_file_cache max=10; keepalive_requests 1000000000;
                     default_type application/json; server {{ listen {at}; root {shown}; }} }}"
        ),
    )?;
    let mut process = Command::new("nginx").arg("-c").arg(&config).spawn()?;
    while TcpStream::connect(at).is_err() {
        if let Some(status) = process.try_wait()? {
            return Err(format!("nginx ended: {status}").into());
        }
        thread::yield_now();
    }
    let nginx = TokenServer::new("nginx", Pid::from_child(&process), at)?;
    Ok((nginx, process))
}

/// A server that answers one request, always alike.
struct TokenServer {
    name: &'static str,
    process: Pid,
    address: SocketAddr,
    kept: String,
    once: String,
    /// The length of an answer over a connection that is kept, in bytes.
    length: usize,
}

impl TokenServer {
    fn new(name: &'static str, process: Pid, address: SocketAddr) -> BenchResult<Self> {
        let request = |connection: &str| {
            format!(
                "GET /cgi-bin/token?grant_type=client_credential&appid={APPID}&secret={KEY} HTTP/1.1\r\n\
                 Host: 127.0.0.1\r\nAccept: */*\r\n{connection}\r\n"
            )
        };
        let mut this = Self {
            name,
            process,
            address,
            kept: request(""),
            once: request("Connection: close\r\n"),
            length: 0,
        };
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.write_all(this.kept.as_bytes())?;
        let mut answer = Vec::new();
        // Ends with the time-out.
        let _ = stream.read_to_end(&mut answer);
        this.length = answer.len();
        Ok(this)
    }

    fn body(&self) -> BenchResult<Vec<u8>> {
        let answer = String::from_utf8(self.ask()?)?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        if !body.contains("access_token") {
            return Err(format!("{}: no token: {body}", self.name).into());
        }
        Ok(body.as_bytes().to_owned())
    }

    /// One request over a connection of its own, which the server closes.
    fn ask(&self) -> BenchResult<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.write_all(self.once.as_bytes())?;
        let mut answer = Vec::with_capacity(self.length + 64);
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

impl Contestant for TokenServer {
    fn name(&self) -> &'static str {
        self.name
    }

    fn process(&self) -> Pid {
        self.process
    }

    fn ask_until(&self, is_over: &AtomicBool, keep: bool) -> BenchResult<Vec<Duration>> {
        let mut times = Vec::new();
        let mut kept = TcpStream::connect(self.address)?;
        let mut answer = vec![0; self.length];
        while !is_over.load(Ordering::Relaxed) {
            let start = Instant::now();
            if keep {
                kept.write_all(self.kept.as_bytes())?;
                kept.read_exact(&mut answer)?;
            } else {
                answer = self.ask()?;
            }
            times.push(start.elapsed());
            if !answer.starts_with(b"HTTP/1.1 200") || !answer.ends_with(b"}") {
                return Err(format!("{} gave something else", self.name).into());
            }
        }
        Ok(times)
    }
}

/// As many files as this process may have open.
fn allow_many_files() -> BenchResult<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let most = Rlimit {
        current: maximum,
        maximum,
    };
    Ok(setrlimit(Resource::Nofile, most)?)
}

/// Connections that say nothing. The mirror may close those for which it has no room.
fn connect_idle(at: SocketAddr) -> BenchResult<Vec<TcpStream>> {
    let idle = (0..IDLE).map(|_| TcpStream::connect(at));
    Ok(idle.collect::<Result<_, _>>()?)
}
