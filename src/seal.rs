//! The encryption of what leaves the host: AES-256-GCM, with two keys at a time while one replaces the other.

use crate::fault::reason;
use crate::files::{ReadError, read_regular};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::Path;
use zeroize::Zeroizing;

/// The length of a key, bytes.
const KEY_LEN: usize = 32;
/// The largest file of keys, bytes.
const MAX_FILE: u64 = 4096;

/// The name of a key: the first four bytes of a hash of it. Displays as 8 hex digits, and gives nothing of the key away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyId([u8; 4]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

/// The keys of a fleet. The first encrypts; each decrypts.
pub(crate) struct FleetKeys(Vec<(KeyId, LessSafeKey)>);

impl fmt::Debug for FleetKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(id, _)| id))
            .finish()
    }
}

/// The reason why a file holds no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyError {
    /// It cannot be read; the reason.
    Unreadable(String),
    /// Its content is no key; what is wrong, as the rest of a sentence about the file.
    Malformed(&'static str),
}

/// The rest of a sentence that the name of the file begins.
impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => write!(f, "cannot be read: {why}"),
            Self::Malformed(why) => write!(f, "is a file {why}"),
        }
    }
}

/// The reason why something cannot be decrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// It was encrypted with a key that this host does not have.
    OtherKey(Box<str>),
    /// It was changed on its way, or belongs to another account or term.
    Damaged,
}

/// The owner of an encrypted text: the text is of no use anywhere else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SealedFor<'a> {
    /// The account.
    pub(crate) account: &'a str,
    /// The name of the value in the engine.
    pub(crate) value: &'a str,
    /// The revision of the leader key that it was written under.
    pub(crate) fence: i64,
}

impl SealedFor<'_> {
    fn associated(&self) -> String {
        let Self {
            account,
            value,
            fence,
        } = self;
        format!("wxtokend\0{account}\0{value}\0{fence}")
    }
}

impl FleetKeys {
    /// Reads one key or two. Blocks.
    pub(crate) fn read(path: &Path) -> Result<Self, KeyError> {
        let (bytes, _) = read_regular(path, MAX_FILE).map_err(|error| {
            KeyError::Unreadable(match error {
                ReadError::Io(error) => reason(&error),
                error => error.to_string(),
            })
        })?;
        Self::parse(&bytes)
    }

    /// Reads raw keys of 32 bytes, or one a line of 64 hex digits or of base64. The first one encrypts.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        let keys = match of_text(bytes) {
            Some(keys) => keys,
            None if matches!(bytes.len(), KEY_LEN | 64) => bytes
                .chunks(KEY_LEN)
                .map(|key| Zeroizing::new(key.to_vec()))
                .collect(),
            None => {
                return Err(KeyError::Malformed(
                    "which holds no key: it must have 32 bytes, or one or two lines of 64 hex digits",
                ));
            }
        };
        if keys.len() > 2 {
            return Err(KeyError::Malformed(
                "which holds more than two keys: keep the new one, and the old one below it until all hosts have both",
            ));
        }
        if keys
            .iter()
            .any(|key| key.iter().all(|byte| *byte == key[0]))
        {
            return Err(KeyError::Malformed("whose key is no random one"));
        }
        let keys = keys.iter().map(|key| {
            let made = UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new);
            made.map(|made| (id_of(key), made))
        });
        let keys = keys.collect::<Result<Vec<_>, _>>();
        keys.map(Self)
            .map_err(|_| KeyError::Malformed("whose key has not 32 bytes"))
    }

    /// The name of the key that encrypts.
    pub(crate) fn id(&self) -> KeyId {
        self.0.first().map_or(KeyId([0; 4]), |(id, _)| *id)
    }

    /// True if one of the keys has this name.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.0.iter().any(|(known, _)| known.to_string() == id)
    }

    /// The same keys, of which the one with this name encrypts.
    pub(crate) fn sealing_with(&self, id: &str) -> Option<Self> {
        let (first, others) =
            (self.0.iter().cloned()).partition::<Vec<_>, _>(|(known, _)| known.to_string() == id);
        (!first.is_empty()).then(|| Self([first, others].concat()))
    }

    /// Encrypts, as `KEYID:BASE64`. Nothing if the host has no random numbers.
    pub(crate) fn seal(&self, to: SealedFor<'_>, text: &[u8]) -> Option<String> {
        let (id, key) = self.0.first()?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + text.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        let mut hidden = text.to_vec();
        let aad = Aad::from(to.associated());
        let nonce = Nonce::assume_unique_for_key(nonce);
        // In place: no copy of the text is left behind.
        key.seal_in_place_append_tag(nonce, aad, &mut hidden).ok()?;
        sealed.append(&mut hidden);
        Some(format!("{id}:{}", BASE64.encode(sealed)))
    }

    /// Decrypts what [`FleetKeys::seal`] made.
    pub(crate) fn open(
        &self,
        of: SealedFor<'_>,
        sealed: &str,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (id, text) = sealed.split_once(':').ok_or(OpenError::Damaged)?;
        let known = self.0.iter().find(|(known, _)| known.to_string() == id);
        let (_, key) = known.ok_or_else(|| OpenError::OtherKey(id.chars().take(8).collect()))?;
        let bytes = BASE64.decode(text).map_err(|_| OpenError::Damaged)?;
        let (nonce, hidden) = bytes
            .split_at_checked(NONCE_LEN)
            .ok_or(OpenError::Damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Damaged)?;
        let mut hidden = Zeroizing::new(hidden.to_vec());
        let aad = Aad::from(of.associated());
        let length = key
            .open_in_place(nonce, aad, &mut hidden)
            .map_err(|_| OpenError::Damaged)?
            .len();
        hidden.truncate(length);
        Ok(hidden)
    }
}

/// Keys as people write them: one a line.
fn of_text(bytes: &[u8]) -> Option<Vec<Zeroizing<Vec<u8>>>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let text = text.trim_start_matches('\u{feff}');
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let key = |line: &str| -> Option<Zeroizing<Vec<u8>>> {
        let bytes = if line.len() == 2 * KEY_LEN {
            let digits = |at: usize| u8::from_str_radix(line.get(at..at + 2)?, 16).ok();
            (0..line.len())
                .step_by(2)
                .map(digits)
                .collect::<Option<_>>()
        } else {
            BASE64.decode(line).ok()
        };
        bytes.filter(|key| key.len() == KEY_LEN).map(Zeroizing::new)
    };
    let keys = lines.map(key).collect::<Option<Vec<_>>>()?;
    (!keys.is_empty()).then_some(keys)
}

fn id_of(key: &[u8]) -> KeyId {
    let mut hash = Sha256::new();
    hash.update(b"wxtokend fleet key\0");
    hash.update(key);
    let digest = hash.finalize();
    KeyId([digest[0], digest[1], digest[2], digest[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const OTHER: &str = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    const TO: SealedFor<'_> = SealedFor {
        account: "shop",
        value: "record",
        fence: 7,
    };

    fn keys(lines: &[&str]) -> FleetKeys {
        FleetKeys::parse(lines.join("\n").as_bytes()).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_key_only() {
        let sealed = keys(&[ONE]).seal(TO, b"TOKEN").unwrap();
        assert!(!sealed.contains("TOKEN"));
        assert_eq!(**keys(&[ONE]).open(TO, &sealed).unwrap(), *b"TOKEN");
        let id = keys(&[ONE]).id().to_string();
        assert!(sealed.starts_with(&format!("{id}:")), "{sealed}");
        let wrong = keys(&[OTHER]).open(TO, &sealed).unwrap_err();
        assert_eq!(wrong, OpenError::OtherKey(id.into()));
    }

    #[test]
    fn same_text_is_sealed_differently_each_time() {
        let keys = keys(&[ONE]);
        assert_ne!(keys.seal(TO, b"TOKEN"), keys.seal(TO, b"TOKEN"));
    }

    #[test]
    fn sealed_text_is_of_no_use_for_another_account_value_or_fence() {
        let keys = keys(&[ONE]);
        let sealed = keys.seal(TO, b"TOKEN").unwrap();
        for other in [
            SealedFor {
                account: "blog",
                ..TO
            },
            SealedFor {
                value: "orphan",
                ..TO
            },
            SealedFor { fence: 8, ..TO },
        ] {
            assert_eq!(keys.open(other, &sealed).unwrap_err(), OpenError::Damaged);
        }
        let mut changed = sealed.clone();
        let last = changed.len() - 10;
        changed.replace_range(
            last..=last,
            if &sealed[last..=last] == "A" {
                "B"
            } else {
                "A"
            },
        );
        assert_eq!(keys.open(TO, &changed).unwrap_err(), OpenError::Damaged);
        for bad in ["", "1234", "12345678:", &format!("{}:AAAA", keys.id())] {
            assert!(keys.open(TO, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn two_keys_open_what_either_sealed_and_the_first_seals() {
        let (old, both) = (keys(&[ONE]), keys(&[OTHER, ONE]));
        let before = old.seal(TO, b"OLD").unwrap();
        assert_eq!(**both.open(TO, &before).unwrap(), *b"OLD");
        let after = both.seal(TO, b"NEW").unwrap();
        assert!(old.open(TO, &after).is_err());
        assert_eq!(**keys(&[OTHER]).open(TO, &after).unwrap(), *b"NEW");
        assert!(both.has(&old.id().to_string()));
        let still = both.sealing_with(&old.id().to_string()).unwrap();
        let sealed = still.seal(TO, b"OLD").unwrap();
        assert_eq!(**old.open(TO, &sealed).unwrap(), *b"OLD");
        assert_eq!(**still.open(TO, &after).unwrap(), *b"NEW");
        assert!(old.sealing_with("00000000").is_none());
    }

    #[test]
    fn keys_are_raw_hex_or_base64() {
        let raw: Vec<u8> = (0..32).collect();
        let id = keys(&[ONE]).id();
        let base64 = BASE64.encode(&raw);
        for text in [
            &raw,
            ONE.as_bytes(),
            format!("{ONE}\r\n").as_bytes(),
            base64.as_bytes(),
        ] {
            assert_eq!(FleetKeys::parse(text).unwrap().id(), id);
        }
        for bad in [&raw[..31], b"", b"\n", &[7; 32], &ONE.as_bytes()[..62]] {
            assert!(FleetKeys::parse(bad).is_err(), "{bad:?}");
        }
        let three = [ONE, OTHER, ONE].join("\n");
        assert!(FleetKeys::parse(three.as_bytes()).is_err());
        assert_eq!(
            FleetKeys::parse(&[&raw[..], &raw[1..], &[9]].concat())
                .unwrap()
                .0
                .len(),
            2
        );
    }
}
