//! A cluster of members of etcd.

use crate::certificates::Authority;
use crate::common::{PATIENCE, wait_until};
use crate::network::{MEMORY, NetMachine, TestNetwork};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const CLIENT_PORT: u16 = 2379;
/// On each member's own loopback: what the bench itself asks, without TLS.
const BENCH_PORT: u16 = 2378;

/// The way in which members let clients in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Anybody, by HTTP.
    Open,
    /// By HTTPS, with a certificate of a CA of the cluster's own.
    Tls,
    /// The same, and only who has a certificate of that CA too.
    Certificates,
}

/// Members, each on a machine of its own.
pub(crate) struct Cluster {
    directory: tempfile::TempDir,
    pub(crate) members: Vec<EtcdMember>,
    door: Door,
    authority: Option<Authority>,
    /// The name of the directory that each member stores in.
    data: String,
}

/// A member of the cluster.
pub(crate) struct EtcdMember {
    name: String,
    pub(crate) machine: NetMachine,
    process: Option<Child>,
}

impl Cluster {
    /// Starts all members and waits until they answer.
    pub(crate) fn start(network: &TestNetwork, members: usize, door: Door) -> Self {
        let version = Command::new("etcd").arg("--version").output();
        version.expect("etcd is installed: apt-get install etcd-server");
        let members = (0..members).map(|number| EtcdMember {
            name: format!("etcd{number}"),
            machine: network.add(),
            process: None,
        });
        let directory = tempfile::tempdir().unwrap();
        let authority = (door != Door::Open).then(|| Authority::make(directory.path(), "ca"));
        let mut cluster = Self {
            directory,
            members: members.collect(),
            door,
            authority,
            data: "first".to_owned(),
        };
        cluster.start_again();
        cluster
    }

    /// The URLs of all members, as a list in TOML.
    pub(crate) fn endpoints(&self) -> String {
        let urls: Vec<_> = (self.members.iter())
            .map(|member| format!("\"{}\"", self.url(member)))
            .collect();
        format!("[{}]", urls.join(", "))
    }

    fn url(&self, member: &EtcdMember) -> String {
        let scheme = match self.door {
            Door::Open => "http",
            Door::Tls | Door::Certificates => "https",
        };
        format!("{scheme}://{}:{CLIENT_PORT}", member.machine.address)
    }

    /// The authority that clients trust.
    pub(crate) fn authority(&self) -> &Authority {
        self.authority.as_ref().unwrap()
    }

    /// A directory for what tests make beside the members.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Asks the gateway of the first member, as `etcdctl` does.
    pub(crate) fn ask(&self, path: &str, body: &Json) -> Json {
        self.members[0].ask(path, body)
    }

    /// Writes a key.
    pub(crate) fn put(&self, key: &str, value: &str) {
        self.ask(
            "/v3/kv/put",
            &json!({"key": encode(key), "value": encode(value)}),
        );
    }

    /// The value of a key, if it is there.
    pub(crate) fn value(&self, key: &str) -> Option<String> {
        let found = self.ask("/v3/kv/range", &json!({"key": encode(key)}));
        let bytes = BASE64.decode(found["kvs"][0]["value"].as_str()?).unwrap();
        Some(String::from_utf8(bytes).unwrap())
    }

    /// The keys that begin so.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        let end = format!("{}0", prefix.trim_end_matches('/'));
        let body = json!({"key": encode(prefix), "range_end": encode(&end), "keys_only": true});
        let found = self.ask("/v3/kv/range", &body);
        let keys = found["kvs"].as_array().into_iter().flatten();
        keys.map(|kv| {
            let key = BASE64.decode(kv["key"].as_str().unwrap()).unwrap();
            String::from_utf8(key).unwrap()
        })
        .collect()
    }

    /// Removes a key.
    pub(crate) fn remove(&self, key: &str) {
        self.ask("/v3/kv/deleterange", &json!({"key": encode(key)}));
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
            let metrics = member.talk("GET /metrics HTTP/1.0\r\n\r\n").unwrap();
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
        let (name, address, url) = (&member.name, member.machine.address, self.url(member));
        let log = File::create(self.directory.path().join(format!("{name}.log"))).unwrap();
        let mut command = Command::new("etcd");
        command
            .args(["--name", name])
            .arg("--data-dir")
            .arg(format!("{MEMORY}/{}", self.data))
            .args([
                "--listen-client-urls",
                &format!("{url},http://127.0.0.1:{BENCH_PORT}"),
            ])
            .args(["--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &format!("http://{address}:2380")])
            .args([
                "--initial-advertise-peer-urls",
                &format!("http://{address}:2380"),
            ])
            .args(["--initial-cluster", &peers.join(",")])
            .args(["--initial-cluster-state", "new"])
            // A machine that other tests keep busy must not look like a partition.
            .args(["--heartbeat-interval", "200", "--election-timeout", "2000"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin");
        if let Some(authority) = &self.authority {
            let (certificate, key) = authority.sign(name, &address.to_string());
            command.args(["--cert-file", &certificate, "--key-file", &key]);
            if self.door == Door::Certificates {
                let trusted = authority.certificate();
                command.args(["--client-cert-auth", "--trusted-ca-file", &trusted]);
            }
        }
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
        wait_until("a healthy member", PATIENCE, log, || member.is_healthy());
    }

    /// Kills a member, as a crash does.
    pub(crate) fn kill(&mut self, number: usize) {
        if let Some(mut process) = self.members[number].process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts members that do not run.
    pub(crate) fn start_again(&mut self) {
        let gone: Vec<_> = (0..self.members.len())
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
        for number in 0..self.members.len() {
            self.kill(number);
        }
        self.data.push_str("-lost");
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
        let answer = self.talk("GET /health HTTP/1.0\r\n\r\n");
        answer.is_ok_and(|answer| answer.contains("\"health\":\"true\""))
    }

    /// Asks its gateway, until it has the time to answer. Panics if it refuses.
    fn ask(&self, path: &str, body: &Json) -> Json {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut answer = String::new();
        wait_until(path, PATIENCE, String::new, || {
            answer = self.talk(&request).unwrap_or_default();
            let is_busy = answer.contains("timed out") || answer.contains("no leader");
            !(answer.is_empty() || is_busy)
        });
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{path}: {answer}");
        serde_json::from_str(text).unwrap()
    }

    /// Talks to it by HTTP, from its own machine.
    fn talk(&self, request: &str) -> std::io::Result<String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, BENCH_PORT));
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        self.machine.inside(ask)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for number in 0..self.members.len() {
            self.kill(number);
        }
    }
}

pub(crate) fn encode(text: &str) -> String {
    BASE64.encode(text)
}
