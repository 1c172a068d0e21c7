//! A platform is one value in one file: this one is made up, and the daemon keeps its tokens fresh all the same.
//!
//! Its paths, a header, the names of its answers' fields and its window are unlike those of the platforms that are built in.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use wxtokend::call::Call;
use wxtokend::config::{self, Environment, LogLevel};
use wxtokend::daemon::Daemon;
use wxtokend::logging::Log;
use wxtokend::platform::errcode::{ErrcodeRow, row};
use wxtokend::platform::{
    AppWants, Ask, Fields, Ids, Mirrored, MirroredCall, Platform, Platforms, Request,
};
use wxtokend::terms::{Repeat, Terms, TicketLimits};
use wxtokend::trouble::Class;

const WINDOW: u64 = 1800;
/// Seconds of the first pass before its window: time enough to see it, on a machine that does much else besides.
const BEFORE: u64 = 12;
/// Longest wait for a condition.
const PATIENCE: Duration = Duration::from_secs(240);

const PASSES: &Terms = &Terms {
    kind: "example",
    method: "pass",
    repeat: Repeat::Same {
        window: Duration::from_secs(WINDOW),
        polled: true,
    },
    can_force: false,
    tickets: &[],
    tickets_follow_token: false,
    ticket_limits: TicketLimits { app: 60, id: None },
    shares_id: false,
    default_budget: 2000,
};

const EXAMPLE: &Platform = &Platform {
    kind: "example",
    products: "an example",
    ids: Ids {
        key: "client",
        app_key: None,
        check: |id| {
            id.starts_with("c-")
                .then_some(None)
                .ok_or("must begin with c-")
        },
        twice: "merge the two",
    },
    hosts_key: "example_hosts",
    hosts: &["https://api.example"],
    methods: &[PASSES],
    endpoint: |_, call| match call {
        Call::Token | Call::ForceToken => "/v3/passes",
        Call::Ticket(_) | Call::Verify => "/v3/whoami",
    },
    request,
    verify_paths: &["/v3/whoami"],
    no_verdict: &[],
    counts: None,
    mirrored: MIRRORED,
    secret_digits: None,
    fields: Fields {
        errcode: "problem.number",
        errmsg: "problem.text",
        token: "pass.text",
        ticket: "pass.text",
        expires_in: "pass.good_for_seconds",
        alive: "name",
    },
    errcodes: ERRCODES,
};

const MIRRORED: &Mirrored = &Mirrored {
    calls: &[MirroredCall {
        path: "/v3/passes",
        is_post: false,
        wants: AppWants::Token {
            grant_type: None,
            id: "client",
            key: "key",
            doubted: None,
        },
    }],
    grant: |_, value, seconds| {
        format!(r#"{{"pass":{{"text":"{value}","good_for_seconds":{seconds}}}}}"#)
    },
    refuse: |refused, _| format!(r#"{{"problem":{{"number":18,"text":"{refused:?}"}}}}"#),
};

const ERRCODES: &[ErrcodeRow] = &[
    row(&[17], Class::Transient, "the example is being mended"),
    row(&[], Class::Operator, "ask the example about {errcode}"),
];

fn request(ask: &Ask<'_>) -> Request {
    Request::get(ask.path)
        .with("client", ask.id)
        .with_header("X-Example-Key", ask.credential)
}

/// The key of an app that asks the mirror.
const APP_KEY: &str = "a-key-that-only-the-cms-has-in-its-settings";
const KEY: &str = "a-key-that-only-the-daemon-has";

/// The example's server: the same pass until half an hour before its end, then another one that lives an hour.
#[derive(Default)]
struct ExampleServer {
    requests: Mutex<Vec<String>>,
    /// The moment of the first answer that holds a pass.
    passed: OnceLock<Instant>,
}

impl ExampleServer {
    fn start() -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Arc::new(Self::default());
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map(Result::unwrap) {
                // A client that goes away is none of its troubles.
                let _ = serving.answer(&stream);
            }
        });
        (server, url)
    }

    fn answer(&self, stream: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let failed_once = {
            let mut requests = self.requests.lock().unwrap();
            requests.push(head.clone());
            requests.len() > 1
        };
        let body = if failed_once {
            // The first pass ends half an hour and some seconds after it was first given.
            let age = self.passed.get_or_init(Instant::now).elapsed().as_secs();
            let left = (WINDOW + BEFORE).saturating_sub(age);
            let (pass, left) = if left > WINDOW {
                ("first-pass", left)
            } else {
                ("second-pass", 3600)
            };
            format!(r#"{{"pass":{{"text":"{pass}","good_for_seconds":{left}}}}}"#)
        } else {
            r#"{"problem":{"number":17,"text":"being mended"}}"#.to_owned()
        };
        let mut stream = reader.into_inner();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
        stream.flush()
    }
}

/// The text of a configuration. Its key file is written.
fn configuration(dir: &Path, url: &str) -> String {
    let key_file = dir.join("cms.key");
    fs::write(&key_file, APP_KEY).unwrap();
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
    let dir = dir.display();
    format!(
        "[daemon]\nstate_dir = \"{dir}/state\"\n[api]\nsocket = \"{dir}/api.sock\"\nadmins = [\"root\"]\n\
         [mirror]\nsocket = \"{dir}/mirror.sock\"\n\
         [platform]\nexample_hosts = [\"{url}\"]\n\
         [accounts.shop]\nclient = \"c-1\"\nsecret = \"{KEY}\"\npoll_every = \"0s\"\n\
         [[accounts.shop.file]]\npath = \"{dir}/shop.txt\"\nformat = \"raw\"\n\
         [[accounts.shop.mirror]]\nname = \"cms\"\nkey_file = \"{dir}/cms.key\"\n"
    )
}

fn api(socket: &Path, path: &str) -> String {
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

async fn reads(path: &Path, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    while fs::read_to_string(path).ok().as_deref() != Some(wanted) {
        assert!(Instant::now() < deadline, "no {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_platform_of_ones_own_runs_from_configuration_to_renewal() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    let (server, url) = ExampleServer::start();
    let path = dir.join("config.toml");
    fs::write(&path, configuration(dir, &url)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let environment = Environment {
        runtime_dir: Some(dir.to_owned()),
        platforms: Platforms(&[EXAMPLE]),
        ..Environment::default()
    };
    let config = config::load(&path, &environment).unwrap();
    let daemon = Daemon::start(config, environment, Log::start(LogLevel::Error))
        .await
        .unwrap_or_else(|error| panic!("{error:?}"));
    let daemon = tokio::spawn(daemon.run());

    let file = dir.join("shop.txt");
    reads(&file, "first-pass").await;
    // The file is there a moment before the status tells of it.
    let socket = dir.join("api.sock");
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        let socket = socket.clone();
        let asked = tokio::task::spawn_blocking(move || api(&socket, "/v1/accounts/shop"));
        let status = asked.await.unwrap();
        if status.contains(r#""state":"fresh""#) {
            break status;
        }
        assert!(Instant::now() < deadline, "not fresh: {status}");
    };
    for part in [
        r#""kind":"example""#,
        r#""method":"pass""#,
        r#""appid":"c-1""#,
        r#""daily_budget":2000"#,
    ] {
        assert!(status.contains(part), "{part}: {status}");
    }
    // The mirror answers for it too: its path, its parameters, its words.
    let mirror = dir.join("mirror.sock");
    let right = format!("/v3/passes?client=c-1&key={APP_KEY}");
    for (target, part) in [
        (right.as_str(), r#"{"pass":{"text":"#),
        ("/v3/passes?client=c-1", r#""text":"KeyMissing""#),
        ("/cgi-bin/token", r#""text":"BadPath""#),
    ] {
        let (mirror, target) = (mirror.clone(), target.to_owned());
        let asked = tokio::task::spawn_blocking(move || api(&mirror, &target));
        let answer = asked.await.unwrap();
        assert!(answer.contains(part), "{part}: {answer}");
    }
    // Nothing is asked until the window opens.
    reads(&file, "second-pass").await;
    {
        let requests = server.requests.lock().unwrap();
        assert!((3..=6).contains(&requests.len()), "{requests:?}");
        for request in &*requests {
            let request = request.to_ascii_lowercase();
            assert!(request.starts_with("get /v3/passes?client=c-1 http/1.1\r\n"));
            assert!(request.contains(&format!("\r\nx-example-key: {KEY}\r\n")));
        }
    }
    daemon.abort();
}

#[test]
fn keys_of_a_third_platform_are_checked_like_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let path = dir.join("config.toml");
    let environment = Environment {
        runtime_dir: Some(dir.to_owned()),
        platforms: Platforms(&[EXAMPLE]),
        ..Environment::default()
    };
    let text = configuration(dir, "http://127.0.0.1:1")
        .replace("c-1", "d-1")
        .replace("example_hosts", "hosts");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let faults = config::load(&path, &environment).unwrap_err();
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].contains("unknown key `hosts`"), "{faults:?}");
    assert!(
        faults[1].ends_with("`client` \"d-1\" must begin with c-"),
        "{faults:?}"
    );
}
