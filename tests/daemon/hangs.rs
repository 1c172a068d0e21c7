//! Whatever hangs outside of the daemon, a disk, a mount or a reader of its messages, hangs alone.

use crate::common::{
    Bench, FairTime, Freshness, ReadFrom, RunningDaemon, call, json, output_of, raw,
};
use crate::fixture::{
    SECRET, SHOP, account, appid, bench, bench_on_disk, get, in_file, platform, probe,
    replaced_early, shop, token_calls,
};
use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::Signal;
use serde_json::json;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wxtokend::sim::{Effect, Endpoint, Kill, SimFault, SimPlatform, World};

/// SIGTERM to exit, and some time for a busy host.
const EXIT_LIMIT: Duration = Duration::from_millis(6500);
/// A start, or a reload, that waits for nothing that hangs longer than for its limits.
const START_LIMIT: Duration = Duration::from_secs(25);

/// A FUSE file system that never answers. Once nobody can answer any more, all that hangs in it fails.
struct SilentMount(PathBuf, Option<OwnedFd>);

impl SilentMount {
    fn over(directory: &Path) -> Self {
        let fuse = open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            fuse.as_raw_fd()
        );
        let options = CString::new(options).unwrap();
        mount("silent", directory, "fuse", MountFlags::empty(), &*options).unwrap();
        Self(directory.to_owned(), Some(fuse))
    }

    /// Goes away, so that the directory below it is there again.
    fn end(&mut self) {
        if self.1.take().is_some() {
            let _ = unmount(&self.0, UnmountFlags::DETACH);
        }
    }
}

impl Drop for SilentMount {
    fn drop(&mut self) {
        self.end();
    }
}

/// An ext4 of its own over a directory, which can be frozen: writes to it hang until it is thawed.
struct FreezableDisk(PathBuf);

impl FreezableDisk {
    fn over(directory: PathBuf, image: &Path) -> Self {
        let file = fs::File::create(image).unwrap();
        file.set_len(16 << 20).unwrap();
        output_of(Command::new("mkfs.ext4").arg("-q").arg(image));
        output_of(
            Command::new("mount")
                .args(["-o", "loop"])
                .arg(image)
                .arg(&directory),
        );
        Self(directory)
    }

    fn freeze(&self) {
        output_of(Command::new("fsfreeze").arg("-f").arg(&self.0));
    }

    fn thaw(&self) {
        // It may not be frozen.
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.0).output();
    }
}

impl Drop for FreezableDisk {
    fn drop(&mut self) {
        self.thaw();
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// `shop` and `blog`, whose tokens live eight seconds.
fn two() -> Arc<SimPlatform> {
    platform(|world: &mut World| {
        for id in [SHOP.to_owned(), appid(1)] {
            world.account(&id, SECRET).lifetime(Duration::from_secs(8));
        }
    })
}

/// `shop` and `blog`, whose tokens are replaced early.
fn steady() -> Arc<SimPlatform> {
    platform(|world: &mut World| {
        for id in [SHOP.to_owned(), appid(1)] {
            replaced_early(world.account(&id, SECRET));
        }
    })
}

/// `shop` with its file elsewhere, and `blog`.
fn shop_elsewhere(path: &str) -> String {
    shop("").replace("run/shop.json", path) + &account("blog", &appid(1), "")
}

fn blog(bench: &Bench, platform: &Arc<SimPlatform>) -> Freshness {
    Freshness::watch(
        platform,
        &[
            ReadFrom::File(bench.path("run/blog.json"), json),
            ReadFrom::Socket(bench.path("run/blog.sock"), raw),
        ],
    )
}

/// Waits for other tokens of `blog`.
fn wait_for_rotations(bench: &Bench, daemon: &RunningDaemon<'_>, count: usize) {
    for _ in 0..count {
        let held = in_file(bench, "blog");
        daemon.wait_until("another token", || {
            in_file(bench, "blog").is_some_and(|token| Some(token) != held)
        });
    }
}

fn output_state(bench: &Bench, name: &str) -> (String, String) {
    let account = get(bench, &format!("/v1/accounts/{name}")).json();
    let output = &account["outputs"][0];
    let text = |key: &str| output[key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("error"))
}

/// Waits for two beats of the watchdog that begin from now on.
fn wait_for_signs_of_life(bench: &Bench, daemon: &RunningDaemon<'_>) {
    let beats = || {
        bench.manager.with(|messages| {
            let beats = messages.iter().filter(|message| message.has("WATCHDOG=1"));
            beats.count()
        })
    };
    let before = beats();
    daemon.wait_until("signs of life", || beats() > before + 2);
}

/// Ends the daemon, whatever hangs.
fn assert_stops_in_time(daemon: RunningDaemon<'_>) {
    let time = FairTime::start();
    let status = daemon.terminate();
    time.assert_within(EXIT_LIMIT);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn daemon_starts_reloads_and_stops_while_one_output_hangs() {
    crate::root::needs_root!();
    let (bench, platform) = (bench(), steady());
    fs::create_dir(bench.path("srv")).unwrap();
    let mut mount = SilentMount::over(&bench.path("srv"));
    let text = shop_elsewhere("srv/shop.json");
    bench.configure(&platform, &text);
    let time = FairTime::start();
    let daemon = bench.spawn_with(|command| {
        command.env("WATCHDOG_USEC", "1000000");
    });
    daemon.wait_until("READY=1", || daemon.said("READY=1"));
    time.assert_within(START_LIMIT);
    let readers = blog(&bench, &platform);
    wait_for_rotations(&bench, &daemon, 2);
    daemon.wait_until("that it is told", || {
        let (state, error) = output_state(&bench, "shop");
        state == "failed" && error.contains("does not answer")
    });
    // The socket of the same account is served from memory.
    daemon.wait_until("its socket", || {
        !crate::fixture::in_socket(&bench, "shop").is_empty()
    });
    let time = FairTime::start();
    bench.configure(&platform, &(text + "\n# more\n"));
    daemon.reload();
    time.assert_within(START_LIMIT);
    readers.wait_for_rounds(10);
    readers.stop().assert_always_fresh(2);
    fs::remove_file(bench.path("run/blog.json")).unwrap();
    daemon.wait_until("another account's file", || {
        in_file(&bench, "blog").is_some()
    });
    wait_for_signs_of_life(&bench, &daemon);
    // When it answers again, so does the output.
    mount.end();
    daemon.wait_until("its file", || bench.path("srv/shop.json").exists());
    let _second = SilentMount::over(&bench.path("srv"));
    wait_for_rotations(&bench, &daemon, 2);
    assert_stops_in_time(daemon);
}

#[test]
fn secrets_on_a_mount_that_never_answers_are_the_trouble_of_their_account() {
    crate::root::needs_root!();
    let (bench, platform) = (bench(), steady());
    fs::create_dir(bench.path("srv")).unwrap();
    let mut mount = SilentMount::over(&bench.path("srv"));
    let text = shop("").replace("{dir}/secret", "{dir}/srv/shop")
        + &account("more", &appid(2), "").replace("{dir}/secret", "{dir}/srv/more")
        + &account("blog", &appid(1), "");
    bench.configure(&platform, &text);
    let check = bench.wxtokend(&["check"]).output().unwrap();
    let told = String::from_utf8_lossy(&check.stdout) + String::from_utf8_lossy(&check.stderr);
    assert!(told.contains("its file system does not answer"), "{told}");
    assert_eq!(check.status.code(), Some(0), "{told}");
    let time = FairTime::start();
    let daemon = bench.spawn_with(|command| {
        command.env("WATCHDOG_USEC", "1000000");
    });
    daemon.wait_until("READY=1", || daemon.said("READY=1"));
    time.assert_within(START_LIMIT);
    let readers = blog(&bench, &platform);
    daemon.wait_until("that it is told", || {
        let account = get(&bench, "/v1/accounts/shop").json();
        let message = account["last_error"]["message"].as_str();
        message.is_some_and(|message| message.contains("AppSecret does not answer"))
    });
    let time = FairTime::start();
    bench.configure(&platform, &(text + "\n# more\n"));
    daemon.reload();
    time.assert_within(START_LIMIT);
    wait_for_rotations(&bench, &daemon, 2);
    readers.stop().assert_always_fresh(2);
    // When it answers again, nobody has to do anything.
    mount.end();
    for name in ["shop", "more"] {
        bench.secret(&format!("srv/{name}"), SECRET);
    }
    daemon.wait_until("its token", || in_file(&bench, "shop").is_some());
    let _second = SilentMount::over(&bench.path("srv"));
    daemon.reload();
    assert_stops_in_time(daemon);
}

/// The parts of a configuration that may lie elsewhere than the rest of it: in `srv`.
const PARTS_ELSEWHERE: [(&str, &str); 3] = [
    (
        "[daemon]\ninclude = [\"{dir}/srv/*.toml\"]\n",
        "srv`, whose file system",
    ),
    (
        "[platform]\nca_file = \"{dir}/srv/ca.pem\"\n",
        "ca.pem`, which cannot be read: its file system",
    ),
    (
        "[[accounts.shop.file]]\npath = \"{dir}/run/more\"\nformat = \"template\"\n\
         template = \"{dir}/srv/shop.j2\"\n",
        "shop.j2`, its file system",
    ),
];

#[test]
fn configuration_that_hangs_is_told_and_the_start_ends_as_a_failure() {
    crate::root::needs_root!();
    let (bench, platform) = (bench(), two());
    fs::create_dir(bench.path("srv")).unwrap();
    bench.configure(&platform, &shop(""));
    let text = fs::read_to_string(bench.path("config.toml")).unwrap();
    let mut paths = vec![(
        "srv/config.toml".to_owned(),
        "srv/config.toml:1:1: cannot read this file: its file system",
    )];
    for (number, (part, told)) in PARTS_ELSEWHERE.into_iter().enumerate() {
        let path = format!("{number}.toml");
        bench.secret(
            &path,
            &with_part(
                &text,
                &part.replace("{dir}", &bench.path("").to_string_lossy()),
            ),
        );
        paths.push((path, told));
    }
    let _mount = SilentMount::over(&bench.path("srv"));
    // Each at the same time, since each waits for a while.
    std::thread::scope(|scope| {
        for (path, told) in &paths {
            let bench = &bench;
            scope.spawn(move || {
                let time = FairTime::start();
                let mut command = bench.wxtokend(&["run"]);
                let ended = command
                    .env("WXTOKEND_CONFIG", bench.path(path))
                    .output()
                    .unwrap();
                time.assert_within(Duration::from_secs(60));
                let log = String::from_utf8_lossy(&ended.stderr);
                assert!(
                    log.contains(told) && log.contains("does not answer"),
                    "{path}: {log}"
                );
                // systemd tries it again, as it does not after 78.
                assert_eq!(ended.status.code(), Some(1), "{path}: {log}");
            });
        }
    });
}

/// Puts a part of a section into a configuration that may have the section.
fn with_part(text: &str, part: &str) -> String {
    let (header, rest) = part.split_once('\n').unwrap();
    if text.contains(&format!("{header}\n")) && !header.starts_with("[[") {
        text.replacen(&format!("{header}\n"), part, 1)
    } else {
        format!("{text}\n{header}\n{rest}")
    }
}

#[test]
fn reload_of_a_configuration_that_hangs_is_rejected_and_the_old_one_goes_on() {
    crate::root::needs_root!();
    let (bench, platform) = (bench(), steady());
    fs::create_dir(bench.path("srv")).unwrap();
    bench.configure(&platform, &(shop("") + &account("blog", &appid(1), "")));
    let old = fs::read_to_string(bench.path("config.toml")).unwrap();
    let daemon = bench.spawn_with(|command| {
        command.env("WATCHDOG_USEC", "1000000");
    });
    daemon.wait_until("READY=1", || daemon.said("READY=1"));
    let mount = SilentMount::over(&bench.path("srv"));
    let readers = blog(&bench, &platform);
    for (part, told) in PARTS_ELSEWHERE {
        let part = part.replace("{dir}", &bench.path("").to_string_lossy());
        fs::write(bench.path("config.toml"), with_part(&old, &part)).unwrap();
        let reload = bench.wxtokend(&["reload"]).output().unwrap();
        let said =
            String::from_utf8_lossy(&reload.stderr) + String::from_utf8_lossy(&reload.stdout);
        assert!(said.contains(told), "{said}");
        assert_eq!(reload.status.code(), Some(78), "{said}");
    }
    wait_for_rotations(&bench, &daemon, 2);
    readers.wait_for_rounds(10);
    readers.stop().assert_always_fresh(2);
    // What hung does not stand in the way of a configuration without it.
    fs::write(bench.path("config.toml"), &old).unwrap();
    let reload = bench.wxtokend(&["reload"]).output().unwrap();
    assert_eq!(reload.status.code(), Some(0), "{reload:?}");
    // A reload that hangs holds up no end.
    let elsewhere = bench.path("srv/another/ca.pem");
    let part = format!("[platform]\nca_file = {elsewhere:?}\n");
    fs::write(bench.path("config.toml"), with_part(&old, &part)).unwrap();
    daemon.signal(Signal::HUP);
    assert_stops_in_time(daemon);
    drop(mount);
}

#[test]
fn frozen_disk_holds_up_nothing_but_itself() {
    crate::root::needs_root!();
    let (bench, platform) = (bench(), steady());
    fs::create_dir(bench.path("srv")).unwrap();
    let disk = FreezableDisk::over(bench.path("srv"), &bench.path("image"));
    bench.configure(&platform, &shop_elsewhere("srv/shop.json"));
    let daemon = bench.spawn_with(|command| {
        command.env("WATCHDOG_USEC", "1000000");
    });
    daemon.wait_until("READY=1", || daemon.said("READY=1"));
    let readers = blog(&bench, &platform);
    disk.freeze();
    let frozen_at = Instant::now();
    daemon.wait_until("that it is told", || {
        output_state(&bench, "shop").1.contains("does not answer")
    });
    // Longer than a task may be late, and than two looks at all outputs.
    while frozen_at.elapsed() < Duration::from_secs(65) {
        wait_for_rotations(&bench, &daemon, 1);
    }
    wait_for_signs_of_life(&bench, &daemon);
    readers.stop().assert_always_fresh(2);
    fs::remove_file(bench.path("run/blog.json")).unwrap();
    daemon.wait_until("another account's file", || {
        in_file(&bench, "blog").is_some()
    });
    disk.thaw();
    daemon.wait_until("its file", || output_state(&bench, "shop").0 == "published");
    assert_stops_in_time(daemon);
}

#[test]
fn dead_token_is_replaced_though_the_state_disk_hangs_and_the_verdict_is_stored_once_it_answers() {
    crate::root::needs_root!();
    let (bench, platform) = (bench(), platform(|_| ()));
    let disk = FreezableDisk::over(bench.path("state"), &bench.path("image"));
    bench.configure(&platform, &shop("poll_every = \"0s\""));
    let daemon = bench.start();
    let dead = in_file(&bench, "shop").unwrap();
    daemon.wait_until("a token that has settled", || {
        probe(&platform, &dead).age_ms > Some(10_000)
    });
    platform.with(|world, now| world.kill(now, SHOP, "access_token", Kill::End));
    platform.with(|world, _| {
        world.set_fault(SimFault::from(Effect::Hang).at(Endpoint::StableToken));
    });
    disk.freeze();
    let (socket, body) = (bench.socket(), json!({"bad_token": dead}).to_string());
    let reporter = std::thread::spawn(move || {
        // The daemon goes before it answers.
        let _ = call(&socket, "POST", "/v1/accounts/shop/refresh", &body);
    });
    let asked = || platform.with(|world, _| world.calls(SHOP, Endpoint::ApiDomainIp));
    daemon.wait_until("the verdict", || asked() > 0);
    let time = FairTime::start();
    daemon.wait_until("a fetch", || token_calls(&platform, SHOP) > 1);
    // It waits for a second.
    time.assert_within(Duration::from_secs(8));
    let state = bench.path("state/state.jsonl");
    let is_stored = || {
        let state = fs::read_to_string(&state).unwrap_or_default();
        // The fetch may have failed meanwhile.
        state.contains("called_dead") || state.contains("withdrawn")
    };
    assert!(!is_stored(), "the disk hangs");
    disk.thaw();
    daemon.wait_until("the verdict on the disk", is_stored);
    daemon.kill();
    reporter.join().unwrap();
    let fetches = token_calls(&platform, SHOP);
    let daemon = bench.spawn();
    daemon.wait_until("another fetch", || token_calls(&platform, SHOP) > fetches);
    daemon.wait_until("no file", || in_file(&bench, "shop").is_none());
    platform.with(|world, _| world.heal_all());
    daemon.wait_until("another token", || in_file(&bench, "shop").is_some());
    assert_eq!(asked(), 1, "it is known to be dead");
    assert_stops_in_time(daemon);
}

#[test]
fn nobody_needs_to_read_the_log() {
    let (bench, platform) = (bench(), steady());
    bench.configure(&platform, &shop_elsewhere("run/shop.json"));
    let fifo = bench.path("fifo");
    output_of(Command::new("mkfifo").arg(&fifo));
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let _reader = open(&fifo, flags, Mode::empty()).unwrap();
    // Full, but for a page.
    let writer = open(&fifo, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
    while rustix::io::write(&writer, &[b'x'; 4096]).is_ok() {}
    let daemon = bench.spawn_with(|command| {
        let environment: Vec<_> = command
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        let mut wrapped = Command::new("sh");
        wrapped
            .args(["-c", "exec \"$@\" 2>\"$0\""])
            .arg(&fifo)
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear()
            .envs(environment);
        *command = wrapped;
    });
    daemon.wait_until("READY=1", || daemon.said("READY=1"));
    let readers = blog(&bench, &platform);
    wait_for_rotations(&bench, &daemon, 2);
    readers.wait_for_rounds(5);
    readers.stop().assert_always_fresh(2);
    assert_stops_in_time(daemon);
}

#[test]
fn service_manager_that_does_not_listen_holds_up_nothing() {
    let (bench, platform) = (bench(), steady());
    bench.configure(&platform, &shop_elsewhere("run/shop.json"));
    let path = bench.path("deaf.sock");
    let _deaf = UnixDatagram::bind(&path).unwrap();
    let daemon = bench.spawn_with(|command| {
        command
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "20000");
    });
    daemon.wait_until("a token", || in_file(&bench, "blog").is_some());
    let readers = blog(&bench, &platform);
    wait_for_rotations(&bench, &daemon, 2);
    readers.stop().assert_always_fresh(2);
    assert_stops_in_time(daemon);
}

#[test]
fn directory_swapped_for_a_link_is_told_and_not_written_to() {
    crate::root::needs_root!();
    let (bench, platform) = (bench_on_disk(), two());
    // Both belong to apps, who may rename what is in them.
    for (name, uid) in [("shop", 4321), ("blog", 4322)] {
        fs::create_dir_all(bench.path(name).join("tokens")).unwrap();
        for directory in [bench.path(name), bench.path(name).join("tokens")] {
            std::os::unix::fs::chown(directory, Some(uid), Some(uid)).unwrap();
        }
    }
    let text = shop("").replace("run/shop.json", "shop/tokens/token.json")
        + &account("blog", &appid(1), "").replace("run/blog.json", "blog/tokens/token.json");
    bench.configure(&platform, &text);
    let daemon = bench.start();
    let victim = bench.path("blog/tokens/token.json");
    let of_shop = || crate::fixture::in_socket(&bench, "shop");
    let tokens = bench.path("shop/tokens");
    fs::rename(&tokens, bench.path("shop/aside")).unwrap();
    std::os::unix::fs::symlink(bench.path("blog/tokens"), &tokens).unwrap();
    let (mut rotations, mut last) = (0, of_shop());
    daemon.wait_until("two rotations", || {
        let held = fs::read_to_string(&victim).unwrap_or_default();
        let token = of_shop();
        assert!(
            token.is_empty() || !held.contains(&token),
            "another app's token"
        );
        if !token.is_empty() && token != last {
            (rotations, last) = (rotations + 1, token);
        }
        rotations >= 2
    });
    daemon.wait_until("that it is told", || {
        let (state, error) = output_state(&bench, "shop");
        state == "failed" && error.contains("is no longer the directory that it was")
    });
    // What had been there goes at its end, though its directory was moved away.
    daemon.wait_until("that it went", || {
        !bench.path("shop/aside/token.json").exists()
    });
    fs::remove_file(&tokens).unwrap();
    fs::rename(bench.path("shop/aside"), &tokens).unwrap();
    daemon.wait_until("its file", || tokens.join("token.json").exists());
    daemon.terminate();
}

#[test]
fn flood_of_repairs_is_told_at_growing_intervals() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop(""));
    let daemon = bench.start();
    let file = bench.path("run/shop.json");
    let mut removed = 0;
    daemon.wait_until("a hundred repairs", || {
        removed += usize::from(fs::remove_file(&file).is_ok());
        removed > 100
    });
    daemon.wait_until("its file", || file.exists());
    let log = daemon.log_with(&["more times since it was last told"]);
    let told = log.matches("is put right; nothing but").count();
    // Five, and after seconds whose number doubles: far fewer, however long it took.
    assert!((1..=15).contains(&told), "{told} of {removed}");
    daemon.terminate();
}

#[test]
fn expired_file_is_gone_when_its_directory_or_mount_comes_back() {
    crate::root::needs_root!();
    let (bench, platform) = (bench_on_disk(), two());
    fs::create_dir_all(bench.path("srv/tokens")).unwrap();
    bench.configure(&platform, &shop_elsewhere("srv/tokens/shop.json"));
    let daemon = bench.start();
    let (tokens, aside) = (bench.path("srv/tokens"), bench.path("srv/aside"));
    // A directory that is moved away until the token has ended: it is taken away there.
    let old = fs::read_to_string(tokens.join("shop.json")).unwrap();
    fs::rename(&tokens, &aside).unwrap();
    daemon.wait_until("its end", || !aside.join("shop.json").exists());
    fs::rename(&aside, &tokens).unwrap();
    let found = fs::read_to_string(tokens.join("shop.json"));
    assert!(found.is_err() || found.is_ok_and(|text| text != old));
    daemon.wait_until("its file", || tokens.join("shop.json").exists());
    // The same, below a mount: seen through the directory that is open.
    let old = fs::read_to_string(tokens.join("shop.json")).unwrap();
    let below = fs::File::open(&tokens).unwrap();
    let below = format!("/proc/self/fd/{}/shop.json", below.as_raw_fd());
    output_of(
        Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(&tokens),
    );
    daemon.wait_until("its end", || !Path::new(&below).exists());
    output_of(Command::new("umount").arg(&tokens));
    let found = fs::read_to_string(tokens.join("shop.json"));
    assert!(found.is_err() || found.is_ok_and(|text| text != old));
    daemon.wait_until("its file", || tokens.join("shop.json").exists());
    daemon.terminate();
}

#[test]
fn state_that_is_deleted_while_it_runs_is_written_again() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop("poll_every = \"1s\""));
    let state = bench.path("state/state.jsonl");
    fs::write(bench.path("state/state.jsonl.new"), "half").unwrap();
    let daemon = bench.start();
    assert!(!bench.path("state/state.jsonl.new").exists());
    let token = in_file(&bench, "shop").unwrap();
    fs::remove_file(&state).unwrap();
    daemon.wait_until("its state", || {
        fs::read_to_string(&state).is_ok_and(|text| text.contains(&token))
    });
    daemon.kill();
    platform.stop();
    let daemon = bench.start();
    assert_eq!(in_file(&bench, "shop"), Some(token));
    daemon.terminate();
}
