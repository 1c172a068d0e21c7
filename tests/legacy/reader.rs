//! Apps that read in a loop as other users, each value they got put to the platform at that moment.

use nix::unistd::User;
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use wxtokend::sim::{SimPlatform, Truth};

/// A program that prints a value a line, again and again, or `! why` when it got none.
pub(crate) struct Reader {
    /// The kind of reader, in the words of the guide.
    pub(crate) name: String,
    child: Background,
    thread: Option<JoinHandle<()>>,
    shared: Arc<(Mutex<ReaderLog>, Condvar)>,
}

/// The values that a reader got.
#[derive(Default, Clone)]
pub(crate) struct ReaderLog {
    /// Values read.
    pub(crate) reads: usize,
    /// Different ones among them.
    pub(crate) distinct: HashSet<String>,
    /// The value read last.
    pub(crate) last: String,
    /// The platform's word on each that was dead, or not the one asked for.
    pub(crate) dead: Vec<Truth>,
    /// The reasons why it got none.
    pub(crate) failures: Vec<String>,
    ended: bool,
}

/// The account and the name of the value that a reader is there for.
pub(crate) type WantedValue = (&'static str, &'static str);

impl Reader {
    /// Starts `command` as `user`, with nothing but the user's own groups.
    pub(crate) fn start(
        name: impl Into<String>,
        user: &str,
        command: Command,
        (appid, kind): WantedValue,
        platform: &Arc<SimPlatform>,
    ) -> Self {
        let mut child = Background::start(user, command);
        let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        let shared = Arc::<(Mutex<ReaderLog>, Condvar)>::default();
        let (platform, theirs) = (platform.clone(), shared.clone());
        let thread = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let truth = platform.with(|world, now| world.probe(now, &line));
                let mut seen = theirs.0.lock().unwrap();
                if line.starts_with('!') {
                    seen.failures.push(line);
                } else {
                    let right = truth.account.as_deref() == Some(appid) && truth.kind == Some(kind);
                    if !right || !truth.alive {
                        seen.dead.push(truth);
                    }
                    seen.reads += 1;
                    seen.distinct.insert(line.clone());
                    seen.last = line;
                }
                theirs.1.notify_all();
            }
            theirs.0.lock().unwrap().ended = true;
            theirs.1.notify_all();
        });
        Self {
            name: name.into(),
            child,
            thread: Some(thread),
            shared,
        }
    }

    /// The values that it got so far.
    pub(crate) fn seen(&self) -> ReaderLog {
        self.shared.0.lock().unwrap().clone()
    }

    /// Waits until it got what `enough` wants to see. Panics after some minutes, or when the program ends.
    pub(crate) fn until(&self, what: &str, enough: impl Fn(&ReaderLog) -> bool) {
        let patience = Duration::from_secs(300);
        let seen = {
            let seen = self.shared.0.lock().unwrap();
            let not_yet = |seen: &mut ReaderLog| !seen.ended && !enough(seen);
            let waited = self.shared.1.wait_timeout_while(seen, patience, not_yet);
            waited.unwrap().0.clone()
        };
        assert!(
            enough(&seen),
            "{}: not {what}: {} reads, {} values, last failure {:?}",
            self.name,
            seen.reads,
            seen.distinct.len(),
            seen.failures.last(),
        );
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.child.kill();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A program that runs as another user until it is dropped.
pub(crate) struct Background(Child);

impl Background {
    /// Starts `command` as `user`, with nothing but the user's own groups.
    pub(crate) fn start(user: &str, mut command: Command) -> Self {
        let user = User::from_name(user).unwrap().expect("a user of Debian");
        let child = command
            .uid(user.uid.as_raw())
            .gid(user.gid.as_raw())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// With all that it has started, which would keep the pipe open.
    fn kill(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.kill();
    }
}
