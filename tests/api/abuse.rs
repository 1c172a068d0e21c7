//! Clients that do what no client should. Each test ends with somebody else being served.

use crate::fixture::{ApiDaemon, HttpReply, PATIENCE, Who, account, grant, until, user};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};
use wxtokend::snapshot::Verdict;

fn connect(daemon: &ApiDaemon) -> UnixStream {
    let stream = UnixStream::connect(&daemon.socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// All that the server sends until it closes the connection.
fn rest(mut stream: UnixStream) -> Vec<u8> {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        // It closed with something of ours unread.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the connection is still open: {error}"),
    }
    rest
}

fn serves(daemon: &ApiDaemon) {
    let start = Instant::now();
    assert_eq!(daemon.get("/v1/accounts/shop/token").status, 200);
    // Before the server loses its patience with any of the others.
    assert!(start.elapsed() < Duration::from_secs(10));
}

fn daemon() -> ApiDaemon {
    ApiDaemon::of(&[account("shop", vec![])])
}

#[test]
fn a_silent_client_is_cut_off() {
    let daemon = daemon();
    let silent = connect(&daemon);
    serves(&daemon);
    assert_eq!(rest(silent), b"");
    serves(&daemon);
}

#[test]
fn a_slow_header_is_cut_off() {
    let daemon = daemon();
    let slow = connect(&daemon);
    let mut writer = slow.try_clone().unwrap();
    let dripping = std::thread::spawn(move || {
        for byte in b"GET /healthz HTTP/1.1\r\nX: "
            .iter()
            .chain(std::iter::repeat(&b'x'))
        {
            if writer.write_all(&[*byte]).is_err() {
                return;
            }
            // The pace of the drip, not a wait for anything.
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    serves(&daemon);
    // If it were not, this would go on for as long as it drips.
    rest(slow);
    dripping.join().unwrap();
    serves(&daemon);
}

#[test]
fn a_connection_that_falls_silent_after_a_request_is_cut_off() {
    let daemon = daemon();
    let mut stream = connect(&daemon);
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let reply = HttpReply::parse(&rest(stream));
    assert_eq!(reply.body, "ok\n");
    serves(&daemon);
}

#[test]
fn a_slow_body_is_refused() {
    let daemon = daemon();
    let mut slow = connect(&daemon);
    slow.write_all(
        b"POST /v1/accounts/shop/refresh HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
    )
    .unwrap();
    serves(&daemon);
    let reply = HttpReply::parse(&rest(slow));
    assert_eq!((reply.status, &*reply.error()), (400, "bad_request"));
    serves(&daemon);
}

#[test]
fn half_a_request_and_gone() {
    let daemon = daemon();
    for part in [
        "",
        "GET /v1/acc",
        "POST /v1/accounts/shop/refresh HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        "GET /v1/accounts/shop/token?wait=300&after=00000000 HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        connect(&daemon).write_all(part.as_bytes()).unwrap();
        serves(&daemon);
    }
}

#[test]
fn garbage_instead_of_http() {
    let daemon = daemon();
    let mut random = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
        .take(100_000)
        .collect();
    for garbage in [
        &b"\r\n\r\n\r\n"[..],
        b"\0\0\0\0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST /v1/accounts/shop/refresh HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/accounts/shop/refresh HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST /v1/accounts/shop/refresh HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nzzzzz",
        &noise,
    ] {
        let mut stream = connect(&daemon);
        // The server may have closed it before all is written.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let answer = rest(stream);
        if !answer.is_empty() {
            let reply = HttpReply::parse(&answer);
            assert_eq!((reply.status, &*reply.error()), (400, "bad_request"));
            assert_eq!(reply.headers["content-type"], "application/json");
            assert_eq!(reply.headers["content-length"], reply.body.len().to_string());
        }
        serves(&daemon);
    }
}

#[test]
fn a_huge_header_is_refused() {
    let daemon = daemon();
    for header in [
        format!("X: {}\r\n", "x".repeat(1 << 20)),
        "X: y\r\n".repeat(10_000),
    ] {
        let mut stream = connect(&daemon);
        let _ = write!(stream, "GET /healthz HTTP/1.1\r\n{header}\r\n");
        let reply = HttpReply::parse(&rest(stream));
        assert_eq!((reply.status, &*reply.error()), (431, "header_too_large"));
    }
    let mut stream = connect(&daemon);
    let _ = write!(stream, "GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20));
    assert_eq!(HttpReply::parse(&rest(stream)).error(), "header_too_large");
    serves(&daemon);
}

#[test]
fn a_huge_body_is_refused_before_it_is_read() {
    let daemon = daemon();
    for head in ["Content-Length: 1000000000", "Transfer-Encoding: chunked"] {
        let mut stream = connect(&daemon);
        write!(
            stream,
            "POST /v1/accounts/shop/refresh HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n"
        )
        .unwrap();
        let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
        while stream.write_all(chunk.as_bytes()).is_ok() {}
        assert_eq!(HttpReply::parse(&rest(stream)).status, 413);
    }
    serves(&daemon);
}

#[test]
fn answers_that_nobody_reads() {
    let daemon = daemon();
    let hogs: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = connect(&daemon);
            stream.set_nonblocking(true).unwrap();
            let requests = "GET /v1/accounts HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
            // As much as goes in: the server stops reading when its answers do not go out.
            while stream.write_all(requests.as_bytes()).is_ok() {}
            stream
        })
        .collect();
    serves(&daemon);
    drop(hogs);
    serves(&daemon);
}

fn raise_file_limit() {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();
}

/// Opens ten thousand connections and, as long as more than the second argument are open, looks which of them the
/// server has refused or closed. Says how many it has refused, how many are open, and of how many something else came.
const HOARD: &str = r#"
    use IO::Socket::UNIX;
    my ($path, $most) = @ARGV;
    my @open = map { IO::Socket::UNIX->new(Peer => $path) or die "$_: $!" } 1..10000;
    my ($refused, $rest, $until) = (0, 0, time + 300);
    while (@open > $most && time < $until) {
        my @still;
        for my $socket (@open) {
            $socket->blocking(0);
            my $n = sysread($socket, my $answer, 4096);
            if (!defined $n) { push @still, $socket }
            elsif ($answer =~ /503 .*too_many_connections/s) { $refused++ }
            else { $rest++ }
        }
        @open = @still;
    }
    $| = 1;
    print "$refused ", scalar @open, " $rest\n";
    <STDIN>;
"#;

#[test]
fn ten_thousand_idle_connections_of_one_user_leave_room_for_others() {
    crate::root::needs_root!();
    raise_file_limit();
    let daemon = ApiDaemon::of(&[account("shop", vec![user(4444)])]);
    let hoarder = Who {
        uid: 65534,
        gid: 65534,
        groups: vec![],
    };
    let mut hoard = hoarder
        .command("perl")
        .args(["-e", HOARD])
        .arg(&daemon.socket)
        .arg("2048")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(hoard.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let [refused, open, rest] = line
        .split_whitespace()
        .map(|count| count.parse::<u32>().unwrap())
        .collect::<Vec<_>>()[..]
    else {
        panic!("the hoarder failed: {line:?}");
    };
    assert!(open <= 2048, "{line}");
    // On a slow machine the first may have been cut off for their silence before the last was opened.
    assert!(refused + open + rest == 10_000 && refused > 0, "{line}");
    serves(&daemon);
    let other = Who {
        uid: 4444,
        gid: 4444,
        groups: vec![],
    };
    assert_eq!(
        daemon
            .as_user(&other, "GET", "/v1/accounts/shop/token", "")
            .status,
        200
    );
    drop(hoard.stdin.take());
    assert!(hoard.wait().unwrap().success());
    serves(&daemon);
}

/// Opens connections that wait for another token until the server refuses one, says how many wait, and holds them until
/// it is told to go. The server takes them in their order: once the last is refused, each before it is refused or waits.
const LONG_POLLS: &str = r#"
    use IO::Socket::UNIX;
    my ($path) = @ARGV;
    my @open;
    # One that is refused may be closed before it has asked.
    $SIG{PIPE} = 'IGNORE';
    sub is_refused {
        my ($socket, $seconds) = @_;
        my $readable = '';
        vec($readable, fileno($socket), 1) = 1;
        return select($readable, undef, undef, $seconds) > 0;
    }
    while (@open < 10000) {
        my $socket = IO::Socket::UNIX->new(Peer => $path) or die "$!";
        print $socket "GET /v1/accounts/shop/token?wait=300&after=00000000 HTTP/1.1\r\nHost: x\r\n\r\n";
        $socket->flush;
        push @open, $socket;
        last if is_refused($socket, @open % 16 ? 0 : 0.02);
    }
    is_refused($open[-1], 300) or die "none is refused";
    @open = grep { !is_refused($_, 0) } @open;
    $| = 1;
    print scalar @open, "\n";
    <STDIN>;
"#;

/// A user that holds all connections that it gets, each waiting for another token.
struct Hoarder(std::process::Child);

impl Hoarder {
    fn start(daemon: &ApiDaemon, uid: u32) -> (Self, usize) {
        let who = Who {
            uid,
            gid: uid,
            groups: vec![],
        };
        let mut child = who
            .command("perl")
            .args(["-e", LONG_POLLS])
            .arg(&daemon.socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut count = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut count)
            .unwrap();
        (Self(child), count.trim().parse().unwrap())
    }

    fn go(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

fn token_status(daemon: &ApiDaemon, uid: u32) -> u16 {
    let who = Who {
        uid,
        gid: uid,
        groups: vec![],
    };
    daemon
        .as_user(&who, "GET", "/v1/accounts/shop/token", "")
        .status
}

/// An account without a token, so that whoever waits for one does wait.
fn daemon_of_users() -> ApiDaemon {
    raise_file_limit();
    let readers = [4441, 4442, 4443, 4444].map(user);
    let shop = account("shop", readers.into());
    shop.publish(|snapshot| {
        snapshot.grants = Box::default();
        snapshot.valid_values = 0;
    });
    ApiDaemon::of_one(&shop)
}

#[test]
fn users_who_hold_all_they_get_leave_room_for_others_and_for_root() {
    crate::root::needs_root!();
    let daemon = daemon_of_users();
    let (first, most) = Hoarder::start(&daemon, 4441);
    let (second, half) = Hoarder::start(&daemon, 4442);
    let (third, quarter) = Hoarder::start(&daemon, 4443);
    assert!(
        most >= half && half >= quarter && quarter > 0,
        "{most} {half} {quarter}"
    );
    assert_eq!(token_status(&daemon, 4444), 503);
    assert_eq!(daemon.get("/v1/accounts").status, 200);
    assert_eq!(
        daemon.get("/v1/accounts/shop/token").error(),
        "no_valid_value"
    );
    for hoarder in [first, second, third] {
        hoarder.go();
    }
}

#[test]
fn clients_that_are_gone_free_their_slots_at_once() {
    crate::root::needs_root!();
    let daemon = daemon_of_users();
    let (hoarder, before) = Hoarder::start(&daemon, 4441);
    hoarder.go();
    // None of the ones before waits any more, though each wished to wait for 300 s.
    until("all slots are free again", || {
        let (hoarder, after) = Hoarder::start(&daemon, 4441);
        hoarder.go();
        after == before
    });
}

#[test]
fn client_that_has_no_more_to_say_gets_its_answer() {
    let shop = account("shop", vec![]);
    let daemon = ApiDaemon::of_one(&shop);
    let mut stream = connect(&daemon);
    let first = wxtokend::value::Value::parse("TOKEN-shop-1")
        .unwrap()
        .fingerprint();
    write!(
        stream,
        "GET /v1/accounts/shop/token?wait=300&after={first} HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    .unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert!(stream.read(&mut [0]).is_err(), "it waits");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    shop.publish(|snapshot| snapshot.grants[0].1 = grant("TOKEN-shop-2", 7000));
    let reply = HttpReply::parse(&rest(stream));
    assert_eq!(reply.json()["access_token"], "TOKEN-shop-2");
}

#[test]
fn stopping_daemon_answers_what_it_accepted() {
    let shop = account("shop", vec![]);
    let daemon = ApiDaemon::of_one(&shop);
    let first = wxtokend::value::Value::parse("TOKEN-shop-1")
        .unwrap()
        .fingerprint();
    let token = "GET /v1/accounts/shop/token HTTP/1.1\r\nHost: x\r\n\r\n";
    let long_poll =
        format!("GET /v1/accounts/shop/token?wait=300&after={first} HTTP/1.1\r\nHost: x\r\n\r\n");
    let report = "POST /v1/accounts/shop/refresh HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    let said = |text: &str| {
        let mut stream = connect(&daemon);
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    let mut watcher = said("GET /v1/watch HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut begun = [0; 1];
    watcher.read_exact(&mut begun).unwrap();
    let (waiting, reporting) = (said(&long_poll), said(report));
    let mut silent = connect(&daemon);
    let mut kept = said(token);
    kept.read_exact(&mut begun).unwrap();
    // All of them are accepted: the one that came last is.
    serves(&daemon);
    daemon.stopping.send_replace(true);
    assert_eq!(
        HttpReply::parse(&rest(waiting)).json()["access_token"],
        "TOKEN-shop-1"
    );
    // It has noticed that it is to stop. One that asks now is answered still.
    silent.write_all(token.as_bytes()).unwrap();
    assert_eq!(HttpReply::parse(&rest(reporting)).error(), "stopping");
    let stream = rest(watcher);
    assert!(
        stream.ends_with(b"\r\n0\r\n\r\n"),
        "the stream ends as it should"
    );
    let answer = rest(kept);
    assert!(
        answer.ends_with(b"}"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let reply = HttpReply::parse(&rest(silent));
    assert_eq!(reply.json()["access_token"], "TOKEN-shop-1");
    until("nobody is accepted any more", || {
        let mut late = connect(&daemon);
        let _ = late.write_all(token.as_bytes());
        let limit = Some(Duration::from_millis(200));
        late.set_read_timeout(limit).unwrap();
        late.read(&mut [0]).is_err()
    });
}

/// Requests of the fuzzer's seeds, cut and with bytes changed.
fn mutated_requests(count: usize) -> impl Iterator<Item = Vec<u8>> {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/seeds/api_request");
    let files = std::fs::read_dir(seeds).unwrap();
    let mut seeds: Vec<_> = files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect();
    seeds.sort();
    let mut random = fastrand::Rng::with_seed(7);
    (0..count).map(move |_| {
        let mut bytes = random.choice(&seeds).unwrap().clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            match random.u8(..3) {
                0 => bytes[at] = random.u8(..),
                1 => bytes.insert(at, *random.choice(b"\0\r\n %?&:{\"\xff").unwrap()),
                _ => drop(bytes.remove(at)),
            }
        }
        // Half of them stay whole.
        bytes.truncate(random.usize(1..bytes.len() * 2));
        bytes
    })
}

#[test]
fn mutated_requests_are_answered_in_http_or_not_at_all() {
    let shop = account("shop", vec![]);
    shop.on_request(|_, _| Some(Verdict::StillValid));
    let daemon = ApiDaemon::of_one(&shop);
    for bytes in mutated_requests(3000) {
        // An answer may rightly take as long as the request says.
        let waits = |words: &[u8]| bytes.windows(words.len()).any(|window| window == words);
        if waits(b"wait") || waits(b"watch") {
            continue;
        }
        let mut stream = connect(&daemon);
        // It may close before it has read everything.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let answer = rest(stream);
        let shown = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1."),
            "{} -> {shown}",
            bytes.escape_ascii()
        );
    }
    serves(&daemon);
}
