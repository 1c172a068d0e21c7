//! The simulated platform on a TCP port of loopback.

use super::call::SimRequest;
use super::reply::{Body, Reply};
use super::world::World;
use crate::clock;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use std::future::{pending, poll_fn};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{fmt, io, thread};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Interval;

/// A [`World`] that serves HTTP/1.1 on a thread of its own, on the clock of the host. Dropping it stops it.
pub struct SimPlatform {
    address: SocketAddr,
    shared: Arc<ServedWorld>,
    running: Mutex<Option<ServerThread>>,
    /// A socket that keeps the port, and refuses connections, while it is stopped.
    kept: Mutex<Option<OwnedFd>>,
}

struct ServerThread {
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

struct ServedWorld {
    world: Mutex<World>,
    /// The clocks when it began: a step of the host's clock does not reach the platform.
    began: crate::time::Now,
}

impl ServedWorld {
    fn now(&self) -> i64 {
        self.began.unix_millis_of(clock::now().at)
    }

    fn with<T>(&self, f: impl FnOnce(&mut World, i64) -> T) -> T {
        let mut world = self.world.lock();
        f(&mut world, self.now())
    }
}

impl SimPlatform {
    /// Serves `world` at a loopback address (port 0: any that is free). Fails with `InvalidInput` for any other
    /// address, else as binding and starting a thread do.
    pub fn start(listen: SocketAddr, world: World) -> io::Result<Self> {
        if !listen.ip().is_loopback() {
            let why = "the simulated platform listens on loopback addresses only";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Self::start_on(TcpListener::bind(listen)?, world)
    }

    /// Serves `world` on a listener: for tests in a network of their own, where it may have any address.
    pub fn start_on(listener: TcpListener, world: World) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(ServedWorld {
            world: Mutex::new(world),
            began: clock::now(),
        });
        let running = Mutex::new(Some(ServerThread::start(listener, shared.clone())?));
        Ok(Self {
            address,
            shared,
            running,
            kept: Mutex::default(),
        })
    }

    /// The address that it listens on; the port stays the same over [`stop`](Self::stop) and
    /// [`restart`](Self::restart).
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL to put under `hosts` in the configuration.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Looks at the platform, or changes it, at this moment of its clock (Unix milliseconds).
    pub fn with<T>(&self, f: impl FnOnce(&mut World, i64) -> T) -> T {
        self.shared.with(f)
    }

    /// Breaks down: all connections close and nobody listens. What it knows, it keeps.
    pub fn stop(&self) {
        if let Some(running) = self.running.lock().take() {
            // An error means that the thread is gone already.
            let _ = running.stop.send(());
            let _ = running.thread.join();
            *self.kept.lock() = keep_port(self.address).ok();
        }
    }

    /// Serves again after [`stop`](Self::stop), or closes all connections of one that runs.
    pub fn restart(&self) -> io::Result<()> {
        self.stop();
        let listener = match self.kept.lock().take() {
            Some(kept) => {
                listen(&kept, BACKLOG)?;
                TcpListener::from(kept)
            }
            None => TcpListener::bind(self.address)?,
        };
        *self.running.lock() = Some(ServerThread::start(listener, self.shared.clone())?);
        Ok(())
    }

    /// Waits until it ends, which it does by itself only when it cannot accept connections any more.
    pub fn wait(self) {
        if let Some(ServerThread { stop, thread }) = self.running.lock().take() {
            let _ = thread.join();
            drop(stop);
        }
    }
}

/// Connections that wait to be accepted: as many as the standard library asks for.
const BACKLOG: i32 = 128;

/// A socket that has the address and does not listen.
fn keep_port(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    Ok(socket)
}

impl ServerThread {
    fn start(listener: TcpListener, shared: Arc<ServedWorld>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let serve = async {
            tokio::select! {
                () = serve(listener, shared) => {}
                _ = stopped => {}
            }
        };
        let thread = thread::Builder::new()
            .name("sim".into())
            .spawn(move || runtime.block_on(serve))?;
        Ok(Self { stop, thread })
    }
}

impl Drop for SimPlatform {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(listener: TcpListener, shared: Arc<ServedWorld>) {
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

async fn connection(stream: TcpStream, peer: IpAddr, number: u64, shared: Arc<ServedWorld>) {
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
    shared: &ServedWorld,
) -> Result<hyper::Response<ReplyStream>, Broken> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await;
    let body = body.map_err(|_| Broken)?.to_bytes();
    let request = SimRequest {
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
    let _in_flight = OpenCall::begin(reply.caller, shared);
    if !reply.delay.is_zero() {
        tokio::time::sleep(reply.delay).await;
    }
    respond(reply).await
}

/// A call that is not answered yet.
struct OpenCall<'a>(Option<usize>, &'a ServedWorld);

impl<'a> OpenCall<'a> {
    fn begin(caller: Option<usize>, shared: &'a ServedWorld) -> Self {
        shared.with(|world, _| world.began(caller));
        Self(caller, shared)
    }
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        self.1.with(|world, _| world.ended(self.0));
    }
}

async fn respond(reply: Reply) -> Result<hyper::Response<ReplyStream>, Broken> {
    let response = hyper::Response::builder()
        .status(reply.status)
        .header(CONTENT_TYPE, reply.content_type);
    let response = match reply.location {
        Some(location) => response.header(LOCATION, location),
        None => response,
    };
    let (response, stream) = match reply.body {
        Body::Whole(bytes) => (response, ReplyStream::Whole(bytes.into())),
        Body::Half(bytes) => (
            response.header(CONTENT_LENGTH, bytes.len() * 2),
            ReplyStream::Half(bytes.into()),
        ),
        Body::Endless => (response, ReplyStream::Endless),
        Body::Drip => {
            let interval = tokio::time::interval(Duration::from_millis(100));
            (response, ReplyStream::Drip(interval))
        }
        Body::Never => pending().await,
        Body::Reset => return Err(Broken),
    };
    response.body(stream).map_err(|_| Broken)
}

/// The bytes of an answer.
enum ReplyStream {
    Whole(Bytes),
    /// Breaks the connection after them.
    Half(Bytes),
    /// Breaks the connection.
    Cut,
    Endless,
    Drip(Interval),
}

impl hyper::body::Body for ReplyStream {
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
                // A pause: what came before is flushed in it.
                *self = Self::Cut;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Self::Cut => Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Effect, Endpoint, SimFault};
    use serde_json::{Value as Json, json};
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpStream};
    use std::time::Instant;

    const APP: &str = "wx0123456789abcdef";
    const TOKEN: &str =
        "/cgi-bin/token?grant_type=client_credential&appid=wx0123456789abcdef&secret=s3cret";
    const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

    fn platform() -> SimPlatform {
        let mut world = World::new();
        world.account(APP, "s3cret");
        SimPlatform::start(ANY_PORT.into(), world).unwrap()
    }

    fn connect(platform: &SimPlatform) -> TcpStream {
        let stream = TcpStream::connect(platform.address()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    /// Sends a request and returns all that comes until the connection closes, at most 16 MB.
    fn call(platform: &SimPlatform, method: &str, target: &str, body: &str) -> io::Result<String> {
        let mut stream = connect(platform);
        let length = body.len();
        write!(
            stream,
            "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.take(16 << 20).read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn json(platform: &SimPlatform, method: &str, target: &str, body: &str) -> Json {
        let answer = call(platform, method, target, body).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    #[test]
    fn a_process_can_do_everything_over_http() {
        let platform = platform();
        let json =
            |method, target: &str, body: &Json| json(&platform, method, target, &body.to_string());
        let get = |target: &str| json("GET", target, &Json::Null);
        let token = get(TOKEN)["access_token"].as_str().unwrap().to_owned();
        let probe = || get(&format!("/probe?access_token={token}"));
        assert_eq!(probe()["alive"], true);
        assert_eq!(probe()["account"], APP);
        json("POST", "/sim/kill", &json!({"account": APP, "how": "end"}));
        assert_eq!(probe()["alive"], false);
        assert_eq!(get("/probe?access_token=x")["account"], Json::Null);

        json(
            "POST",
            "/sim/secret",
            &json!({"account": APP, "secret": "new"}),
        );
        assert_eq!(get(TOKEN)["errcode"], 40125);
        json(
            "PUT",
            "/sim/accounts",
            &json!({"appid": APP, "secret": "s3cret", "lifetime": 5}),
        );
        assert_eq!(get(TOKEN)["expires_in"], 5);
        json(
            "PUT",
            "/sim/accounts",
            &json!([{"appid": "wx1", "secret": "a"}, {"corpid": "ww1", "secret": "b"}]),
        );
        assert_eq!(
            get("/cgi-bin/gettoken?corpid=ww1&corpsecret=b")["errmsg"],
            "ok"
        );
        json(
            "PUT",
            "/sim/whitelist",
            &json!({"account": APP, "allow": ["192.0.2.1"], "seen_as": "203.0.113.7"}),
        );
        assert_eq!(get(TOKEN)["errcode"], 40164);
        json("PUT", "/sim/whitelist", &json!({"account": APP}));
        json(
            "PUT",
            "/sim/fault",
            &json!({"account": APP, "endpoint": "token", "effect": {"refuse": {"errcode": -1}}}),
        );
        assert_eq!(get(TOKEN)["errcode"], -1);
        json("DELETE", "/sim/fault?endpoint=gettoken", &Json::Null);
        assert_eq!(get(TOKEN)["errcode"], -1);
        json("DELETE", "/sim/fault", &Json::Null);
        assert_eq!(get(TOKEN)["expires_in"], 5);
        let counts = get("/sim/counts");
        assert_eq!(
            counts["accounts"][APP],
            json!({"token": 7, "minted": 3, "peak_in_flight": 1})
        );
        assert_eq!(counts["accounts"]["ww1"]["gettoken"], 1);
        let log = get("/sim/log");
        assert_eq!(log[1]["outcome"], "errcode 40125");
        assert!(!log.to_string().contains("s3cret"));
        assert!(
            json(
                "POST",
                "/sim/kill",
                &json!({"account": "wx9", "how": "end"})
            )["error"]
                .is_string()
        );
    }

    #[test]
    fn faults_reach_the_wire() {
        let platform = platform();
        for (effect, expected) in [
            (
                Effect::errcode(40243),
                "{\"errcode\":40243,\"errmsg\":\"AppSecret is frozen, please",
            ),
            (
                Effect::Refuse {
                    errcode: 7,
                    errmsg: Some("x".into()),
                },
                "{\"errcode\":7,\"errmsg\":\"x rid: ",
            ),
            (Effect::Status(502), "HTTP/1.1 502 Bad Gateway"),
            (Effect::HalfBody, "{\"access_token\":\""),
            (Effect::Endless, "                "),
            (Effect::Huge, "    {\"access_token\":\""),
            (Effect::LoginPage, "<title>Login</title>"),
            (Effect::Redirect, "location: /redirected"),
            (Effect::Empty, "content-length: 0"),
            (
                Effect::Value("a'b".into()),
                "{\"access_token\":\"a'b\",\"expires_in\":7200}",
            ),
            (Effect::ExpiresIn("7200".into()), "\"expires_in\":\"7200\"}"),
            (Effect::Body("boo".into()), "\r\n\r\nboo"),
            (Effect::Echo, "secret=s3cret"),
        ] {
            platform.with(|world, _| world.set_fault(SimFault::from(effect.clone()).times(1)));
            let answer = call(&platform, "GET", TOKEN, "").unwrap();
            assert!(answer.contains(expected), "{effect:?}: {answer:.300}");
        }
        assert_eq!(
            json(&platform, "GET", TOKEN, "")["expires_in"],
            7200,
            "all healed"
        );
        let reset = SimFault::from(Effect::Reset)
            .of(APP)
            .at(Endpoint::Token)
            .times(1);
        platform.with(|world, _| world.set_fault(reset));
        let error = call(&platform, "GET", TOKEN, "").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        json(&platform, "GET", "/redirected", "");
        platform.with(|world, _| assert_eq!(world.log().followed_redirects, 1));
    }

    /// Sends a request on a connection and waits so long for the beginning of an answer.
    fn ask(stream: &mut TcpStream, patience: Duration) -> Result<usize, io::ErrorKind> {
        write!(stream, "GET {TOKEN} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        stream.set_read_timeout(Some(patience)).unwrap();
        stream.read(&mut [0; 4096]).map_err(|error| error.kind())
    }

    fn wait_for_in_flight(platform: &SimPlatform, calls: u32) {
        let deadline = Instant::now() + LONG;
        while platform.with(|world, _| world.log().in_flight.now) != calls {
            assert!(Instant::now() < deadline, "never {calls} in flight");
            thread::sleep(Duration::from_millis(1));
        }
    }

    const LONG: Duration = Duration::from_secs(120);
    const SHORT: Duration = Duration::from_millis(200);
    const SILENCE: Result<usize, io::ErrorKind> = Err(io::ErrorKind::WouldBlock);

    #[test]
    fn silence_lasts() {
        let platform = platform();
        let mut old = connect(&platform);
        assert!(ask(&mut old, LONG).is_ok());
        platform.with(|world, _| world.freeze_connections());
        assert_eq!(ask(&mut old, SHORT), SILENCE);
        assert!(ask(&mut connect(&platform), LONG).is_ok());
        platform.with(|world, _| world.set_fault(Effect::Hang.into()));
        assert_eq!(ask(&mut connect(&platform), SHORT), SILENCE);
        let minted = |world: &mut World, _| world.members[0].minted[0];
        let before = platform.with(minted);
        platform.with(|world, _| world.set_fault(SimFault::from(Effect::Hang).after_work()));
        assert_eq!(ask(&mut connect(&platform), SHORT), SILENCE);
        let deadline = Instant::now() + LONG;
        while platform.with(minted) != before + 1 {
            assert!(Instant::now() < deadline, "nothing was minted");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn calls_at_once_are_counted_until_they_are_given_up() {
        let platform = platform();
        platform.with(|world, _| world.set_fault(Effect::Hang.into()));
        let hanging = [(); 3].map(|()| {
            let mut stream = connect(&platform);
            assert_eq!(ask(&mut stream, Duration::from_millis(1)), SILENCE);
            stream
        });
        wait_for_in_flight(&platform, 3);
        drop(hanging);
        wait_for_in_flight(&platform, 0);
        platform.with(|world, _| assert_eq!(world.peak_in_flight(APP), 3));
    }

    #[test]
    fn an_outage_closes_everything_and_forgets_nothing() {
        let platform = platform();
        let token = json(&platform, "GET", TOKEN, "")["access_token"].clone();
        let mut idle = connect(&platform);
        platform.stop();
        assert_eq!(idle.read(&mut [0; 1]).unwrap_or(0), 0);
        assert!(TcpStream::connect(platform.address()).is_err());
        let address = platform.address();
        platform.restart().unwrap();
        assert_eq!(platform.address(), address);
        let target = format!("/probe?access_token={}", token.as_str().unwrap());
        assert_eq!(json(&platform, "GET", &target, "")["alive"], true);
    }

    #[test]
    fn listens_on_loopback_only() {
        let error = SimPlatform::start(([0, 0, 0, 0], 0).into(), World::new()).err();
        assert_eq!(error.unwrap().kind(), io::ErrorKind::InvalidInput);
    }
}
