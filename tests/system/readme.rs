//! README's install section, followed to the letter on a new machine that takes the simulated platform for the real one.

use crate::machine::{Machine, Release, must};
use crate::packages::Packages;
use crate::platform::{MachinePlatform, is_alive};
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use tempfile::TempDir;

/// Follows it.
pub(crate) fn follow(release: Release, packages: &Packages) {
    let machine = Machine::boot(release);
    let _platform = MachinePlatform::start(&machine, &packages.platform, &["--any-account"]);
    let _https = Https::start(&machine);
    let deb = packages.current.file_name().expect("a file");
    machine.write(
        &format!("/root/{}", deb.to_string_lossy()),
        fs::read(&packages.current).expect("the package"),
        0o644,
    );

    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).expect("README.md");
    let (_, rest) = readme
        .split_once("\n## Install")
        .expect("a section on how to install");
    let section = rest.split("\n## ").next().expect("a section");
    let scripts: Vec<_> = section
        .split("\n```sh\n")
        .skip(1)
        .filter_map(|block| block.split_once("\n```"))
        .map(|(script, _)| script)
        .collect();
    assert!(!scripts.is_empty(), "commands to type");
    let mut printed = Vec::new();
    for script in scripts {
        printed.push(machine.sh(&format!("cd /root\n{script}")));
        // A person reads on; the first call of a new account takes less.
        machine.until("! wxtokend status | grep starting");
    }
    let last = printed.last().expect("output");
    let token = last
        .lines()
        .last()
        .expect("the last command prints the token");
    assert!(is_alive(&machine, token), "{printed:#?}");
}

/// The platform's hosts, by name and with certificates that the machine trusts, in front of the simulated platform.
struct Https {
    socat: Child,
    _directory: TempDir,
}

impl Https {
    fn start(machine: &Machine) -> Self {
        let directory = TempDir::with_prefix("wxtokend-test.").expect("a directory");
        let (key, certificate) = (
            directory.path().join("key"),
            directory.path().join("certificate"),
        );
        must(
            Command::new("openssl")
                .args([
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                ])
                .args(["-nodes", "-days", "2", "-subj", "/CN=simulated platform"])
                .args(["-addext", "basicConstraints=critical,CA:FALSE"])
                .args([
                    "-addext",
                    "subjectAltName=DNS:api.weixin.qq.com,DNS:api2.weixin.qq.com",
                ])
                .arg("-keyout")
                .arg(&key)
                .arg("-out")
                .arg(&certificate),
        );
        machine.write(
            "/usr/local/share/ca-certificates/platform.crt",
            fs::read(&certificate).expect("a certificate"),
            0o644,
        );
        machine.sh("update-ca-certificates 2>&1; \
             echo '127.0.0.1 localhost api.weixin.qq.com api2.weixin.qq.com' >>/etc/hosts");
        let socat = machine
            .network()
            .command(Path::new("socat"))
            .arg(format!(
                "OPENSSL-LISTEN:443,bind=127.0.0.1,reuseaddr,fork,verify=0,key={},cert={}",
                key.display(),
                certificate.display()
            ))
            .arg("TCP:127.0.0.1:8080")
            .spawn()
            .expect("socat is there");
        machine.until("curl -fsS https://api.weixin.qq.com/sim/counts");
        Self {
            socat,
            _directory: directory,
        }
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        let _ = self.socat.kill();
        let _ = self.socat.wait();
    }
}
