//! `[fleet]`: what is right, and every fault.

use crate::ConfigHost;
use std::path::Path;
use std::time::Duration;
use wxtokend::account::SecretSource;

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
const LEAST: &str = "[fleet]\nendpoints = ['http://127.0.0.1:2379']\nkey_file = 'DIR/key'\n";

fn host() -> ConfigHost {
    let host = ConfigHost::new();
    host.file("key", 0o600, KEY);
    host.file("both", 0o600, &KEY.repeat(2));
    host.file("short", 0o600, "0123");
    host.file("zeros", 0o600, &"0".repeat(64));
    host.file("readable", 0o604, KEY);
    host
}

#[test]
fn endpoints_and_key_are_enough() {
    let host = host();
    let fleet = host.good(LEAST).fleet.unwrap();
    assert_eq!(fleet.endpoints[0].as_str(), "http://127.0.0.1:2379");
    assert_eq!(&*fleet.prefix, "/wxtokend/");
    assert_eq!(fleet.lease, Duration::from_secs(6));
    assert_eq!(fleet.key_file, host.path("key"));
    assert!(fleet.may_lead);
    assert!(!fleet.host.is_empty());
    assert_eq!(
        (fleet.ca_file, fleet.user, fleet.certificate),
        (None, None, None)
    );
    assert_eq!(
        host.good("").fleet,
        None,
        "without the section a host is alone"
    );
}

#[test]
fn whole_section_is_read() {
    let host = host();
    let text = "[platform]\nallow_http = ['etcd']\n[fleet]\nengine = 'etcd'
endpoints = ['https://etcd1:2379', 'http://etcd:2379']\nprefix = '/shops'\nusername = 'wx'\npassword_file = 'secret'
cert_file = 'cert.pem'\ncert_key_file = 'cert-key.pem'\nkey_file = 'both'\nrole = 'follower'\nlease = '10s'\nhost = 'web1'\n";
    let fleet = host.good(text).fleet.unwrap();
    assert_eq!(fleet.endpoints.len(), 2);
    assert_eq!(&*fleet.prefix, "/shops/");
    assert_eq!(fleet.user, Some(("wx".into(), host.path("secret"))));
    let certificate = (host.path("cert.pem"), host.path("cert-key.pem"));
    assert_eq!(fleet.certificate, Some(certificate));
    assert_eq!((&*fleet.host, fleet.may_lead), ("web1", false));
    assert_eq!(fleet.lease, Duration::from_secs(10));
}

#[test]
fn follower_needs_no_secret_and_may_have_one() {
    let host = host();
    let text = format!(
        "{LEAST}role = 'follower'\n[accounts.shop]\nappid = 'wx0123456789abcdef'\n[accounts.blog]\nappid = 'wx0123456789abcdee'\nsecret_file = 'DIR/secret'\n"
    );
    let config = host.good(&text);
    let secret = |name: &str| config.accounts[name].secret.clone();
    assert_eq!(secret("shop"), SecretSource::Absent);
    assert_eq!(secret("blog"), SecretSource::File(host.path("secret")));
    host.faults(
        &text.replace("'follower'", "'any'"),
        &["5:1: the secret is missing: give one of `secret_file`, `secret_credential` and `secret`"],
    );
}

#[test]
fn credentials_of_the_service_may_hold_key_and_password() {
    let mut host = host();
    host.file("credentials/fleet", 0o600, KEY);
    host.env.credentials_dir = Some(host.path("credentials"));
    let text = "[fleet]\nendpoints = ['https://etcd1:2379']\nkey_credential = 'fleet'\nusername = 'wx'\npassword_credential = 'etcd'\n";
    let fleet = host.good(text).fleet.unwrap();
    assert_eq!(fleet.key_file, host.path("credentials/fleet"));
    let (_, password) = fleet.user.unwrap();
    assert_eq!(password, host.path("credentials").join(Path::new("etcd")));
}

#[test]
fn every_fault_is_told_with_what_is_right() {
    let host = host();
    for (text, faults) in [
        (
            "[fleet]\n",
            &[
                "1:1: `endpoints` is missing: name the members of the etcd cluster, such as [\"https://etcd1:2379\", \"https://etcd2:2379\", \"https://etcd3:2379\"]",
                "1:1: `key_file` is missing: values are encrypted before they leave the host; make one on one host with `head -c 32 /dev/urandom`, copy it to all, and let the daemon's user read it: chown root:wxtokend, chmod 0640",
            ][..],
        ),
        (
            "engine = 'consul'",
            &["4:10: `engine` \"consul\" is unknown; use one of \"etcd\""],
        ),
        (
            "rule = 'any'",
            &["4:1: unknown key `rule`; did you mean `role`?"],
        ),
        (
            "role = 'any'\nrole = 'follower'",
            &["5:1: this is not valid TOML: duplicate key; keep one of the two"],
        ),
        (
            "role = ['any', 'follower']",
            &["4:8: `role` must be a text in quotes, not a list"],
        ),
        (
            "key_fil = '/etc/wxtokend/secrets/fleet'",
            &["4:1: unknown key `key_fil`; did you mean `key_file`?"],
        ),
        (
            "endpoint = 'https://etcd1:2379'",
            &["4:1: unknown key `endpoint`; did you mean `endpoints`?"],
        ),
        (
            "role = 'leader'",
            &["4:8: `role` \"leader\" is unknown; use one of \"any\", \"follower\""],
        ),
        (
            "prefix = 'wxtokend'",
            &[
                "4:10: `prefix` \"wxtokend\" must begin with / and a name, such as \"/wxtokend/\", and have at most 128 bytes",
            ],
        ),
        (
            "prefix = '/'",
            &[
                "4:10: `prefix` \"/\" must begin with / and a name, such as \"/wxtokend/\", and have at most 128 bytes",
            ],
        ),
        (
            "lease = '2s'",
            &[
                "4:9: `lease` \"2s\" must be whole seconds from 3s to 60s: another host leads so long after a leader is lost",
            ],
        ),
        (
            "lease = '4500ms'",
            &[
                "4:9: `lease` \"4500ms\" must be whole seconds from 3s to 60s: another host leads so long after a leader is lost",
            ],
        ),
        (
            "username = 'wx'",
            &["4:12: `username` \"wx\" needs `password_file` beside it, or `password_credential`"],
        ),
        (
            "password_file = 'DIR/secret'",
            &["4:17: `password_file` \"DIR/secret\" needs `username` beside it"],
        ),
        (
            "cert_file = 'cert.pem'",
            &[
                "4:13: `cert_file` \"cert.pem\" needs `cert_key_file` beside it: a client certificate and its key are two files",
            ],
        ),
        (
            "key_credential = 'fleet'",
            &["4:18: `key_credential` \"fleet\" stands beside `key_file`: keep one of them"],
        ),
    ] {
        let text = if text.starts_with('[') {
            text.to_owned()
        } else {
            format!("{LEAST}{text}\n")
        };
        host.faults(&text, faults);
    }
}

#[test]
fn endpoints_and_keys_are_looked_at() {
    let host = host();
    let with = |endpoints: &str, key: &str| {
        format!("[fleet]\nendpoints = [{endpoints}]\nkey_file = 'DIR/{key}'\n")
    };
    let make = "make one on one host with `head -c 32 /dev/urandom`, copy it to all, and let the daemon's user read it: chown root:wxtokend, chmod 0640";
    for (endpoints, key, fault) in [
        ("", "key", "2:13: `endpoints` must name at least one member of the cluster".to_owned()),
        (
            "'etcd1:2379'",
            "key",
            "2:14: `endpoints` \"etcd1:2379\" must be a URL such as \"https://etcd1:2379\"".to_owned(),
        ),
        (
            "'https://etcd1'",
            "key",
            "2:14: `endpoints` \"https://etcd1\" must name a port: etcd listens for clients at 2379".to_owned(),
        ),
        (
            "'https://[fd00::1]/'",
            "key",
            "2:14: `endpoints` \"https://[fd00::1]/\" must name a port: etcd listens for clients at 2379".to_owned(),
        ),
        (
            "'https://etcd1:2379/v3'",
            "key",
            "2:14: `endpoints` \"https://etcd1:2379/v3\" must end after the port: the paths below are etcd's own".to_owned(),
        ),
        (
            "'http://etcd1:2379'",
            "key",
            "2:14: `endpoints` \"http://etcd1:2379\" must begin with https://; http:// is for loopback addresses and the hosts in `allow_http`".to_owned(),
        ),
        (
            "'https://etcd1:2379'",
            "short",
            format!("3:12: `key_file` \"DIR/short\" names `DIR/short`, which holds no key: it must have 32 bytes, or one or two lines of 64 hex digits; {make}"),
        ),
        (
            "'https://etcd1:2379'",
            "zeros",
            format!("3:12: `key_file` \"DIR/zeros\" names `DIR/zeros`, whose key is no random one; {make}"),
        ),
        (
            "'https://etcd1:2379'",
            "readable",
            "3:12: `key_file` \"DIR/readable\" names a file that everybody may read: run `chmod o-r DIR/readable`".to_owned(),
        ),
    ] {
        host.faults(&with(endpoints, key), &[&fault]);
    }
}

#[test]
fn included_file_holds_no_fleet() {
    let host = host();
    host.file("accounts.d/a.toml", 0o600, LEAST);
    let faults = host
        .load("[daemon]\ninclude = ['accounts.d/*.toml']\n")
        .unwrap_err();
    assert_eq!(
        host.shown(&faults)[0],
        "DIR/accounts.d/a.toml:1:1: `fleet` may not stand in an included file, which holds only [accounts.*]: move it to the main file"
    );
}
