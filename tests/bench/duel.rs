//! Servers that are compared: the same clients ask them in turns, in one run.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Short and many: what else the host does hits all servers alike.
const ROUNDS: usize = 25;
const ROUND: Duration = Duration::from_millis(200);

pub(crate) type BenchResult<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A server that takes part.
pub(crate) trait Contestant: Sync {
    fn name(&self) -> &'static str;
    fn process(&self) -> Pid;
    /// Asks over one connection that is kept, or over one for each request. Returns how long each answer took.
    fn ask_until(&self, is_over: &AtomicBool, keep: bool) -> BenchResult<Vec<Duration>>;
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

/// The processor time of all threads of a process.
fn processor_time(process: Pid) -> BenchResult<Duration> {
    let mut sum = 0;
    for task in tasks(process)? {
        let path = Path::new("/proc").join(task.to_string()).join("schedstat");
        let times = std::fs::read_to_string(path)?;
        sum += times.split(' ').next().ok_or("no time")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(sum))
}

/// Gives the servers, of which one is at work at a time, the first processor, and the clients all others: so nothing
/// depends on where the scheduler happens to put them.
pub(crate) fn place<C: Contestant>(servers: &[&C]) -> BenchResult<()> {
    let processors = thread::available_parallelism()?.get();
    if processors == 1 {
        return Ok(());
    }
    let mut first = CpuSet::new();
    first.set(0);
    for server in servers {
        for task in tasks(server.process())? {
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

/// The rates of the servers, in turns. Prints how many times that of the second, nginx, the first one's is: what else the
/// host does hits two rounds in a row alike.
pub(crate) fn compare<C: Contestant, const N: usize>(
    servers: [&C; N],
    clients: usize,
    keep: bool,
) -> BenchResult<()> {
    let mut rounds = servers.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (server, rounds) in servers.iter().zip(&mut rounds) {
            rounds.push(round(*server, clients, keep)?);
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
    let how = if keep { "kept" } else { "new" };
    print!("{clients:>2} clients, connections {how}:");
    for (server, RoundFigures { rate, slow, cost }) in servers.iter().zip(&medians) {
        let [slow, cost] = [slow, cost].map(Duration::as_micros);
        print!(
            "  {} {rate:>6.0}/s {slow:>5} µs {cost:>3} µs",
            server.name()
        );
    }
    println!("  {:.0} % of nginx", ratios[ROUNDS / 2] * 100.0);
    Ok(())
}

fn round<C: Contestant>(server: &C, clients: usize, keep: bool) -> BenchResult<RoundFigures> {
    let is_over = AtomicBool::new(false);
    let (start, before) = (Instant::now(), processor_time(server.process())?);
    let mut times = thread::scope(|scope| {
        let ask = || server.ask_until(&is_over, keep);
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
    let took = processor_time(server.process())?.saturating_sub(before);
    Ok(RoundFigures {
        rate: times.len() as f64 / start.elapsed().as_secs_f64(),
        slow: times[times.len() * 99 / 100],
        cost: took.div_f64(times.len() as f64),
    })
}
