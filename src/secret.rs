//! The AppSecret of an account: in memory only as long as it is needed, and never shown.

use zeroize::Zeroizing;

/// An AppSecret (企业微信: corpsecret). It cannot be displayed, debugged or serialised, and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Box<str>>);

/// The reason why a text cannot be an AppSecret. Says nothing of the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretError {
    /// Nothing but white space.
    Empty,
    /// A character that no AppSecret has: white space, control or beyond ASCII.
    BadCharacter,
    /// More than 512 bytes: surely the wrong file.
    TooLong,
}

impl std::fmt::Display for SecretError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Empty => "the secret is empty",
            Self::BadCharacter => "the secret holds a character that no AppSecret has",
            Self::TooLong => "the secret is longer than 512 bytes",
        })
    }
}

impl std::error::Error for SecretError {}

impl Secret {
    /// Takes a secret as found in a file: white space around it is not part of it.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        if text.len() > 512 {
            return Err(SecretError::TooLong);
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(SecretError::BadCharacter);
        }
        Ok(Self(Zeroizing::new(text.into())))
    }

    /// The secret itself, for the one place that sends it to the platform.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}
