//! A program on a terminal of its own.

use super::{PATIENCE, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread;

/// The terminal's other end: what a person sees and types. The program is killed when this is dropped.
pub struct Terminal {
    master: File,
    shown: Arc<Mutex<Vec<u8>>>,
    child: Child,
}

impl Terminal {
    /// Starts a command with a terminal that it controls.
    pub fn run(command: &Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let name = std::ffi::OsStr::from_bytes(name.to_bytes());
        // O_NOCTTY: the terminal is the child's, not ours.
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).custom_flags(0o400);
        let slave = options.open(name).unwrap();
        let end = || slave.try_clone().unwrap();
        let mut on_terminal = Command::new("setsid");
        on_terminal
            .arg("--ctty")
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear()
            .stdin(end())
            .stdout(end())
            .stderr(end());
        for (key, value) in command.get_envs() {
            if let Some(value) = value {
                on_terminal.env(key, value);
            }
        }
        let child = on_terminal.spawn().unwrap();
        drop(on_terminal);
        drop(slave);
        let master = File::from(master);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, collected) = (master.try_clone().unwrap(), shown.clone());
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // It ends with an error when the last program has left the terminal.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                collected
                    .lock()
                    .unwrap()
                    .extend_from_slice(&buffer[..count]);
            }
        });
        Self {
            master,
            shown,
            child,
        }
    }

    /// All that was shown until now.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// Waits until a text is shown for the `count`th time.
    pub fn wait_for(&self, text: &str, count: usize) {
        wait_until(
            text,
            PATIENCE,
            || self.shown(),
            || self.shown().matches(text).count() >= count,
        );
    }

    /// Waits for a question, and answers it.
    pub fn answer(&mut self, question: &str, text: &str) {
        self.wait_for(question, 1);
        self.type_keys(&format!("{text}\n"));
    }

    pub fn type_keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Returns whether the terminal shows what is typed.
    pub fn echoes(&self) -> bool {
        let modes = tcgetattr(&self.master).unwrap().local_modes;
        modes.contains(LocalModes::ECHO)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Returns whether the program is stopped, as by Ctrl-Z.
    pub fn is_stopped(&self) -> bool {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(path).unwrap();
        stat.rsplit(')').next().unwrap().starts_with(" T")
    }

    /// Waits for the end of the program.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        let (child, shown) = (&mut self.child, &self.shown);
        let show = || String::from_utf8_lossy(&shown.lock().unwrap()).into_owned();
        wait_until("the end of the program", PATIENCE, show, || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
