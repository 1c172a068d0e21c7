//! The findings of `check --online`.

use std::fmt;

/// The change that a write would make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookFinding {
    /// The number of rows.
    Rows(u64),
    /// This key, and whether it is there.
    Key(String, bool),
    /// That cannot be said before it is done.
    Unknown,
    /// Something that the write would fail for.
    Wrong(String),
}

impl fmt::Display for LookFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(1) => f.write_str("would change 1 row"),
            Self::Rows(rows) => write!(f, "would change {rows} rows"),
            Self::Key(key, true) => write!(f, "would change the key `{key}`"),
            Self::Key(key, false) => write!(f, "would make the key `{key}`"),
            Self::Unknown => {
                f.write_str("which rows it would change is not known before it is done")
            }
            Self::Wrong(wrong) => f.write_str(wrong),
        }
    }
}
