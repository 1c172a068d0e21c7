//! The beginnings that most of these tests share.

use crate::common::{ApiReply, Bench, call, json, output_of, read_socket};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use wxtokend::sim::{Endpoint, SimAccount, SimPlatform, Truth, World};

/// The AppSecret of every account. Nothing that is printed or written may hold it.
pub(crate) const SECRET: &str = "CANARY-0123456789abcdef-CANARY";

/// The appid of account number `n`.
pub(crate) fn appid(n: u64) -> String {
    format!("wx{n:016x}")
}

/// The appid of `shop`.
pub(crate) const SHOP: &str = "wx0000000000000000";

/// A platform that knows `shop`, and whatever else `change` adds.
pub(crate) fn platform(change: impl FnOnce(&mut World)) -> Arc<SimPlatform> {
    let mut world = World::new();
    world.account(SHOP, SECRET);
    change(&mut world);
    Arc::new(SimPlatform::start(([127, 0, 0, 1], 0).into(), world).unwrap())
}

/// A platform whose tokens of `shop` live so long.
pub(crate) fn platform_of(lifetime: Duration) -> Arc<SimPlatform> {
    platform(|world| {
        world.account(SHOP, SECRET).lifetime(lifetime);
    })
}

/// Tokens that are replaced every few seconds, long before their end: an fsync takes seconds while somebody else writes much
/// to the same disk, and a value that is published so much later than it was fetched may not be missed by a reader. Real
/// tokens are replaced five minutes before their end.
pub(crate) fn replaced_early(account: &mut SimAccount) {
    account.lifetime(Duration::from_secs(24));
    let early = Some(Duration::from_secs(20));
    (account.window, account.overlap) = (early, early);
}

/// A bench with the secret in its file.
pub(crate) fn bench() -> Bench {
    with_secret(Bench::new())
}

/// The same on the disk that `/` is on.
pub(crate) fn bench_on_disk() -> Bench {
    with_secret(Bench::on_disk())
}

fn with_secret(bench: Bench) -> Bench {
    bench.secret("secret", SECRET);
    bench
}

/// An account with a file `run/NAME.json` and a socket `run/NAME.sock` of raw format.
pub(crate) fn account(name: &str, id: &str, keys: &str) -> String {
    let app = match id.split_once('/') {
        Some((corpid, agentid)) => format!("corpid = \"{corpid}\"\nagentid = {agentid}"),
        None => format!("appid = \"{id}\""),
    };
    format!(
        "\n[accounts.{name}]\n{app}\nsecret_file = \"{{dir}}/secret\"\n{keys}\n\
         [[accounts.{name}.file]]\npath = \"{{dir}}/run/{name}.json\"\n\
         [[accounts.{name}.socket]]\npath = \"{{dir}}/run/{name}.sock\"\nformat = \"raw\"\n"
    )
}

/// `shop` as [`account`] has it.
pub(crate) fn shop(keys: &str) -> String {
    account("shop", SHOP, keys)
}

/// The token in the file of an account, if there is one.
pub(crate) fn in_file(bench: &Bench, name: &str) -> Option<String> {
    let path = bench.path(&format!("run/{name}.json"));
    let text = std::fs::read_to_string(path).ok()?;
    Some(json(&text).expect("a whole file").value)
}

/// The text that the socket of an account gives; empty for nothing.
pub(crate) fn in_socket(bench: &Bench, name: &str) -> String {
    read_socket(&bench.path(&format!("run/{name}.sock"))).unwrap()
}

/// The truth about a token.
pub(crate) fn probe(platform: &SimPlatform, token: &str) -> Truth {
    platform.with(|world, now| world.probe(now, token))
}

pub(crate) fn is_alive(platform: &SimPlatform, token: &str) -> bool {
    probe(platform, token).alive
}

/// Calls for tokens of an account, by any method.
pub(crate) fn token_calls(platform: &SimPlatform, id: &str) -> u64 {
    let endpoints = [Endpoint::StableToken, Endpoint::Token, Endpoint::GetToken];
    platform.with(|world, _| endpoints.iter().map(|at| world.calls(id, *at)).sum())
}

/// Asks the API as root.
pub(crate) fn get(bench: &Bench, target: &str) -> ApiReply {
    call(&bench.socket(), "GET", target, "").unwrap()
}

/// The state of an account, as the API says.
pub(crate) fn state(bench: &Bench, name: &str) -> String {
    let account = get(bench, &format!("/v1/accounts/{name}")).json();
    account["state"].as_str().unwrap().to_owned()
}

/// Seconds until the platform's day ends, at midnight in UTC+8.
pub(crate) fn until_midnight() -> u64 {
    let unix = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    86_400 - (unix + 8 * 3600) % 86_400
}

/// Waits until no day of the platform ends in the next minutes of a host whose clock is so much ahead: budgets and quotas
/// begin anew then.
pub(crate) fn clear_of_midnight(ahead: Duration) {
    const MARGIN: u64 = 360;
    let ahead = ahead.as_secs();
    let left = (until_midnight() + 86_400 - ahead) % 86_400;
    if left < MARGIN {
        std::thread::sleep(Duration::from_secs(left + 31));
    }
}

/// The names in a directory.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A file system of its own over a directory of a bench, until it is dropped.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// An empty one that holds so many bytes.
    pub(crate) fn over(directory: PathBuf, bytes: u32) -> Self {
        let options = format!("size={bytes},mode=0755");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&directory);
        output_of(&mut mount);
        Self(directory)
    }

    /// Makes it `ro` or `rw`.
    pub(crate) fn remount(&self, how: &str) {
        let mut mount = Command::new("mount");
        output_of(mount.args(["-o", &format!("remount,{how}")]).arg(&self.0));
    }

    /// Leaves no room for another byte, until what it returns is removed.
    pub(crate) fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut filler = File::create(&path).unwrap();
        let full = loop {
            if let Err(error) = filler.write_all(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A test that fails may leave a daemon in it for a moment.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Has a command run with so many file descriptors at most, soft and hard.
pub(crate) fn limit_files(command: &mut Command, files: u32) {
    let environment = command
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    let mut limited = Command::new("prlimit");
    limited
        .arg(format!("--nofile={files}:{files}"))
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(environment);
    *command = limited;
}
