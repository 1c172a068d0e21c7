//! Ten thousand accounts.

use crate::ConfigHost;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[test]
fn ten_thousand_accounts_are_read_at_once_and_share_what_is_equal() {
    let host = ConfigHost::new();
    host.directory("out", 0o755);
    let mut text = String::new();
    for n in 0..10_000 {
        let account = format!(
            "[accounts.a{n}]\nappid = 'wx{n:016x}'\nmethod = 'classic'\nsecret_file = 'DIR/secret'\n\
             readers = ['root', '@root']\n[[accounts.a{n}.file]]\npath = 'DIR/out/a{n}.json'\n"
        );
        text.write_str(&account).unwrap();
    }
    let started = Instant::now();
    let config = host.good(&text);
    // Takes less than a second; anything quadratic takes minutes.
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(config.accounts.len(), 10_000);
    let first = &config.accounts["a0"].readers;
    for account in config.accounts.values() {
        assert!(Arc::ptr_eq(&account.readers, first));
        assert!(Arc::ptr_eq(&account.outputs[0].access.readers, first));
    }
}
