//! `config.example.toml` is the manual: it must be right, and complete.

use crate::{ConfigHost, good};
use std::fs;
use wxtokend::account::Account;
use wxtokend::config::{Config, keys};
use wxtokend::platform::Platforms;

fn read(name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The example, on a host that has what it names.
pub(crate) fn text(host: &ConfigHost) -> String {
    host.file("etc/corp.pem", 0o644, good::CERTIFICATE);
    let secret = "0123456789abcdef0123456789abcdef";
    host.file("etc/secrets/shop", 0o640, secret);
    host.file("credentials/old", 0o600, secret);
    host.file("etc/secrets/shop-cms", 0o640, secret);
    host.file("etc/secrets/fleet", 0o640, &format!("{secret}{secret}"));
    host.file("templates/x.j2", 0o644, "{{ account }} {{ jsapi_ticket }}");
    host.directory("accounts.d", 0o755);
    read("config.example.toml")
        .replace("/run/wxtokend", "DIR/run")
        .replace("/etc/wxtokend", "DIR/etc")
        .replace("/etc/ssl", "DIR/etc")
        .replace("\"www-data\"", "\"root\"")
        .replace("\"@apps\"", "\"@root\"")
        .replace("\"wxtokend\"", "\"root\"")
        .replace("\"@wxtokend\"", "\"@root\"")
}

pub(crate) fn host() -> ConfigHost {
    let mut host = ConfigHost::new();
    host.env.credentials_dir = Some(host.path("credentials"));
    host
}

fn known(keys: &keys::Keys) -> Vec<&'static str> {
    keys.with(Platforms::default())
}

#[test]
fn example_is_right() {
    let host = host();
    let config = host.good(&text(&host));
    let names: Vec<_> = config.accounts.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["corp", "old", "shop"]);
}

#[test]
fn the_defaults_it_shows_are_the_defaults() {
    let host = host();
    let example = text(&host);
    let plain = host.good(&example);
    let shown = host.good(&example.lines().map(uncomment).collect::<String>());
    // What has no default, but an example.
    let no_default = |config: &mut Config| {
        config.api.metrics = None;
        config.api.admins = [].into();
        config.platform.ca_file = None;
        config.platform.proxy = None;
        let fleet = config.fleet.as_mut().expect("a fleet");
        (fleet.ca_file, fleet.certificate, fleet.user) = (None, None, None);
        fleet.host = "".into();
        for account in config.accounts.values_mut() {
            let mut changed = Account::clone(account);
            for output in &mut changed.outputs {
                output.access.owner = None;
                output.access.group = None;
                output.access.readers = [].into();
            }
            *account = changed.into();
        }
        config.mirror.socket = None;
        for key in &mut config.mirror.keys {
            key.account = config.accounts[&key.account.name].clone();
        }
    };
    assert_ne!(plain, shown);
    let [mut plain, mut shown] = [plain, shown];
    no_default(&mut plain);
    no_default(&mut shown);
    assert_eq!(plain, shown);
}

/// Sets what a line shows: `#key = value`. Other comments have a space after the `#`.
fn uncomment(line: &str) -> String {
    match line.strip_prefix('#') {
        Some(set) if !set.is_empty() && !set.starts_with(' ') => format!("{set}\n"),
        _ => format!("{line}\n"),
    }
}

#[test]
fn example_sets_every_key() {
    let text: String = read("config.example.toml").lines().map(uncomment).collect();
    let mut table = String::new();
    let mut set = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            // Whatever the account is called.
            let name = ["shop", "old", "corp"]
                .into_iter()
                .find(|name| line.contains(name));
            table = line.replace(name.unwrap_or("NAME"), "NAME");
        } else if let Some((key, _)) = line.split_once(" = ") {
            set.push((table.clone(), key.to_owned()));
        }
    }
    // The tables themselves are keys too; a socket has the keys of a file.
    let tables = ["", "[[accounts.NAME.socket]]"];
    let all = keys::ALL
        .iter()
        .filter(|keys| !tables.contains(&keys.table));
    for (table, key) in all.flat_map(|keys| known(keys).into_iter().map(|key| (keys.table, key))) {
        if matches!(key, "key_credential" | "password_credential") {
            // They stand in the place of another key.
            assert!(text.contains(key), "{key} of {table}");
        } else if !matches!(key, "file" | "socket" | "mirror" if table == "[accounts.NAME]") {
            assert!(
                set.contains(&(table.to_owned(), key.to_owned())),
                "{key} of {table}"
            );
        }
    }
}

#[test]
fn the_man_page_knows_every_key_too() {
    let page = read("packaging/man/wxtokend.toml.5");
    for key in keys::ALL.iter().flat_map(known) {
        assert!(page.contains(key), "{key}");
    }
}
