//! Servers of databases, each with a directory, a port and a socket of its own.

use crate::bench::{NOBODY, PATIENCE, is_root};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that is killed when dropped.
pub struct BackendProcess(Option<Child>);

impl BackendProcess {
    pub fn spawn(command: &mut Command, log: &Path) -> Self {
        let open = || {
            fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(log)
                .unwrap()
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(open())
            .stderr(open())
            .spawn();
        Self(Some(
            child.unwrap_or_else(|error| panic!("{command:?}: {error}")),
        ))
    }

    /// Gives it text on its standard input, which stays open.
    pub fn spawn_with_input(command: &mut Command, input: &str) -> Self {
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.unwrap();
        let stdin = child.stdin.as_mut().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        Self(Some(child))
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn has_ended(&mut self) -> bool {
        let status = self.0.as_mut().map(|child| child.try_wait().unwrap());
        status.is_none_or(|status| status.is_some())
    }

    pub fn id(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }
}

impl Drop for BackendProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn signal_all(processes: &[u32], signal: Signal) {
    for id in processes {
        let id = Pid::from_raw(i32::try_from(*id).unwrap()).unwrap();
        kill_process(id, signal).unwrap();
    }
}

/// Waits until a condition holds.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    until_all(what, 1, || usize::from(condition()));
}

/// Waits until a count is reached, for as long as it grows.
pub fn until_all(what: &str, goal: usize, mut count: impl FnMut() -> usize) {
    let (mut best, mut since) = (0, Instant::now());
    loop {
        let counted = count();
        if counted >= goal {
            return;
        }
        if counted > best {
            (best, since) = (counted, Instant::now());
        }
        assert!(
            since.elapsed() < PATIENCE,
            "{what}: {best} of {goal}, and no more within {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// `sqlite3` on a database. It waits for whoever has it locked.
pub fn sqlite3(database: &Path) -> Command {
    let mut command = Command::new("sqlite3");
    command.args(["-cmd", ".timeout 60000"]).arg(database);
    command
}

/// The answer of `sqlite3` to a statement.
pub fn sqlite(database: &Path, sql: &str) -> String {
    run(sqlite3(database).arg(sql)).trim().to_owned()
}

/// Tells whether programs of Debian packages are there. In CI they have to be.
pub fn have(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| !find(program).exists());
    if let Some(missing) = missing {
        skip(missing);
    }
    missing.is_none()
}

/// Tells whether a file that `tests/run` installs is there, below `root` or absolute. In CI it has to be.
pub fn have_file(path: &str) -> bool {
    let is_there = root().join(path).exists();
    if !is_there {
        skip(path);
    }
    is_there
}

/// The directory of the project.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Prints on the terminal, past the capture of tests, that a test is skipped; `tests/run` counts the line. With `CI` set
/// that is a failure.
fn skip(missing: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let message = format!("SKIPPED 1 test: feed::{test} lacks {missing}: see tests/run\n");
    assert!(std::env::var_os("CI").is_none(), "{message}");
    // If the terminal is gone, there is nobody to tell.
    let _ = std::io::stderr().write_all(message.as_bytes());
}

pub fn find(program: &str) -> PathBuf {
    let directories = [
        "/usr/sbin",
        "/usr/bin",
        "/usr/lib/postgresql/15/bin",
        "/usr/lib/postgresql/17/bin",
    ];
    let found = directories
        .iter()
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.exists());
    found.unwrap_or_else(|| program.into())
}

/// Makes the command another user's, where that can be done.
pub fn as_nobody(command: &mut Command) -> &mut Command {
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// The standard output of a command, which has to succeed.
pub fn run(command: &mut Command) -> String {
    try_run(command).unwrap_or_else(|errors| panic!("{command:?}: {errors}"))
}

/// The same of a command that is run again for as long as it fails with these words.
pub fn run_again_on(words: &str, mut command: impl FnMut() -> Command) -> String {
    let mut output = String::new();
    until(words, || {
        let mut command = command();
        match try_run(&mut command) {
            Ok(text) => output = text,
            Err(errors) if errors.contains(words) => return false,
            Err(errors) => panic!("{command:?}: {errors}"),
        }
        true
    });
    output
}

/// The standard output of a command, or its standard error if it fails.
fn try_run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

/// Makes a certificate authority `ca.pem`, and `server.pem` and `server.key` for 127.0.0.1 and localhost.
pub fn certificates(directory: &Path) {
    let openssl = |arguments: &str| {
        run(Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(directory));
    };
    fs::write(
        directory.join("san"),
        "subjectAltName=IP:127.0.0.1,DNS:localhost\n",
    )
    .unwrap();
    openssl(
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=ca \
         -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign",
    );
    openssl("req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost");
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 30 -extfile san",
    );
}
