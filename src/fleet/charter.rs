//! The charter of a fleet: a key that says which fleet a prefix belongs to, and with which key its values are encrypted.

use super::clocks::HostCard;
use super::record::VERSION;
use super::wire::{Condition, KeyValue, Op, Transaction};
use crate::seal::FleetKeys;
use serde::{Deserialize, Serialize};

/// Its name below the prefix.
pub(super) const NAME: &str = "fleet";
/// The other keys below a prefix begin with these.
const OURS: [&str; 2] = ["accounts/", "hosts/"];

#[derive(Serialize, Deserialize)]
struct CharterText {
    /// The format of the records.
    version: u32,
    /// The name of the key that encrypts.
    key: String,
}

/// The relation of a prefix to this host.
pub(super) enum Charter {
    /// That of its fleet.
    Ours,
    /// Its fleet's, once this is written.
    New(Transaction),
    /// Its fleet's, which goes over to the key that stands first here when all hosts have it first.
    Waits {
        /// The name of the key that encrypts until then.
        key: String,
        /// The hosts that do not have it first.
        hosts: Vec<String>,
    },
}

/// The hosts, besides this one, that do not have the same key first as this one.
pub(super) fn without_key(
    cards: impl Iterator<Item = HostCard>,
    own: &str,
    key: &str,
) -> Vec<String> {
    let others = cards.filter(|card| card.host != own && card.key != key);
    others.map(|card| card.host).collect()
}

/// True if a charter as it is now says that this key encrypts, in a format that is known.
pub(super) fn agrees(charter: &KeyValue, key: &str) -> bool {
    let text = serde_json::from_slice::<CharterText>(&charter.value);
    text.is_ok_and(|text| text.version <= VERSION && text.key == key)
}

/// Looks whether a prefix is that of this host's fleet. Else: why not, and what to do.
pub(super) fn find(
    all: &[KeyValue],
    prefix: &str,
    keys: &FleetKeys,
    own: &str,
) -> Result<Charter, String> {
    let name = format!("{prefix}{NAME}");
    let text = CharterText {
        version: VERSION,
        key: keys.id().to_string(),
    };
    let put = Op::Put(
        name.clone(),
        serde_json::to_vec(&text).unwrap_or_default(),
        0,
    );
    let Some(found) = all.iter().find(|kv| kv.key == name) else {
        let is_ours = |kv: &KeyValue| {
            let rest = kv.key.strip_prefix(prefix).unwrap_or_default();
            OURS.iter().any(|ours| rest.starts_with(ours))
        };
        if let Some(foreign) = all.iter().find(|kv| !is_ours(kv)) {
            let shown: String = foreign
                .key
                .chars()
                .filter(|c| !c.is_control())
                .take(80)
                .collect();
            return Err(format!(
                "below `prefix` {prefix} etcd holds what is not of a fleet of wxtokend, such as {shown}: choose a prefix of its own for the fleet"
            ));
        }
        return Ok(Charter::New(Transaction {
            conditions: vec![Condition::Absent(name)],
            then: vec![put],
            otherwise: Vec::new(),
        }));
    };
    let found: CharterText = serde_json::from_slice(&found.value).map_err(|_| {
        format!("{name} in etcd is not what wxtokend writes: choose another `prefix`, or remove that key")
    })?;
    if found.version > VERSION {
        return Err(format!(
            "the fleet at {prefix} is of a later version of wxtokend (format {}, this one knows {VERSION}): upgrade this host",
            found.version
        ));
    }
    let theirs: String = found
        .key
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(8)
        .collect();
    if !keys.has(&theirs) {
        return Err(format!(
            "the fleet at {prefix} encrypts with key {theirs}, and `key_file` here holds {}: copy that file from a host of the fleet, or give this fleet another `prefix`",
            keys.id()
        ));
    }
    if theirs == keys.id().to_string() {
        return Ok(Charter::Ours);
    }
    // The key is being replaced: by the new one once all can read it.
    let hosts = format!("{prefix}hosts/");
    let cards = all.iter().filter(|kv| kv.key.starts_with(&hosts));
    let cards = cards.filter_map(|kv| serde_json::from_slice(&kv.value).ok());
    let hosts = without_key(cards, own, &keys.id().to_string());
    if !hosts.is_empty() {
        return Ok(Charter::Waits { key: theirs, hosts });
    }
    Ok(Charter::New(Transaction {
        then: vec![put],
        ..Transaction::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(digits: &str) -> FleetKeys {
        let lines: Vec<String> = digits
            .chars()
            .map(|c| format!("{c}{}", "10".repeat(31) + "1"))
            .collect();
        FleetKeys::parse(lines.join("\n").as_bytes()).unwrap()
    }

    fn kv(key: &str, value: &str) -> KeyValue {
        KeyValue {
            key: key.to_owned(),
            value: value.as_bytes().to_vec(),
            create_revision: 1,
            mod_revision: 1,
            lease: 0,
        }
    }

    fn charter(version: u32, keys: &FleetKeys) -> KeyValue {
        let text = format!("{{\"version\":{version},\"key\":\"{}\"}}", keys.id());
        kv("/wx/fleet", &text)
    }

    #[test]
    fn empty_prefix_becomes_ours_and_ours_stays() {
        let own = keys("a");
        assert!(matches!(
            find(&[], "/wx/", &own, "own"),
            Ok(Charter::New(_))
        ));
        let found = [charter(1, &own), kv("/wx/accounts/shop/record", "{}")];
        assert!(matches!(
            find(&found, "/wx/", &own, "own"),
            Ok(Charter::Ours)
        ));
        let orphaned = [kv("/wx/accounts/shop/record", "{}")];
        assert!(matches!(
            find(&orphaned, "/wx/", &own, "own"),
            Ok(Charter::New(_))
        ));
    }

    #[test]
    fn what_is_not_ours_is_told_and_not_touched() {
        let (own, other) = (keys("a"), keys("b"));
        for (found, told) in [
            (
                charter(1, &other),
                "copy that file from a host of the fleet",
            ),
            (charter(2, &own), "upgrade this host"),
            (kv("/wx/registry/pods", "x"), "choose a prefix of its own"),
            (kv("/wx/fleet", "x"), "is not what wxtokend writes"),
        ] {
            let Err(why) = find(&[found], "/wx/", &own, "own") else {
                panic!("{told}");
            };
            assert!(why.contains(told), "{why}");
        }
    }

    #[test]
    fn fleet_goes_over_to_a_new_key_once_all_hosts_have_it_first() {
        let (old, both) = (keys("a"), keys("ba"));
        let card = |host: &str, keys: &FleetKeys| {
            let text = format!(
                "{{\"host\":\"{host}\",\"version\":\"\",\"format\":1,\"may_lead\":true,\"key\":\"{}\",\"asked\":0}}",
                keys.id()
            );
            kv(&format!("/wx/hosts/{host}"), &text)
        };
        let found = [
            charter(1, &old),
            card("own", &old),
            card("web2", &both),
            card("web3", &old),
        ];
        let Ok(Charter::Waits { key, hosts }) = find(&found, "/wx/", &both, "own") else {
            panic!("it does not wait for web3");
        };
        assert_eq!(
            (key, hosts),
            (old.id().to_string(), vec!["web3".to_owned()])
        );
        assert!(matches!(
            find(&found[..3], "/wx/", &both, "own"),
            Ok(Charter::New(_))
        ));
        assert!(matches!(
            find(&[charter(1, &old)], "/wx/", &both, "own"),
            Ok(Charter::New(_))
        ));
        assert!(matches!(
            find(&[charter(1, &both)], "/wx/", &both, "own"),
            Ok(Charter::Ours)
        ));
        assert!(find(&[charter(1, &both)], "/wx/", &old, "own").is_err());
    }
}
