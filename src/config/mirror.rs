//! `[mirror]` and `[[accounts.*.mirror]]`

use super::environment::Environment;
use super::keys;
use super::output::OutputsReader;
use super::secret::secret_file;
use super::table::Table;
use super::value::{self, Checked};
use crate::account::{Account, SecretSource};
use crate::files::read_key;
use crate::value::ValueName;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use toml::de::DeValue;

/// The longest name of a key, in bytes.
const MAX_NAME: usize = 64;
/// The largest margin: the life of a token.
const MAX_MARGIN: u32 = 7200;

/// `[mirror]`
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MirrorSection {
    /// The loopback address that it listens on.
    pub listen: Option<SocketAddr>,
    /// The path of its Unix socket.
    pub socket: Option<PathBuf>,
    /// `[[accounts.*.mirror]]` of all accounts.
    pub keys: Vec<MirrorKey>,
}

/// `[[accounts.*.mirror]]`: a key that one app has in the place of its AppSecret.
#[derive(Debug, Clone, PartialEq)]
pub struct MirrorKey {
    /// The account that it opens.
    pub account: Arc<Account>,
    /// The name of the app, for logs and metrics.
    pub name: Arc<str>,
    /// The file that holds the key.
    pub key_file: PathBuf,
    /// The seconds that the app's SDK takes off `expires_in`.
    pub margins: Margins,
}

/// The seconds that an SDK takes off `expires_in`, for each value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Margins([u32; ValueName::ALL.len()]);

impl Margins {
    /// The same margin for each value.
    pub const fn all(seconds: u32) -> Self {
        Self([seconds; ValueName::ALL.len()])
    }

    /// The margin of a value, in seconds.
    pub const fn of(&self, value: ValueName) -> u32 {
        self.0[value as usize]
    }
}

/// An app's key as it stands in the file, before its account is known to be right.
#[derive(Debug)]
pub(super) struct ReadKey {
    name: Arc<str>,
    key_file: PathBuf,
    margins: Margins,
}

impl ReadKey {
    pub(super) fn of(self, account: &Arc<Account>) -> MirrorKey {
        MirrorKey {
            account: account.clone(),
            name: self.name,
            key_file: self.key_file,
            margins: self.margins,
        }
    }
}

/// `[mirror]`, without keys.
pub(super) fn mirror(
    root: &Table<'_>,
    env: &Environment,
    outputs: &mut OutputsReader,
) -> MirrorSection {
    let table = root.table("mirror").known(&keys::MIRROR, env.platforms);
    let section = MirrorSection {
        listen: table.read("listen", value::loopback),
        socket: table.read("socket", value::socket),
        keys: Vec::new(),
    };
    if let Some(path) = &section.socket {
        outputs.claim(path, &table, "socket");
    }
    if root.has("mirror") && !table.has("listen") && !table.has("socket") {
        table.fault_of_absence(
            "`listen` is missing: [mirror] needs `listen = \"127.0.0.1:9481\"`, or `socket`, or both",
        );
    }
    section
}

/// The keys of an account.
pub(super) fn keys(
    account: &Table<'_>,
    secret: Option<&SecretSource>,
    env: &Environment,
) -> Vec<ReadKey> {
    let mut keys: Vec<ReadKey> = Vec::new();
    for table in account.tables("mirror") {
        let table = table.known(&keys::MIRROR_KEY, env.platforms);
        for (key, advice) in [
            (
                "name",
                "`name` is missing: say which app has the key, for logs and metrics",
            ),
            (
                "key_file",
                "`key_file` is missing: make a key with `wxtokend mirror-key PATH`, and name the file here",
            ),
        ] {
            if !table.has(key) {
                table.fault_of_absence(advice);
            }
        }
        let name = table.read("name", name);
        let key_file = table.read("key_file", |path| secret_file(&table, path, env));
        let read = |path| env.looks.look(path, read_key)?.err();
        if let Some(wrong) = key_file.as_deref().and_then(read) {
            table.warning(
                "key_file",
                format_args!("cannot be used: {wrong}; make a key with `wxtokend mirror-key PATH`"),
            );
        }
        let margins = table.read("margin", margins).unwrap_or_default();
        let (Some(name), Some(key_file)) = (name, key_file) else {
            continue;
        };
        if keys.iter().any(|other| other.name == name) {
            table.fault(
                "name",
                "is used twice in this account: give each app a name of its own",
            );
        }
        if let Some(other) = keys.iter().find(|other| other.key_file == key_file) {
            let other = &other.name;
            table.fault(
                "key_file",
                format_args!("is the key of `{other}` too: make each app a key of its own with `wxtokend mirror-key PATH`"),
            );
        }
        if matches!(secret, Some(SecretSource::File(secret)) if *secret == key_file) {
            table.fault(
                "key_file",
                "holds the AppSecret itself, which no app needs: make a key with `wxtokend mirror-key PATH`",
            );
        }
        keys.push(ReadKey {
            name,
            key_file,
            margins,
        });
    }
    keys
}

fn name(value: &DeValue<'_>) -> Checked<Arc<str>> {
    match value::text(value)? {
        name if name.len() <= MAX_NAME => Ok(name.into()),
        _ => Err(format!("must have at most {MAX_NAME} bytes").into()),
    }
}

/// A number of seconds, or a table of them by the value's name.
fn margins(value: &DeValue<'_>) -> Checked<Margins> {
    let right = "must be a number of seconds, or a table of them such as { access_token = 0, jsapi_ticket = 500 }";
    let seconds = |value| value::whole(value, 0..=MAX_MARGIN);
    let Some(table) = value.as_table() else {
        return match value.as_integer() {
            Some(_) => seconds(value).map(Margins::all),
            None => Err(right.into()),
        };
    };
    let mut margins = Margins::default();
    for (key, margin) in table {
        let name = ValueName::parse(key.get_ref()).ok_or(
            "must name access_token, jsapi_ticket, wx_card_ticket or agent_ticket, each with its seconds",
        )?;
        margins.0[name as usize] = seconds(margin.get_ref())?;
    }
    Ok(margins)
}
