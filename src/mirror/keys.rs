//! The keys that apps have in the place of an AppSecret: read from files, compared in constant time.

use crate::account::{AccountName, SecretSource};
use crate::config::{Margins, MirrorKey};
use crate::files::{read_key, read_secret};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The SHA-256 of a key, of the AppSecret or of a token. To compare two says nothing of the one that was not known before.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Hashed([u8; 32]);

impl fmt::Debug for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hashed(…)")
    }
}

impl Hashed {
    pub(super) fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    fn is_same(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// An app that has a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct App {
    pub(super) account: AccountName,
    pub(super) name: Arc<str>,
    pub(super) margins: Margins,
    /// The kind of the account's platform.
    pub(super) kind: &'static str,
}

/// The answer to a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeyMatch<'a> {
    /// No account with keys has this id.
    UnknownId,
    /// The key is none of those that were made for this id. Names the account, the first where there are several.
    WrongKey(&'a AccountName),
    /// It is the AppSecret itself.
    AppSecret(&'a AccountName),
    /// It is the key of this app.
    App(&'a Arc<App>),
}

/// All keys that are valid now.
#[derive(Debug, Default)]
pub(super) struct KeyRing {
    /// By the id of the account.
    lockers: HashMap<Box<str>, Vec<Locker>>,
    accounts: HashMap<AccountName, Vec<Arc<App>>>,
}

/// The keys of one account.
#[derive(Debug)]
struct Locker {
    account: AccountName,
    /// The kind of its platform.
    kind: &'static str,
    secret: Option<Hashed>,
    keys: Vec<(Hashed, Arc<App>)>,
}

/// A key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyTrouble {
    pub(super) account: AccountName,
    pub(super) message: String,
}

impl KeyRing {
    /// Reads all keys from their files. Blocks.
    pub(super) fn read(configured: &[MirrorKey]) -> (Self, Vec<KeyTrouble>) {
        let (mut ring, mut troubles) = (Self::default(), Vec::new());
        for key in configured {
            let account = &key.account;
            let name = &account.name;
            let locker = ring.locker(key);
            let secret = locker.secret;
            let hashed = match read_key(&key.key_file) {
                Ok(text) => Hashed::of(text.expose()),
                Err(wrong) => {
                    troubles.push(KeyTrouble {
                        account: name.clone(),
                        message: format!(
                            "the mirror cannot answer `{}`: {}; make it with `wxtokend mirror-key {}`, and let the daemon's user read it",
                            key.name,
                            wrong,
                            key.key_file.display()
                        ),
                    });
                    continue;
                }
            };
            if secret.is_some_and(|secret| secret.is_same(&hashed)) {
                troubles.push(KeyTrouble {
                    account: name.clone(),
                    message: format!(
                        "the mirror does not answer `{}`: `{}` holds the AppSecret itself, which no app needs; make a key with `wxtokend mirror-key`",
                        key.name,
                        key.key_file.display()
                    ),
                });
                continue;
            }
            let app = Arc::new(App {
                account: name.clone(),
                name: key.name.clone(),
                margins: key.margins,
                kind: locker.kind,
            });
            locker.keys.push((hashed, app.clone()));
            ring.accounts.entry(name.clone()).or_default().push(app);
        }
        (ring, troubles)
    }

    /// The locker of a key's account, made if there is none.
    fn locker(&mut self, key: &MirrorKey) -> &mut Locker {
        let account = &key.account;
        let lockers = self.lockers.entry(account.id.clone()).or_default();
        let at = lockers
            .iter()
            .position(|locker| locker.account == account.name)
            .unwrap_or_else(|| {
                let secret = match &account.secret {
                    SecretSource::Inline(secret) => Some(Hashed::of(secret.expose())),
                    SecretSource::File(path) => {
                        read_secret(path).ok().map(|text| Hashed::of(text.expose()))
                    }
                    SecretSource::Absent => None,
                };
                lockers.push(Locker {
                    account: account.name.clone(),
                    kind: account.terms.kind,
                    secret,
                    keys: Vec::new(),
                });
                lockers.len() - 1
            });
        &mut lockers[at]
    }

    /// The same keys without those that are configured no more, or differently.
    pub(super) fn without_withdrawn(&self, configured: &[MirrorKey], before: &[MirrorKey]) -> Self {
        let stays = |app: &App| {
            let is = |key: &&MirrorKey| key.account.name == app.account && key.name == app.name;
            let old = before.iter().find(is);
            let new = configured.iter().find(is);
            old.zip(new).is_some_and(|(old, new)| {
                old.key_file == new.key_file && old.account.id == new.account.id
            })
        };
        let mut kept = Self::default();
        for (id, lockers) in &self.lockers {
            let lockers = lockers.iter().map(|locker| Locker {
                account: locker.account.clone(),
                kind: locker.kind,
                secret: locker.secret,
                keys: (locker.keys.iter())
                    .filter(|(_, app)| stays(app))
                    .cloned()
                    .collect(),
            });
            let lockers: Vec<_> = lockers.filter(|locker| !locker.keys.is_empty()).collect();
            if !lockers.is_empty() {
                kept.lockers.insert(id.clone(), lockers);
            }
        }
        for (name, apps) in &self.accounts {
            let apps: Vec<_> = apps.iter().filter(|app| stays(app)).cloned().collect();
            if !apps.is_empty() {
                kept.accounts.insert(name.clone(), apps);
            }
        }
        kept
    }

    /// The owner of a key. Takes the same time for each wrong key.
    pub(super) fn find(&self, id: &str, kind: &str, key: &str) -> KeyMatch<'_> {
        let lockers = self.lockers.get(id).into_iter().flatten();
        let lockers = || lockers.clone().filter(|locker| locker.kind == kind);
        let Some(first) = lockers().next() else {
            return KeyMatch::UnknownId;
        };
        let shown = Hashed::of(key);
        let (mut owner, mut exposed) = (None, None);
        // Every key is compared, also after the right one.
        for locker in lockers() {
            if locker.secret.is_some_and(|secret| secret.is_same(&shown)) {
                exposed = Some(&locker.account);
            }
            for (hashed, app) in &locker.keys {
                if hashed.is_same(&shown) {
                    owner = Some(app);
                }
            }
        }
        match (exposed, owner) {
            (Some(account), _) => KeyMatch::AppSecret(account),
            (None, Some(app)) => KeyMatch::App(app),
            (None, None) => KeyMatch::WrongKey(&first.account),
        }
    }

    /// The apps that have a key of an account.
    pub(super) fn apps(&self, account: &AccountName) -> &[Arc<App>] {
        self.accounts.get(account).map_or(&[], Vec::as_slice)
    }

    /// The accounts that have keys.
    pub(super) fn accounts(&self) -> impl Iterator<Item = &AccountName> {
        self.accounts.keys()
    }
}
