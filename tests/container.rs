//! The container recipe: its root file system runs as its user and nothing else, and an app reads through the directory
//! that both share. With buildah or a container engine the image is built and run too.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::root;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Signal, kill_process};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use wxtokend::sim::{SimPlatform, World};

const USER: u32 = 10_001;
const APPID: &str = "wx0123456789abcdef";
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn recipe(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("packaging/container").join(name)
}

/// A directory with all that the two containers share and are given.
struct Pod {
    directory: tempfile::TempDir,
    platform: Arc<SimPlatform>,
}

impl Pod {
    fn new() -> Self {
        let mut world = World::new();
        world.account(APPID, SECRET);
        let platform = SimPlatform::start(([127, 0, 0, 1], 0).into(), world).unwrap();
        let pod = Self {
            directory: tempfile::tempdir().unwrap(),
            platform: Arc::new(platform),
        };
        fs::set_permissions(pod.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for (name, mode) in [("tokens", 0o755), ("state", 0o700)] {
            fs::create_dir(pod.path(name)).unwrap();
            fs::set_permissions(pod.path(name), fs::Permissions::from_mode(mode)).unwrap();
            chown(pod.path(name), Some(USER), Some(USER)).unwrap();
        }
        let config = fs::read_to_string(recipe("config.toml")).unwrap();
        let hosts = format!(
            "{config}\n[platform]\nhosts = [\"{}\"]\n",
            pod.platform.base_url()
        );
        fs::write(pod.path("config.toml"), hosts).unwrap();
        fs::write(pod.path("secret"), SECRET).unwrap();
        fs::set_permissions(pod.path("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        chown(pod.path("secret"), Some(USER), Some(USER)).unwrap();
        let made = Command::new(recipe("rootfs"))
            .arg(pod.path("root"))
            .arg(env!("CARGO_BIN_EXE_wxtokend"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        pod
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The output of the app in the other container, as its user and with the shared directory only.
    fn app(&self) -> Vec<String> {
        let output = Command::new("setpriv")
            .args(["--reuid=33", "--regid=33", "--clear-groups", "php"])
            .arg(recipe("read.php"))
            .arg(self.path("tokens"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn is_alive(&self, token: &str) -> bool {
        self.platform
            .with(|world, now| world.probe(now, token))
            .alive
    }
}

/// The container of the daemon, without an engine: a mount namespace, its root, its user, no capability.
struct Container(Child);

impl Container {
    fn start(pod: &Pod) -> Self {
        let script = "root=$1; pod=$2
            for file in config.toml secret; do : >\"$root/etc/wxtokend/$file\"; mount --bind \"$pod/$file\" \"$root/etc/wxtokend/$file\"; done
            mount --bind \"$pod/tokens\" \"$root/run/wxtokend\"; mount --bind \"$pod/state\" \"$root/var/lib/wxtokend\"
            mount -t proc proc \"$root/proc\"
            exec chroot --userspec=10001:10001 --groups= \"$root\" /usr/bin/wxtokend run";
        let child = Command::new("unshare")
            .args(["--mount", "sh", "-euc", script, "sh"])
            .arg(pod.path("root"))
            .arg(pod.directory.path())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// The health check of the image.
    fn is_healthy(&self) -> bool {
        let pid = self.0.id().to_string();
        let status = Command::new("nsenter")
            .args([
                "--mount", "--root", "--setuid", "10001", "--setgid", "10001", "--target", &pid,
            ])
            .args(["/usr/bin/wxtokend", "status"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.unwrap().success()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_root_file_system_serves_an_app_through_a_shared_directory() {
    root::needs_root!();
    let pod = Pod::new();
    let container = Container::start(&pod);
    let log = || String::from("see the log above");
    common::wait_until("it is healthy", common::PATIENCE, log, || {
        container.is_healthy()
    });
    let read = pod.app();
    assert_eq!(read.len(), 2, "from the file and from the socket");
    assert_eq!(read[0], read[1]);
    assert!(pod.is_alive(&read[0]));

    // A restart makes no call, and the app goes on.
    drop(container);
    let container = Container::start(&pod);
    common::wait_until("it is healthy", common::PATIENCE, log, || {
        container.is_healthy()
    });
    assert_eq!(pod.app(), read);
}

/// A program that builds the image and runs it, if there is one here.
#[derive(Clone, Copy)]
enum ImageTool {
    /// Needs neither a daemon nor cgroups nor a kernel that allows a new network.
    Buildah,
    Engine(&'static str),
}

impl ImageTool {
    fn find() -> Option<Self> {
        let works = |program: &str, ask: &str| {
            let answer = Command::new(program).arg(ask).output();
            answer.is_ok_and(|output| output.status.success())
        };
        let scratch = tempfile::tempdir().unwrap();
        let mut buildah = Command::new("buildah");
        buildah
            .args(["--storage-driver", "vfs", "--root"])
            .arg(scratch.path().join("images"))
            .arg("--runroot")
            .arg(scratch.path().join("running"))
            .args(["from", "scratch"]);
        if buildah.output().is_ok_and(|output| output.status.success()) {
            return Some(Self::Buildah);
        }
        let engine = ["podman", "docker"].into_iter();
        engine.map(Self::Engine).find(|tool| {
            let Self::Engine(engine) = tool else {
                return false;
            };
            works(engine, "info")
        })
    }

    /// The command, with its images where they go with the test.
    fn command(self, pod: &Pod) -> Command {
        match self {
            Self::Buildah => {
                let mut command = Command::new("buildah");
                command
                    .args(["--storage-driver", "vfs", "--root"])
                    .arg(pod.path("images"))
                    .arg("--runroot")
                    .arg(pod.path("running"));
                command
            }
            Self::Engine(engine) => Command::new(engine),
        }
    }

    fn build(self, pod: &Pod, context: &Path) {
        let mut build = self.command(pod);
        if let Self::Buildah = self {
            build.args(["build", "--isolation", "chroot", "--format", "docker"]);
        } else {
            build.arg("build");
        }
        must(
            build
                .args(["-t", "wxtokend-test", "-f"])
                .arg(recipe("Containerfile"))
                .arg(context),
        );
    }

    /// Runs a command of the image in a container of it: its own user, the volumes, the host's network.
    fn run(self, pod: &Pod, container: &str, arguments: &[&str]) -> Command {
        let mut run = self.command(pod);
        run.arg("run");
        match self {
            Self::Buildah => run.args(["--isolation", "chroot"]),
            Self::Engine(_) => {
                run.args(["--rm", "--read-only", "--cap-drop=ALL", "--network=host"])
            }
        };
        for (name, at) in [
            ("config.toml", "/etc/wxtokend/config.toml:ro"),
            ("secret", "/etc/wxtokend/secret:ro"),
            ("state", "/var/lib/wxtokend"),
            ("tokens", "/run/wxtokend"),
        ] {
            run.arg(format!("--volume={}:{at}", pod.path(name).display()));
        }
        run.arg(container);
        if let Self::Buildah = self {
            run.args(["--", "/usr/bin/wxtokend"]);
        }
        run.args(arguments);
        run
    }
}

fn must(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_image_is_built_and_serves_an_app() {
    root::needs_root!();
    let Some(tool) = ImageTool::find() else {
        let note = "neither buildah nor a container engine works here: the image is not built, its root file system was run\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), note.as_bytes());
        return;
    };
    let pod = Pod::new();
    // As the recipe has it, from a context that holds nothing else.
    let context = pod.path("context");
    fs::create_dir_all(context.join("target")).unwrap();
    fs::rename(pod.path("root"), context.join("target/container")).unwrap();
    tool.build(&pod, &context);
    let container = match tool {
        ImageTool::Buildah => must(tool.command(&pod).args(["from", "wxtokend-test"])),
        ImageTool::Engine(_) => "wxtokend-test".to_owned(),
    };
    let mut running = tool.run(&pod, &container, &["run"]).spawn().unwrap();
    // The health check of the image, in another container that shares the directory.
    let is_healthy = || {
        let status = tool.run(&pod, &container, &["status"]).output();
        status.unwrap().status.success()
    };
    common::wait_until("it is healthy", common::PATIENCE, String::new, is_healthy);
    let read = pod.app();
    assert_eq!(read[0], read[1]);
    assert!(pod.is_alive(&read[0]));
    // The daemon is the user of the image, and stops when it is told to.
    let api = UnixStream::connect(pod.path("tokens/api.sock")).unwrap();
    let daemon = socket_peercred(&api).unwrap();
    assert_eq!(daemon.uid.as_raw(), USER);
    kill_process(daemon.pid, Signal::TERM).unwrap();
    assert!(running.wait().unwrap().success());
    let left = fs::read_to_string(pod.path("tokens/shop.json")).unwrap();
    assert!(left.contains(&read[0]), "files stay");
}
