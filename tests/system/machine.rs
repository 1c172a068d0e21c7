//! A Debian machine: a tree made once, a throw-away layer over it, booted by systemd-nspawn and entered with nsenter.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The packages of the trees besides a minimal Debian: what wxtokend depends on, and what administrators and apps use.
const PACKAGES: &str =
    "systemd,systemd-sysv,dbus,ca-certificates,acl,curl,iproute2,locales,php-cli,php-curl,procps";

/// Longest wait for anything. The daemon itself waits for up to a minute after what failed, and the host may be busy.
const PATIENCE: Duration = Duration::from_secs(300);

/// Joins a control group and becomes systemd-nspawn. In a chroot the root directory is no mount point, without which
/// systemd-nspawn cannot work: there it gets the same tree bound to a directory.
const NSPAWN: &str = r#"
    echo $$ >"$1"; host=$2; shift 2
    if mountpoint -q /; then exec systemd-nspawn "$@"; fi
    exec unshare --mount --propagation unchanged sh -euc '
        host=$1; shift
        mount --rbind / "$host"
        mount --make-rprivate "$host"
        exec chroot "$host" systemd-nspawn "$@"' sh "$host" "$@"
"#;

/// A release of Debian.
#[derive(Clone, Copy)]
pub(crate) enum Release {
    /// 12, with systemd 252.
    Bookworm,
    /// 13, with systemd 257.
    Trixie,
}

impl Release {
    /// Those that are supported.
    pub(crate) const ALL: [Self; 2] = [Self::Bookworm, Self::Trixie];

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "debian 12",
            Self::Trixie => "debian 13",
        }
    }

    fn codename(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    /// A tree of the release, from the cache or newly made.
    fn tree(self) -> PathBuf {
        let cache = Path::new("/var/cache/wxtokend-tests");
        let tree = cache.join(self.codename());
        let recipe = tree.join("recipe");
        if fs::read_to_string(&recipe).is_ok_and(|packages| packages == PACKAGES) {
            return tree;
        }
        println!("{}: making a tree with debootstrap, once", self.name());
        let new = cache.join(format!("{}.new", self.codename()));
        for leftover in [&new, &tree] {
            if leftover.exists() {
                fs::remove_dir_all(leftover).expect("an old tree goes");
            }
        }
        fs::create_dir_all(cache).expect("the cache can be made");
        must(
            Command::new("debootstrap")
                .args([
                    "--variant=minbase",
                    &format!("--include={PACKAGES}"),
                    self.codename(),
                ])
                .arg(&new),
        );
        must(Command::new("chroot").arg(&new).args(["apt-get", "clean"]));
        fs::write(new.join("recipe"), PACKAGES).expect("the recipe is noted");
        fs::rename(&new, &tree).expect("the tree is put in place");
        tree
    }
}

/// A booted machine. Dropping it ends it and forgets what changed on it.
pub(crate) struct Machine {
    name: String,
    scratch: TempDir,
    /// Its network, which has a loopback device and nothing else, and outlives a reboot.
    network: Network,
    cgroup: Cgroup,
    nspawn: Option<Child>,
    leader: u32,
}

/// The result of a command on a machine.
pub(crate) struct Ran {
    /// Its exit status.
    pub(crate) code: Option<i32>,
    /// Its output, standard error after standard output.
    pub(crate) text: String,
}

impl Machine {
    /// Boots a fresh machine that can reach nothing but itself. One of each release at a time.
    pub(crate) fn boot(release: Release) -> Self {
        let scratch = TempDir::with_prefix("wxtokend-test.").expect("a scratch directory");
        for directory in ["upper", "work", "root", "host"] {
            fs::create_dir(scratch.path().join(directory)).expect("a layer");
        }
        must(
            Command::new("mount")
                .args(["-t", "overlay", "overlay", "-o"])
                .arg(format!(
                    "lowerdir={},upperdir={1}/upper,workdir={1}/work",
                    release.tree().display(),
                    scratch.path().display(),
                ))
                .arg(scratch.path().join("root")),
        );
        // The journal is to outlive a reboot.
        fs::create_dir_all(scratch.path().join("root/var/log/journal")).expect("a journal");
        let name = format!("wxtokend-{}", release.codename());
        let mut machine = Self {
            network: Network::new(&name),
            cgroup: Cgroup::new(&name),
            name,
            scratch,
            nspawn: None,
            leader: 0,
        };
        machine.start();
        machine
    }

    fn start(&mut self) {
        let console = File::create(self.scratch.path().join("console")).expect("a console");
        let nspawn = Command::new("sh")
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .args(["-euc", NSPAWN, "sh"])
            .arg(self.cgroup.0.join("cgroup.procs"))
            .arg(self.scratch.path().join("host"))
            .args([
                "--boot",
                "--register=no",
                "--keep-unit",
                "--console=pipe",
                "--quiet",
            ])
            .args(["--machine", &self.name])
            .arg(format!(
                "--network-namespace-path={}",
                self.network.path().display()
            ))
            .arg("-D")
            .arg(self.scratch.path().join("root"))
            .stdin(Stdio::null())
            .stdout(console.try_clone().expect("a console"))
            .stderr(console)
            .spawn()
            .expect("systemd-nspawn is there (Debian: systemd-container)");
        let children = format!("/proc/{0}/task/{0}/children", nspawn.id());
        self.nspawn = Some(nspawn);
        self.leader = 0;
        let up = |state: &str| matches!(state, "running" | "degraded");
        let began = Instant::now();
        while !up(self.try_sh("systemctl is-system-running").text.trim()) {
            self.leader = fs::read_to_string(&children)
                .ok()
                .and_then(|pids| pids.trim().parse().ok())
                .filter(|&pid| is_apart(pid))
                .unwrap_or(0);
            assert!(
                began.elapsed() < PATIENCE,
                "it is not up after {PATIENCE:?}: {}{}",
                fs::read_to_string(self.scratch.path().join("console")).unwrap_or_default(),
                self.try_sh("systemctl is-system-running; systemctl list-jobs; journalctl -n 50")
                    .text,
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Shuts it down in good order and boots it again.
    pub(crate) fn reboot(&mut self) {
        // Whether the answer still arrives is a matter of luck.
        self.try_sh("systemctl poweroff");
        self.nspawn
            .as_mut()
            .expect("it runs")
            .wait()
            .expect("it ends");
        self.start();
    }

    /// Runs a shell script as root and says how it ended.
    pub(crate) fn try_sh(&self, script: &str) -> Ran {
        if self.leader == 0 {
            return Ran {
                code: None,
                text: "the machine has no init yet".to_owned(),
            };
        }
        let Output {
            status,
            stdout,
            stderr,
        } = Command::new("nsenter")
            .args(["--all", "--target", &self.leader.to_string()])
            .args([
                "env",
                "-i",
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL=C.UTF-8",
                "HOME=/root",
            ])
            .args([
                "DEBIAN_FRONTEND=noninteractive",
                "SYSTEMD_PAGER=",
                "sh",
                "-euc",
                script,
            ])
            .stdin(Stdio::null())
            .output()
            .expect("nsenter runs");
        let text = [stdout, stderr].concat();
        Ran {
            code: status.code(),
            text: String::from_utf8_lossy(&text).into_owned(),
        }
    }

    /// Runs a shell script as root, which must succeed, and returns what it printed without the last newline.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        let Ran { code, text } = self.try_sh(script);
        assert_eq!(code, Some(0), "{script}\n{text}");
        text.trim_end().to_owned()
    }

    /// Runs a shell script as another user, which must succeed.
    #[track_caller]
    pub(crate) fn sh_as(&self, user: &str, script: &str) -> String {
        self.sh(&format!("runuser -u {user} -- sh -euc '{script}'"))
    }

    /// Waits until a shell script succeeds.
    #[track_caller]
    pub(crate) fn until(&self, script: &str) -> String {
        eventually(script, || {
            let ran = self.try_sh(script);
            (ran.code == Some(0)).then(|| ran.text.trim_end().to_owned())
        })
    }

    /// A property of the service, by `systemctl show`.
    pub(crate) fn property(&self, name: &str) -> String {
        self.sh(&format!(
            "systemctl show wxtokend --property={name} --value"
        ))
    }

    /// Waits until the line of `systemctl status` begins so. The daemon tells it a moment after what it tells of.
    #[track_caller]
    pub(crate) fn until_status(&self, beginning: &str) {
        eventually(beginning, || {
            self.property("StatusText")
                .starts_with(beginning)
                .then_some(())
        });
    }

    /// Seconds since the host started, by the clock that counts all of them.
    pub(crate) fn uptime(&self) -> u64 {
        let text = self.sh("cat /proc/uptime");
        let seconds = text.split('.').next().expect("a number");
        seconds.parse().expect("seconds")
    }

    /// The journal of the service since some time, as journalctl shows it with these options.
    pub(crate) fn journal(&self, since: &str, options: &str) -> String {
        self.sh(&format!(
            "journalctl --sync; journalctl -u wxtokend --since={since} {options}"
        ))
    }

    /// The events since some time that administrators may alert on.
    pub(crate) fn events(&self, since: &str) -> Vec<String> {
        let entries = self.journal(since, "-o json --output-fields=WXTOKEND_EVENT,MESSAGE_ID");
        let entries = entries
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"));
        entries
            .filter(|entry: &serde_json::Value| entry["MESSAGE_ID"].is_string())
            .filter_map(|entry| entry["WXTOKEND_EVENT"].as_str().map(str::to_owned))
            .collect()
    }

    /// The time, for a look at the journal from here on. (A cursor would be the natural thing, but journalctl of
    /// systemd 252 leaves out the first match after one.)
    pub(crate) fn now(&self) -> String {
        self.sh("date +@%s.%6N")
    }

    /// Writes a file on the machine, owner root.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) {
        let path = PathBuf::from(format!("/proc/{}/root{path}", self.leader));
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a mode");
    }

    /// Its network.
    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// The text to look at after a failure.
    pub(crate) fn post_mortem(&self) -> String {
        let script = "systemctl status --no-pager -l wxtokend || :; \
                      journalctl --no-pager -n 80 -o short-precise";
        self.try_sh(script).text
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.cgroup.kill();
        if let Some(nspawn) = &mut self.nspawn {
            // An error means that it is gone already.
            let _ = nspawn.wait();
        }
        let root = self.scratch.path().join("root");
        let _ = Command::new("umount").arg("--lazy").arg(root).status();
    }
}

/// A network namespace with a name.
pub(crate) struct Network(String);

impl Network {
    fn new(name: &str) -> Self {
        // One that a killed run left behind.
        let _ = Command::new("ip").args(["netns", "delete", name]).output();
        must(Command::new("ip").args(["netns", "add", name]));
        must(Command::new("ip").args(["-n", name, "link", "set", "lo", "up"]));
        Self(name.to_owned())
    }

    fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.0)
    }

    /// A command of this host in this network.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(program);
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.0])
            .output();
    }
}

/// A control group: without one of its own, the inits of two machines would take each other's for theirs.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
        let unified = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|fields| fields[2] == "cgroup2")
            .expect("cgroup2 is mounted");
        let cgroup = Self(Path::new(unified[1]).join(name));
        // What a killed run left behind.
        cgroup.kill();
        fs::create_dir_all(&cgroup.0).expect("a control group");
        cgroup
    }

    /// Ends every process in it, and removes it.
    fn kill(&self) {
        if fs::write(self.0.join("cgroup.kill"), "1").is_err() {
            return;
        }
        eventually("the machine's processes are gone", || {
            let events = fs::read_to_string(self.0.join("cgroup.events")).ok()?;
            events.contains("populated 0").then_some(())
        });
        // The innermost first.
        must(
            Command::new("find")
                .arg(&self.0)
                .args(["-depth", "-type", "d", "-delete"]),
        );
    }
}

/// Returns whether a process is in a world of its own. An init is not yet, for a moment: to enter it then would be to
/// stay here.
fn is_apart(pid: u32) -> bool {
    ["cgroup", "ipc", "mnt", "net", "pid", "uts"]
        .iter()
        .all(|kind| {
            let namespace =
                |process: &str| fs::read_link(format!("/proc/{process}/ns/{kind}")).ok();
            let theirs = namespace(&pid.to_string());
            theirs.is_some() && theirs != namespace("self")
        })
}

/// Polls until there is an answer; some minutes without one are a failure.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited for {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Runs a command on this host, which must succeed.
#[track_caller]
pub(crate) fn must(command: &mut Command) {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}
