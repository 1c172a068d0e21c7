//! Faults of the configuration: where they are and what to do.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// One thing wrong with the configuration. Displays as `path:line:col: message`, a warning with `warning: ` before
/// the message; never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The file that it is in.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key, what is wrong and what is right.
    pub message: String,
    /// True if the daemon runs all the same. The API lists faults and warnings apart.
    #[serde(skip)]
    pub is_warning: bool,
}

impl Fault {
    /// A fault of a whole file.
    pub fn of_file(file: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line: 1,
            column: 1,
            message: message.into(),
            is_warning: false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, line, column) = (self.file.display(), self.line, self.column);
        let severity = if self.is_warning { "warning: " } else { "" };
        write!(f, "{file}:{line}:{column}: {severity}{}", self.message)
    }
}

/// An operating system's error in the words of a sentence: lower case, without the error number.
pub fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}
