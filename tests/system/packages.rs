//! The packages under test, built as for a release, and what the machines need besides.

use crate::machine::must;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The packages that are installed on the machines.
pub(crate) struct Packages {
    /// The .deb of this version.
    pub(crate) current: PathBuf,
    /// A .deb with a lower version, to upgrade from.
    pub(crate) before: PathBuf,
    /// The simulated platform, a program.
    pub(crate) platform: PathBuf,
}

impl Packages {
    /// Builds everything and has the packages checked by lintian and rpmlint.
    pub(crate) fn build() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = root.join("target");
        let in_root = |program: &str| {
            let mut command = Command::new(program);
            command.current_dir(root);
            // What cargo tells this test of its own package would have dependencies of the others built anew.
            for (name, _) in std::env::vars_os() {
                let name = name.to_string_lossy();
                if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                    command.env_remove(&*name);
                }
            }
            command
        };
        let package = target.join("package");
        // Packages of other versions from other days.
        if package.exists() {
            fs::remove_dir_all(&package).expect("old packages go");
        }
        println!("system tests: building the packages");
        must(&mut in_root("packaging/build"));
        must(
            in_root("cargo")
                .args([
                    "deb",
                    "--no-build",
                    "--no-strip",
                    "--deb-version",
                    "0.0.9-1",
                ])
                .args(["--output", "target/package/before/"]),
        );
        must(in_root("cargo").args(["build", "--example", "simulated-platform"]));
        let packages = Self {
            current: only_file(&package, "deb"),
            before: only_file(&package.join("before"), "deb"),
            platform: target.join("debug/examples/simulated-platform"),
        };
        let rpm = only_file(&package, "rpm");
        must(in_root("mandoc").args([
            "-T",
            "lint",
            "-W",
            "warning",
            "packaging/man/wxtokend.8",
            "packaging/man/wxtokend.toml.5",
        ]));
        must(
            Command::new("lintian")
                .args(["--allow-root", "--fail-on", "error"])
                .arg(&packages.current),
        );
        must(
            in_root("rpmlint")
                .args(["-c", "packaging/rpm/rpmlint.toml"])
                .arg(&rpm),
        );
        both_hold_the_same(&packages.current, &rpm);
        // Each scriptlet is there, and a shell can read it.
        for tag in ["POSTIN", "PREUN", "POSTUN", "POSTTRANS"] {
            let script =
                "rpm -qp --qf \"%{$2}\" \"$1\" >\"$3\"; grep -q systemctl \"$3\"; sh -n \"$3\"";
            let copy = package.join(tag);
            must(
                Command::new("sh")
                    .args(["-euc", script, "sh"])
                    .arg(&rpm)
                    .arg(tag)
                    .arg(copy),
            );
        }
        packages
    }
}

fn only_file(directory: &Path, extension: &str) -> PathBuf {
    let entries = fs::read_dir(directory).expect("the build made it");
    let mut files = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == extension));
    let file = files.next().expect("the build made one");
    assert_eq!(files.next(), None, "one package a build");
    file
}

/// The two packages differ in what is Debian's alone, and in nothing else.
fn both_hold_the_same(deb: &Path, rpm: &Path) {
    let list = |script: &str, package: &Path| -> Vec<String> {
        let output = Command::new("sh")
            .args(["-euc", script, "list"])
            .arg(package)
            .output()
            .expect("sh runs");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("paths");
        let debian = [
            "/usr/share/doc/wxtokend/changelog.Debian.gz",
            "/usr/share/doc/wxtokend/copyright",
        ];
        let mut paths: Vec<_> = text
            .lines()
            .map(|path| path.replace("/zsh/vendor-completions/", "/zsh/site-functions/"))
            .filter(|path| !debian.contains(&path.as_str()))
            .collect();
        paths.sort();
        paths
    };
    let in_deb = list(
        "dpkg-deb --fsys-tarfile \"$1\" | tar -t | sed -n 's|^\\.\\(/.*[^/]\\)$|\\1|p'",
        deb,
    );
    let in_rpm = list("rpm -qlp \"$1\"", rpm);
    assert_eq!(in_deb, in_rpm);
    assert!(
        in_rpm
            .iter()
            .any(|path| path == "/usr/lib/systemd/system/wxtokend.service")
    );
}
