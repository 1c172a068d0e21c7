//! Compares the tokens a second that the mirror gives with nginx giving a file of the same size, both over loopback: by the
//! same clients, in turns, in one run, each request over a kept connection or over one of its own. Then the same with ten thousand
//! idle connections to the mirror. It prints and judges nothing: how fast something is depends on the host and what else it
//! does.

#![expect(clippy::print_stdout, reason = "a benchmark reports")]
#![expect(clippy::cast_precision_loss, reason = "counts are small")]

#[path = "../common/mod.rs"]
mod common;

use common::{Bench, RunningDaemon};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use wxtokend::sim::{SimPlatform, World};

/// Short and many: what else the host does hits both servers alike.
const ROUNDS: usize = 25;
const ROUND: Duration = Duration::from_millis(200);
const IDLE: usize = 10_000;
const APPID: &str = "wx0123456789abcdef";
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const KEY: &str = "fedcba9876543210fedcba9876543210";

type BenchResult<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> BenchResult<()> {
    allow_many_files()?;
    let bench = Bench::new();
    let platform = platform()?;
    let port = free_address()?;
    let daemon = start_daemon(&bench, &platform, port);
    let mirror = Contestant::new("mirror", daemon.pid(), port)?;
    let (nginx, mut process) = start_nginx(&bench, &mirror.body()?)?;
    let both = [&mirror, &nginx];
    place(both)?;
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
fn start_nginx(bench: &Bench, body: &[u8]) -> BenchResult<(Contestant, Child)> {
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
    let nginx = Contestant::new("nginx", Pid::from_child(&process), at)?;
    Ok((nginx, process))
}

/// A server that answers one request, always alike.
struct Contestant {
    name: &'static str,
    process: Pid,
    address: SocketAddr,
    kept: String,
    once: String,
    /// The length of an answer over a connection that is kept, in bytes.
    length: usize,
}

impl Contestant {
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

    /// The processor time of all its threads.
    fn processor_time(&self) -> BenchResult<Duration> {
        let mut sum = 0;
        for task in tasks(self.process)? {
            let path = Path::new("/proc").join(task.to_string()).join("schedstat");
            let times = std::fs::read_to_string(path)?;
            sum += times.split(' ').next().ok_or("no time")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(sum))
    }
}

/// The threads of a process.
fn tasks(process: Pid) -> BenchResult<Vec<i32>> {
    let directory = format!("/proc/{}/task", process.as_raw_nonzero());
    let mut tasks = Vec::new();
    for task in std::fs::read_dir(directory)? {
        tasks.push(task?.file_name().to_string_lossy().parse()?);
    }
    Ok(tasks)
}

/// Gives the servers, of which one is at work at a time, the first processor, and the clients all others: so nothing
/// depends on where the scheduler happens to put them.
fn place(servers: [&Contestant; 2]) -> BenchResult<()> {
    let processors = thread::available_parallelism()?.get();
    if processors == 1 {
        return Ok(());
    }
    let mut first = CpuSet::new();
    first.set(0);
    for server in servers {
        for task in tasks(server.process)? {
            sched_setaffinity(Pid::from_raw(task), &first)?;
        }
    }
    let mut others = CpuSet::new();
    (1..processors).for_each(|processor| others.set(processor));
    Ok(sched_setaffinity(None, &others)?)
}

/// The figures of one round.
struct RoundFigures {
    /// Requests a second.
    rate: f64,
    /// The time in which all but a hundredth of them are answered.
    slow: Duration,
    /// The processor time of the server for each.
    cost: Duration,
}

/// The rates of both, in turns. Prints how many times that of the second the first one's is: what else the host does hits
/// two rounds in a row alike.
fn compare(servers: [&Contestant; 2], clients: usize, keep: bool) -> BenchResult<()> {
    let mut rounds = servers.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (server, rounds) in servers.iter().zip(&mut rounds) {
            rounds.push(round(server, clients, keep)?);
        }
    }
    let pairs = rounds[0].iter().zip(&rounds[1]);
    let mut ratios: Vec<f64> = pairs
        .map(|(ours, theirs)| ours.rate / theirs.rate)
        .collect();
    ratios.sort_by(f64::total_cmp);
    let medians = rounds.map(|mut rounds| {
        rounds.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        rounds.swap_remove(ROUNDS / 2)
    });
    let how = if keep {
        "connections kept"
    } else {
        "connections new"
    };
    print!("{clients:>2} clients, {how}:");
    for (server, RoundFigures { rate, slow, cost }) in servers.iter().zip(&medians) {
        let [slow, cost] = [slow, cost].map(Duration::as_micros);
        print!("  {} {rate:>6.0}/s {slow:>5} µs {cost:>3} µs", server.name);
    }
    println!("  {:.0} % of nginx", ratios[ROUNDS / 2] * 100.0);
    Ok(())
}

fn round(server: &Contestant, clients: usize, keep: bool) -> BenchResult<RoundFigures> {
    let is_over = AtomicBool::new(false);
    let (start, before) = (Instant::now(), server.processor_time()?);
    let mut times = thread::scope(|scope| {
        let ask = || ask_until(&is_over, server, keep);
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(ask)).collect();
        thread::sleep(ROUND);
        is_over.store(true, Ordering::Relaxed);
        let ended = clients.into_iter().map(thread::ScopedJoinHandle::join);
        ended
            .map(|times| times.map_err(|_| "a client panicked")?)
            .collect::<BenchResult<Vec<_>>>()
    })?
    .concat();
    times.sort_unstable();
    Ok(RoundFigures {
        rate: times.len() as f64 / start.elapsed().as_secs_f64(),
        slow: times[times.len() * 99 / 100],
        cost: server
            .processor_time()?
            .saturating_sub(before)
            .div_f64(times.len() as f64),
    })
}

fn ask_until(is_over: &AtomicBool, server: &Contestant, keep: bool) -> BenchResult<Vec<Duration>> {
    let mut times = Vec::new();
    let mut kept = TcpStream::connect(server.address)?;
    let mut answer = vec![0; server.length];
    while !is_over.load(Ordering::Relaxed) {
        let start = Instant::now();
        if keep {
            kept.write_all(server.kept.as_bytes())?;
            kept.read_exact(&mut answer)?;
        } else {
            answer = server.ask()?;
        }
        times.push(start.elapsed());
        if !answer.starts_with(b"HTTP/1.1 200") || !answer.ends_with(b"}") {
            return Err(format!("{} gave something else", server.name).into());
        }
    }
    Ok(times)
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
