//! The configuration from outside: text in, a checked configuration or faults out.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod check;
mod collisions;
mod example;
mod faults;
mod fleet;
mod good;
mod include;
mod large;
mod signs;
mod text;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use wxtokend::config::{self, Config, Environment};
use wxtokend::fault::Fault;

/// A host to read configurations on: a directory (`DIR` in every text) with a secret and room for outputs.
struct ConfigHost {
    dir: tempfile::TempDir,
    env: Environment,
}

impl ConfigHost {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let env = Environment {
            state_dir: None,
            runtime_dir: Some(at("run")),
            credentials_dir: None,
            ..Environment::default()
        };
        let host = Self { dir, env };
        host.file("secret", 0o600, "0123456789abcdef0123456789abcdef\n");
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str, mode: u32, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(
            &path,
            text.replace("DIR", self.dir.path().to_str().unwrap()),
        )
        .unwrap();
        chmod(&path, mode);
        path
    }

    fn directory(&self, name: &str, mode: u32) {
        fs::create_dir_all(self.path(name)).unwrap();
        chmod(&self.path(name), mode);
    }

    fn load(&self, text: &str) -> Result<Config, Vec<Fault>> {
        let path = self.file("config.toml", 0o600, text);
        config::load(&path, &self.env).map(|loaded| loaded.config)
    }

    /// The faults as people see them, `DIR` for the directory.
    fn shown(&self, faults: &[Fault]) -> Vec<String> {
        let dir = self.dir.path().to_str().unwrap();
        let shown = faults
            .iter()
            .map(|fault| fault.to_string().replace(dir, "DIR"));
        shown.collect()
    }

    /// Asserts that these and no other faults are found, in this order; `DIR/config.toml:` is left out.
    #[track_caller]
    fn faults(&self, text: &str, expected: &[&str]) {
        let faults = self.load(text).expect_err("the configuration is faulty");
        let shown = self.shown(&faults);
        assert!(!shown.concat().contains("CANARY"), "{shown:?}");
        let short = shown
            .iter()
            .map(|fault| fault.trim_start_matches("DIR/config.toml:"));
        assert_eq!(short.collect::<Vec<_>>(), expected);
    }

    /// Asserts that there is nothing wrong.
    #[track_caller]
    fn good(&self, text: &str) -> Config {
        self.load(text)
            .unwrap_or_else(|faults| panic!("{:#?}", self.shown(&faults)))
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
