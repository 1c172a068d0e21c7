//! TLS for SQL Server. Its handshake travels inside packets of the protocol, after a first exchange in the clear.
//!
//! The driver has TLS of its own only with a second library of cryptography beside the one that all else uses. So this
//! does the exchange and the handshake, and then lets the driver speak, as it believes, in the clear.

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const HEADER: usize = 8;
const MAX_PACKET: usize = 4096;
const PRELOGIN: u8 = 0x12;
const RESPONSE: u8 = 0x04;
const LAST_PACKET: u8 = 0x01;
/// The option of the first exchange that says what is encrypted.
const ENCRYPTION: u8 = 0x01;
const ENCRYPT_ON: u8 = 0x01;
const ENCRYPT_NOT_SUPPORTED: u8 = 0x02;
const TERMINATOR: u8 = 0xFF;
/// Bytes that may wait between the driver and the connection.
const BUFFER: usize = 16 * 1024;

/// Encrypts a connection. What comes back is for the driver, which is to ask for no encryption.
pub(super) async fn encrypt(
    mut tcp: TcpStream,
    host: &str,
    config: ClientConfig,
) -> io::Result<DuplexStream> {
    tcp.write_all(&packet(PRELOGIN, &first_message())).await?;
    let mut answer = read_packet(&mut tcp).await?;
    let encryption =
        encryption_mut(&mut answer).ok_or_else(|| invalid("the server does not speak TDS"))?;
    if *encryption == ENCRYPT_NOT_SUPPORTED {
        return Err(invalid(
            "the server offers no encryption: a password and a value would pass in the clear",
        ));
    }
    // The driver is told that there is none.
    *encryption = ENCRYPT_NOT_SUPPORTED;

    let name =
        ServerName::try_from(host.to_owned()).map_err(|_| invalid("the host has no valid name"))?;
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, Framed::new(tcp)).await?;
    stream.get_mut().0.is_handshaking = false;

    let (driver, mut relay) = tokio::io::duplex(BUFFER);
    tokio::spawn(async move {
        // Its own first message has been sent already.
        if read_packet(&mut relay).await.is_ok()
            && relay.write_all(&packet(RESPONSE, &answer)).await.is_ok()
        {
            // The end of either side is the end of the session.
            let _ = tokio::io::copy_bidirectional(&mut relay, &mut stream).await;
        }
    });
    Ok(driver)
}

/// The options VERSION and ENCRYPTION: each has a kind, an offset and a length; then come their contents.
fn first_message() -> Vec<u8> {
    let mut message = vec![0x00, 0, 11, 0, 6, ENCRYPTION, 0, 17, 0, 1, TERMINATOR];
    message.extend([0; 6]);
    message.push(ENCRYPT_ON);
    message
}

/// The content of the option ENCRYPTION.
fn encryption_mut(message: &mut [u8]) -> Option<&mut u8> {
    let mut at = 0;
    loop {
        let option = message.get(at..at + 5)?;
        match option[0] {
            TERMINATOR => return None,
            ENCRYPTION => {
                let offset = usize::from(u16::from_be_bytes([option[1], option[2]]));
                return message.get_mut(offset);
            }
            _ => at += 5,
        }
    }
}

fn packet(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER + content.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    let mut packet = vec![kind, LAST_PACKET, length[0], length[1], 0, 0, 0, 0];
    packet.extend_from_slice(content);
    packet
}

async fn read_packet(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).await?;
    let mut content = vec![0; content_length(header)?];
    stream.read_exact(&mut content).await?;
    Ok(content)
}

fn content_length(header: [u8; HEADER]) -> io::Result<usize> {
    usize::from(u16::from_be_bytes([header[2], header[3]]))
        .checked_sub(HEADER)
        .ok_or_else(|| invalid("the server does not speak TDS"))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A connection that puts what is written into packets, and takes what is read out of them, while a handshake lasts.
struct Framed {
    tcp: TcpStream,
    is_handshaking: bool,
    header: [u8; HEADER],
    header_read: usize,
    /// The bytes of the packet that are still to be read.
    left: usize,
    /// Written and not yet framed.
    message: Vec<u8>,
    /// Framed and not yet sent.
    frames: Vec<u8>,
    sent: usize,
}

impl Framed {
    fn new(tcp: TcpStream) -> Self {
        Self {
            tcp,
            is_handshaking: true,
            header: [0; HEADER],
            header_read: 0,
            left: 0,
            message: Vec::new(),
            frames: Vec::new(),
            sent: 0,
        }
    }
}

impl AsyncRead for Framed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.is_handshaking {
            return Pin::new(&mut this.tcp).poll_read(context, buffer);
        }
        while this.left == 0 {
            let mut header = ReadBuf::new(&mut this.header[this.header_read..]);
            ready!(Pin::new(&mut this.tcp).poll_read(context, &mut header))?;
            let read = header.filled().len();
            if read == 0 {
                return Poll::Ready(Ok(()));
            }
            this.header_read += read;
            if this.header_read == HEADER {
                this.header_read = 0;
                this.left = content_length(this.header)?;
            }
        }
        // No more than the packet holds, and straight into the reader's room.
        let wanted = this.left.min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(wanted));
        ready!(Pin::new(&mut this.tcp).poll_read(context, &mut part))?;
        let read = part.filled().len();
        this.left -= read;
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Framed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.is_handshaking {
            return Pin::new(&mut self.tcp).poll_write(context, bytes);
        }
        self.message.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.message.is_empty() {
            let message = std::mem::take(&mut this.message);
            let chunks = message.chunks(MAX_PACKET - HEADER);
            let last = chunks.len() - 1;
            for (index, chunk) in chunks.enumerate() {
                let mut frame = packet(PRELOGIN, chunk);
                frame[1] = if index == last { LAST_PACKET } else { 0 };
                this.frames.extend_from_slice(&frame);
            }
        }
        while this.sent < this.frames.len() {
            let sent =
                ready!(Pin::new(&mut this.tcp).poll_write(context, &this.frames[this.sent..]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            this.sent += sent;
        }
        this.frames.clear();
        this.sent = 0;
        Pin::new(&mut this.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_asks_for_encryption() {
        let mut message = first_message();
        assert_eq!(encryption_mut(&mut message), Some(&mut 1));
        assert_eq!(encryption_mut(&mut [TERMINATOR, 0, 0, 0, 0]), None);
        assert_eq!(encryption_mut(&mut [0, 0]), None);
        assert_eq!(packet(PRELOGIN, &[7])[..4], [0x12, 1, 0, 9]);
    }
}
