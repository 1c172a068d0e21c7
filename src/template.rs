//! Jinja templates of outputs.

use std::path::{Path, PathBuf};

/// A template of an output, compiled.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    path: PathBuf,
    source: String,
}

impl Template {
    /// The file it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
