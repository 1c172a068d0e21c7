//! A local connection that is registered with the event loop only when it has to be waited for.

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, write, writev};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

/// Size of a read before the connection is registered, bytes: more than a usual request.
const FIRST_READ_SIZE: usize = 512;

/// A local connection. Most clients have sent their request when they are accepted, and are gone a moment after the
/// answer: for those, the event loop would cost as much as all the rest. `tests/bench/api.rs` prints the requests a second.
#[derive(Debug)]
pub(crate) struct LocalStream {
    socket: Arc<LocalSocket>,
    registered: Option<Arc<UnixStream>>,
    /// True if all other tasks have had a turn since something was read.
    has_waited: bool,
    /// Bytes that are to be read again.
    unread: Vec<u8>,
}

/// The socket of a local connection, for whoever wants to know when the client has closed it.
#[derive(Debug)]
pub(crate) struct LocalSocket(Mutex<SocketState>);

#[derive(Debug)]
enum SocketState {
    /// It does not block.
    Raw(OwnedFd),
    Registered(Arc<UnixStream>),
    /// There was no room in the event loop.
    Lost,
}

impl LocalSocket {
    /// Waits until the client has closed the connection. One that only says that it has no more to send may still want
    /// an answer.
    pub(crate) async fn closed(&self) {
        let Ok(stream) = self.register() else { return };
        // Clears what the event loop said of writing. No harm: writers try before they wait.
        let closed = || {
            let mut fds = [PollFd::new(&*stream, PollFlags::empty())];
            match poll(&mut fds, Some(&Timespec::default())) {
                Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(()),
            }
        };
        // An error is an end too.
        let _ = stream.async_io(Interest::WRITABLE, closed).await;
    }

    /// The connection as one that can be waited for.
    fn register(&self) -> io::Result<Arc<UnixStream>> {
        let mut state = self.0.lock();
        if let SocketState::Raw(_) = *state
            && let SocketState::Raw(raw) = std::mem::replace(&mut *state, SocketState::Lost)
        {
            *state = SocketState::Registered(Arc::new(UnixStream::from_std(raw.into())?));
        }
        match &*state {
            SocketState::Registered(stream) => Ok(stream.clone()),
            SocketState::Raw(_) | SocketState::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Does something with the socket, if it is not registered.
    fn raw<T>(&self, act: impl FnOnce(&OwnedFd) -> T) -> Option<T> {
        match &*self.0.lock() {
            SocketState::Raw(raw) => Some(act(raw)),
            _ => None,
        }
    }
}

impl LocalStream {
    /// A connection that does not block.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket: Arc::new(LocalSocket(Mutex::new(SocketState::Raw(socket)))),
            registered: None,
            has_waited: false,
            unread: Vec::new(),
        }
    }

    /// The socket below.
    pub(crate) fn socket(&self) -> Arc<LocalSocket> {
        self.socket.clone()
    }

    /// Puts bytes back: they are read again before all others.
    pub(crate) fn unread(&mut self, bytes: &[u8]) {
        self.unread = bytes.to_vec();
    }

    fn registered(&mut self) -> io::Result<&UnixStream> {
        let stream = match self.registered.take() {
            Some(stream) => stream,
            None => self.socket.register()?,
        };
        Ok(self.registered.insert(stream))
    }

    /// Reads while it is not registered; nothing if it has to be, or is.
    fn poll_read_raw(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Option<Poll<io::Result<()>>> {
        let mut bytes = [0; FIRST_READ_SIZE];
        let room = buffer.remaining().min(FIRST_READ_SIZE);
        match self.socket.raw(|raw| read(raw, &mut bytes[..room]))? {
            Ok(length) => {
                buffer.put_slice(&bytes[..length]);
                self.has_waited = false;
                // There may be much more.
                Some(Poll::Ready(if length == room {
                    self.registered().map(drop)
                } else {
                    Ok(())
                }))
            }
            Err(Errno::AGAIN) if self.has_waited => None,
            Err(Errno::AGAIN) => {
                self.has_waited = true;
                context.waker().wake_by_ref();
                Some(Poll::Pending)
            }
            Err(error) => Some(Poll::Ready(Err(error.into()))),
        }
    }

    /// Writes at once if there is room, and else waits for room.
    fn poll_write_with(
        &mut self,
        context: &mut Context<'_>,
        write: impl Fn(&dyn AsFd) -> Result<usize, Errno>,
    ) -> Poll<io::Result<usize>> {
        if self.registered.is_none() {
            match self.socket.raw(|raw| write(raw)) {
                None | Some(Err(Errno::AGAIN)) => {}
                Some(written) => return Poll::Ready(Ok(written?)),
            }
        }
        let stream = self.registered()?;
        loop {
            match write(stream) {
                Err(Errno::AGAIN) => {}
                written => return Poll::Ready(Ok(written?)),
            }
            ready!(stream.poll_write_ready(context))?;
            match stream.try_io(Interest::WRITABLE, || Ok(write(stream)?)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncRead for LocalStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let length = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread[..length]);
            self.unread.drain(..length);
            return Poll::Ready(Ok(()));
        }
        if self.registered.is_none()
            && let Some(polled) = self.poll_read_raw(context, buffer)
        {
            return polled;
        }
        let stream = self.registered()?;
        loop {
            ready!(stream.poll_read_ready(context))?;
            let room = buffer.remaining();
            let mut length = None;
            let result = stream.try_io(Interest::READABLE, || {
                let read = read(stream, buffer.initialize_unfilled())?;
                length = Some(read);
                // A short read took all there was: the next read begins by waiting.
                if (1..room).contains(&read) {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(())
            });
            match (length, result) {
                (Some(length), _) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                (None, _) => {}
            }
        }
    }
}

impl AsyncWrite for LocalStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |socket| write(socket, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |socket| writev(socket, parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// It is closed by being dropped.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream as Peer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn pair() -> (LocalStream, Peer) {
        let (ours, theirs) = Peer::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (LocalStream::new(ours.into()), theirs)
    }

    fn is_registered(stream: &LocalStream) -> bool {
        stream.registered.is_some()
    }

    #[tokio::test]
    async fn quick_client_is_never_registered() {
        let (mut stream, mut peer) = pair();
        peer.write_all(b"request").unwrap();
        let mut request = [0; 20];
        assert_eq!(stream.read(&mut request).await.unwrap(), 7);
        stream.unread(&request[..7]);
        assert_eq!(stream.read(&mut request).await.unwrap(), 7);
        assert_eq!(&request[..7], b"request");
        stream.write_all(b"answer").await.unwrap();
        let gone = async {
            let mut answer = [0; 6];
            peer.read_exact(&mut answer).unwrap();
            drop(peer);
            answer
        };
        let (read, answer) = tokio::join!(stream.read(&mut request), gone);
        assert_eq!((read.unwrap(), &answer), (0, b"answer"));
        assert!(!is_registered(&stream));
    }

    #[tokio::test]
    async fn slow_client_is_waited_for() {
        let (mut stream, mut peer) = pair();
        let mut text = String::new();
        let (read, ()) = tokio::join!(stream.read_to_string(&mut text), async {
            for word in ["late", " and", " later"] {
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                peer.write_all(word.as_bytes()).unwrap();
            }
            drop(peer);
        });
        assert_eq!(read.unwrap(), text.len());
        assert_eq!(text, "late and later");
        assert!(is_registered(&stream));
    }

    #[tokio::test]
    async fn large_answer_is_written_as_room_comes() {
        for vectored in [false, true] {
            let (mut stream, mut peer) = pair();
            let text: Vec<u8> = (0..1_000_000_u32)
                .map(|n| n.to_le_bytes()[n as usize % 3])
                .collect();
            let reader = std::thread::spawn(move || {
                let mut read = Vec::new();
                peer.read_to_end(&mut read).unwrap();
                read
            });
            let mut rest = &text[..];
            while !rest.is_empty() {
                let written = if vectored {
                    let (one, two) = rest.split_at(rest.len() / 2);
                    let parts = [IoSlice::new(one), IoSlice::new(two)];
                    stream.write_vectored(&parts).await.unwrap()
                } else {
                    stream.write(rest).await.unwrap()
                };
                rest = &rest[written..];
            }
            drop(stream);
            assert!(reader.join().unwrap() == text, "all of it, in its order");
        }
    }

    #[tokio::test]
    async fn closed_connection_is_noticed_and_half_closed_one_is_not() {
        let (mut stream, peer) = pair();
        let socket = stream.socket();
        let mut closed = std::pin::pin!(socket.closed());
        let mut is_closed_within = async |millis| {
            let limit = std::time::Duration::from_millis(millis);
            tokio::time::timeout(limit, &mut closed).await.is_ok()
        };
        assert!(!is_closed_within(50).await);
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(!is_closed_within(50).await);
        stream.write_all(b"answer").await.unwrap();
        drop(peer);
        assert!(is_closed_within(120_000).await);
    }
}
