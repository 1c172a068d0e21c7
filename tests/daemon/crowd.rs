//! Hundreds of accounts in trouble do nothing to one that is well: neither hosts that hang nor name servers that never
//! answer.

use crate::common::{Bench, FairTime, RunningDaemon, call};
use crate::fixture::{
    SECRET, account, bench, get, in_file, is_alive, platform, replaced_early, state,
};
use crate::root::needs_root;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};
use wxtokend::sim::{Effect, Kill, SimFault, SimPlatform};

/// The account that is well.
const WELL: &str = "wx00000000000000ff";
/// Longest time that a reload, or an end, may take. Below the tens of seconds that the troubles last, above what a busy
/// machine takes.
const SOON: Duration = Duration::from_secs(10);
/// Longest silence towards the watchdog, which is told every two seconds and restarts the service after 30.
const SILENCE: Duration = Duration::from_secs(15);

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

/// Reports a token of `well` as dead, and returns the new one.
fn replace_dead(bench: &Bench, platform: &SimPlatform) -> String {
    let dead = platform.with(|world, now| {
        world.kill(now, WELL, "access_token", Kill::End);
        in_file(bench, "well").unwrap_or_default()
    });
    let body = format!("{{\"bad_token\":\"{dead}\",\"errcode\":40001}}");
    let answer = call(&bench.socket(), "POST", "/v1/accounts/well/refresh", &body).unwrap();
    let answer = answer.json();
    // Another one may have been fetched meanwhile, since it was due.
    let outcome = answer["outcome"].as_str();
    assert!(
        matches!(outcome, Some("refreshed" | "superseded")),
        "{answer}"
    );
    answer["access_token"].as_str().unwrap().to_owned()
}

#[test]
fn hundreds_of_hanging_accounts_do_not_delay_one_of_another_platform() {
    let (bench, platform) = (bench(), platform(|_| ()));
    platform.with(|world, _| {
        replaced_early(world.account(WELL, SECRET));
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
    stays_well(&bench, &daemon, &platform, Duration::from_secs(20));
    // A token must be some seconds old before it is believed to be dead.
    let time = FairTime::start();
    let token = replace_dead(&bench, &platform);
    assert!(is_alive(&platform, &token));
    time.assert_within(3 * SOON);
    daemon.terminate();
}

/// Looks at the file of `well` for a while, and until its token was replaced twice: there is always a living one in it.
fn stays_well(bench: &Bench, daemon: &RunningDaemon<'_>, platform: &SimPlatform, time: Duration) {
    let end = Instant::now() + time;
    let mut tokens = HashSet::new();
    daemon.wait_until("other tokens", || {
        let token = in_file(bench, "well").expect("a token");
        assert!(is_alive(platform, &token), "a dead token");
        tokens.insert(token);
        tokens.len() > 2 && Instant::now() > end
    });
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

/// The moments when the watchdog was told so far.
fn beats(bench: &Bench) -> Vec<Instant> {
    bench.manager.with(|messages| {
        let beats = messages.iter().filter(|message| message.has("WATCHDOG=1"));
        beats.map(|message| message.at).collect()
    })
}

#[test]
fn a_silent_name_server_holds_up_nobody_else() {
    needs_root!();
    let (bench, platform) = (bench(), platform(|_| ()));
    platform.with(|world, _| {
        // Its host needs no look-up.
        replaced_early(world.account(WELL, SECRET));
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
    let before = beats(&bench).len();
    stays_well(&bench, &daemon, &platform, Duration::from_secs(12));
    daemon.wait_until("signs of life", || beats(&bench).len() > before + 4);
    for pair in beats(&bench).windows(2) {
        let silence = pair[1] - pair[0];
        assert!(silence < SILENCE, "{silence:?}");
    }
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
    let time = FairTime::start();
    daemon.reload();
    time.assert_within(SOON);
    assert_eq!(state(&bench, "well"), "fresh");
    let time = FairTime::start();
    assert!(daemon.terminate().success());
    time.assert_within(SOON);
}
