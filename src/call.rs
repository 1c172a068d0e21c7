//! Calls of the platform and their results, in plain data.

use crate::trouble::Class;
use crate::value::{Value, ValueName};
use std::time::Duration;

/// One thing to ask the platform for an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// The access token, by the account's method.
    Token,
    /// A new access token at once (stable only): ends the standing one.
    ForceToken,
    /// A ticket.
    Ticket(ValueName),
    /// The question whether the access token lives.
    Verify,
}

impl Call {
    /// Returns whether it carries the AppSecret and brings an access token.
    pub const fn is_token(self) -> bool {
        matches!(self, Self::Token | Self::ForceToken)
    }
}

/// An answer of use.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// A value and how long it lives from the moment before the request was sent.
    Granted(Value, Duration),
    /// The access token lives.
    Alive,
}

/// A call that brought no answer of use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Decides when to try again.
    pub class: Class,
    /// The platform's errcode, if it gave one.
    pub errcode: Option<i64>,
    /// The platform's request id, if it gave one.
    pub rid: Option<String>,
    /// The failure in words, for people; free of secrets and values.
    pub message: String,
    /// Advice.
    pub hint: String,
}

impl Refusal {
    /// A failure that passes by itself.
    pub fn transient(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            class: Class::Transient,
            errcode: None,
            rid: None,
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// Something on this host is missing, so no call was made.
    pub fn local(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            class: Class::Local,
            ..Self::transient(message, hint)
        }
    }

    /// A failure that lasts until somebody acts.
    pub fn operator(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            class: Class::Operator,
            ..Self::transient(message, hint)
        }
    }
}
