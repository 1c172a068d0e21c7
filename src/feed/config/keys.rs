//! Every key that the configuration of a feed knows.

use wxtokend::config::keys::advice_among;
use wxtokend::config::table::Table;

/// A table of the configuration: how it is written, and its keys.
pub(super) struct KeySet {
    table: &'static str,
    keys: &'static [&'static str],
}

pub(super) const ROOT: KeySet = KeySet {
    table: "",
    keys: &[
        "socket",
        "accounts",
        "log_level",
        "metrics",
        "database",
        "redis",
    ],
};
pub(super) const DATABASE: KeySet = KeySet {
    table: "[[database]]",
    keys: &[
        "url",
        "password_file",
        "password_credential",
        "ca_file",
        "value",
        "statement",
        "read_back",
        "on_none",
        "rows",
        "check_every",
        "time_zone",
        "timeout",
    ],
};
pub(super) const REDIS: KeySet = KeySet {
    table: "[[redis]]",
    keys: &[
        "url",
        "sentinels",
        "service",
        "password_file",
        "password_credential",
        "ca_file",
        "value",
        "preset",
        "kind",
        "agentid",
        "cache",
        "prefix",
        "app_secret_file",
        "key",
        "body",
        "check_every",
        "timeout",
    ],
};

/// The same table, with a fault for each key that is not known.
pub(super) fn known<'a>(table: Table<'a>, known: &KeySet) -> Table<'a> {
    let others = [&ROOT, &DATABASE, &REDIS];
    table.only(known.keys, |name| {
        let others = others.iter().map(|other| (other.table, other.keys));
        advice_among(known.keys, name, others)
    })
}
