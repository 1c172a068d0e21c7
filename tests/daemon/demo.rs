//! `wxtokend demo`: it shows what it says, as any user, and leaves nothing behind.

use crate::common::{PATIENCE, call, json, read_socket, wait_until};
use crate::root::needs_root;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use tempfile::TempDir;

const STRANGER: u32 = 33;

/// A demo that runs as somebody who is nobody in particular. Killed when dropped.
struct Demo {
    child: Child,
    /// The parent of the demo's temporary directories.
    temporary: TempDir,
}

impl Demo {
    fn start(umask: &str, arguments: &str) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let out = fs::File::create(temporary.path().join("said")).unwrap();
        let program = crate::common::program().display();
        let child = Command::new("sh")
            .args([
                "-c",
                &format!("umask {umask}; exec {program} demo {arguments}"),
            ])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("TMPDIR", temporary.path())
            .uid(STRANGER)
            .gid(STRANGER)
            .stdin(Stdio::null())
            .stderr(out.try_clone().unwrap())
            .stdout(out)
            .spawn()
            .unwrap();
        Self { child, temporary }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.temporary.path().join("said")).unwrap()
    }

    fn wait_until(&self, what: &str, condition: impl FnMut() -> bool) {
        wait_until(what, PATIENCE, || self.said(), condition);
    }

    /// The directory that it made.
    fn directory(&self) -> PathBuf {
        let entries = || {
            fs::read_dir(self.temporary.path())
                .unwrap()
                .map(Result::unwrap)
        };
        self.wait_until("its directory", || entries().count() == 2);
        entries()
            .map(|entry| entry.path())
            .find(|path| path.is_dir())
            .unwrap()
    }

    fn interrupt(&mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns whether the simulated platform says that a token lives.
fn is_alive(platform: &str, token: &str) -> bool {
    let mut stream = TcpStream::connect(platform).unwrap();
    write!(
        stream,
        "GET /probe?access_token={token} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.contains("\"alive\":true")
}

/// The token in a file, if there is one.
fn token(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(json(&text).expect("a whole file").value)
}

#[test]
fn demo_shows_rotations_and_removes_everything() {
    crate::root::needs_root!();
    for umask in ["000", "077"] {
        let mut demo = Demo::start(umask, "--lifetime 12s");
        let directory = demo.directory();
        demo.wait_until("its introduction", || {
            demo.said().contains("Ctrl-C ends the demo")
        });
        let said = demo.said();
        let platform = said.split("http://").nth(1).unwrap();
        let platform = &platform[..platform
            .find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit())
            .unwrap()];
        assert_eq!(
            fs::metadata(&directory).unwrap().mode() & 0o7777,
            0o700,
            "umask {umask}"
        );
        // It is not installed, so it is named by its path.
        let (before, _) = said.split_once(" status --watch").unwrap();
        let program = before.rsplit(' ').next().unwrap();
        assert!(Path::new(program).is_absolute(), "{said}");
        assert!(Path::new(program).exists(), "{said}");
        // Each path that it tells of is there.
        let shown = said.split(|c: char| c.is_whitespace() || "'\"()".contains(c));
        let paths: Vec<_> = shown
            .map(|word| word.trim_start_matches("unix://"))
            .filter(|word| word.starts_with(directory.to_str().unwrap()))
            .collect();
        assert!(paths.len() >= 5, "{said}");
        for path in paths {
            demo.wait_until(path, || Path::new(path).exists());
        }
        for account in ["shop", "blog"] {
            let (file, socket) = (
                directory.join(account).with_extension("json"),
                directory.join(account).with_extension("sock"),
            );
            demo.wait_until("its mode", || {
                fs::metadata(&file).is_ok_and(|found| found.mode() & 0o7777 == 0o600)
            });
            // One that ends just now is replaced.
            let living = || token(&file).filter(|token| is_alive(platform, token));
            let mut first = String::new();
            demo.wait_until("a living token", || {
                living().is_some_and(|token| {
                    first = token;
                    true
                })
            });
            demo.wait_until("the same in the socket", || {
                read_socket(&socket).is_ok_and(|text| !text.is_empty())
            });
            demo.wait_until("another token", || {
                living().is_some_and(|token| token != first)
            });
            demo.wait_until("that it is told", || {
                demo.said()
                    .lines()
                    .any(|line| line.contains(account) && line.contains("replaces"))
            });
            assert!(!demo.said().contains(&first), "by its fingerprint only");
        }
        let answer = crate::common::as_user(STRANGER, STRANGER, &[], || {
            call(
                &directory.join("api.sock"),
                "GET",
                "/v1/accounts/shop/token",
                "",
            )
            .unwrap()
        });
        assert_eq!(answer.status, 200, "whoever runs it is its administrator");
        assert_eq!(demo.interrupt().code(), Some(0));
        assert!(demo.said().contains("Everything is removed."));
        assert!(!directory.exists());
    }
}

#[test]
fn demo_keeps_its_files_with_keep() {
    crate::root::needs_root!();
    let mut demo = Demo::start("022", "--lifetime 60s --keep");
    let directory = demo.directory();
    demo.wait_until("a token", || directory.join("shop.json").exists());
    assert_eq!(demo.interrupt().code(), Some(0));
    assert!(
        demo.said()
            .contains(&format!("{} is kept", directory.display()))
    );
    assert!(token(&directory.join("shop.json")).unwrap().len() > 100);
}

#[test]
fn demo_names_faults_of_its_command_line() {
    crate::root::needs_root!();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    for (arguments, said) in [
        ("--lifetime 1s", "at least 4s"),
        (&format!("--listen {taken}"), "address already in use"),
        ("--listen 192.0.2.1:80", "loopback"),
    ] {
        let mut demo = Demo::start("022", arguments);
        assert_eq!(
            demo.child.wait().unwrap().code(),
            Some(1),
            "{}",
            demo.said()
        );
        assert!(demo.said().contains(said), "{arguments}: {}", demo.said());
        let left = fs::read_dir(demo.temporary.path()).unwrap().count();
        assert_eq!(left, 1, "nothing but what it said");
    }
}

#[test]
fn demo_ends_with_its_terminal() {
    needs_root!();
    let mut demo = Demo::start("022", "");
    demo.wait_until("its introduction", || demo.said().contains("Ctrl-C ends"));
    let directory = demo.directory();
    kill_process(Pid::from_child(&demo.child), Signal::HUP).unwrap();
    let status = demo.child.wait().unwrap();
    assert_eq!(status.code(), Some(0), "{}", demo.said());
    assert!(!directory.exists());
}

#[test]
fn demo_ends_when_nobody_reads_its_output() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_wxtokend"))
        .args(["demo", "--lifetime", "4s"])
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let mut status = None;
    wait_until("its end", PATIENCE, String::new, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let mut errors = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut errors)
        .unwrap();
    assert_eq!((status.unwrap().code(), &*errors), (Some(0), ""));
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}
