//! The builds that a benchmark compares.

use crate::common::{Bench, RunningDaemon};
use std::path::PathBuf;
use std::process::Command;

/// A daemon's binary.
pub(crate) struct Build {
    pub(crate) program: PathBuf,
    pub(crate) is_new: bool,
}

/// The one that `WXTOKEND_OLD` names, and the one of this build.
pub(crate) fn builds() -> [Build; 2] {
    let new = PathBuf::from(env!("CARGO_BIN_EXE_wxtokend"));
    let old = std::env::var_os("WXTOKEND_OLD").map_or_else(|| new.clone(), PathBuf::from);
    assert!(old.exists(), "WXTOKEND_OLD: no {}", old.display());
    println!("old: {}\nnew: {}", old.display(), new.display());
    [(old, false), (new, true)].map(|(program, is_new)| Build { program, is_new })
}

impl Build {
    /// Starts it in a bench after a change to its command.
    pub(crate) fn spawn_with<'a>(
        &self,
        bench: &'a Bench,
        change: impl FnOnce(&mut Command),
    ) -> RunningDaemon<'a> {
        bench.spawn_with(|command| {
            let mut own = Command::new(&self.program);
            own.args(command.get_args()).env_clear();
            for (name, value) in command.get_envs() {
                if let Some(value) = value {
                    own.env(name, value);
                }
            }
            *command = own;
            change(command);
        })
    }
}
