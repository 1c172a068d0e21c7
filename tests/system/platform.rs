//! The simulated platform on the machine's loopback device. It is no process of the machine's, so it knows its tokens
//! over a reboot.

use crate::machine::{Machine, eventually};
use std::path::Path;
use std::process::{Child, Stdio};

/// The URL that it listens on.
pub(crate) const URL: &str = "http://127.0.0.1:8080";

/// A simulated platform that runs. Dropping it ends it.
pub(crate) struct MachinePlatform(Child);

impl MachinePlatform {
    /// Starts one that knows no account, unless options say otherwise.
    pub(crate) fn start(machine: &Machine, program: &Path, options: &[&str]) -> Self {
        let child = machine
            .network()
            .command(program)
            .args(["--listen", "127.0.0.1:8080"])
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .expect("the platform starts");
        let platform = Self(child);
        eventually("the platform answers", || {
            (machine.try_sh(&format!("curl -fsS {URL}/sim/counts")).code == Some(0)).then_some(())
        });
        platform
    }
}

impl Drop for MachinePlatform {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends an order to the platform.
pub(crate) fn order(machine: &Machine, method: &str, path: &str, body: &str) -> String {
    machine.sh(&format!(
        "curl -fsS -X {method} --data '{body}' '{URL}/sim/{path}'"
    ))
}

/// The number of token calls that an account has made.
pub(crate) fn token_calls(machine: &Machine, appid: &str) -> u64 {
    let counts = machine.sh(&format!("curl -fsS {URL}/sim/counts"));
    let counts: serde_json::Value = serde_json::from_str(&counts).expect("JSON");
    counts["accounts"][appid]["stable_token"]
        .as_u64()
        .unwrap_or(0)
}

/// Returns whether a token works.
pub(crate) fn is_alive(machine: &Machine, token: &str) -> bool {
    let truth = machine.sh(&format!("curl -fsS '{URL}/probe?access_token={token}'"));
    truth.contains("\"alive\":true")
}
