//! A cluster of three members of etcd.

use crate::common::wait_until;
use crate::network::{NetMachine, TestNetwork};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Members of a cluster.
pub(crate) const MEMBERS: usize = 3;
const CLIENT_PORT: u16 = 2379;
const START_LIMIT: Duration = Duration::from_secs(60);

/// Three members, each on a machine of its own.
pub(crate) struct Cluster {
    directory: tempfile::TempDir,
    pub(crate) members: Vec<EtcdMember>,
}

/// A member of the cluster.
pub(crate) struct EtcdMember {
    name: String,
    pub(crate) machine: NetMachine,
    process: Option<Child>,
}

impl Cluster {
    /// Starts all members and waits until they answer.
    pub(crate) fn start(network: &TestNetwork) -> Self {
        let version = Command::new("etcd").arg("--version").output();
        version.expect("etcd is installed: apt-get install etcd-server");
        let members = (0..MEMBERS).map(|number| EtcdMember {
            name: format!("etcd{number}"),
            machine: network.add(),
            process: None,
        });
        let mut cluster = Self {
            directory: tempfile::tempdir().unwrap(),
            members: members.collect(),
        };
        for number in 0..MEMBERS {
            cluster.begin_member(number);
        }
        for number in 0..MEMBERS {
            cluster.wait_for_member(number);
        }
        cluster
    }

    /// The URLs of all members, as a list in TOML.
    pub(crate) fn endpoints(&self) -> String {
        let urls: Vec<_> = (self.members.iter())
            .map(|member| format!("\"http://{}:{CLIENT_PORT}\"", member.machine.address))
            .collect();
        format!("[{}]", urls.join(", "))
    }

    /// The hosts that may be asked without TLS, as the items of a list in TOML.
    pub(crate) fn hosts(&self) -> String {
        let hosts: Vec<_> = (self.members.iter())
            .map(|member| format!("\"{}:{CLIENT_PORT}\"", member.machine.address))
            .collect();
        hosts.join(", ")
    }

    /// Requests that clients have begun, of all members together.
    pub(crate) fn requests(&self) -> f64 {
        let of_member = |member: &EtcdMember| -> f64 {
            let metrics = member.get("/metrics").unwrap();
            let begun = metrics
                .lines()
                .filter(|line| line.starts_with("grpc_server_started_total"));
            begun
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .sum()
        };
        self.members.iter().map(of_member).sum()
    }

    fn begin_member(&mut self, number: usize) {
        let peers: Vec<_> = (self.members.iter())
            .map(|member| format!("{}=http://{}:2380", member.name, member.machine.address))
            .collect();
        let member = &self.members[number];
        let (name, address) = (&member.name, member.machine.address);
        let log = File::create(self.directory.path().join(format!("{name}.log"))).unwrap();
        let mut command = Command::new("etcd");
        command
            .args(["--name", name])
            .arg("--data-dir")
            .arg(self.directory.path().join(name))
            .args([
                "--listen-client-urls",
                &format!("http://{address}:{CLIENT_PORT}"),
            ])
            .args([
                "--advertise-client-urls",
                &format!("http://{address}:{CLIENT_PORT}"),
            ])
            .args(["--listen-peer-urls", &format!("http://{address}:2380")])
            .args([
                "--initial-advertise-peer-urls",
                &format!("http://{address}:2380"),
            ])
            .args(["--initial-cluster", &peers.join(",")])
            .args(["--initial-cluster-state", "new"])
            // A disk that other tests keep busy must not look like a partition.
            .args(["--heartbeat-interval", "200", "--election-timeout", "2000"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin");
        member.machine.surround(&mut command);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let process = command.spawn().expect("nsenter and setpriv are there");
        self.members[number].process = Some(process);
    }

    fn wait_for_member(&self, number: usize) {
        let member = &self.members[number];
        let log = || {
            let path = self.directory.path().join(format!("{}.log", member.name));
            fs::read_to_string(path).unwrap_or_default()
        };
        wait_until("a healthy member", START_LIMIT, log, || member.is_healthy());
    }

    /// Kills a member, as a crash does.
    pub(crate) fn kill(&mut self, number: usize) {
        if let Some(mut process) = self.members[number].process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts members that were killed.
    pub(crate) fn start_again(&mut self) {
        let gone: Vec<_> = (0..MEMBERS)
            .filter(|&number| self.members[number].process.is_none())
            .collect();
        for &number in &gone {
            self.begin_member(number);
        }
        for number in gone {
            self.wait_for_member(number);
        }
    }

    /// Loses all that was stored, and starts as a new cluster.
    pub(crate) fn lose_everything(&mut self) {
        for number in 0..MEMBERS {
            self.kill(number);
            let name = &self.members[number].name;
            fs::remove_dir_all(self.directory.path().join(name)).unwrap();
        }
        self.start_again();
    }
}

impl EtcdMember {
    /// Stops it as a hung machine does, or lets it go on.
    pub(crate) fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().unwrap();
        kill_process(Pid::from_child(process), signal).unwrap();
    }

    fn is_healthy(&self) -> bool {
        let answer = self.get("/health");
        answer.is_ok_and(|answer| answer.contains("\"health\":\"true\""))
    }

    /// Asks it by HTTP, from its own machine.
    fn get(&self, path: &str) -> std::io::Result<String> {
        let address = SocketAddr::from((self.machine.address, CLIENT_PORT));
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        self.machine.inside(ask)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for number in 0..MEMBERS {
            self.kill(number);
        }
    }
}
