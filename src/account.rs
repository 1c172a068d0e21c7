//! Accounts and their outputs, as checked configuration: every value of these types is valid.

use crate::secret::Secret;
use crate::template::Template;
use crate::terms::Terms;
use crate::value::ValueName;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The local name of an account: `[a-z0-9][a-z0-9_-]{0,63}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountName(Arc<str>);

impl AccountName {
    /// The name, if it has the right form.
    pub fn parse(name: &str) -> Option<Self> {
        let bytes = name.as_bytes();
        let first = bytes.first()?;
        let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        (plain(first)
            && bytes.len() <= 64
            && bytes.iter().all(|b| plain(b) || matches!(b, b'_' | b'-')))
        .then(|| Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for AccountName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The place that the AppSecret is read from, anew for each call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file, or a credential that systemd passed (then below `$CREDENTIALS_DIRECTORY`).
    File(PathBuf),
    /// In the configuration itself.
    Inline(Secret),
    /// Nowhere on this host, which only follows in a fleet.
    Absent,
}

/// The key that names a user or group whose id is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// `readers` or `admins`
    Reader,
    /// `owner`
    Owner,
    /// `group`
    Group,
}

/// A local user or group that may have an account's values. Displays as configured: `www-data`, `@apps`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A user and its uid.
    User(Arc<str>, u32),
    /// A group and its gid.
    Group(Arc<str>, u32),
    /// A name as configured that the name service could not look up. An output that names it waits for its id.
    Unresolved(Arc<str>, Role),
}

impl Principal {
    /// Returns whether both are the same user or the same group, by whatever name.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::User(_, one), Self::User(_, other))
            | (Self::Group(_, one), Self::Group(_, other)) => one == other,
            (Self::Unresolved(..), Self::Unresolved(..)) => self == other,
            _ => false,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name, _) | Self::Unresolved(name, _) => f.write_str(name),
            Self::Group(name, _) => write!(f, "@{name}"),
        }
    }
}

/// Owner, mode and readers of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Permission bits, `0o600` unless configured.
    pub mode: u32,
    /// The uid to give it to, if configured.
    pub owner: Option<u32>,
    /// The gid to give it to, if configured.
    pub group: Option<u32>,
    /// The principals that its ACL names: `r` on a file, `rw` on a socket. Also an owner or group that is not known
    /// yet.
    pub readers: Arc<[Principal]>,
}

impl Access {
    /// A name that could not be looked up yet, if there is one: the output must not be made before it is.
    pub(crate) fn unresolved(&self) -> Option<&str> {
        self.readers.iter().find_map(|reader| match reader {
            Principal::Unresolved(name, _) => Some(&**name),
            _ => None,
        })
    }
}

/// The form that a value is written in.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// One flat line of JSON with the true end of life.
    Json,
    /// The value and nothing else.
    Raw,
    /// JSON behind a PHP guard of 15 bytes.
    Php,
    /// As the platform answers.
    Api,
    /// Two lines for a shell to source.
    Env,
    /// The text that a Jinja template makes of it.
    Template(Arc<Template>),
}

/// The fate of a file whose value has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExpiry {
    /// It goes: an app never sees a dead value.
    Remove,
    /// It stays, for apps that cannot bear a missing file.
    Keep,
}

/// The kind of an output: the way that apps reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputKind {
    /// A file, replaced atomically.
    File(OnExpiry),
    /// A Unix socket that gives the value to whoever connects.
    Socket,
}

impl OutputKind {
    /// Returns whether it is bound before it shows anything, and takes a file descriptor.
    pub(crate) const fn listens(self) -> bool {
        match self {
            Self::File(_) => false,
            Self::Socket => true,
        }
    }

    /// The rights of its readers, as bits of a mode: connecting to a socket takes both.
    pub(crate) const fn reader_bits(self) -> u32 {
        match self {
            Self::File(_) => 0o4,
            Self::Socket => 0o6,
        }
    }

    /// Returns whether one can take the place of the other.
    pub(crate) fn is_like(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }

    /// The name as configuration and API spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Socket => "socket",
        }
    }
}

/// A place where one value of one account is handed to apps.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// File or socket.
    pub kind: OutputKind,
    /// Absolute path.
    pub path: Box<Path>,
    /// The value.
    pub value: ValueName,
    /// The form that it is written in.
    pub format: Format,
    /// Its owner, mode and readers.
    pub access: Access,
}

/// One WeChat app under a local name, as configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// Its local name.
    pub name: AccountName,
    /// appid, or corpid for 企业微信.
    pub id: Box<str>,
    /// 企业微信: which app of the corp, where there are several.
    pub agentid: Option<u32>,
    /// The terms of its platform, for its way to fetch a token.
    pub terms: &'static Terms,
    /// The place of its AppSecret.
    pub secret: SecretSource,
    /// The principals that may read its values and report them bad.
    pub readers: Arc<[Principal]>,
    /// The tickets to keep besides the access token.
    pub tickets: Box<[ValueName]>,
    /// Stable: how often to ask besides the renewal window; zero for only in the window.
    pub poll_every: Duration,
    /// Classic and 企业微信: the part of its life after which a token is replaced, between 0 and 1.
    pub refresh_at: f64,
    /// Interval of the questions to the platform whether the token still lives; zero for only on suspicion.
    pub verify_every: Duration,
    /// Calls a day that it may make.
    pub daily_budget: u32,
    /// True if a reader's report of a dead stable token may use `force_refresh`.
    pub force_on_dead: bool,
    /// Its outputs.
    pub outputs: Box<[Output]>,
}

impl Account {
    /// An account with these, and with the defaults of the configuration; without secret, readers, tickets and outputs.
    pub fn usual(name: AccountName, id: &str, terms: &'static Terms) -> Self {
        Self {
            name,
            id: id.into(),
            agentid: None,
            terms,
            secret: SecretSource::Absent,
            readers: [].into(),
            tickets: [].into(),
            poll_every: Duration::from_secs(300),
            refresh_at: 0.5,
            verify_every: Duration::ZERO,
            daily_budget: terms.default_budget,
            force_on_dead: false,
            outputs: [].into(),
        }
    }

    /// The platform's promises.
    pub const fn terms(&self) -> &'static Terms {
        self.terms
    }

    /// The values it keeps, the access token first.
    pub fn values(&self) -> impl Iterator<Item = ValueName> + '_ {
        std::iter::once(ValueName::AccessToken).chain(self.tickets.iter().copied())
    }
}
