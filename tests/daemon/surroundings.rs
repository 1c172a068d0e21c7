//! Hosts that are unusual: without users, with another manager, with a gateway; and clients whose daemon restarts.

use crate::common::{Bench, PATIENCE, output_of};
use crate::fixture::{
    SECRET, SHOP, account, bench, in_file, is_alive, platform, shop, state, token_calls,
};
use crate::root::{has, needs_root};
use rustix::process::Signal;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use wxtokend::sim::SimAccount;

/// Has a command run where `etc` of the bench lies over /etc.
fn with_etc(bench: &Bench, command: &mut Command) {
    let environment = command
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    let mut surrounded = Command::new("unshare");
    let script = "mount --bind \"$1\" /etc && shift && exec \"$@\"";
    surrounded
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(bench.path("etc"))
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(environment);
    *command = surrounded;
}

#[test]
fn uid_0_is_an_administrator_where_there_is_no_passwd() {
    needs_root!();
    let (bench, platform) = (bench(), platform(|_| ()));
    fs::create_dir(bench.path("etc")).unwrap();
    bench.configure(&platform, &shop(""));
    let text = fs::read_to_string(bench.path("config.toml")).unwrap();
    bench.write_config(&text.replace("admins = [\"0\"]\n", ""));
    let _daemon = bench.start_with(|command| with_etc(&bench, command));
    for command in [
        &["status"][..],
        &["reload"],
        &["refresh", "shop"],
        &["check"],
    ] {
        let mut command = bench.wxtokend(command);
        with_etc(&bench, &mut command);
        output_of(&mut command);
    }
    // By its name too.
    bench.write_config(&text.replace("admins = [\"0\"]", "admins = [\"root\"]"));
    output_of(&mut bench.wxtokend(&["reload"]));
    output_of(&mut bench.wxtokend(&["status"]));
}

#[test]
fn a_service_manager_may_listen_at_an_abstract_name() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop(""));
    let name = format!("wxtokend-test-{}", std::process::id());
    let address = UnixAddress::from_abstract_name(&name).unwrap();
    let manager = UnixDatagram::bind_addr(&address).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let daemon = bench.spawn_with(|command| {
        command.env("NOTIFY_SOCKET", format!("@{name}"));
    });
    let told = |line: &str| {
        let mut buffer = [0; 4096];
        loop {
            let length = manager
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("{line}: {error}"));
            let text = String::from_utf8_lossy(&buffer[..length]);
            if text.lines().any(|each| each.starts_with(line)) {
                return;
            }
        }
    };
    told("READY=1");
    daemon.signal(Signal::HUP);
    told("RELOADING=1");
    told("STATUS=1/1 accounts fresh");
    daemon.signal(Signal::TERM);
    told("STOPPING=1");
}

/// A gateway that serves a platform below a path, and nothing elsewhere.
struct Gateway {
    address: SocketAddr,
    paths: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    fn start(platform: SocketAddr, below: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let paths = Arc::new(Mutex::new(Vec::new()));
        let seen = paths.clone();
        // It ends with the process of the test.
        thread::spawn(move || {
            for client in listener.incoming() {
                let seen = seen.clone();
                thread::spawn(move || serve(client.unwrap(), platform, below, &seen));
            }
        });
        Self { address, paths }
    }
}

/// Answers one request, and closes.
fn serve(mut client: TcpStream, platform: SocketAddr, below: &[&str], seen: &Mutex<Vec<String>>) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    let (head, body_length) = loop {
        let Ok(length @ 1..) = client.read(&mut buffer) else {
            return;
        };
        request.extend_from_slice(&buffer[..length]);
        let Some(end) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8(request[..end].to_vec()).unwrap();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.eq_ignore_ascii_case("content-length")).then(|| value.trim().parse().unwrap())
        });
        let body: usize = length.unwrap_or(0);
        if request.len() >= end + 4 + body {
            break (head, body);
        }
    };
    let mut words = head.splitn(3, ' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    seen.lock()
        .unwrap()
        .push(path.split('?').next().unwrap().to_owned());
    let Some(path) = below.iter().find_map(|below| path.strip_prefix(below)) else {
        let _ = client
            .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    };
    let body = &request[request.len() - body_length..];
    let mut server = TcpStream::connect(platform).unwrap();
    write!(
        server,
        "{method} {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nContent-Length: {body_length}\r\n\r\n"
    )
    .unwrap();
    server.write_all(body).unwrap();
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).unwrap();
    let _ = client.write_all(&answer);
}

#[test]
fn a_gateway_under_a_path_and_a_private_wecom_over_http_are_asked() {
    const CORP: &str = "ww0123456789abcdef/1000002";
    needs_root!();
    let bench = bench();
    let platform = platform(|world| {
        let (corpid, agentid) = CORP.split_once('/').unwrap();
        let mut corp = SimAccount::new(corpid, SECRET);
        corp.agentid = Some(agentid.parse().unwrap());
        world.add(corp);
    });
    let gateway = Gateway::start(platform.address(), &["/wechat", "/corp/api"]);
    // A name of the own network: no loopback address to the daemon.
    fs::create_dir(bench.path("etc")).unwrap();
    fs::write(bench.path("etc/hosts"), "127.0.0.1 wecom.corp.example\n").unwrap();
    let port = gateway.address.port();
    let configure = |allowed: &str| {
        bench.write_config(&format!(
            "[daemon]\nstate_dir = \"{{dir}}/state\"\n[api]\nsocket = \"{{dir}}/run/api.sock\"\n\
             [platform]\nhosts = [\"http://127.0.0.1:{port}/wechat\"]\n\
             wecom_hosts = [\"http://wecom.corp.example:{port}/corp/api/\"]\nallow_http = [{allowed}]\n{}{}",
            shop(""),
            account("office", CORP, "tickets = [\"agent\"]")
        ));
    };
    configure("");
    let mut check = bench.wxtokend(&["check"]);
    let refused = check.output().unwrap();
    assert_eq!(refused.status.code(), Some(78));
    let said = String::from_utf8(refused.stdout).unwrap();
    assert!(
        said.contains("7:16: `wecom_hosts`") && said.contains("`allow_http`"),
        "{said}"
    );

    configure(&format!("\"wecom.corp.example:{port}\""));
    let daemon = bench.start_with(|command| with_etc(&bench, command));
    for name in ["shop", "office"] {
        daemon.wait_until(name, || state(&bench, name) == "fresh");
        assert!(is_alive(&platform, &in_file(&bench, name).unwrap()));
    }
    let mut paths = gateway.paths.lock().unwrap().clone();
    paths.sort();
    assert_eq!(
        paths,
        [
            "/corp/api/cgi-bin/gettoken",
            "/corp/api/cgi-bin/ticket/get",
            "/wechat/cgi-bin/stable_token",
        ]
    );
    let mut online = bench.wxtokend(&["check", "--online"]);
    with_etc(&bench, &mut online);
    assert_eq!(output_of(&mut online).matches(": ok: ").count(), 2);
}

/// Answers each connection with one of `answers`, and remembers the requests.
fn stand_in(bench: &Bench, answers: [String; 2]) -> thread::JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(bench.socket()).unwrap();
    fs::set_permissions(bench.socket(), Permissions::from_mode(0o666)).unwrap();
    thread::spawn(move || {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut client, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && client.read(&mut byte).unwrap() == 1 {
                request.push(byte[0]);
            }
            requests.push(String::from_utf8(request).unwrap());
            client.write_all(answer.as_bytes()).unwrap();
        }
        requests
    })
}

#[test]
fn a_client_asks_once_more_when_the_daemon_restarts() {
    let http = |status: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let token = http(
        "200 OK",
        r#"{"access_token":"TOKEN","expire_time":1900000000,"expires_in":9}"#,
    );
    let stopping = http(
        "503 Service Unavailable",
        r#"{"error":"stopping","message":"the daemon is stopping","hint":""}"#,
    );
    for first in [String::new(), stopping] {
        let bench = bench();
        bench.write_config("");
        let daemon = stand_in(&bench, [first, token.clone()]);
        let said = output_of(&mut bench.wxtokend(&["get", "shop"]));
        assert_eq!(said, "TOKEN\n");
        let requests = daemon.join().unwrap();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[0], requests[1]);
    }
    // Once, and no oftener.
    let bench = bench();
    bench.write_config("");
    let daemon = stand_in(&bench, [String::new(), String::new()]);
    let output = bench.wxtokend(&["get", "shop"]).output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert_eq!(daemon.join().unwrap().len(), 2);
}

#[test]
fn a_name_that_is_misspelt_is_suggested() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop(""));
    let _daemon = bench.start();
    for (command, code) in [
        ("status", 1),
        ("get", 66),
        ("refresh", 66),
        ("quota", 66),
        ("watch", 66),
    ] {
        let output = bench.wxtokend(&[command, "shpo"]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{command}: {said}");
        assert!(said.contains("did you mean `shop`?"), "{command}: {said}");
        assert!(!said.contains("no accounts"), "{command}: {said}");
    }
    assert_eq!(token_calls(&platform, SHOP), 1);
}

#[test]
fn garbage_on_standard_input_is_no_bad_token() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop(""));
    let _daemon = bench.start();
    let garbage = bench.path("garbage");
    for (bytes, part) in [
        (&b"two words\n"[..], "is no token"),
        (b"\xff\xfe\0", "is no token"),
        (b"\n", "there is no token on standard input"),
    ] {
        fs::write(&garbage, bytes).unwrap();
        let mut refresh = bench.wxtokend(&["refresh", "shop", "--bad-from-stdin"]);
        let output = refresh
            .stdin(fs::File::open(&garbage).unwrap())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(token_calls(&platform, SHOP), 1);
}

#[test]
fn files_that_are_not_included_are_told_everywhere() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, "");
    let text = fs::read_to_string(bench.path("config.toml")).unwrap();
    let text = text.replace(
        "[daemon]\n",
        "[daemon]\ninclude = [\"accounts.d/*.toml\"]\n",
    );
    bench.write_config(&text);
    fs::create_dir(bench.path("accounts.d")).unwrap();
    let (none, left_out) = ("`include` finds no file", "`include` leaves out `");
    let conf = bench.path("accounts.d/shop.conf");
    fs::write(&conf, "").unwrap();
    let daemon = bench.start();
    for part in [none, left_out, conf.to_str().unwrap()] {
        daemon.wait_until(part, || daemon.log().contains(part));
    }
    let output = bench.wxtokend(&["reload"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(none) && said.contains(left_out), "{said}");
    let answer = crate::common::call(&bench.socket(), "POST", "/v1/reload", "").unwrap();
    let warnings = answer.json()["warnings"].clone();
    assert_eq!(warnings.as_array().map(Vec::len), Some(2), "{warnings}");
    assert!(
        warnings[1]["message"]
            .as_str()
            .unwrap()
            .starts_with(left_out),
        "{warnings}"
    );
    assert_eq!(warnings[1]["line"], 2, "{warnings}");
}

#[test]
fn memory_is_hidden_before_the_first_secret_is_read() {
    // Nobody else can trace it any further.
    needs_root!();
    if !has("strace") {
        return;
    }
    let (bench, platform) = (bench(), platform(|_| ()));
    let inline = format!("[accounts.shop]\nappid = \"{SHOP}\"\nsecret = \"{SECRET}\"\n");
    // Faulty, so that the daemon ends once it has read everything.
    bench.configure(&platform, &(inline + "nonsense = 1\n"));
    let secret = bench.path("secret");
    let from = secret.to_str().unwrap();
    let trace = bench.path("trace");
    for (arguments, file) in [
        (&["run"][..], "config.toml"),
        (&["check"], "config.toml"),
        (
            &["add", "blog", "--appid", SHOP, "--secret-from", from],
            "config.toml",
        ),
    ] {
        let plain = bench.wxtokend(arguments);
        let mut traced = Command::new("strace");
        traced
            .args(["-f", "-e", "trace=prctl,open,openat", "-o"])
            .arg(&trace)
            .arg(plain.get_program())
            .args(arguments)
            .env_clear()
            .envs(
                plain
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            );
        let output = traced.output().unwrap();
        let trace =
            fs::read_to_string(&trace).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let at = |text: &str| {
            trace
                .find(text)
                .unwrap_or_else(|| panic!("{text}: {trace}"))
        };
        let hidden = at("prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE");
        assert!(hidden < at(&format!("{file}\"")), "{arguments:?}: {trace}");
    }
}
