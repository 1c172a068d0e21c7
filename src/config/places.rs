//! The positions of keys that may turn out to be wrong only when they are put to use.

use super::source::Position;
use crate::account::AccountName;
use crate::fault::Fault;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A setting of which a fault may be found after loading.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Setting {
    /// `state_dir`
    StateDir,
    /// `socket` of `[api]`
    ApiSocket,
    /// `metrics` of `[api]`
    ApiMetrics,
    /// `listen` of `[mirror]`
    MirrorListen,
    /// `socket` of `[mirror]`
    MirrorSocket,
    /// `ca_file`
    CaFile,
    /// `[platform]`
    Platform,
    /// `[fleet]`
    Fleet,
    /// The output at this path.
    Output(Box<Path>),
    /// The `owner` or `group` of the output at this path.
    OutputKey(Box<Path>, &'static str),
    /// The secret of this account.
    Secret(AccountName),
}

/// The places of keys in the files of a configuration. Needed until everything is bound.
#[derive(Debug, Clone, Default)]
pub struct Places {
    main: PathBuf,
    known: HashMap<Setting, Position>,
}

impl Places {
    pub(super) fn new(main: &Path) -> Self {
        Self {
            main: main.to_path_buf(),
            known: HashMap::new(),
        }
    }

    pub(super) fn add(&mut self, subject: Setting, place: Position) {
        self.known.insert(subject, place);
    }

    /// A fault at the key that it is about; at the top of the configuration where the key is left out.
    pub fn fault(&self, subject: &Setting, message: impl Into<String>) -> Fault {
        match self.known.get(subject) {
            Some(place) => place.fault(message.into()),
            None => Fault::of_file(&self.main, message),
        }
    }

    /// As [`Places::fault`], for what the daemon can run with.
    pub fn warning(&self, subject: &Setting, message: impl Into<String>) -> Fault {
        Fault {
            is_warning: true,
            ..self.fault(subject, message)
        }
    }
}
