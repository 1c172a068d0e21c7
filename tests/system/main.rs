//! The packages on real machines: Debian 12 (systemd 252) and Debian 13 (systemd 257), booted as containers.
//!
//! Needs root, debootstrap and systemd-nspawn; the trees are made once and kept in `/var/cache/wxtokend-tests`. Without
//! root it says so and does nothing, unless `CI=true`: then that is a failure.

#![expect(clippy::print_stdout, reason = "this is its own test runner")]

mod accounts;
mod boot;
mod install;
mod machine;
mod packages;
mod platform;
mod readers;
mod restart;
mod sandbox;
mod story;
mod upgrade;

use machine::{Machine, Release};
use packages::Packages;
use platform::Platform;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

type Scenario = fn(&mut Machine, &Packages);

/// What is shown on each machine, in this order: each leaves the machine as the next expects it.
const SCENARIOS: &[(&str, Scenario)] = &[
    (
        "the package before is installed and runs with no accounts",
        install::install,
    ),
    ("the unit is sound and exposes little", install::unit),
    ("the sandbox is real", sandbox::sandbox),
    ("an account is added by a reload", accounts::reload),
    (
        "a bad file is rejected, and the old one runs on",
        accounts::bad_reload,
    ),
    ("secrets come as credentials", accounts::credentials),
    ("apps read as other users and as services", accounts::apps),
    (
        "a day with a whitelist failure reads like a story",
        story::story,
    ),
    (
        "a daemon that hangs is killed and replaced",
        restart::watchdog,
    ),
    ("a daemon that is killed comes back", restart::kill),
    ("twenty restarts cost no read", restart::twenty),
    (
        "an app that starts after it finds its token at boot",
        boot::order_of_start,
    ),
    ("the platform is away at boot", boot::platform_away),
    ("an upgrade costs no read", upgrade::upgrade),
    (
        "an upgrade over a bad configuration restarts nothing",
        upgrade::bad_configuration,
    ),
    ("purge leaves nothing", upgrade::purge),
];

fn main() -> ExitCode {
    // `cargo test -- --list` and the like ask something else.
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    if !rustix::process::getuid().is_root() {
        println!("system tests: SKIPPED, they need root to boot containers");
        return ExitCode::from(u8::from(std::env::var_os("CI").is_some()));
    }
    // `cargo test --test system -- 13`: only there.
    let only = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let chosen = |release: &Release| {
        only.as_ref()
            .is_none_or(|only| release.name().ends_with(only))
    };
    let releases: Vec<_> = Release::ALL.into_iter().filter(chosen).collect();
    let packages = Packages::build();
    let failures: usize = thread::scope(|scope| {
        let machines: Vec<_> = releases
            .iter()
            .map(|&release| {
                let packages = &packages;
                scope.spawn(move || run(release, packages))
            })
            .collect();
        let failures = machines
            .into_iter()
            .map(|machine| machine.join().unwrap_or(SCENARIOS.len()));
        failures.sum()
    });
    println!(
        "{} passed, {failures} failed",
        releases.len() * SCENARIOS.len() - failures
    );
    ExitCode::from(u8::from(failures > 0))
}

/// Runs the scenarios on one machine; returns how many failed or could not be tried.
fn run(release: Release, packages: &Packages) -> usize {
    let name = release.name();
    let mut machine = Machine::boot(release);
    let _platform = Platform::start(&machine, &packages.platform);
    for (done, (title, scenario)) in SCENARIOS.iter().enumerate() {
        let began = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| scenario(&mut machine, packages)));
        let seconds = began.elapsed().as_secs_f32();
        if result.is_err() {
            println!("{name}: FAILED after {seconds:.1} s: {title}");
            println!("{}", machine.post_mortem());
            return SCENARIOS.len() - done;
        }
        println!("{name}: ok ({seconds:.1} s): {title}");
    }
    0
}
