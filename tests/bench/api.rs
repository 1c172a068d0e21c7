//! Tokens a second that the API gives, beside nginx giving a file of the same size and Redis giving a value of the same
//! length, all over Unix sockets: by the same clients, in turns, in one run. And how much memory a thousand idle
//! connections to it cost. It prints and judges nothing: how fast something is depends on the host and what else it
//! does.

#![expect(clippy::print_stdout, reason = "a benchmark reports")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]
#![expect(clippy::cast_precision_loss, reason = "counts are small")]

#[path = "../api/fixture.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod fixture;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Short and many: what else the host does hits all servers alike.
const ROUNDS: usize = 25;
const ROUND: Duration = Duration::from_millis(200);
const IDLE: usize = 1000;

type Anything<T> = Result<T, Box<dyn Error>>;

fn main() -> Anything<()> {
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

/// Gives the servers, of which one is at work at a time, the first processor, and the clients all others: so nothing
/// depends on where the scheduler happens to put them.
fn place(servers: &[&ServerProcess]) -> Anything<()> {
    let processors = thread::available_parallelism()?.get();
    if processors == 1 {
        return Ok(());
    }
    let mut first = CpuSet::new();
    first.set(0);
    for server in servers {
        for task in std::fs::read_dir(format!("/proc/{}/task", server.process.id()))? {
            let task = task?.file_name().to_string_lossy().parse()?;
            sched_setaffinity(Pid::from_raw(task), &first)?;
        }
    }
    let mut others = CpuSet::new();
    (1..processors).for_each(|processor| others.set(processor));
    Ok(sched_setaffinity(None, &others)?)
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// The rates of these servers, in turns. Says how many times that of the second the first one's is: what else the host
/// does hits two rounds in a row alike.
fn compare(servers: [&ServerProcess; 3], clients: usize, keep: bool) -> Anything<()> {
    let mut rounds = servers.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (server, rounds) in servers.iter().zip(&mut rounds) {
            rounds.push(round(server, clients, keep)?);
        }
    }
    let pairs = rounds[0].iter().zip(&rounds[1]);
    let ratio = median(
        pairs
            .map(|(ours, theirs)| ours.rate / theirs.rate)
            .collect(),
    );
    let medians = rounds.map(|mut rounds| {
        rounds.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        rounds.swap_remove(ROUNDS / 2)
    });
    let how = if keep {
        "a connection kept"
    } else {
        "each a connection"
    };
    print!("{clients:>2} clients, {how}:");
    for (server, Round { rate, slow, cost }) in servers.iter().zip(&medians) {
        let [slow, cost] = [slow, cost].map(Duration::as_micros);
        print!("  {} {rate:>6.0}/s {slow:>5} µs {cost:>3} µs", server.name);
    }
    println!("  {:.0} % of nginx", ratio * 100.0);
    Ok(())
}

struct Round {
    /// Requests a second.
    rate: f64,
    /// The time that all but a hundredth of them take.
    slow: Duration,
    /// Processor time of the server for each.
    cost: Duration,
}

/// One round of this many clients at once.
fn round(server: &ServerProcess, clients: usize, keep: bool) -> Anything<Round> {
    let is_over = AtomicBool::new(false);
    let ask = || ask_until(&is_over, server, keep).map_err(|error| error.to_string());
    let (start, before) = (Instant::now(), server.processor_time()?);
    let mut times = thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(ask)).collect();
        thread::sleep(ROUND);
        is_over.store(true, Ordering::Relaxed);
        let ended = clients.into_iter().map(|client| client.join().unwrap());
        ended.collect::<Result<Vec<_>, _>>()
    })?
    .concat();
    times.sort_unstable();
    Ok(Round {
        rate: times.len() as f64 / start.elapsed().as_secs_f64(),
        slow: times[times.len() * 99 / 100],
        cost: server
            .processor_time()?
            .saturating_sub(before)
            .div_f64(times.len() as f64),
    })
}

fn ask_until(is_over: &AtomicBool, server: &ServerProcess, keep: bool) -> Anything<Vec<Duration>> {
    let token = token();
    let mut times = Vec::new();
    let connect = || UnixStream::connect(&server.socket);
    let mut kept = keep.then(connect).transpose()?;
    let mut answer = vec![0; server.length];
    while !is_over.load(Ordering::Relaxed) {
        let start = Instant::now();
        let stream = match &mut kept {
            Some(stream) => stream,
            None => &mut connect()?,
        };
        stream.write_all(&server.request)?;
        stream.read_exact(&mut answer)?;
        times.push(start.elapsed());
        if !answer
            .windows(token.len())
            .rev()
            .any(|bytes| bytes == token.as_bytes())
        {
            return Err(format!("{} gave something else", server.name).into());
        }
    }
    Ok(times)
}

/// The memory of this many connections that say nothing, or nothing more after one request.
fn memory(daemon: &ServerProcess, after_a_request: bool) -> Anything<()> {
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
    ) -> Anything<Self> {
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
    fn answer(&self) -> Anything<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.write_all(&self.request)?;
        let mut answer = Vec::new();
        // Ends with the time-out.
        let _ = stream.read_to_end(&mut answer);
        Ok(answer)
    }

    fn body(&self) -> Anything<Vec<u8>> {
        let answer = String::from_utf8(self.answer()?)?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        Ok(body.as_bytes().to_owned())
    }

    fn daemon() -> Anything<Self> {
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

    fn nginx(directory: &Path, body: &[u8]) -> Anything<Self> {
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

    fn redis(directory: &Path) -> Anything<Self> {
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

    /// Of all its threads.
    fn processor_time(&self) -> Anything<Duration> {
        let mut sum = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let times = std::fs::read_to_string(task?.path().join("schedstat"))?;
            sum += times.split(' ').next().ok_or("no time")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(sum))
    }

    /// Memory, kilobytes.
    fn resident(&self) -> Anything<i64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        Ok(line
            .ok_or("no VmRSS")?
            .trim()
            .trim_end_matches(" kB")
            .parse()?)
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
