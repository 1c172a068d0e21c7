//! Tells the program which commit it is built from. Runs again only when the commit changes.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=WXTOKEND_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let given = std::env::var("WXTOKEND_COMMIT").ok();
    let commit = given.filter(|commit| !commit.is_empty()).or_else(|| {
        // Git writes a line here for each commit and checkout, and for nothing else.
        if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"])
            && Path::new(&log).exists()
        {
            println!("cargo::rerun-if-changed={log}");
        }
        git(&["rev-parse", "--short=12", "HEAD"])
    });
    let commit = commit.as_deref().unwrap_or("unknown");
    println!("cargo::rustc-env=WXTOKEND_COMMIT={commit}");
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
