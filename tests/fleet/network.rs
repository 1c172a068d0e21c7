//! A network of its own: a bridge, and machines with an address each. Nothing of the host's own network is touched.

use crate::common::output_of;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A hardware address that nobody has: what is sent to it is lost without a word.
const NOBODY: &str = "02:00:00:00:00:99";

/// The bridge that joins the machines.
pub(crate) struct TestNetwork {
    bridge: Arc<Namespace>,
    next: AtomicU8,
}

/// A network namespace, and one of mounts with a file system in memory at [`MEMORY`]. A process that ends with the test holds
/// both.
struct Namespace(Child);

/// The directory that each machine has for itself: no disk of the host stalls what works there, and nothing has to be removed.
/// It takes up no more than what is written (a tmpfs would hold all that is reserved).
pub(crate) const MEMORY: &str = "/mnt";

impl Namespace {
    fn new() -> Self {
        let mut held = Command::new("unshare");
        let begin =
            format!("ip link set lo up && mount -t ramfs ramfs {MEMORY} && echo up && exec cat");
        let held = held
            .args(["--net", "--mount", "--propagation", "private"])
            .args(["sh", "-c", &begin])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut held = held.unwrap();
        let mut up = [0; 3];
        std::io::Read::read_exact(held.stdout.as_mut().unwrap(), &mut up).unwrap();
        Self(held)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }

    fn ip(&self, arguments: &str) {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid(), "-n", "ip"]);
        output_of(command.args(arguments.split_whitespace()));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl TestNetwork {
    pub(crate) fn new() -> Self {
        let bridge = Arc::new(Namespace::new());
        bridge.ip("link add bridge type bridge");
        bridge.ip("link set bridge up");
        Self {
            bridge,
            next: AtomicU8::new(1),
        }
    }

    /// Another machine.
    pub(crate) fn add(&self) -> NetMachine {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let namespace = Namespace::new();
        let (port, pid) = (format!("port{number}"), namespace.pid());
        let bridge = &self.bridge;
        bridge.ip(&format!(
            "link add {port} type veth peer name eth0 netns {pid}"
        ));
        bridge.ip(&format!("link set {port} master bridge up"));
        let address = Ipv4Addr::new(10, 77, 0, number);
        namespace.ip(&format!("address add {address}/24 dev eth0"));
        namespace.ip("link set eth0 up");
        NetMachine {
            bridge: bridge.clone(),
            namespace,
            port,
            address,
        }
    }
}

/// A machine of the network.
pub(crate) struct NetMachine {
    bridge: Arc<Namespace>,
    namespace: Namespace,
    port: String,
    pub(crate) address: Ipv4Addr,
}

impl NetMachine {
    /// Has a command run on this machine.
    pub(crate) fn surround(&self, command: &mut Command) {
        let environment = command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        let mut surrounded = Command::new("nsenter");
        surrounded
            .args([
                "-t",
                &self.namespace.pid(),
                "-n",
                "-m",
                "setpriv",
                "--pdeathsig",
                "KILL",
            ])
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear()
            .envs(environment);
        *command = surrounded;
    }

    /// Does something on this machine: sockets that are made there are its own.
    pub(crate) fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let path = format!("/proc/{}/ns/net", self.namespace.pid());
        let namespace = File::open(path).unwrap();
        let enter_and_act = || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), kind).unwrap();
            act()
        };
        std::thread::scope(|scope| scope.spawn(enter_and_act).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Pulls the cable, or puts it in again.
    pub(crate) fn plug(&self, plugged: bool) {
        let state = if plugged { "up" } else { "down" };
        let port = &self.port;
        self.bridge.ip(&format!("link set {port} {state}"));
    }

    /// Lets nothing pass between two machines, or everything again. Packets vanish: nobody is told.
    pub(crate) fn cut(&self, other: &NetMachine, cut: bool) {
        for (one, other) in [(self, other), (other, self)] {
            let address = other.address;
            let change = if cut {
                format!("neigh replace {address} lladdr {NOBODY} dev eth0 nud permanent")
            } else {
                // Whatever is there is learned anew.
                format!("neigh replace {address} dev eth0 lladdr {NOBODY} nud failed")
            };
            one.namespace.ip(&change);
        }
    }
}
