//! A service manager that listens at `$NOTIFY_SOCKET` and remembers.

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

/// One datagram.
pub struct Message {
    pub at: Instant,
    pub text: String,
    pub fds: Vec<OwnedFd>,
}

impl Message {
    /// Returns whether it has a line such as `READY=1`.
    pub fn has(&self, line: &str) -> bool {
        self.text.lines().any(|each| each == line)
    }
}

/// The fake service manager.
pub struct Manager {
    path: PathBuf,
    messages: Arc<Mutex<Vec<Message>>>,
    thread: Option<JoinHandle<()>>,
}

impl Manager {
    /// Listens at a path that everyone may send to.
    pub fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
        let messages = Arc::new(Mutex::new(Vec::new()));
        let kept = messages.clone();
        let thread = std::thread::spawn(move || {
            while let Some(message) = receive(&socket) {
                kept.lock().unwrap().push(message);
            }
        });
        Self {
            path: path.into(),
            messages,
            thread: Some(thread),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Datagrams that came so far.
    pub fn count(&self) -> usize {
        self.messages.lock().unwrap().len()
    }

    /// Returns whether any datagram after the first `before` has a line.
    pub fn said_since(&self, before: usize, line: &str) -> bool {
        self.with(|messages| messages[before..].iter().any(|message| message.has(line)))
    }

    /// The last `STATUS=`.
    pub fn status(&self) -> Option<String> {
        self.with(|messages| {
            let lines = messages
                .iter()
                .rev()
                .flat_map(|message| message.text.lines());
            lines
                .filter_map(|line| line.strip_prefix("STATUS="))
                .map(Into::into)
                .next()
        })
    }

    /// Looks at all datagrams, the oldest first.
    pub fn with<T>(&self, f: impl FnOnce(&mut Vec<Message>) -> T) -> T {
        f(&mut self.messages.lock().unwrap())
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // An empty datagram ends the thread.
        let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to(b"", &self.path));
        if let (Ok(_), Some(thread)) = (sent, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

fn receive(socket: &UnixDatagram) -> Option<Message> {
    let mut bytes = [0; 8192];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let parts = &mut [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(socket, parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC);
    let length = received.unwrap().bytes;
    let fds = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds = fds.flatten().collect();
    (length > 0).then(|| Message {
        at: Instant::now(),
        text: String::from_utf8_lossy(&bytes[..length]).into_owned(),
        fds,
    })
}
