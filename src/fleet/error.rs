//! Failures of the engine, in words for an administrator.

use std::fmt;

/// A failure of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EngineError {
    /// No member of the cluster gave an answer of use: passes by itself. The reason.
    Away(Box<str>),
    /// A member refused, and so would the others.
    Refused {
        /// The code of gRPC.
        code: i64,
        /// The member's words.
        message: Box<str>,
    },
}

/// The lease or key that was asked for is not there.
const NOT_FOUND: i64 = 5;
/// The engine keeps nothing so old.
const OUT_OF_RANGE: i64 = 11;
/// No token, or one that is no longer valid.
const UNAUTHENTICATED: i64 = 16;
/// Codes of failures that another member may not have: deadline exceeded, unknown, internal, unavailable.
const OF_MEMBER: [i64; 4] = [4, 2, 13, 14];

impl EngineError {
    /// No answer of use, for this reason.
    pub(crate) fn away(why: impl Into<Box<str>>) -> Self {
        Self::Away(why.into())
    }

    /// A refusal as the gateway tells it, or nothing if another member may do better.
    pub(super) fn of_code(code: i64, message: &str) -> Self {
        if OF_MEMBER.contains(&code) {
            Self::away(format!("etcd answers: {}", plain(message)))
        } else {
            Self::Refused {
                code,
                message: plain(message).into(),
            }
        }
    }

    /// The failure of a question about a lease that has ended.
    pub(super) fn lease_is_gone() -> Self {
        Self::of_code(NOT_FOUND, "the lease is gone")
    }

    /// The failure of a watch from a revision that the engine no longer keeps.
    pub(super) fn compacted() -> Self {
        Self::of_code(OUT_OF_RANGE, "the revision is compacted")
    }

    /// True if the lease is gone.
    pub(crate) const fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == NOT_FOUND)
    }

    /// True if a watch begins before what the engine keeps.
    pub(crate) const fn is_compacted(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == OUT_OF_RANGE)
    }

    /// True if a new login may help.
    pub(super) fn wants_login(&self) -> bool {
        matches!(self, Self::Refused { code, message } if *code == UNAUTHENTICATED || message.contains("auth token") || message.contains("user name is empty"))
    }
}

/// The words of etcd without what could forge a line of the log.
fn plain(message: &str) -> String {
    let text = message.trim_start_matches("etcdserver: ");
    let plain = text.chars().filter(|c| !c.is_control()).take(200);
    plain.collect()
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(why) => f.write_str(why),
            Self::Refused { message, .. } => {
                let hint = if message.contains("permission denied") {
                    "; let the user read and write below `prefix`"
                } else if message.contains("invalid user")
                    || message.contains("authentication failed")
                {
                    "; correct `username` and the password's file"
                } else if message.contains("user name is empty") {
                    "; etcd wants a login: set `username` and `password_file`"
                } else if message.contains("database space exceeded") {
                    "; give etcd room: compact, defragment, and clear its alarm"
                } else {
                    ""
                };
                write!(f, "etcd refuses: {message}{hint}")
            }
        }
    }
}

impl std::error::Error for EngineError {}
