//! Whatever somebody, or a disk, does to an output: it is right again soon, nobody reads anything else than what is
//! right or the damage itself meanwhile, it is told once and counted, and nothing else notices.

use crate::common::{Bench, FairTime, Freshness, ReadFrom, RunningDaemon, json, output_of, raw};
use crate::fixture::{
    Mount, SECRET, account, appid, bench, get, is_alive, platform, replaced_early,
};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// A change that the kernel tells of is put right at once; this is long only for a busy host, and less than the interval of
/// the looks at all outputs.
const AT_ONCE: Duration = Duration::from_secs(20);
/// Any other one is, too.
const SOON: Duration = Duration::from_secs(60);

/// A damage to an output.
struct DamageCase {
    /// Its path in the bench. Sockets end in `.sock`.
    path: &'static str,
    damage: fn(&Path),
    /// Texts that a reader may find instead of nothing.
    instead: &'static [&'static str],
    end: DamageEnd,
}

enum DamageEnd {
    /// It is right again by itself, within so long.
    Healed(Duration),
    /// It is reported with these words, until somebody does this; then it is right within so long.
    Reported(&'static str, fn(&Path), Duration),
}

use DamageEnd::{Healed, Reported};

fn parent(path: &Path) -> &Path {
    path.parent().unwrap()
}

/// The directory of an output, under another name.
fn aside(path: &Path) -> PathBuf {
    parent(path).with_extension("aside")
}

fn run(program: &str, arguments: &[&str], path: &Path) {
    output_of(Command::new(program).args(arguments).arg(path));
}

/// Puts something else in the place of an output, at one moment: else the daemon may be faster.
fn swap(path: &Path, make: impl FnOnce(&Path)) {
    let new = path.with_extension("new");
    make(&new);
    renameat_with(CWD, &new, CWD, path, RenameFlags::EXCHANGE).unwrap();
    // What it was.
    fs::remove_file(new).unwrap();
}

/// Removes the directory of an output. While it is emptied the daemon would write into it.
fn remove_directory(path: &Path) {
    fs::rename(parent(path), aside(path)).unwrap();
    fs::remove_dir_all(aside(path)).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Changes of files and of sockets, each with an output of its own.
const SCENARIOS: &[DamageCase] = &[
    DamageCase {
        path: "run/removed.json",
        damage: |path| fs::remove_file(path).unwrap(),
        instead: &[],
        end: Healed(AT_ONCE),
    },
    DamageCase {
        path: "run/overwritten.json",
        damage: |path| fs::write(path, "foreign").unwrap(),
        instead: &["foreign", ""],
        end: Healed(AT_ONCE),
    },
    DamageCase {
        path: "run/truncated.json",
        damage: |path| drop(fs::File::create(path).unwrap()),
        instead: &[""],
        end: Healed(AT_ONCE),
    },
    DamageCase {
        path: "run/appended.json",
        damage: |path| {
            use std::io::Write;
            let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
            file.write_all(b"more").unwrap();
        },
        instead: &["GOODmore"],
        end: Healed(AT_ONCE),
    },
    DamageCase {
        path: "run/renamed.json",
        damage: |path| fs::rename(path, path.with_extension("bak")).unwrap(),
        instead: &[],
        end: Healed(AT_ONCE),
    },
    DamageCase {
        path: "run/opened.json",
        damage: |path| set_mode(path, 0o666),
        instead: &[],
        end: Healed(AT_ONCE),
    },
    DamageCase {
        path: "run/closed.json",
        damage: |path| set_mode(path, 0),
        instead: &[],
        end: Healed(AT_ONCE),
    },
    DamageCase {
        path: "run/owned.json",
        damage: |path| chown(path, Some(33), Some(33)).unwrap(),
        instead: &[],
        end: Healed(AT_ONCE),
    },
    DamageCase {
        path: "run/listed.json",
        damage: |path| run("setfacl", &["-m", "u:news:r"], path),
        instead: &[],
        end: Healed(AT_ONCE),
    },
    DamageCase {
        path: "run/unlisted.json",
        damage: |path| run("setfacl", &["-b"], path),
        instead: &[],
        end: Healed(AT_ONCE),
    },
    DamageCase {
        path: "run/directory.json",
        damage: |path| swap(path, |new| fs::create_dir(new).unwrap()),
        instead: &[],
        end: Healed(AT_ONCE),
    },
    DamageCase {
        path: "run/link.json",
        damage: |path| {
            let target = path.with_extension("target");
            fs::write(&target, "foreign").unwrap();
            swap(path, |new| symlink(target, new).unwrap());
        },
        instead: &["foreign"],
        end: Healed(AT_ONCE),
    },
    DamageCase {
        path: "run/precious.json",
        damage: |path| {
            swap(path, |new| {
                fs::create_dir(new).unwrap();
                fs::write(new.join("precious"), "").unwrap();
            });
        },
        instead: &[],
        end: Reported(
            "a directory is in its place: move that away",
            |path| fs::rename(path, path.with_extension("kept")).unwrap(),
            AT_ONCE,
        ),
    },
    DamageCase {
        // Below the runtime directory, where missing ones are made.
        path: "run/gone/token.json",
        damage: remove_directory,
        instead: &[],
        end: Healed(AT_ONCE),
    },
    DamageCase {
        path: "run/moved/token.json",
        damage: |path| fs::rename(parent(path), aside(path)).unwrap(),
        instead: &[],
        end: Healed(AT_ONCE),
    },
    DamageCase {
        path: "srv/gone/token.json",
        damage: remove_directory,
        instead: &[],
        end: Reported(
            "make the directory",
            |path| fs::create_dir(parent(path)).unwrap(),
            SOON,
        ),
    },
    DamageCase {
        path: "srv/back/token.json",
        damage: |path| fs::rename(parent(path), aside(path)).unwrap(),
        instead: &[],
        end: Reported(
            "make the directory",
            |path| fs::rename(aside(path), parent(path)).unwrap(),
            SOON,
        ),
    },
    DamageCase {
        path: "srv/other/token.json",
        damage: |path| {
            fs::create_dir(aside(path)).unwrap();
            renameat_with(CWD, aside(path), CWD, parent(path), RenameFlags::EXCHANGE).unwrap();
        },
        instead: &[],
        end: Reported(
            "is no longer the directory that it was",
            |path| {
                renameat_with(CWD, aside(path), CWD, parent(path), RenameFlags::EXCHANGE).unwrap();
            },
            SOON,
        ),
    },
    DamageCase {
        // The kernel tells nobody.
        path: "srv/mounted/token.json",
        damage: |path| run("mount", &["-t", "tmpfs", "tmpfs"], parent(path)),
        instead: &[],
        end: Healed(SOON),
    },
    DamageCase {
        path: "run/removed.sock",
        damage: |path| fs::remove_file(path).unwrap(),
        instead: &[],
        end: Healed(AT_ONCE),
    },
    DamageCase {
        path: "run/opened.sock",
        damage: |path| set_mode(path, 0o666),
        instead: &[],
        end: Healed(AT_ONCE),
    },
    DamageCase {
        path: "run/closed.sock",
        damage: |path| set_mode(path, 0),
        instead: &[],
        end: Healed(AT_ONCE),
    },
    DamageCase {
        path: "run/unlisted.sock",
        damage: |path| run("setfacl", &["-b"], path),
        instead: &[],
        end: Healed(AT_ONCE),
    },
    DamageCase {
        path: "run/file.sock",
        damage: |path| swap(path, |new| fs::write(new, "foreign").unwrap()),
        instead: &[],
        end: Healed(AT_ONCE),
    },
    DamageCase {
        path: "run/directory.sock",
        damage: |path| swap(path, |new| fs::create_dir(new).unwrap()),
        instead: &[],
        end: Healed(AT_ONCE),
    },
    DamageCase {
        // Bound by somebody else, who does not serve.
        path: "run/foreign.sock",
        damage: |path| swap(path, |new| drop(UnixListener::bind(new).unwrap())),
        instead: &[],
        end: Healed(AT_ONCE),
    },
    DamageCase {
        path: "run/lost/token.sock",
        damage: remove_directory,
        instead: &[],
        end: Healed(AT_ONCE),
    },
    DamageCase {
        path: "srv/lost/token.sock",
        damage: |path| fs::rename(parent(path), aside(path)).unwrap(),
        instead: &[],
        end: Reported(
            "make the directory",
            |path| fs::rename(aside(path), parent(path)).unwrap(),
            SOON,
        ),
    },
];

impl DamageCase {
    fn is_socket(&self) -> bool {
        self.path.contains(".sock")
    }

    /// The text that an app gets there; `None` for nothing, whatever the reason.
    fn read(&self, path: &Path) -> Option<String> {
        let mut text = String::new();
        if self.is_socket() {
            UnixStream::connect(path)
                .ok()?
                .read_to_string(&mut text)
                .ok()?;
            (!text.is_empty()).then_some(text)
        } else {
            fs::read_to_string(path).ok()
        }
    }
}

/// Owner, mode and list.
fn access(path: &Path) -> Option<String> {
    let output = Command::new("getfacl").args(["-np"]).arg(path).output();
    let output = output.unwrap();
    let meta = path.symlink_metadata().ok()?;
    let kind = format!("{:?} {:o}\n", meta.file_type(), meta.permissions().mode());
    output
        .status
        .success()
        .then(|| kind + &String::from_utf8(output.stdout).unwrap())
}

/// All that one daemon has to bear at the same time.
struct HealTrial<'a> {
    bench: &'a Bench,
    daemon: &'a RunningDaemon<'a>,
    /// Content and access as they were before, in the order of the scenarios.
    good: Vec<(String, String)>,
}

impl HealTrial<'_> {
    fn path(&self, n: usize) -> PathBuf {
        self.bench.path(SCENARIOS[n].path)
    }

    fn is_right(&self, n: usize) -> bool {
        let (content, rights) = &self.good[n];
        let path = self.path(n);
        SCENARIOS[n].read(&path).as_ref() == Some(content) && access(&path).as_ref() == Some(rights)
    }

    /// Waits until some hold: it is about so long since the damage.
    fn until_right(&self, which: &[(usize, Duration)], since: &FairTime) {
        for (n, patience) in which {
            let what = format!("{} is right again", SCENARIOS[*n].path);
            self.daemon.wait_until(&what, || self.is_right(*n));
            since.assert_within(*patience);
        }
    }

    /// State and error of an output in `status --json`.
    fn state(&self, path: &Path) -> (String, String) {
        let output = self.bench.wxtokend(&["status", "--json"]).output().unwrap();
        let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let accounts = all["accounts"].as_array().unwrap().iter();
        let mut outputs = accounts.flat_map(|account| account["outputs"].as_array().unwrap());
        let output = outputs
            .find(|output| output["path"] == *path.to_str().unwrap())
            .unwrap();
        let text = |key: &str| output[key].as_str().unwrap_or_default().to_owned();
        (text("state"), text("error"))
    }

    /// A counter of an output.
    fn count(&self, name: &str, path: &Path) -> u64 {
        let metrics = get(self.bench, "/metrics").body;
        let label = format!("path=\"{}\"", path.display());
        let mut lines = metrics
            .lines()
            .filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(&label));
        lines
            .next()
            .map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// The lines of the log at a level that name an output.
    fn told(&self, level: &str, path: &Path) -> Vec<String> {
        let name = format!("`{}`", path.display());
        let log = self.daemon.log();
        let lines = log
            .lines()
            .filter(|line| line.split_whitespace().nth(1) == Some(level) && line.contains(&name));
        lines.map(str::to_owned).collect()
    }
}

/// Reads all outputs again and again, and notes what it should not have got.
struct OutputWatch {
    rounds: AtomicUsize,
    stop: AtomicBool,
    /// From now on, nothing but what is right.
    strict: AtomicBool,
    wrong: Mutex<BTreeSet<String>>,
}

impl OutputWatch {
    fn run(&self, trial: &HealTrial<'_>) {
        while !self.stop.load(Ordering::Relaxed) {
            for (n, scenario) in SCENARIOS.iter().enumerate() {
                let good = &trial.good[n].0;
                let strict = self.strict.load(Ordering::Relaxed);
                let found = scenario.read(&trial.path(n));
                let allowed = match &found {
                    None => !strict,
                    Some(text) if text == good => true,
                    Some(text) => {
                        let is_damage = |damage: &&str| damage.replace("GOOD", good) == *text;
                        !strict && scenario.instead.iter().any(is_damage)
                    }
                };
                if !allowed {
                    let mut wrong = self.wrong.lock().unwrap();
                    wrong.insert(format!("{}: {found:?}", scenario.path));
                }
            }
            self.rounds.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Ends a mount that a scenario made.
struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        // A test that fails may not have mounted it yet.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// The appid of the account whose output is that of a scenario: what happens to one wakes no other.
fn id(n: usize) -> String {
    appid(100 + n as u64)
}

fn config() -> String {
    let mut text = String::new();
    for (n, scenario) in SCENARIOS.iter().enumerate() {
        let (kind, format) = if scenario.is_socket() {
            ("socket", "raw")
        } else {
            ("file", "json")
        };
        let (id, path) = (id(n), scenario.path);
        write!(
            text,
            "\n[accounts.n{n}]\nappid = \"{id}\"\nsecret_file = \"{{dir}}/secret\"\nreaders = [\"www-data\"]\n\
             [[accounts.n{n}.{kind}]]\npath = \"{{dir}}/{path}\"\nformat = \"{format}\"\n"
        )
        .unwrap();
    }
    text
}

#[test]
fn every_damage_to_an_output_heals() {
    crate::root::needs_root!();
    let (bench, disks) = (bench(), [appid(1), appid(2)]);
    let platform = platform(|world| {
        for n in 0..SCENARIOS.len() {
            world.account(&id(n), SECRET);
        }
        for id in &disks {
            let account = world.account(id, SECRET);
            // The next token comes after half a minute, and this one may stay as long as all this takes.
            account.lifetime(Duration::from_secs(300));
            let rest = Some(Duration::from_secs(270));
            (account.window, account.overlap) = (rest, rest);
        }
        replaced_early(world.account(&appid(3), SECRET));
    });
    for name in ["gone", "back", "other", "mounted", "lost", "full", "ro"] {
        fs::create_dir_all(bench.path("srv").join(name)).unwrap();
    }
    let full = Mount::over(bench.path("srv/full"), 1 << 16);
    let read_only = Mount::over(bench.path("srv/ro"), 1 << 20);
    let _unmount = Unmount(bench.path("srv/mounted"));
    let on_disk = |name: &str, id: &str| {
        account(name, id, "").replace(&format!("run/{name}.json"), &format!("srv/{name}/a.json"))
    };
    let text = [
        config(),
        on_disk("full", &disks[0]),
        on_disk("ro", &disks[1]),
        account("blog", &appid(3), ""),
    ];
    bench.configure(&platform, &text.concat());
    let daemon = bench.start();
    let good = SCENARIOS.iter().map(|scenario| {
        let path = bench.path(scenario.path);
        (scenario.read(&path).unwrap(), access(&path).unwrap())
    });
    let trial = HealTrial {
        good: good.collect(),
        bench: &bench,
        daemon: &daemon,
    };
    let others = Freshness::watch(
        &platform,
        &[
            ReadFrom::File(bench.path("run/blog.json"), json),
            ReadFrom::Socket(bench.path("run/blog.sock"), raw),
            ReadFrom::File(bench.path("srv/full/a.json"), json),
            ReadFrom::File(bench.path("srv/ro/a.json"), json),
        ],
    );
    let watch = OutputWatch {
        rounds: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        strict: AtomicBool::new(false),
        wrong: Mutex::default(),
    };
    std::thread::scope(|scope| {
        scope.spawn(|| watch.run(&trial));
        // Whatever fails, the watch has to end too.
        let _stop = OnDrop(|| watch.stop.store(true, Ordering::Relaxed));
        let filler = full.fill();
        read_only.remount("ro");
        bear(&trial);
        bear_disks(&trial, &read_only, &filler);
        let ends = [("full", "srv/full/a.json"), ("ro", "srv/ro/a.json")];
        for (name, path) in ends {
            let token = || in_json(&bench.path(path));
            daemon.wait_until(name, || {
                token().is_some_and(|token| is_alive(&platform, &token))
            });
        }
        watch.strict.store(true, Ordering::Relaxed);
        let rounds = watch.rounds.load(Ordering::Relaxed);
        daemon.wait_until("reads", || {
            watch.rounds.load(Ordering::Relaxed) > rounds + 20
        });
    });
    assert_eq!(watch.wrong.into_inner().unwrap(), BTreeSet::new());
    others.wait_for_rounds(2);
    // Those of three accounts.
    others.stop().assert_always_fresh(2 + 2 + 3);
    daemon.wait_until("all well", || {
        let status = bench.wxtokend(&["status"]).output().unwrap();
        status.status.code() == Some(0)
    });
    daemon.terminate();
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn in_json(path: &Path) -> Option<String> {
    Some(json(&fs::read_to_string(path).ok()?)?.value)
}

/// All scenarios at once.
fn bear(trial: &HealTrial<'_>) {
    let since = FairTime::start();
    for (n, scenario) in SCENARIOS.iter().enumerate() {
        (scenario.damage)(&trial.path(n));
    }
    let mut healed: Vec<_> = Vec::new();
    let mut reported = Vec::new();
    for (n, scenario) in SCENARIOS.iter().enumerate() {
        match &scenario.end {
            Healed(patience) => healed.push((n, *patience)),
            Reported(words, remedy, patience) => reported.push((n, *words, *remedy, *patience)),
        }
    }
    healed.sort_by_key(|(_, patience)| *patience);
    let (at_once, soon): (Vec<_>, Vec<_>) = healed
        .iter()
        .partition(|(_, patience)| *patience == AT_ONCE);
    trial.until_right(&at_once, &since);
    trial.until_right(&soon, &since);
    let mut remedied = Vec::new();
    for (n, words, remedy, patience) in reported {
        let path = trial.path(n);
        trial.daemon.wait_until(SCENARIOS[n].path, || {
            let (state, error) = trial.state(&path);
            state == "failed" && error.contains(words)
        });
        // The next attempt but those that an event tells to make is half a minute away.
        trial.daemon.wait_until("six attempts", || {
            trial.count("wxtokend_output_errors_total", &path) >= 6
        });
        let shown = path.display();
        let table = trial.bench.wxtokend(&["status"]).output().unwrap();
        assert_eq!(table.status.code(), Some(1));
        let table = String::from_utf8(table.stdout).unwrap();
        let table = table.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            table.contains(&format!("`{shown}`")) && table.contains(words),
            "{shown} {words}: {table}"
        );
        remedy(&path);
        remedied.push((n, patience));
    }
    remedied.sort_by_key(|(_, patience)| *patience);
    trial.until_right(&remedied, &FairTime::start());
    for (n, scenario) in SCENARIOS.iter().enumerate() {
        check(
            trial,
            &trial.path(n),
            match scenario.end {
                Healed(_) => None,
                Reported(words, ..) => Some(words),
            },
        );
    }
}

/// Checks that it is told once and counted, and is well now.
fn check(trial: &HealTrial<'_>, path: &Path, reported: Option<&str>) {
    let foreign = "was changed or removed by somebody else and is put right";
    // What is right is shown a moment before that is told.
    let told = || (trial.told("WARN", path), trial.told("INFO", path));
    trial.daemon.wait_until("that it is told", || {
        let (warned, said) = told();
        !warned.is_empty() && (reported.is_none() || !said.is_empty())
    });
    let (mut warned, said) = told();
    let total = warned.len();
    // A busy machine may hold up a file for a moment, which is told too.
    warned.retain(|line| !line.contains("its file system does not answer"));
    let is_late = warned.len() < total;
    assert_eq!(warned.len(), 1, "{warned:#?}");
    assert!(
        warned[0].contains(reported.unwrap_or(foreign)),
        "{warned:?}"
    );
    assert!(
        is_late || said.len() == usize::from(reported.is_some()),
        "{said:?}"
    );
    assert!(said.iter().all(|line| line.ends_with("is published again")));
    let shown = path.display();
    let repairs = trial.count("wxtokend_output_repairs_total", path);
    let errors = trial.count("wxtokend_output_errors_total", path);
    assert_eq!(repairs, u64::from(reported.is_none()), "{shown}");
    assert!(
        is_late || (errors > 0) == reported.is_some(),
        "{shown}: {errors}"
    );
    let (state, error) = trial.state(path);
    assert_eq!((&*state, &*error), ("published", ""), "{shown}");
}

/// A disk that is full and one that is read-only, when new tokens come, and both as they should be again.
fn bear_disks(trial: &HealTrial<'_>, read_only: &Mount, filler: &Path) {
    let disks = [
        (
            "srv/full/a.json",
            "no space left on device; free some space",
        ),
        ("srv/ro/a.json", "read-only file system; make"),
    ];
    let before = disks.map(|(path, _)| in_json(&trial.bench.path(path)));
    for (path, words) in disks {
        let path = trial.bench.path(path);
        let failed = || {
            let (state, error) = trial.state(&path);
            state == "failed" && error.contains(words)
        };
        trial.daemon.wait_until(words, failed);
    }
    fs::remove_file(filler).unwrap();
    read_only.remount("rw");
    for ((path, words), before) in disks.into_iter().zip(before) {
        let path = trial.bench.path(path);
        let other = || in_json(&path).is_some_and(|token| Some(token) != before);
        trial.daemon.wait_until("another token", other);
        check(trial, &path, Some(words));
    }
}
