//! The daemon links none of the feed's drivers.

use std::process::Command;

/// The names of the packages that a package is built of.
pub fn crates(package: &str) -> Vec<String> {
    let mut command = Command::new(env!("CARGO"));
    command.args([
        "tree",
        "--locked",
        "--offline",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--package",
        package,
    ]);
    let output = command
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let mut names: Vec<String> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn the_daemon_links_none_of_the_drivers_and_nothing_links_a_second_library_of_cryptography() {
    let (daemon, feed) = (crates("wxtokend"), crates("wxtokend-feed"));
    for driver in [
        "sqlx",
        "sqlx-mysql",
        "tokio-postgres",
        "rusqlite",
        "libsqlite3-sys",
        "tiberius",
        "redis",
    ] {
        assert!(
            !daemon.iter().any(|name| name == driver),
            "the daemon links {driver}"
        );
        assert!(
            feed.iter().any(|name| name == driver),
            "the feed links no {driver}"
        );
    }
    for banned in [
        "aws-lc-rs",
        "aws-lc-sys",
        "openssl-sys",
        "native-tls",
        "rsa",
    ] {
        assert!(
            !feed.iter().any(|name| name == banned),
            "the feed links {banned}"
        );
    }
    eprintln!("crates: daemon {}, feed {}", daemon.len(), feed.len());
}
