//! The packages on real machines: Debian 12 (systemd 252) and Debian 13 (systemd 257), booted as containers.
//!
//! Needs root, debootstrap, systemd-nspawn, overlay mounts and control groups of version 2. It boots a machine first: where
//! none comes up (in a plain chroot, say), it prints why and skips, with a count. With `CI` set that is a failure. The trees
//! are made once and kept in `/var/cache/wxtokend-tests`.

#![expect(clippy::print_stdout, reason = "this is its own test runner")]

mod accounts;
mod boot;
mod install;
mod machine;
mod outage;
mod packages;
mod platform;
mod readers;
mod readme;
mod restart;
mod sandbox;
mod story;
mod upgrade;

use machine::{Machine, Release};
use packages::Packages;
use platform::MachinePlatform;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

type Scenario = fn(&mut Machine, &Packages);

/// The scenarios on each machine, in this order: each leaves the machine as the next expects it.
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
    (
        "the check tells what the unit does not grant",
        accounts::ungranted,
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
        "files stay through a stop, a failed start and a start",
        outage::files_stay,
    ),
    (
        "the writable file of the guide works as written",
        outage::writable_file,
    ),
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
    // `cargo test --test system -- 13`: only there.
    let only = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let chosen = |release: &Release| {
        only.as_ref()
            .is_none_or(|only| release.name().ends_with(only))
    };
    let chosen: Vec<_> = Release::ALL.into_iter().filter(chosen).collect();
    if let Some(obstacle) = obstacle(&chosen) {
        // README's install section is one more.
        let skipped = chosen.len() * (SCENARIOS.len() + 1);
        println!("system tests: no machine can boot here: {obstacle}");
        let failed = usize::from(std::env::var_os("CI").is_some());
        println!("system: 0 passed, {failed} failed, {skipped} skipped");
        return ExitCode::from(u8::from(failed > 0));
    }
    let packages = &Packages::build();
    let (passed, failed) = thread::scope(|scope| {
        let machines: Vec<_> = chosen
            .into_iter()
            .map(|release| scope.spawn(move || run(release, packages)))
            .collect();
        machines
            .into_iter()
            .fold((0, 0), |(passed, failed), machine| match machine.join() {
                Ok((p, f)) => (passed + p, failed + f),
                Err(_) => (passed, failed + 1),
            })
    });
    println!("system: {passed} passed, {failed} failed, 0 skipped");
    ExitCode::from(u8::from(failed > 0))
}

/// Returns why no machine can boot here, if none can. It boots one of each release to see.
fn obstacle(releases: &[Release]) -> Option<String> {
    if !rustix::process::getuid().is_root() {
        return Some("only root can".to_owned());
    }
    for program in ["debootstrap", "systemd-nspawn", "nsenter", "ip"] {
        let found = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
            .map(|directory| Path::new(directory).join(program).exists());
        if !found.contains(&true) {
            return Some(format!("`{program}` is not installed"));
        }
    }
    releases.iter().find_map(|&release| {
        println!("{}: looking whether it boots", release.name());
        let panic = catch_unwind(|| Machine::boot(release)).err()?;
        let text = panic.downcast_ref::<String>();
        Some(text.map_or("it panicked", String::as_str).to_owned())
    })
}

/// Shows everything on one release; returns how much passed, and how much failed or could not be tried.
fn run(release: Release, packages: &Packages) -> (usize, usize) {
    let mut machine = Machine::boot(release);
    let platform = MachinePlatform::start(&machine, &packages.platform, &[]);
    for (done, (title, scenario)) in SCENARIOS.iter().enumerate() {
        if !succeeds(release, title, || scenario(&mut machine, packages)) {
            println!("{}", machine.post_mortem());
            return (done, SCENARIOS.len() - done);
        }
    }
    drop((platform, machine));
    let title = "README's install section, followed to the letter";
    let readme = succeeds(release, title, || readme::follow(release, packages));
    (SCENARIOS.len() + usize::from(readme), usize::from(!readme))
}

fn succeeds(release: Release, title: &str, scenario: impl FnOnce()) -> bool {
    let began = Instant::now();
    let ok = catch_unwind(AssertUnwindSafe(scenario)).is_ok();
    let seconds = began.elapsed().as_secs_f32();
    let verdict = if ok { "ok" } else { "FAILED" };
    println!("{}: {verdict} ({seconds:.1} s): {title}", release.name());
    ok
}
