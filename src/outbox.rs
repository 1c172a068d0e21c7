//! Messages that are written by a thread of their own: whoever sends one never waits for whoever reads it.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Writes one message; may hang. It is told how many messages were dropped since it was last called.
type Write<T> = Box<dyn FnMut(T, u64) + Send>;

/// A bounded queue, and the thread that writes what is in it. What does not fit is dropped and counted.
pub(crate) struct Outbox<T>(Arc<OutboxShared<T>>);

struct OutboxShared<T> {
    name: &'static str,
    capacity: usize,
    queue: Mutex<OutboxQueue<T>>,
    changed: Condvar,
}

struct OutboxQueue<T> {
    messages: VecDeque<T>,
    is_writing: bool,
    dropped: u64,
    /// Until a thread has it.
    write: Option<Write<T>>,
}

impl<T: Send + 'static> Outbox<T> {
    /// Starts the thread. If there is none to be had, it is tried again with each message.
    pub(crate) fn new(
        name: &'static str,
        capacity: usize,
        write: impl FnMut(T, u64) + Send + 'static,
    ) -> Self {
        let outbox = Self(Arc::new(OutboxShared {
            name,
            capacity,
            queue: Mutex::new(OutboxQueue {
                messages: VecDeque::new(),
                is_writing: false,
                dropped: 0,
                write: Some(Box::new(write)),
            }),
            changed: Condvar::new(),
        }));
        outbox.start_thread();
        outbox
    }

    /// Sends a message. `replaces` says which waiting messages it makes superfluous.
    pub(crate) fn send(&self, message: T, replaces: impl Fn(&T) -> bool) {
        let mut queue = self.0.queue.lock();
        queue.messages.retain(|waiting| !replaces(waiting));
        if queue.messages.len() < self.0.capacity {
            queue.messages.push_back(message);
        } else {
            queue.dropped += 1;
        }
        let has_thread = queue.write.is_none();
        drop(queue);
        self.0.changed.notify_all();
        if !has_thread {
            self.start_thread();
        }
    }

    /// Waits until all that was sent is written, for so long at most.
    pub(crate) fn flush(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut queue = self.0.queue.lock();
        while queue.is_writing || !queue.messages.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.0.changed.wait_for(&mut queue, left);
        }
    }

    fn start_thread(&self) {
        let shared = self.0.clone();
        // A failed start is tried again: the thread takes the writer only once it runs.
        let _ = thread::Builder::new()
            .name(self.0.name.to_owned())
            .spawn(move || shared.run());
    }
}

impl<T> OutboxShared<T> {
    fn run(&self) {
        let Some(mut write) = self.queue.lock().write.take() else {
            return;
        };
        let mut queue = self.queue.lock();
        loop {
            let Some(message) = queue.messages.pop_front() else {
                self.changed.wait(&mut queue);
                continue;
            };
            queue.is_writing = true;
            let dropped = std::mem::take(&mut queue.dropped);
            drop(queue);
            write(message, dropped);
            queue = self.queue.lock();
            queue.is_writing = false;
            if queue.messages.is_empty() {
                self.changed.notify_all();
            }
        }
    }
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Outbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn sender_never_waits_and_dropped_messages_are_counted() {
        let (release, held) = mpsc::channel::<()>();
        let (written, read) = mpsc::channel();
        let outbox = Outbox::new("test", 3, move |message: u32, dropped| {
            let _ = held.recv();
            let _ = written.send((message, dropped));
        });
        outbox.send(0, |_| false);
        while !outbox.0.queue.lock().is_writing {
            thread::yield_now();
        }
        (1..=10).for_each(|n| outbox.send(n, |_| false));
        outbox.flush(Duration::from_millis(1));
        assert!(read.try_recv().is_err());
        drop(release);
        outbox.flush(Duration::from_secs(30));
        let all: Vec<_> = read.try_iter().collect();
        assert_eq!(all, [(0, 0), (1, 7), (2, 0), (3, 0)]);
    }

    #[test]
    fn newer_message_replaces_a_waiting_one() {
        let (release, held) = mpsc::channel::<()>();
        let (written, read) = mpsc::channel();
        let outbox = Outbox::new("test", 3, move |message: u32, _| {
            let _ = held.recv();
            let _ = written.send(message);
        });
        outbox.send(0, |_| false);
        while !outbox.0.queue.lock().is_writing {
            thread::yield_now();
        }
        (1..=10).for_each(|n| outbox.send(n, |_| true));
        drop(release);
        outbox.flush(Duration::from_secs(30));
        assert_eq!(read.try_iter().collect::<Vec<_>>(), [0, 10]);
    }
}
