//! Connections that have been served, kept for a moment: to close one while something that its client sent is unread
//! would make the client see an error instead of the end.

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Time that a client may go on sending.
const MOMENT: Duration = Duration::from_secs(1);
/// Connections that are kept, all sockets together. Most clients are long gone when this many came after them.
const CAPACITY: usize = 256;
/// Limit on draining one connection, in reads of 16 KiB: more than the kernel queues for it.
const READS: usize = 32;

/// A connection that will not be written to any more. It is drained before it is closed.
#[derive(Debug)]
pub(super) struct Served {
    connection: OwnedFd,
    is_over: bool,
}

impl Served {
    pub(super) fn new(connection: OwnedFd) -> Self {
        Self {
            connection,
            is_over: false,
        }
    }

    /// Takes what the client has sent. True if no more can come, since the client has closed its end.
    fn drain(&mut self) -> bool {
        let mut ignored = [MaybeUninit::<u8>::uninit(); 16384];
        for _ in 0..READS {
            match recv(&self.connection, &mut ignored, RecvFlags::DONTWAIT) {
                Ok((_, 1..)) => {}
                Err(Errno::AGAIN) => break,
                _ => {
                    self.is_over = true;
                    break;
                }
            }
        }
        self.is_over
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if !self.is_over {
            self.drain();
        }
    }
}

/// The connections that linger, each with the end of its moment, oldest first.
#[derive(Debug, Default)]
pub(super) struct Linger(VecDeque<(Served, Instant)>);

impl Linger {
    /// Keeps a connection for a moment, or for less when many come after it.
    pub(super) fn keep(&mut self, connection: Served) {
        // Two may leave as one comes: where clients end as they should, hardly any lingers.
        for _ in 0..2 {
            let oldest = self.0.front_mut();
            if !oldest.is_some_and(|(connection, _)| connection.drain()) {
                break;
            }
            self.0.pop_front();
        }
        if self.0.len() == CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back((connection, Instant::now() + MOMENT));
    }

    /// Closes those whose moment has ended.
    pub(super) fn close_ended(&mut self) {
        let now = Instant::now();
        while self.0.front().is_some_and(|(_, end)| *end <= now) {
            self.0.pop_front();
        }
    }

    /// Closes all of them. False if there was none.
    pub(super) fn clear(&mut self) -> bool {
        !std::mem::take(&mut self.0).is_empty()
    }

    /// Time until the next connection is closed; `None` if none lingers.
    pub(super) fn next_end(&self) -> Option<Duration> {
        let (_, end) = self.0.front()?;
        Some(end.saturating_duration_since(Instant::now()))
    }
}
