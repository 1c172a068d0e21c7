//! Every key that the configuration knows, and what to say of any other.

use crate::platform::{Platform, Platforms};

/// A table of the configuration: how it is written, and its keys.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    /// As in a file: `[daemon]`; empty for the top level.
    pub table: &'static str,
    /// The keys that may stand in it, whatever the platforms are.
    names: &'static [&'static str],
    /// The keys that a platform adds.
    of_platform: fn(&Platform) -> Vec<&'static str>,
}

impl Keys {
    /// All keys that may stand in it.
    pub fn with(&self, platforms: Platforms) -> Vec<&'static str> {
        let of_platforms = platforms.0.iter().copied().flat_map(self.of_platform);
        of_platforms.chain(self.names.iter().copied()).collect()
    }
}

const fn no_more(_: &Platform) -> Vec<&'static str> {
    Vec::new()
}

pub(super) const ROOT: Keys = Keys {
    table: "",
    names: &["daemon", "api", "mirror", "platform", "fleet", "accounts"],
    of_platform: no_more,
};
pub(super) const DAEMON: Keys = Keys {
    table: "[daemon]",
    names: &["state_dir", "include", "log_level"],
    of_platform: no_more,
};
pub(super) const API: Keys = Keys {
    table: "[api]",
    names: &["socket", "admins", "metrics"],
    of_platform: no_more,
};
pub(super) const MIRROR: Keys = Keys {
    table: "[mirror]",
    names: &["listen", "socket"],
    of_platform: no_more,
};
pub(super) const PLATFORM: Keys = Keys {
    table: "[platform]",
    names: &[
        "allow_http",
        "connect_timeout",
        "timeout",
        "concurrency",
        "ca_file",
        "proxy",
    ],
    of_platform: |platform| vec![platform.hosts_key],
};
pub(super) const FLEET: Keys = Keys {
    table: "[fleet]",
    names: &[
        "engine",
        "endpoints",
        "prefix",
        "ca_file",
        "cert_file",
        "cert_key_file",
        "username",
        "password_file",
        "password_credential",
        "key_file",
        "key_credential",
        "role",
        "lease",
        "host",
    ],
    of_platform: no_more,
};
pub(super) const ACCOUNT: Keys = Keys {
    table: "[accounts.NAME]",
    names: &[
        "secret_file",
        "secret_credential",
        "secret",
        "method",
        "readers",
        "tickets",
        "poll_every",
        "refresh_at",
        "verify_every",
        "daily_budget",
        "force_on_dead",
        "file",
        "socket",
        "mirror",
    ],
    of_platform: |platform| {
        let ids = &platform.ids;
        [Some(ids.key), ids.app_key].into_iter().flatten().collect()
    },
};
pub(super) const FILE: Keys = Keys {
    table: "[[accounts.NAME.file]]",
    names: &[
        "path",
        "value",
        "format",
        "template",
        "mode",
        "owner",
        "group",
        "readers",
        "on_expiry",
    ],
    of_platform: no_more,
};
pub(super) const SOCKET: Keys = Keys {
    table: "[[accounts.NAME.socket]]",
    names: &[
        "path", "value", "format", "template", "mode", "owner", "group", "readers",
    ],
    of_platform: no_more,
};
pub(super) const MIRROR_KEY: Keys = Keys {
    table: "[[accounts.NAME.mirror]]",
    names: &["name", "key_file", "margin"],
    of_platform: no_more,
};

/// Every table with its keys: what `config.example.toml` has to explain.
pub const ALL: [Keys; 10] = [
    ROOT, DAEMON, API, MIRROR, PLATFORM, FLEET, ACCOUNT, FILE, SOCKET, MIRROR_KEY,
];

/// Advice on the right key, where `wrong` is none of the keys of a table.
pub(super) fn advice(right: &[&str], wrong: &str, platforms: Platforms) -> String {
    let others = ALL.map(|other| (other.table, other.with(platforms)));
    let others = others.iter().map(|(table, keys)| (*table, &**keys));
    advice_among(right, wrong, others)
}

/// As `advice`, for a program with tables of its own: how each is written, and its keys.
pub fn advice_among<'a>(
    right: &[&str],
    wrong: &str,
    mut others: impl Iterator<Item = (&'a str, &'a [&'a str])>,
) -> String {
    if let Some(right) = nearest(wrong, right) {
        return format!("did you mean `{right}`?");
    }
    match others.find(|(_, keys)| keys.contains(&wrong)) {
        Some(("", _)) => "it belongs to the top level".to_owned(),
        Some((table, _)) => format!("it belongs to {table}"),
        None => format!("known here: {}", list(right)),
    }
}

/// The word that was probably meant.
pub(crate) fn nearest<'a>(wrong: &str, words: &[&'a str]) -> Option<&'a str> {
    if wrong.len() > 64 {
        // No word is that long, and to measure the distance would take long.
        return None;
    }
    let wrong = wrong.to_lowercase().replace('-', "_");
    let near = |word: &&&str| strsim::damerau_levenshtein(&wrong, word);
    let word = words.iter().min_by_key(near)?;
    let enough = if word.len() > 4 { 2 } else { 1 };
    (near(&word) <= enough).then_some(*word)
}

fn list(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_told_where_to_go() {
        let check = |table: &Keys, wrong: &str, expected: &str| {
            assert_eq!(
                advice(
                    &table.with(Platforms::default()),
                    wrong,
                    Platforms::default()
                ),
                expected
            );
        };
        check(&ACCOUNT, "secretfile", "did you mean `secret_file`?");
        check(&ACCOUNT, "poll-every", "did you mean `poll_every`?");
        check(&FILE, "onwer", "did you mean `owner`?");
        check(&FILE, "log_level", "it belongs to [daemon]");
        check(&SOCKET, "on_expiry", "it belongs to [[accounts.NAME.file]]");
        check(&DAEMON, "platform", "it belongs to the top level");
        check(&API, "workers", "known here: `socket`, `admins`, `metrics`");
    }
}
