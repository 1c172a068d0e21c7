//! Faults of the `[platform]` section that only its use finds.

use std::error::Error;
use std::fmt;

/// A `[platform]` section of which no client can be made.
#[derive(Debug)]
pub enum BadSection {
    /// `ca_file` cannot be read or holds no certificate.
    CaFile(String),
    /// Anything else that the library says.
    Build(String),
}

impl fmt::Display for BadSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CaFile(reason) => write!(f, "cannot use `ca_file` of [platform]: {reason}"),
            Self::Build(reason) => write!(f, "cannot make a client of [platform]: {reason}"),
        }
    }
}

impl Error for BadSection {}
