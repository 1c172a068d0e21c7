//! The build script alone, in a package without dependencies: a second `cargo build` compiles nothing, whatever `git`
//! does to its own files in between, and a commit is noticed.

use std::fs;
use std::path::Path;
use std::process::Command;

fn run(directory: &Path, program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        // Of this package's build, and of a repository around it.
        let is_ours = ["CARGO_PKG", "CARGO_MANIFEST", "CARGO_TARGET", "GIT_"];
        if is_ours.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    command
        .env_remove("WXTOKEND_COMMIT")
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    let output = command.output().expect("the program runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {errors}");
    out + &errors
}

#[test]
fn build_and_then_run_compiles_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let package = directory.path();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("build.rs");
    fs::copy(script, package.join("build.rs")).expect("the build script");
    fs::create_dir(package.join("src")).expect("a directory");
    fs::write(
        package.join("Cargo.toml"),
        "[package]\nname = \"once\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
    )
    .expect("a manifest");
    fs::write(
        package.join("src/main.rs"),
        "fn main() { println!(\"{}\", env!(\"WXTOKEND_COMMIT\")); }\n",
    )
    .expect("a program");
    fs::write(package.join(".gitignore"), "target\n").expect("a file");
    let git = |arguments: &[&str]| {
        let who = ["-c", "user.name=t", "-c", "user.email=t@localhost"];
        run(package, "git", &[&who[..], arguments].concat())
    };
    git(&["init", "--quiet"]);
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "--message", "one"]);

    let build = || run(package, "cargo", &["build", "--offline"]);
    assert!(build().contains("Compiling once"));
    // Both rewrite git's index.
    fs::write(package.join("src/main.rs.orig"), "").expect("a file");
    git(&["add", "--all"]);
    git(&["status"]);
    let again = build();
    assert!(!again.contains("Compiling"), "{again}");
    let first = run(package, "cargo", &["run", "--offline", "--quiet"]);
    assert_eq!(
        first.trim(),
        git(&["rev-parse", "--short=12", "HEAD"]).trim()
    );

    git(&["commit", "--quiet", "--message", "two"]);
    let second = run(package, "cargo", &["run", "--offline", "--quiet"]);
    assert_ne!(second, first);
    assert_eq!(
        second.trim(),
        git(&["rev-parse", "--short=12", "HEAD"]).trim()
    );
}
