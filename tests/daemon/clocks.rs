//! Clocks that step under a running daemon: a virtual machine that is paused, a clock that is wrong at boot, a host that sleeps.
//!
//! A daemon reads its clocks through the vDSO, code that the kernel puts into each process. In the daemon that is tried,
//! other code is put in its place, which adds seconds to the clocks. It is machine code of x86-64.
#![cfg(target_arch = "x86_64")]

use crate::common::{Bench, RunningDaemon, call, read_json};
use crate::fixture::{
    SECRET, SHOP, bench, clear_of_midnight, get, in_file, is_alive, platform, probe, shop, state,
    token_calls,
};
use crate::root::needs_root;
use rustix::process::Signal;
use serde_json::json;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wxtokend::sim::{Effect, Endpoint, Kill, SimFault, SimPlatform};

const HOUR: i64 = 3600;

/// `clock_gettime`: the system call, and then so many seconds more of `CLOCK_REALTIME` (0) and `CLOCK_BOOTTIME` (7).
const CODE: [u8; 37] = [
    0xb8, 0xe4, 0, 0, 0, // mov eax, 228
    0x0f, 0x05, // syscall
    0x85, 0xff, // test edi, edi
    0x74, 0x0e, // jz unix
    0x83, 0xff, 0x07, // cmp edi, 7
    0x75, 0x13, // jne done
    0x48, 0x8b, 0x0d, 0x16, 0, 0, 0, // mov rcx, [boot]
    0xeb, 0x07, // jmp add
    0x48, 0x8b, 0x0d, 0x05, 0, 0, 0, // unix: mov rcx, [unix]
    0x48, 0x01, 0x0e, // add: add [rsi], rcx
    0xc3, // done: ret
    0x90, // the seconds follow: of Unix time, and since boot
];

/// The clocks of a running daemon.
struct SteppedClocks {
    memory: File,
    seconds_at: u64,
}

impl SteppedClocks {
    fn of(daemon: &RunningDaemon<'_>) -> Self {
        let pid = daemon.pid().as_raw_nonzero();
        let mut open = OpenOptions::new();
        let memory = open.read(true).write(true);
        let memory = memory.open(format!("/proc/{pid}/mem")).unwrap();
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let line = maps.lines().find(|line| line.ends_with("[vdso]")).unwrap();
        let (begin, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let begin = u64::from_str_radix(begin, 16).unwrap();
        let end = u64::from_str_radix(end, 16).unwrap();
        let mut image = vec![0; usize::try_from(end - begin).unwrap()];
        memory.read_exact_at(&mut image, begin).unwrap();
        let function = begin + function(&image, "__vdso_clock_gettime", CODE.len() + 16);
        stopped_outside(daemon, begin..end, || {
            let code = [&CODE[..], &[0; 16]].concat();
            memory.write_all_at(&code, function).unwrap();
        });
        Self {
            memory,
            seconds_at: function + CODE.len() as u64,
        }
    }

    /// From now on the clocks are so many seconds ahead.
    fn set(&self, unix: i64, boot: i64) {
        let seconds = [unix.to_le_bytes(), boot.to_le_bytes()].concat();
        self.memory.write_all_at(&seconds, self.seconds_at).unwrap();
    }
}

/// The place of a function in the image of a shared object, which is at least so long.
fn function(image: &[u8], name: &str, length: usize) -> u64 {
    let number = |at: u64, size: usize| {
        let at = usize::try_from(at).unwrap();
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&image[at..at + size]);
        u64::from_le_bytes(bytes)
    };
    let mut headers = (0..number(0x38, 2)).map(|n| number(0x20, 8) + n * number(0x36, 2));
    let dynamic = headers.find(|at| number(*at, 4) == 2).unwrap();
    let entries = (0..).map(|n| number(dynamic + 8, 8) + n * 16);
    let entries = entries.take_while(|at| number(*at, 8) != 0);
    let entry = |tag| {
        let found = entries.clone().find(|at| number(*at, 8) == tag).unwrap();
        number(found + 8, 8)
    };
    let (strings, symbols) = (entry(5), entry(6));
    // The names come after the symbols.
    let mut symbols = (symbols..strings).step_by(24);
    let symbol = symbols.find(|at| {
        let text = usize::try_from(strings + number(*at, 4)).unwrap();
        image[text..].starts_with(name.as_bytes()) && image[text + name.len()] == 0
    });
    let symbol = symbol.unwrap();
    assert!(number(symbol + 16, 8) >= length as u64, "{name} is short");
    number(symbol + 8, 8)
}

/// Does something while the daemon stands still, and no thread of it in a part of its memory.
fn stopped_outside(daemon: &RunningDaemon<'_>, part: std::ops::Range<u64>, work: impl FnOnce()) {
    let tasks = format!("/proc/{}/task", daemon.pid().as_raw_nonzero());
    let all = |file: &str| -> Vec<String> {
        let tasks = fs::read_dir(&tasks).unwrap();
        let paths = tasks.map(|task| task.unwrap().path().join(file));
        // A thread that has gone meanwhile is in no part of the memory.
        paths
            .filter_map(|path| fs::read_to_string(path).ok())
            .collect()
    };
    daemon.wait_until("that no thread reads a clock", || {
        daemon.signal(Signal::STOP);
        daemon.wait_until("that it stands still", || {
            let stats = all("stat");
            stats.iter().all(|stat| stat.contains(") T "))
        });
        let is_outside = all("syscall").iter().all(|line| {
            let at = line.trim().rsplit("0x").next().unwrap();
            u64::from_str_radix(at, 16).is_ok_and(|at| !part.contains(&at))
        });
        if !is_outside {
            daemon.signal(Signal::CONT);
        }
        is_outside
    });
    work();
    daemon.signal(Signal::CONT);
}

/// Starts a daemon that looks at its clocks every second.
fn start(bench: &Bench, change: impl FnOnce(&mut Command)) -> RunningDaemon<'_> {
    bench.start_with(|command| {
        command.env("WATCHDOG_USEC", "2000000");
        change(command);
    })
}

fn verifications(platform: &SimPlatform) -> u64 {
    platform.with(|world, _| world.calls(SHOP, Endpoint::ApiDomainIp))
}

fn expire_time(bench: &Bench) -> i64 {
    let account = get(bench, "/v1/accounts/shop").json();
    account["expire_time"].as_i64().unwrap_or_default()
}

fn unix() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

#[test]
fn after_a_pause_a_dead_token_is_not_given_another_life_and_a_set_clock_costs_no_token() {
    needs_root!();
    for is_pause in [true, false] {
        let (bench, platform) = (bench(), platform(|_| ()));
        bench.configure(&platform, &shop("poll_every = \"0s\""));
        let daemon = start(&bench, |_| ());
        let clocks = SteppedClocks::of(&daemon);
        let token = in_file(&bench, "shop").unwrap();
        let end = expire_time(&bench);
        daemon.wait_until("a token that has settled", || {
            probe(&platform, &token).age_ms > Some(10_000)
        });
        if is_pause {
            // Time went on for the platform.
            platform.with(|world, now| world.kill(now, SHOP, "access_token", Kill::End));
        }
        clocks.set(3 * HOUR, 0);
        daemon.wait_until("the question", || verifications(&platform) > 0);
        let file = bench.path("run/shop.json");
        daemon.wait_until("a token whose end is to come", || {
            let Ok(text) = fs::read_to_string(&file) else {
                return false;
            };
            let found: serde_json::Value = serde_json::from_str(&text).unwrap();
            let ends = found["expire_time"].as_i64().unwrap();
            if is_pause && found["access_token"] == token.as_str() {
                assert_eq!(ends, end, "a dead token lives on");
            }
            ends > unix() + 3 * HOUR
        });
        let (held, file) = (in_file(&bench, "shop").unwrap(), read_json(&file));
        assert!(is_alive(&platform, &held));
        assert_eq!(held == token, !is_pause, "{file}");
        assert_eq!(verifications(&platform), 1);
        assert_eq!(token_calls(&platform, SHOP), 1 + u64::from(is_pause));
        daemon.wait_until("all well", || state(&bench, "shop") == "fresh");
        daemon.terminate();
    }
}

#[test]
fn stored_end_counts_again_once_a_clock_that_was_wrong_at_boot_is_right() {
    needs_root!();
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop("poll_every = \"2s\""));
    bench.start().terminate();
    let token = in_file(&bench, "shop").unwrap();
    // Three hours pass, the host boots, and its clock says that they did not.
    platform.with(|world, now| world.kill(now, SHOP, "access_token", Kill::End));
    platform.with(|world, _| world.set_fault(Effect::errcode(40164).into()));
    fs::write(bench.path("boot_id"), "another boot\n").unwrap();
    let daemon = start(&bench, |command| after_boot(&bench, command));
    assert_eq!(in_file(&bench, "shop").as_ref(), Some(&token));
    let clocks = SteppedClocks::of(&daemon);
    daemon.wait_until("the refusal", || state(&bench, "shop") == "degraded");
    clocks.set(3 * HOUR, 0);
    daemon.wait_until("no file", || in_file(&bench, "shop").is_none());
    daemon.wait_until("that it is told", || state(&bench, "shop") == "expired");
    let calls = token_calls(&platform, SHOP);
    bench.configure(
        &platform,
        &format!("timeout = \"9s\"\n{}", shop("poll_every = \"2s\"")),
    );
    daemon.reload();
    daemon.wait_until("the next refusal", || token_calls(&platform, SHOP) > calls);
    assert_eq!(
        in_file(&bench, "shop"),
        None,
        "refused, and dead all the same"
    );
    platform.with(|world, _| world.heal_all());
    bench.configure(&platform, &shop("poll_every = \"2s\""));
    daemon.reload();
    daemon.wait_until("another token", || in_file(&bench, "shop").is_some());
    assert!(is_alive(&platform, &in_file(&bench, "shop").unwrap()));
    daemon.terminate();
}

/// Has a command run where the host has booted since.
fn after_boot(bench: &Bench, command: &mut Command) {
    let environment = command
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    let mut surrounded = Command::new("unshare");
    let script = "mount --bind \"$1\" /proc/sys/kernel/random/boot_id && shift && exec \"$@\"";
    surrounded
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(bench.path("boot_id"))
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(environment);
    *command = surrounded;
}

#[test]
fn token_that_a_lost_answer_may_have_ended_is_verified_before_five_minutes_are_over() {
    needs_root!();
    clear_of_midnight(Duration::from_secs(3600));
    let (bench, platform) = (
        bench(),
        platform(|world| {
            world.account(SHOP, SECRET).overlap = Some(Duration::ZERO);
        }),
    );
    bench.configure(&platform, &shop("method = \"classic\""));
    let daemon = start(&bench, |_| ());
    let clocks = SteppedClocks::of(&daemon);
    let token = in_file(&bench, "shop").unwrap();
    platform.with(|world, _| {
        let at = |fault: SimFault| fault.at(Endpoint::Token);
        world.set_fault(at(Effect::errcode(45009).into()));
        world.set_fault(at(SimFault::from(Effect::Reset).after_work().times(1)));
    });
    // The host sleeps until the token is to be replaced.
    clocks.set(HOUR, HOUR);
    daemon.wait_until("a lost answer and a refusal", || {
        let account = get(&bench, "/v1/accounts/shop").json();
        account["last_error"]["errcode"] == 45009
    });
    assert!(!is_alive(&platform, &token), "another one was minted");
    let calls = token_calls(&platform, SHOP);
    assert_eq!(in_file(&bench, "shop"), Some(token), "nobody can know yet");
    assert!(expire_time(&bench) <= unix() + HOUR + 301);
    assert_eq!(verifications(&platform), 0);
    // Four of the five minutes pass.
    clocks.set(HOUR + 241, HOUR + 241);
    daemon.wait_until("no file", || in_file(&bench, "shop").is_none());
    assert_eq!(verifications(&platform), 1);
    // The quota is waited out, though there is no token; an administrator may try.
    assert_eq!(token_calls(&platform, SHOP), calls);
    platform.with(|world, _| world.heal_all());
    let answer = call(&bench.socket(), "POST", "/v1/accounts/shop/refresh", "").unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let held = in_file(&bench, "shop").unwrap();
    assert_eq!(answer.json()["access_token"], json!(held));
    assert!(is_alive(&platform, &held));
    daemon.terminate();
}
