//! Failures of writes and checks.

use std::fmt;

/// A failure, by whether others would fail too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The server cannot be used: no write of the target would succeed.
    Away(String),
    /// This write failed; others may succeed.
    Refused(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(message) | Self::Refused(message) => f.write_str(message),
        }
    }
}
