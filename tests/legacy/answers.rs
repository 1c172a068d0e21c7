//! The examples that speak to the API, and every answer that it gives.

use crate::common::PATIENCE;
use crate::{LegacyStage, can_run};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;
use wxtokend::sim::World;

/// The socket's answers to one request after the other; the last is repeated. Empty: nobody listens.
type AnswerScript = &'static [AnswerStep];

enum AnswerStep {
    /// Answers with a status and a body.
    Answer(u16, &'static str),
    /// Closes the connection without an answer.
    Cut,
}

use AnswerStep::{Answer, Cut};

const TOKEN: &str = r#"{"access_token":"57_current","expire_time":4102444799,"expires_in":7200}"#;
const STILL_VALID: &str = r#"{"outcome":"still_valid","access_token":"57_current","expire_time":4102444799,"expires_in":7200,"verified_seconds_ago":12}"#;
const REFRESHED: &str = r#"{"outcome":"refreshed","access_token":"57_current","expire_time":4102444799,"expires_in":7200}"#;
const LATER: &str = r#"{"error":"try_later","message":"the platform was asked a moment ago","hint":"try again in 20 s"}"#;
const NONE: &str = r#"{"error":"no_valid_value","message":"there is no valid access_token now","hint":"see wxtokend status"}"#;
const NO_ACCOUNT: &str =
    r#"{"error":"no_such_account","message":"there is no such account","hint":"see readers"}"#;

/// Title, script, and what the app prints for a read and for a report: the token, or `!` and these words.
const CASES: &[(&str, AnswerScript, &str, &str)] = &[
    ("a token", &[Answer(200, TOKEN)], "57_current", "57_current"),
    (
        "refreshed",
        &[Answer(200, REFRESHED)],
        "57_current",
        "57_current",
    ),
    (
        "still valid, by an earlier verdict",
        &[Answer(200, STILL_VALID)],
        "57_current",
        "57_current",
    ),
    (
        "no verdict yet",
        &[Answer(429, LATER), Answer(200, TOKEN)],
        "! asked a moment ago",
        "57_current",
    ),
    (
        "no valid token",
        &[Answer(503, NONE)],
        "! no valid access_token",
        "! no valid access_token",
    ),
    (
        "no account for this user",
        &[Answer(404, NO_ACCOUNT)],
        "! no such account",
        "! no such account",
    ),
    (
        "cut off by a restart",
        &[Cut, Answer(200, TOKEN)],
        "57_current",
        "57_current",
    ),
    ("nobody listens", &[], "!", "!"),
];

/// An API that follows a script, at a path that everybody may connect to. It ends with the test's process.
fn serve(stage: &LegacyStage, script: AnswerScript) -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let path = stage.path(&format!(
        "run/{}.sock",
        NUMBER.fetch_add(1, Ordering::Relaxed)
    ));
    let listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    if script.is_empty() {
        // A socket that nobody listens on any more.
        return path;
    }
    thread::spawn(move || {
        let last = script.last().unwrap();
        for (stream, step) in listener
            .incoming()
            .zip(script.iter().chain(std::iter::repeat(last)))
        {
            let mut stream = stream.unwrap();
            read_request(&mut stream);
            if let Answer(status, body) = step {
                let length = body.len();
                // Who has gone needs no answer.
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} Reason\r\nContent-Type: application/json\r\nConnection: close\r\n\
                     Content-Length: {length}\r\n\r\n{body}"
                );
            }
        }
    });
    path
}

fn read_request(stream: &mut impl Read) {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) <= 2 {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    // Who has gone sends no body.
    let _ = reader.read_exact(&mut vec![0; length]);
}

/// The first line that a program prints, within the patience of tests.
fn first_line(mut command: Command) -> String {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(began.elapsed() < PATIENCE, "{command:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    line.trim_end().to_owned()
}

/// A program that reads the socket at a path.
type StartReader<'a> = &'a dyn Fn(&str) -> Command;

#[test]
fn examples_handle_every_answer_of_the_api() {
    if !can_run("examples_handle_every_answer_of_the_api") {
        return;
    }
    let stage = &LegacyStage::new(World::new());
    // Both programs are compiled once.
    stage.mono(&[]);
    stage.dotnet(&[]);
    thread::scope(|scope| {
        for case in CASES {
            scope.spawn(move || check(stage, case));
        }
    });
}

fn check(stage: &LegacyStage, (title, script, read, report): &(&str, AnswerScript, &str, &str)) {
    let bad = "56_bad";
    let php = |socket: &str, call: &str| {
        let client = format!("(new Wxtokend('shop', '{socket}'))");
        stage.php("api_socket.php", &format!("{client}->{call}"))
    };
    let programs: [(&str, [StartReader<'_>; 2]); 3] = [
        (
            "PHP",
            [&|socket| php(socket, "accessToken()"), &|socket| {
                php(socket, &format!("report('{bad}', 40001)"))
            }],
        ),
        (
            "Mono",
            [
                &|socket| stage.mono(&["ApiSocket", "AccessToken", socket, "shop"]),
                &|socket| stage.mono(&["ApiSocket", "Report", socket, "shop", bad]),
            ],
        ),
        (
            ".NET",
            [
                &|socket| stage.dotnet(&["HttpClientApi", "AccessToken", socket, "shop"]),
                &|socket| stage.dotnet(&["HttpClientApi", "Report", socket, "shop", bad]),
            ],
        ),
    ];
    for (name, calls) in programs {
        for (call, expected) in calls.into_iter().zip([read, report]) {
            let socket = serve(stage, script);
            let line = first_line(call(socket.to_str().unwrap()));
            match expected.strip_prefix("!") {
                Some(words) => assert!(
                    line.starts_with('!') && line.contains(words.trim()),
                    "{name}, {title}: {line}"
                ),
                None => assert_eq!(line, *expected, "{name}, {title}"),
            }
        }
    }
}
