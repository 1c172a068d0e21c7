//! The simulated platform on a TCP port of loopback.

use super::call::Request;
use super::reply::{Body, Reply};
use super::world::World;
use crate::clock;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::future::{pending, poll_fn};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{fmt, io, thread};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Interval;

/// A [`World`] that serves HTTP/1.1 on a thread of its own, on the clock of the host. Dropping it stops it.
pub struct Platform {
    address: SocketAddr,
    shared: Arc<Shared>,
    running: Option<Running>,
}

struct Running {
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

struct Shared {
    world: Mutex<World>,
    /// The clocks when it began: a step of the host's clock does not reach the platform.
    began: crate::time::Now,
}

impl Shared {
    fn now(&self) -> i64 {
        self.began.unix_millis_of(clock::now().at)
    }

    fn with<T>(&self, f: impl FnOnce(&mut World, i64) -> T) -> T {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        f(&mut world, self.now())
    }
}

impl Platform {
    /// Serves `world` at a loopback address (port 0: any that is free). Fails with `InvalidInput` for any other
    /// address, else as binding and starting a thread do.
    pub fn start(listen: SocketAddr, world: World) -> io::Result<Self> {
        let mut platform = Self {
            address: listen,
            shared: Arc::new(Shared {
                world: Mutex::new(world),
                began: clock::now(),
            }),
            running: None,
        };
        platform.restart()?;
        Ok(platform)
    }

    /// Where it listens; the port stays the same over [`stop`](Self::stop) and [`restart`](Self::restart).
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to put under `hosts` in the configuration.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Looks at the platform, or changes it, at this moment of its clock (Unix milliseconds).
    pub fn with<T>(&self, f: impl FnOnce(&mut World, i64) -> T) -> T {
        self.shared.with(f)
    }

    /// Breaks down: all connections close and nobody listens. What it knows, it keeps.
    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            // An error means that the thread is gone already.
            let _ = running.stop.send(());
            let _ = running.thread.join();
        }
    }

    /// Serves again after [`stop`](Self::stop), or closes all connections of one that runs.
    pub fn restart(&mut self) -> io::Result<()> {
        self.stop();
        if !self.address.ip().is_loopback() {
            let why = "the simulated platform listens on loopback addresses only";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let listener = TcpListener::bind(self.address)?;
        listener.set_nonblocking(true)?;
        self.address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let shared = self.shared.clone();
        let thread = thread::Builder::new().name("sim".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, shared) => {}
                    _ = stopped => {}
                }
            });
        })?;
        self.running = Some(Running { stop, thread });
        Ok(())
    }

    /// Waits until it ends, which it does by itself only when it cannot accept connections any more.
    pub fn wait(mut self) {
        if let Some(running) = self.running.take() {
            let _ = running.thread.join();
        }
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let number = shared.with(|world, _| world.log.connected());
                tokio::spawn(connection(stream, peer.ip(), number, shared.clone()));
            }
            // Out of descriptors: some will be free soon.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn connection(stream: TcpStream, peer: IpAddr, number: u64, shared: Arc<Shared>) {
    // Worse latency is no reason to refuse.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| Box::pin(answer(request, peer, number, &shared)));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let result = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let reset = result.is_err_and(|error| {
        std::error::Error::source(&error).is_some_and(<dyn std::error::Error>::is::<Broken>)
    });
    if reset {
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}

/// The connection breaks here.
#[derive(Debug)]
struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection breaks on purpose")
    }
}

impl std::error::Error for Broken {}

/// The longest body of a request that is read, bytes.
const MAX_BODY: usize = 64 << 20;

async fn answer(
    request: hyper::Request<Incoming>,
    peer: IpAddr,
    number: u64,
    shared: &Shared,
) -> Result<hyper::Response<Stream>, Broken> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await;
    let body = body.map_err(|_| Broken)?.to_bytes();
    let request = Request {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or(""),
        chunked: head.headers.contains_key(TRANSFER_ENCODING),
        body: &body,
        remote_ip: peer,
    };
    let reply = shared
        .with(|world, now| (!world.log.is_frozen(number)).then(|| world.handle(now, &request)));
    let Some(reply) = reply else {
        return pending().await;
    };
    let _in_flight = reply.caller.map(|caller| InFlight::begin(caller, shared));
    if !reply.delay.is_zero() {
        tokio::time::sleep(reply.delay).await;
    }
    respond(reply).await
}

/// A call of an account whose answer is not there yet.
struct InFlight<'a>(usize, &'a Shared);

impl<'a> InFlight<'a> {
    fn begin(caller: usize, shared: &'a Shared) -> Self {
        shared.with(|world, _| world.began(caller));
        Self(caller, shared)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.1.with(|world, _| world.ended(self.0));
    }
}

async fn respond(reply: Reply) -> Result<hyper::Response<Stream>, Broken> {
    let response = hyper::Response::builder()
        .status(reply.status)
        .header(CONTENT_TYPE, reply.content_type);
    let response = match reply.location {
        Some(location) => response.header(LOCATION, location),
        None => response,
    };
    let (response, stream) = match reply.body {
        Body::Whole(bytes) => (response, Stream::Whole(bytes.into())),
        Body::Half(bytes) => (
            response.header(CONTENT_LENGTH, bytes.len() * 2),
            Stream::Half(bytes.into()),
        ),
        Body::Endless => (response, Stream::Endless),
        Body::Drip => {
            let interval = tokio::time::interval(Duration::from_millis(100));
            (response, Stream::Drip(interval))
        }
        Body::Never => pending().await,
        Body::Reset => return Err(Broken),
    };
    response.body(stream).map_err(|_| Broken)
}

/// The bytes of an answer.
enum Stream {
    Whole(Bytes),
    /// Breaks the connection after them.
    Half(Bytes),
    Endless,
    Drip(Interval),
}

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let data = |bytes| Poll::Ready(Some(Ok(Frame::data(bytes))));
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Half(bytes) if bytes.is_empty() => {
                Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())))
            }
            Self::Whole(bytes) | Self::Half(bytes) => data(std::mem::take(bytes)),
            Self::Endless => data(Bytes::from_static(&[b' '; 4096])),
            Self::Drip(interval) => {
                ready!(interval.poll_tick(cx));
                data(Bytes::from_static(b" "))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            _ => SizeHint::default(),
        }
    }
}
