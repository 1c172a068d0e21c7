//! Hundreds of accounts in trouble do nothing to one that is well: neither hosts that hang nor name servers that never
//! answer.

use crate::common::{Bench, call};
use crate::fixture::{SECRET, account, bench, get, in_file, is_alive, platform, state};
use crate::root::needs_root;
use rustix::process::Signal;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};
use wxtokend::sim::{Effect, Kill, SimFault, SimPlatform};

/// The account that is well.
const WELL: &str = "wx00000000000000ff";
/// Longest time that a healthy account may be without a living token, and that anything else may wait. Far below the
/// tens of seconds that the troubles last, far above what a busy machine takes.
const SOON: Duration = Duration::from_secs(5);

fn crowd(count: u64, key: &str, prefix: &str) -> String {
    (0..count).fold(String::new(), |mut text, n| {
        write!(
            text,
            "\n[accounts.a{n}]\n{key} = \"{prefix}{n:016x}\"\nsecret_file = \"{{dir}}/secret\"\n"
        )
        .unwrap();
        text
    })
}

/// Reports the token of `well` as dead, and returns the new one.
fn replace_dead(bench: &Bench, platform: &SimPlatform) -> (String, Duration) {
    let dead = in_file(bench, "well").unwrap();
    platform.with(|world, now| world.kill(now, WELL, "access_token", Kill::End));
    let began = Instant::now();
    let body = format!("{{\"bad_token\":\"{dead}\",\"errcode\":40001}}");
    let answer = call(&bench.socket(), "POST", "/v1/accounts/well/refresh", &body).unwrap();
    let answer = answer.json();
    assert_eq!(answer["outcome"], "refreshed", "{answer}");
    (
        answer["access_token"].as_str().unwrap().to_owned(),
        began.elapsed(),
    )
}

#[test]
fn hundreds_of_hanging_accounts_do_not_delay_one_of_another_platform() {
    let (bench, platform) = (bench(), platform(|_| ()));
    platform.with(|world, _| {
        world
            .account(WELL, SECRET)
            .lifetime(Duration::from_secs(16));
        for n in 0..300 {
            world.account(&format!("ww{n:016x}"), SECRET);
            world.set_fault(SimFault::from(Effect::Hang).of(&format!("ww{n:016x}")));
        }
    });
    let text = crowd(300, "corpid", "ww") + &account("well", WELL, "poll_every = \"1s\"");
    bench.configure(&platform, &text);
    let daemon = bench.spawn();
    daemon.wait_until("a token of the one that is well", || {
        in_file(&bench, "well").is_some()
    });
    stays_well(&bench, &platform, Duration::from_secs(20));
    // A token must be some seconds old before it is believed to be dead.
    let (token, took) = replace_dead(&bench, &platform);
    assert!(is_alive(&platform, &token) && took < 3 * SOON, "{took:?}");
    daemon.terminate();
}

/// Looks at the file of `well` for a while: there is always a living token in it.
fn stays_well(bench: &Bench, platform: &SimPlatform, time: Duration) {
    let end = Instant::now() + time;
    let (mut looks, mut bad) = (0, 0);
    while Instant::now() < end {
        let token = in_file(bench, "well");
        looks += 1;
        bad += u32::from(token.is_none_or(|token| !is_alive(platform, &token)));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(
        bad * 50 < looks,
        "{bad} of {looks} looks found no living token"
    );
}

/// A name server that takes every question and answers none.
struct SilentServer {
    _socket: UdpSocket,
    address: Ipv4Addr,
}

impl SilentServer {
    fn start() -> Self {
        let address = Ipv4Addr::new(127, 53, fastrand::u8(1..), fastrand::u8(1..));
        Self {
            _socket: UdpSocket::bind((address, 53)).unwrap(),
            address,
        }
    }

    /// Has a command run where this is the only name server.
    fn surround(&self, bench: &Bench, command: &mut Command) {
        let path = bench.path("resolv.conf");
        fs::write(&path, format!("nameserver {}\n", self.address)).unwrap();
        let environment = command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        let mut surrounded = Command::new("unshare");
        let script = "mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"";
        surrounded
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(&path)
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear()
            .envs(environment);
        *command = surrounded;
    }
}

/// The messages to the watchdog so far.
fn beats(bench: &Bench) -> usize {
    let manager = &bench.manager;
    manager.with(|messages| messages.iter().filter(|m| m.has("WATCHDOG=1")).count())
}

#[test]
fn a_silent_name_server_holds_up_nobody_else() {
    needs_root!();
    let (bench, platform) = (bench(), platform(|_| ()));
    platform.with(|world, _| {
        // Its host needs no look-up.
        world
            .account(WELL, SECRET)
            .lifetime(Duration::from_secs(16));
    });
    let text = crowd(200, "corpid", "ww") + &account("well", WELL, "poll_every = \"1s\"");
    bench.configure(&platform, &text);
    let config = fs::read_to_string(bench.path("config.toml")).unwrap();
    let hosts = format!("\nwecom_hosts = [\"{}\"]", platform.base_url());
    assert!(config.contains(&hosts));
    let silent = "\nwecom_hosts = [\"https://silent-1.example\", \"https://silent-2.example\"]";
    let config = config.replace(&hosts, silent);
    bench.write_config(&config);
    let server = SilentServer::start();
    let daemon = bench.spawn_with(|command| {
        command.env("WATCHDOG_USEC", "4000000");
        server.surround(&bench, command);
    });
    daemon.wait_until("a token of the one that is well", || {
        in_file(&bench, "well").is_some()
    });
    daemon.wait_until("READY=1", || daemon.said("READY=1"));
    let before = beats(&bench);
    stays_well(&bench, &platform, Duration::from_secs(12));
    assert!(beats(&bench) >= before + 4, "the watchdog beats each 2 s");
    let error = || get(&bench, "/v1/accounts/a0").json()["last_error"].clone();
    daemon.wait_until("a look-up without an answer", || error().is_object());
    let error = error();
    let message = error["message"].as_str().unwrap();
    for part in [
        "silent-1.example: no answer within",
        &server.address.to_string(),
    ] {
        assert!(message.contains(part), "{message}");
    }
    // A reload that remakes the client waits for no look-up either.
    bench.write_config(&config.replace(
        "\nwecom_hosts = ",
        "\nconnect_timeout = \"2s\"\nwecom_hosts = ",
    ));
    let began = Instant::now();
    daemon.reload();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(state(&bench, "well"), "fresh");
    let began = Instant::now();
    daemon.signal(Signal::TERM);
    assert!(daemon.terminate().success());
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}
