//! A local connection that the event loop hears of only when it has to be waited for.

use rustix::io::{Errno, read, write, writev};
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// How much is read at once while the event loop knows nothing of it, bytes: more than a usual request.
const READ: usize = 512;

/// A local connection. Most clients have sent their request when they are accepted, and are gone a moment after the
/// answer: for those, the event loop would cost as much as all the rest.
#[derive(Debug)]
pub(crate) struct LocalStream {
    socket: Socket,
    /// Whether all others have had a turn since something was read.
    has_waited: bool,
    /// What was read, and is to be read again.
    unread: Vec<u8>,
}

#[derive(Debug)]
enum Socket {
    /// It does not block.
    Raw(OwnedFd),
    Registered(UnixStream),
    /// There was no room in the event loop.
    Lost,
}

impl LocalStream {
    /// A connection that does not block.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket: Socket::Raw(socket),
            has_waited: false,
            unread: Vec::new(),
        }
    }

    /// Has these bytes read again, before all others.
    pub(crate) fn unread(&mut self, bytes: &[u8]) {
        self.unread = bytes.to_vec();
    }

    /// The connection as one that can be waited for.
    fn registered(&mut self) -> io::Result<Pin<&mut UnixStream>> {
        if let Socket::Raw(_) = self.socket
            && let Socket::Raw(raw) = std::mem::replace(&mut self.socket, Socket::Lost)
        {
            self.socket = Socket::Registered(UnixStream::from_std(raw.into())?);
        }
        match &mut self.socket {
            Socket::Registered(stream) => Ok(Pin::new(stream)),
            Socket::Raw(_) | Socket::Lost => Err(io::ErrorKind::NotConnected.into()),
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
        let Socket::Raw(raw) = &self.socket else {
            return self.registered()?.poll_read(context, buffer);
        };
        let mut bytes = [0; READ];
        let room = buffer.remaining().min(READ);
        match read(raw, &mut bytes[..room]) {
            Ok(length) => {
                buffer.put_slice(&bytes[..length]);
                self.has_waited = false;
                if length == room {
                    self.registered()?;
                }
                Poll::Ready(Ok(()))
            }
            Err(Errno::AGAIN) if self.has_waited => self.registered()?.poll_read(context, buffer),
            Err(Errno::AGAIN) => {
                self.has_waited = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

impl AsyncWrite for LocalStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Socket::Raw(raw) = &self.socket {
            match write(raw, bytes) {
                Err(Errno::AGAIN) => {}
                written => return Poll::Ready(Ok(written?)),
            }
        }
        self.registered()?.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Socket::Raw(raw) = &self.socket {
            match writev(raw, parts) {
                Err(Errno::AGAIN) => {}
                written => return Poll::Ready(Ok(written?)),
            }
        }
        self.registered()?.poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.registered()?.poll_shutdown(context)
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

    fn is_raw(stream: &LocalStream) -> bool {
        matches!(stream.socket, Socket::Raw(_))
    }

    #[tokio::test]
    async fn who_asks_and_goes_is_never_waited_for() {
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
        assert!(is_raw(&stream));
    }

    #[tokio::test]
    async fn who_takes_time_is_waited_for() {
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
        assert!(!is_raw(&stream));
    }

    #[tokio::test]
    async fn what_does_not_fit_is_written_later() {
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
            stream.shutdown().await.unwrap();
            drop(stream);
            assert!(reader.join().unwrap() == text, "all of it, in its order");
        }
    }
}
