//! The client commands, as people and scripts run them.

use crate::fixture::{ApiDaemon, Fake, Who, account, grant, until, user};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;
use wxtokend::changes::Changes;
use wxtokend::clock;
use wxtokend::fault::Fault;
use wxtokend::handle::Command as TaskCommand;
use wxtokend::snapshot::{State, Verdict};
use wxtokend::trouble::Class;
use wxtokend::trouble::LastError;

const READER: u32 = 4002;

/// The built binary where every user can run it, and what it is told.
struct InstalledCli {
    program: PathBuf,
    socket: PathBuf,
}

impl InstalledCli {
    fn of(daemon: &ApiDaemon) -> Self {
        let program = daemon.dir.path().join("wxtokend");
        // By another process: what a thread of ours has open for writing, another may be about to hand to its child, and
        // then it cannot be run.
        let mut copy = Command::new("cp");
        copy.arg(env!("CARGO_BIN_EXE_wxtokend")).arg(&program);
        assert!(copy.status().unwrap().success());
        Self {
            program,
            socket: daemon.socket.clone(),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        self.complete(&mut command, args);
        command
    }

    fn complete(&self, command: &mut Command, args: &[&str]) {
        command
            .args(args)
            .env_remove("WXTOKEND_CONFIG")
            .env("WXTOKEND_SOCKET", &self.socket)
            .stdin(Stdio::null());
    }

    fn run(&self, args: &[&str]) -> CommandResult {
        CommandResult::of(&self.command(args).output().unwrap())
    }

    fn run_as(&self, uid: u32, args: &[&str]) -> CommandResult {
        let who = Who {
            uid,
            gid: uid,
            groups: vec![],
        };
        let mut command = who.command(&self.program);
        self.complete(&mut command, args);
        CommandResult::of(&command.output().unwrap())
    }

    fn run_with_input(&self, args: &[&str], input: &str) -> CommandResult {
        let mut command = self.command(args);
        let piped = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        CommandResult::of(&child.wait_with_output().unwrap())
    }

    /// Its output to a terminal of 80 columns.
    fn on_terminal(&self, args: &str, env: &[(&str, &str)]) -> Child {
        let line = format!("stty cols 80; {} {args}", self.program.display());
        let mut command = Command::new("script");
        self.complete(
            &mut command,
            &[
                "--quiet",
                "--flush",
                "--return",
                "--command",
                &line,
                "/dev/null",
            ],
        );
        command
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

#[derive(Debug, PartialEq, Eq)]
struct CommandResult {
    status: i32,
    out: String,
    err: String,
}

impl CommandResult {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self {
            status: output.status.code().unwrap(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Failed with this status, printed nothing on standard output, and said something like that and what to do.
    #[track_caller]
    fn failed(&self, status: i32, said: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.out, "");
        assert!(
            self.err.starts_with("wxtokend: ") && self.err.contains(said),
            "{self:?}"
        );
        assert!(self.err.lines().count() >= 2, "without a hint: {self:?}");
    }
}

fn degrade(fake: &Fake) {
    fake.publish(|snapshot| {
        snapshot.state = State::Degraded;
        snapshot.last_error = Some(Arc::new(LastError {
            at: clock::now().at - Duration::from_secs(600),
            class: Class::Operator,
            errcode: Some(40164),
            rid: None,
            message: "40164 invalid ip 203.0.113.7".to_owned(),
            hint: "add 203.0.113.7 to the IP whitelist".to_owned(),
        }));
    });
}

#[test]
fn status() {
    crate::root::needs_root!();
    let (blog, shop) = (account("blog", vec![]), account("shop", vec![user(READER)]));
    let daemon = ApiDaemon::of(&[blog.clone(), shop]);
    let cli = InstalledCli::of(&daemon);
    let ended = cli.run(&["status"]);
    assert_eq!((ended.status, &*ended.err), (0, ""));
    let table = "\
ACCOUNT  STATE  EXPIRES   NEXT REFRESH  CALLS TODAY
blog     fresh  in 1h52m  in 4m         31 of 10000
shop     fresh  in 1h52m  in 4m         31 of 10000
2 fresh; wxtokend ";
    assert!(ended.out.starts_with(table), "{}", ended.out);

    degrade(&blog);
    let ended = cli.run(&["status"]);
    assert_eq!(ended.status, 1);
    let below =
        "\n  40164 invalid ip 203.0.113.7 (10m ago)\n  → add 203.0.113.7 to the IP whitelist\n";
    assert!(ended.out.contains(below), "{}", ended.out);

    let ended = cli.run(&["status", "shop"]);
    assert_eq!((ended.status, &*ended.err), (0, ""));
    assert!(!ended.out.contains("blog"), "{}", ended.out);

    let ended = cli.run(&["status", "shop", "none"]);
    assert_eq!(
        (ended.status, &*ended.err),
        (1, "wxtokend: no account `none` that you may see\n")
    );
    assert!(ended.out.contains("shop"), "{}", ended.out);

    let ended = cli.run_as(READER, &["status"]);
    assert_eq!(ended.status, 0);
    assert!(
        ended.out.contains("shop") && !ended.out.contains("blog"),
        "{}",
        ended.out
    );
    cli.run_as(4001, &["status"])
        .failed(77, "there is no account that you may see");

    for state in [State::Starting, State::Expired] {
        blog.publish(|snapshot| snapshot.state = state);
        assert_eq!(cli.run(&["status"]).status, 1);
    }
}

#[test]
fn status_of_a_daemon_without_accounts() {
    let daemon = ApiDaemon::of(&[]);
    let cli = InstalledCli::of(&daemon);
    let ended = cli.run(&["status"]);
    assert_eq!((ended.status, &*ended.err), (0, ""));
    assert!(
        ended.out.starts_with("no accounts; wxtokend "),
        "{}",
        ended.out
    );
}

#[test]
fn status_for_programs() {
    let daemon = ApiDaemon::of(&[account("blog", vec![]), account("shop", vec![])]);
    let cli = InstalledCli::of(&daemon);
    let ended = cli.run(&["status", "--json"]);
    assert_eq!((ended.status, ended.out.lines().count()), (0, 1));
    let mut printed: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let mut answered = daemon.get("/v1/accounts").json();
    // A second may have passed between the two.
    for json in [&mut printed, &mut answered] {
        json["uptime_seconds"].take();
        for account in json["accounts"].as_array_mut().unwrap() {
            for key in [
                "expire_time",
                "expires_in",
                "next_refresh_time",
                "last_success_time",
                "tickets",
            ] {
                assert!(!account[key].take().is_null());
            }
        }
    }
    assert_eq!(printed, answered);
    let one = cli.run(&["status", "--json", "shop"]).out;
    assert!(one.contains(r#""account":"shop""#) && !one.contains("blog"));
}

#[test]
fn colours_are_for_terminals_and_those_who_want_them() {
    let daemon = ApiDaemon::of(&[account("shop", vec![])]);
    let cli = InstalledCli::of(&daemon);
    let written = |env: &[(&str, &str)]| {
        let output = cli.on_terminal("status", env).wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(written(&[]).contains("\x1b[32mfresh"));
    assert!(!written(&[("NO_COLOR", "1")]).contains('\x1b'));
    assert!(!cli.run(&["status"]).out.contains('\x1b'));
}

#[test]
fn watching_redraws_a_terminal_in_place() {
    let shop = account("shop", vec![]);
    let daemon = ApiDaemon::of_one(&shop);
    let cli = InstalledCli::of(&daemon);
    for (env, fresh) in [
        (vec![], "\x1b[32mfresh\x1b[0m"),
        (vec![("NO_COLOR", "1")], "fresh"),
    ] {
        shop.publish(|snapshot| snapshot.state = State::Fresh);
        let mut watching = cli.on_terminal("status --watch", &env);
        let mut screen = watching.stdout.take().unwrap();
        let mut seen = Vec::new();
        let mut read_until = |what: &str| {
            let mut buffer = [0; 4096];
            while !String::from_utf8_lossy(&seen).contains(what) {
                let n = screen.read(&mut buffer).unwrap();
                assert_ne!(
                    n,
                    0,
                    "ended before {what}: {:?}",
                    String::from_utf8_lossy(&seen)
                );
                seen.extend_from_slice(&buffer[..n]);
            }
        };
        read_until(&format!("shop     {fresh}"));
        shop.publish(|snapshot| snapshot.state = State::Degraded);
        read_until("degraded");
        read_until("\x1b[H");
        watching.kill().unwrap();
        watching.wait().unwrap();
    }
}

#[test]
fn watching_without_terminal_prints_what_changes() {
    let shop = account("shop", vec![]);
    let daemon = ApiDaemon::of_one(&shop);
    let cli = InstalledCli::of(&daemon);
    let mut command = cli.command(&["status", "--watch", "--json"]);
    let mut watching = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    for calls in 32..35 {
        let line = lines.next().unwrap().unwrap();
        assert!(
            line.contains(&format!(r#""calls_today":{},"#, calls - 1)),
            "{line}"
        );
        shop.publish(|snapshot| snapshot.calls_today = calls);
    }
    // Nobody reads any further: it ends by itself.
    drop(lines);
    shop.publish(|snapshot| snapshot.calls_today = 40);
    until("it ends", {
        let watching = std::sync::Mutex::new(watching);
        move || watching.lock().unwrap().try_wait().unwrap().is_some()
    });
}

#[test]
fn get() {
    crate::root::needs_root!();
    let shop = account("shop", vec![user(READER)]);
    let daemon = ApiDaemon::of(&[shop.clone(), account("blog", vec![])]);
    let cli = InstalledCli::of(&daemon);
    let printed = |out: &str| CommandResult {
        status: 0,
        out: out.to_owned(),
        err: String::new(),
    };
    assert_eq!(cli.run(&["get", "shop"]), printed("TOKEN-shop-1\n"));
    assert_eq!(
        cli.run_as(READER, &["get", "shop"]),
        printed("TOKEN-shop-1\n")
    );
    assert_eq!(
        cli.run(&["get", "shop", "--value", "jsapi_ticket"]),
        printed("TICKET-shop-1\n")
    );
    let json = cli.run(&["get", "shop", "--json"]).out;
    assert!(
        json.starts_with(r#"{"access_token":"TOKEN-shop-1","expire_time":"#),
        "{json}"
    );
    assert!(json.ends_with("}\n"));

    cli.run(&["get", "none"])
        .failed(66, "no account `none` that you may see");
    cli.run(&["get", "../reload?"]).failed(66, "no account");
    cli.run(&["get", "shop", "--value", "wx_card_ticket"])
        .failed(66, "does not keep");
    cli.run_as(READER, &["get", "blog"])
        .failed(66, "no account `blog` that you may see");
    cli.run_as(4001, &["get", "shop"])
        .failed(77, "there is no account that you may see");

    shop.publish(|snapshot| snapshot.grants[0].1 = grant("TOKEN-shop-1", -1));
    cli.run(&["get", "shop"])
        .failed(69, "no valid `access_token` now");
}

#[test]
fn get_with_enough_life() {
    let shop = account("shop", vec![]);
    let daemon = ApiDaemon::of_one(&shop);
    let cli = InstalledCli::of(&daemon);
    shop.on_request(|request, snapshot| {
        let TaskCommand::Renew { until, .. } = request else {
            panic!("{request:?}")
        };
        // The platform has more, but not for ever.
        if clock::now().at.until(*until) < Duration::from_secs(7200) {
            crate::fixture::modify(snapshot, |snapshot| {
                snapshot.grants[0].1 = grant("TOKEN-shop-2", 7200);
            });
        }
        Some(Verdict::Refreshed)
    });
    assert_eq!(
        cli.run(&["get", "shop", "--min-valid", "1h30m"]).out,
        "TOKEN-shop-1\n"
    );
    assert_eq!(
        cli.run(&["get", "shop", "--min-valid", "1h58m"]).out,
        "TOKEN-shop-2\n"
    );
    let ended = cli.run(&["get", "shop", "--min-valid", "3h"]);
    assert_eq!((ended.status, &*ended.out), (0, "TOKEN-shop-2\n"));
    assert!(ended.err.contains("no more than the 7"), "{}", ended.err);
    assert_eq!(cli.run(&["get", "shop", "--min-valid", "soon"]).status, 2);
}

#[test]
fn get_fits_into_a_shell() {
    let daemon = ApiDaemon::of(&[account("shop", vec![])]);
    let cli = InstalledCli::of(&daemon);
    let mut command = Command::new("sh");
    cli.complete(
        &mut command,
        &["-c", r#"token=$("$0" get shop) && printf '[%s]' "$token""#],
    );
    let output = command.arg(&cli.program).output().unwrap();
    assert_eq!(CommandResult::of(&output).out, "[TOKEN-shop-1]");
}

#[test]
fn a_full_disk_is_not_success() {
    let daemon = ApiDaemon::of(&[account("shop", vec![])]);
    let full = || std::fs::File::create("/dev/full").unwrap();
    for args in [&["get", "shop"][..], &["status"], &["completions", "bash"]] {
        let ended = InstalledCli::of(&daemon)
            .command(args)
            .stdout(full())
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(1), "{args:?}");
    }
}

#[test]
fn refresh() {
    crate::root::needs_root!();
    let shop = account("shop", vec![user(READER)]);
    let daemon = ApiDaemon::of_one(&shop);
    let cli = InstalledCli::of(&daemon);
    for (verdict, said) in [
        (
            Verdict::Superseded,
            "superseded: that token is not the one that stands (replaced already, or never a token of this account); it expires in 1h52m\n",
        ),
        (
            Verdict::StillValid,
            "still valid: the platform honours the token that stands; it expires in 1h52m\n",
        ),
        (
            Verdict::Refreshed,
            "refreshed: a new token stands; it expires in 1h52m\n",
        ),
    ] {
        shop.on_request(move |request, _| {
            let TaskCommand::Suspect { bad, admin, .. } = request else {
                panic!("{request:?}")
            };
            assert_eq!(bad.as_ref().unwrap().expose(), "TOKEN-shop-0");
            assert!(admin);
            Some(verdict.clone())
        });
        let ended = cli.run_with_input(&["refresh", "shop", "--bad-from-stdin"], " TOKEN-shop-0\n");
        assert_eq!((ended.status, &*ended.out, &*ended.err), (0, said, ""));
    }

    shop.on_request(|request, _| {
        assert!(matches!(
            request,
            TaskCommand::Suspect {
                bad: None,
                admin: true,
                ..
            }
        ));
        Some(Verdict::TooSoon {
            retry_at: clock::now().at + Duration::from_millis(12_999),
        })
    });
    cli.run(&["refresh", "shop"])
        .failed(75, "\n  try again in 13 s\n");
    cli.run_as(READER, &["refresh", "shop"])
        .failed(77, "only an administrator");
    cli.run_as(4001, &["refresh", "shop"])
        .failed(77, "there is no account that you may see");
    cli.run(&["refresh", "none"])
        .failed(66, "no account `none`");

    let unavailable = |_: &TaskCommand, _: &_| {
        Some(Verdict::Unavailable {
            retry_at: clock::now().at + Duration::from_millis(59_999),
            error: None,
        })
    };
    shop.on_request(unavailable);
    cli.run(&["refresh", "shop"])
        .failed(75, "\n  try again in 60 s\n");
    shop.publish(|snapshot| snapshot.grants = Box::default());
    cli.run(&["refresh", "shop"])
        .failed(69, "\n  try again in 60 s\n");

    let ended = cli.run_with_input(&["refresh", "shop", "--bad-from-stdin"], " \n");
    assert_eq!(
        (ended.status, &*ended.err),
        (1, "wxtokend: there is no token on standard input\n")
    );
}

#[test]
fn reload() {
    crate::root::needs_root!();
    let changes = Changes {
        added: vec!["blog".to_owned(), "corp".to_owned()],
        changed: vec![],
        removed: vec!["old".to_owned()],
        unchanged: vec!["shop".to_owned()],
        ..Changes::default()
    };
    let daemon = ApiDaemon::start(&[account("shop", vec![user(READER)])], move || {
        Some(Ok(changes.clone()))
    });
    let cli = InstalledCli::of(&daemon);
    let ended = cli.run(&["reload"]);
    assert_eq!((ended.status, &*ended.err), (0, ""));
    assert_eq!(ended.out, "reloaded\nadded: blog, corp\nremoved: old\n");
    cli.run_as(READER, &["reload"])
        .failed(77, "only an administrator");
}

#[test]
fn reload_of_a_faulty_configuration() {
    let fault = |line, message: &str| Fault {
        file: "/etc/wxtokend/config.toml".into(),
        line,
        column: 3,
        message: message.to_owned(),
        is_warning: false,
    };
    let faults = vec![fault(7, "`appid` is wrong"), fault(9, "`mode` is wrong")];
    let daemon = ApiDaemon::start(&[], move || Some(Err(faults.clone())));
    let ended = InstalledCli::of(&daemon).run(&["reload"]);
    assert_eq!((ended.status, &*ended.out), (78, ""));
    assert_eq!(
        ended.err,
        "/etc/wxtokend/config.toml:7:3: `appid` is wrong\n/etc/wxtokend/config.toml:9:3: `mode` is wrong\n\
         wxtokend: the configuration is faulty, the old one still runs\n"
    );
}

#[test]
fn without_a_daemon() {
    crate::root::needs_root!();
    let daemon = ApiDaemon::of(&[account("shop", vec![])]);
    let mut cli = InstalledCli::of(&daemon);
    let all = [
        &["status"][..],
        &["get", "shop"],
        &["refresh", "shop"],
        &["reload"],
    ];

    cli.socket = daemon.dir.path().join("none.sock");
    for args in all {
        cli.run(args).failed(69, "none.sock`: it does not exist\n");
    }

    cli.socket = daemon.dir.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&cli.socket).unwrap());
    for args in all {
        cli.run(args).failed(69, "dead.sock`: nobody listens\n");
    }

    // Something that is not our daemon.
    cli.socket = daemon.dir.path().join("other.sock");
    let other = std::os::unix::net::UnixListener::bind(&cli.socket).unwrap();
    let answering = std::thread::spawn(move || {
        for stream in other.incoming().take(all.len()) {
            stream.unwrap().write_all(b"220 mail ESMTP\r\n").unwrap();
        }
    });
    for args in all {
        cli.run(args).failed(69, "no daemon answers");
    }
    answering.join().unwrap();

    // Something that speaks HTTP, but is not our daemon either.
    for answer in [
        "200 OK\r\n\r\n{}",
        "200 OK\r\n\r\n{\"access_token\":7,\"expires_in\":\"x\",\"reloaded\":1}",
        "200 OK\r\n\r\n<html>welcome</html>",
        "204 No Content\r\n\r\n",
        "302 Found\r\nLocation: /login\r\n\r\n",
        "404 Not Found\r\n\r\n<html>nothing here</html>",
        "502 Bad Gateway\r\n\r\n{}",
    ] {
        let path = daemon.dir.path().join("web.sock");
        let _ = std::fs::remove_file(&path);
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        cli.socket = path;
        let answering = std::thread::spawn(move || {
            for stream in other.incoming().take(all.len()) {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while !matches!(reader.read_line(&mut String::new()), Ok(0 | 2)) {}
                let head = "HTTP/1.1 ";
                stream
                    .write_all((head.to_owned() + answer).as_bytes())
                    .unwrap();
            }
        });
        for args in all {
            cli.run(args).failed(69, "no daemon answers");
        }
        answering.join().unwrap();
    }

    let closed = daemon.dir.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    cli.socket = closed.join("api.sock");
    for args in all {
        cli.run_as(4001, args).failed(77, "permission denied\n");
    }
}

#[test]
fn the_socket_comes_from_the_command_line_the_environment_or_the_configuration() {
    let daemon = ApiDaemon::of(&[account("shop", vec![])]);
    let cli = InstalledCli::of(&daemon);
    let config = daemon.dir.path().join("config.toml");
    let text = format!(
        "[api]\nsocket = {:?}\nunknown = 1\n[accounts.shop]\n",
        cli.socket
    );
    std::fs::write(&config, text).unwrap();
    let run = |args: &[&str], socket: Option<&str>, config: Option<&str>| {
        let mut command = Command::new(&cli.program);
        command
            .args(args)
            .env_remove("WXTOKEND_SOCKET")
            .env_remove("WXTOKEND_CONFIG");
        socket.map(|socket| command.env("WXTOKEND_SOCKET", socket));
        config.map(|config| command.env("WXTOKEND_CONFIG", config));
        CommandResult::of(&command.output().unwrap())
    };
    let socket = cli.socket.to_str().unwrap();
    let config = config.to_str().unwrap();
    for (args, socket, config) in [
        (
            &["status", "-s", socket][..],
            Some("/nonexistent"),
            Some("/nonexistent"),
        ),
        (&["-s", socket, "status"], Some("/nonexistent"), None),
        (&["status"], Some(socket), Some("/nonexistent")),
        (&["status"], None, Some(config)),
        (&["status", "--config", config], None, Some("/nonexistent")),
    ] {
        assert_eq!(
            run(args, socket, config).status,
            0,
            "{args:?} {socket:?} {config:?}"
        );
    }
    run(&["status", "-c", "/nonexistent"], None, None).failed(69, "`/run/wxtokend/api.sock`");
}

#[test]
fn help_and_completions() {
    let daemon = ApiDaemon::of(&[]);
    let cli = InstalledCli::of(&daemon);
    for command in [
        "run",
        "check",
        "status",
        "get",
        "refresh",
        "reload",
        "demo",
        "completions",
        "add",
    ] {
        let ended = cli.run(&[command, "--help"]);
        assert_eq!((ended.status, &*ended.err), (0, ""));
        assert!(ended.out.contains("\nExit status:\n   0  "), "{command}");
        assert!(
            cli.run(&["--help"])
                .out
                .contains(&format!("\n  {command} ")),
            "{command}"
        );
    }
    assert_eq!(cli.run(&[]).status, 2);
    assert_eq!(cli.run(&["status", "--colour"]).status, 2);
    let version = cli.run(&["--version"]).out;
    assert!(
        version.starts_with(concat!("wxtokend ", env!("CARGO_PKG_VERSION"), " (")),
        "{version}"
    );

    for shell in ["bash", "zsh", "fish"] {
        let script = cli.run(&["completions", shell]).out;
        for word in ["bad-from-stdin", "min-valid", "jsapi_ticket", "completions"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let script = cli.run(&["completions", "bash"]).out;
    let mut bash = Command::new("bash")
        .arg("-n")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    bash.stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    assert!(bash.wait().unwrap().success());
}
