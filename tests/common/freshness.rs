//! Readers that read all the time, and ask the platform whether what they got was alive.

use super::{PATIENCE, wait_until};
use serde_json::Value as Json;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use wxtokend::sim::SimPlatform;

/// The content of an output as an app reads it.
pub struct Reading {
    pub value: String,
    /// Unix seconds, where the format has it.
    pub expire_time: Option<u64>,
}

/// A parser of an app; `None` for what it cannot read.
pub type Parse = fn(&str) -> Option<Reading>;

/// Reads the `json` format of any value.
pub fn json(text: &str) -> Option<Reading> {
    let json: Json = serde_json::from_str(text).ok()?;
    let names = [
        "access_token",
        "jsapi_ticket",
        "wx_card_ticket",
        "agent_ticket",
    ];
    let value = names.iter().find_map(|name| json.get(name))?.as_str()?;
    Some(Reading {
        value: value.into(),
        expire_time: Some(json.get("expire_time")?.as_u64()?),
    })
}

/// Reads the `raw` format. A cut value is one that the platform does not know: dead.
pub fn raw(text: &str) -> Option<Reading> {
    text.bytes()
        .all(|byte| byte.is_ascii_graphic())
        .then(|| Reading {
            value: text.into(),
            expire_time: None,
        })
}

/// The output that an app reads.
#[derive(Clone)]
pub enum ReadFrom {
    File(PathBuf, Parse),
    Socket(PathBuf, Parse),
}

/// The findings of readers. A value counts as dead if it had ended before they began to read: to the millisecond, and to the
/// pauses of the machine.
#[derive(Debug, Default)]
pub struct Findings {
    pub reads: usize,
    /// Different values, all of them seen alive: a hash of each.
    pub values: HashSet<u64>,
    pub dead: usize,
    /// Those of the dead ones whose own `expire_time` was past too: an app takes none of them. A machine that stalls keeps the
    /// daemon from taking them away in time.
    pub overdue: usize,
    /// The longest that one had ended by itself, milliseconds.
    pub overdue_ms: i64,
    /// No file, or nobody listens.
    pub missing: usize,
    pub empty: usize,
    /// Not in the format.
    pub partial: usize,
    /// Its `expire_time` was past: an app would have fetched by itself.
    pub looks_expired: usize,
    /// Anything else; the first of each thread says what it was.
    pub errors: usize,
    /// The first trouble of each reader, without the value.
    pub first: Vec<String>,
}

impl Findings {
    fn trouble(&mut self, count: impl Fn(&mut Self) -> &mut usize, what: String) {
        *count(self) += 1;
        if self.first.is_empty() {
            self.first.push(what);
        }
    }

    fn add(&mut self, other: Self) {
        self.reads += other.reads;
        self.values.extend(other.values);
        self.dead += other.dead;
        self.overdue += other.overdue;
        self.overdue_ms = self.overdue_ms.max(other.overdue_ms);
        self.missing += other.missing;
        self.empty += other.empty;
        self.partial += other.partial;
        self.looks_expired += other.looks_expired;
        self.errors += other.errors;
        self.first.extend(other.first);
    }

    /// Values that were dead although the file that held them said that they live.
    pub fn misled(&self) -> usize {
        self.dead - self.overdue
    }

    /// Panics unless every read gave a whole value that was alive, and values changed at least `rotations` times.
    pub fn assert_always_fresh(&self, rotations: usize) {
        let Self {
            dead,
            missing,
            empty,
            partial,
            looks_expired,
            errors,
            ..
        } = *self;
        let troubles = [dead, missing, empty, partial, looks_expired, errors];
        assert_eq!(
            troubles, [0; 6],
            "dead, missing, empty, partial, looking expired, errors in {} reads: {:#?}",
            self.reads, self.first
        );
        let values = self.values.len();
        assert!(
            values > rotations,
            "{values} values in {} reads",
            self.reads
        );
    }
}

/// Readers at work, one thread a source.
pub struct Freshness {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Findings>>,
    /// Reads that each has ended.
    rounds: Vec<Arc<AtomicUsize>>,
}

impl Freshness {
    /// Starts to read, each source about once a millisecond; each has been read once when this returns.
    pub fn watch(platform: &Arc<SimPlatform>, sources: &[ReadFrom]) -> Self {
        Self::watch_every(Duration::from_millis(1), platform, sources)
    }

    /// The same with another pause between two reads of a source.
    pub fn watch_every(pause: Duration, platform: &Arc<SimPlatform>, sources: &[ReadFrom]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds: Vec<Arc<AtomicUsize>> = sources.iter().map(|_| Arc::default()).collect();
        let reader = |(source, round): (&ReadFrom, &Arc<AtomicUsize>)| {
            let (source, platform, stop) = (source.clone(), platform.clone(), stop.clone());
            let round = round.clone();
            std::thread::spawn(move || {
                let mut findings = Findings::default();
                let mut pace = ReaderPace::new();
                while !stop.load(Ordering::Relaxed) {
                    look(&source, &platform, &mut findings, pace.next());
                    round.store(findings.reads, Ordering::Relaxed);
                    std::thread::sleep(pause);
                }
                findings
            })
        };
        let threads = sources.iter().zip(&rounds).map(reader).collect();
        let readers = Self {
            stop,
            threads,
            rounds,
        };
        readers.wait_for_rounds(1);
        readers
    }

    /// Waits until each reader has read that many times more.
    pub fn wait_for_rounds(&self, more: usize) {
        for round in &self.rounds {
            let goal = round.load(Ordering::Relaxed) + more;
            wait_until("reads", PATIENCE, String::new, || {
                round.load(Ordering::Relaxed) >= goal
            });
        }
    }

    /// Ends the readers; says what all of them saw together.
    pub fn stop(mut self) -> Findings {
        self.wait_for_rounds(1);
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Findings::default();
        for thread in std::mem::take(&mut self.threads) {
            all.add(thread.join().unwrap());
        }
        all
    }
}

impl Drop for Freshness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The beginnings of a reader's looks. A machine that stood still for a moment did so for the daemon too, which cannot take
/// away a value that ends just then.
struct ReaderPace {
    last: Instant,
    longest: Duration,
    longest_at: Instant,
}

impl ReaderPace {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            last: now,
            longest: Duration::ZERO,
            longest_at: now,
        }
    }

    /// The machine's longest pause of the last seconds, as this reader noticed it.
    fn next(&mut self) -> Duration {
        let now = Instant::now();
        let pause = now - std::mem::replace(&mut self.last, now);
        if pause >= self.longest || now - self.longest_at > Duration::from_secs(5) {
            (self.longest, self.longest_at) = (pause, now);
        }
        self.longest
    }
}

fn look(source: &ReadFrom, platform: &SimPlatform, findings: &mut Findings, stall: Duration) {
    let began = Instant::now();
    let (wall_before, wall) = (unix_seconds(Duration::ZERO), unix_seconds(2 * stall));
    let (read, path, parse) = match source {
        ReadFrom::File(path, parse) => (std::fs::read_to_string(path), path, parse),
        ReadFrom::Socket(path, parse) => (read_socket(path), path, parse),
    };
    let path = path.display();
    findings.reads += 1;
    let text = match read {
        Ok(text) => text,
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) =>
        {
            return findings.trouble(|f| &mut f.missing, format!("{path}: {error}"));
        }
        Err(error) => return findings.trouble(|f| &mut f.errors, format!("{path}: {error}")),
    };
    if text.is_empty() {
        return findings.trouble(|f| &mut f.empty, format!("{path}: empty"));
    }
    let Some(held) = parse(&text) else {
        let length = text.len();
        return findings.trouble(|f| &mut f.partial, format!("{path}: {length} odd bytes"));
    };
    if held
        .expire_time
        .is_some_and(|expire_time| expire_time < wall)
    {
        findings.trouble(|f| &mut f.looks_expired, format!("{path}: looks expired"));
    }
    let truth = platform.with(|world, now| world.probe(now, &held.value));
    let since = i64::try_from((began.elapsed() + 2 * stall).as_millis()).unwrap();
    // What ended while it was read was alive when the app asked for it.
    if truth.alive || truth.ended_ms_ago.is_some_and(|ago| ago <= since) {
        findings.values.insert(hash(&held.value));
        return;
    }
    findings.trouble(|f| &mut f.dead, format!("{path}: {truth:?}"));
    if held
        .expire_time
        .is_some_and(|expire_time| expire_time <= wall_before)
        && let Some(ago) = truth.ended_ms_ago
    {
        findings.overdue += 1;
        findings.overdue_ms = findings.overdue_ms.max(ago - since);
    }
}

/// The Unix time so long ago.
fn unix_seconds(ago: Duration) -> u64 {
    (SystemTime::now() - ago)
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn hash(value: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Reads a socket to its end, as whoever the thread is.
pub fn read_socket(path: &Path) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
