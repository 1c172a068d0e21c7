//! A typo in `include` is told: no account goes in silence.

use crate::ConfigHost;
use wxtokend::config;

const SHOP: &str = "[accounts.shop]\nappid = 'wx0123456789abcdef'\nsecret_file = 'DIR/secret'\n";

fn warnings(host: &ConfigHost, text: &str) -> Vec<String> {
    let path = host.file("etc/config.toml", 0o600, text);
    host.shown(&config::load(&path, &host.env).unwrap().warnings)
}

#[test]
fn a_directory_that_is_not_there_is_a_fault() {
    let host = ConfigHost::new();
    host.directory("accounts.d", 0o755);
    host.faults(
        "[daemon]\ninclude = ['account.d/*.toml', 'none/*.toml', 'none/shop.toml']",
        &[
            "2:12: `include` \"account.d/*.toml\" searches `DIR/account.d`, which does not exist; did you mean \"accounts.d\"?",
            "2:32: `include` \"none/*.toml\" searches `DIR/none`, which does not exist: create that directory or correct the name",
            "2:47: `include` \"none/shop.toml\" searches `DIR/none`, which does not exist: create that directory or correct the name",
        ],
    );
}

#[test]
fn a_pattern_that_finds_nothing_is_a_warning() {
    let host = ConfigHost::new();
    host.directory("etc/accounts.d", 0o755);
    assert_eq!(
        warnings(&host, "[daemon]\ninclude = ['accounts.d/*.toml']"),
        [
            "DIR/etc/config.toml:2:12: warning: `include` finds no file: put files that end in .toml into `DIR/etc/accounts.d`, or correct the pattern"
        ]
    );
}

#[test]
fn a_file_that_is_left_out_because_of_its_name_is_a_warning() {
    let host = ConfigHost::new();
    host.file("etc/accounts.d/shop.toml", 0o600, SHOP);
    for name in ["blog.conf", ".corp.toml", "old.toml.bak"] {
        host.file(&format!("etc/accounts.d/{name}"), 0o600, "");
    }
    for ignored in [
        "README",
        "shop.toml~",
        "shop.toml.dpkg-old",
        ".shop.toml.swp",
    ] {
        host.file(&format!("etc/accounts.d/{ignored}"), 0o600, "");
    }
    let said = warnings(
        &host,
        "[daemon]\ninclude = ['accounts.d/*.toml', 'accounts.d/shop.toml']",
    );
    assert_eq!(said.len(), 3, "{said:?}");
    for (warning, name) in said.iter().zip([".corp.toml", "blog.conf", "old.toml.bak"]) {
        let expected = format!(
            "DIR/etc/config.toml:2:12: warning: `include` leaves out `DIR/etc/accounts.d/{name}` because of its name: rename it"
        );
        assert!(warning.starts_with(&expected), "{warning}");
    }
}
