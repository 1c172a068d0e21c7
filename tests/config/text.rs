//! Files that are not readable, or not TOML; and that no report of a fault ever shows a secret.

use crate::{ConfigHost, chmod};
use proptest::prelude::*;
use std::fs;
use wxtokend::config::{self, api_socket};
use wxtokend::platform::Platforms;

#[test]
fn a_file_that_cannot_be_read() {
    let host = ConfigHost::new();
    let check = |name: &str, expected: &str| {
        let faults = config::load(&host.path(name), &host.env).unwrap_err();
        assert_eq!(host.shown(&faults), [expected]);
    };
    check(
        "none.toml",
        "DIR/none.toml:1:1: cannot read this file: no such file or directory; create it, or name another with --config",
    );
    host.directory("dir.toml", 0o755);
    check(
        "dir.toml",
        "DIR/dir.toml:1:1: cannot read this file: not a regular file; it must be a text file",
    );
    fs::write(host.path("latin1.toml"), b"[daemon]\n# \xC3\xA9 caf\xE9\n").unwrap();
    check(
        "latin1.toml",
        "DIR/latin1.toml:2:8: this file is not UTF-8 (perhaps GBK); save it as UTF-8",
    );
    fs::File::create(host.path("large.toml"))
        .unwrap()
        .set_len((16 << 20) + 1)
        .unwrap();
    check(
        "large.toml",
        "DIR/large.toml:1:1: cannot read this file: larger than 16 MiB; split it and use `include`",
    );
}

#[test]
fn an_inline_secret_in_a_file_that_everybody_may_read() {
    let host = ConfigHost::new();
    let account =
        |name| format!("[accounts.{name}]\nappid = 'wx0123456789abcdef'\nsecret = 'CANARY'\n");
    let main = host.file(
        "main.toml",
        0o644,
        &("[daemon]\ninclude = ['more.toml']\n".to_owned() + &account("a")),
    );
    let more = host.file("more.toml", 0o604, &account("b"));
    let faults = config::load(&main, &host.env).unwrap_err();
    assert_eq!(
        host.shown(&faults),
        [
            "DIR/main.toml:5:10: `secret` stands in a file that everybody may read: run `chmod o-r DIR/main.toml`, or use `secret_file`",
            "DIR/more.toml:3:10: `secret` stands in a file that everybody may read: run `chmod o-r DIR/more.toml`, or use `secret_file`",
        ]
    );
    chmod(&main, 0o640);
    chmod(&more, 0o640);
    let config = config::load(&main, &host.env).unwrap().config;
    assert!(!format!("{config:#?}").contains("CANARY"));
}

#[test]
fn no_fault_shows_a_secret() {
    let host = ConfigHost::new();
    for line in [
        "secret = CANARY0123456789abcdef",
        "secret = \"CANARY",
        "secret = CANARY\"",
        "secret = 'CANARY' 'CANARY'",
        "secret = 'CANARY'CANARY",
        "secret = \"CANARY\\CANARY\"",
        "secret = \"CANARY\u{7}\"",
        "secret = '''\nCANARY\nCANARY",
        "secret = \"\nCANARY\"\nCANARY = 1\n",
        "secret = 'CANARY\nCANARY = 'CANARY'",
        "secret: 'CANARY'",
        "secret 'CANARY'",
        "'CANARY'",
        "CANARY",
        "CANARY =",
        "= CANARY",
        "secret = [CANARY",
        "secret = ['CANARY', CANARY]",
        "secret = {CANARY}",
        "secret = {CANARY = 'CANARY'}",
        "secret.CANARY = 'CANARY'",
        "secret = 'CANARY'\nsecret = 'CANARY'",
        "secret = 'CANARY'\nsecret.CANARY = 'CANARY'",
        "secret = 2020-01-01CANARY",
        "secret = 0xCANARY",
        "secret = 'CANARY CANARY'",
        "[CANARY",
        "secret = 'CANARY' # CANARY\n]CANARY",
    ] {
        let text =
            format!("[accounts.shop]\nappid = 'wx0123456789abcdef'\n{line}\n[api]\nsocket = 'x'\n");
        let faults = host.load(&text).expect_err(line);
        let shown = format!(
            "{faults:?} {:?} {}",
            host.shown(&faults),
            serde_json::to_string(&faults).unwrap()
        );
        assert!(!shown.contains("CANARY"), "{line}: {shown}");
    }
}

#[test]
fn a_client_finds_the_api_socket_even_in_a_faulty_file() {
    let host = ConfigHost::new();
    let check = |text: &str, expected: &str| {
        let path = host.file("config.toml", 0o600, text);
        assert_eq!(api_socket(&path, &host.env), host.path(expected));
    };
    check("", "run/api.sock");
    check("[api]\nsocket = 'DIR/x.sock'", "x.sock");
    check(
        "[accounts]\nx = 1\n= 7\n[api]\nsocket = 'DIR/x.sock'",
        "x.sock",
    );
    check("[api]\nsocket = 7", "run/api.sock");
    assert_eq!(
        api_socket(&host.path("none.toml"), &host.env),
        host.path("run/api.sock")
    );
}

#[test]
fn depth_is_refused() {
    let host = ConfigHost::new();
    let depth = 20_000;
    for text in [
        "a.".repeat(depth) + "a = 1",
        "[".to_owned() + &"a.".repeat(depth) + "a]",
        "a = ".to_owned() + &"[".repeat(depth),
        "a = ".to_owned() + &"{ a = ".repeat(depth),
        "[a]\n[[a.a]]\n[a.a.a]\n".repeat(1000),
    ] {
        assert!(!host.load(&text).unwrap_err().is_empty());
    }
}

/// Pieces of configurations, right and wrong, in any order.
fn piece() -> impl Strategy<Value = String> {
    let known = config::keys::ALL
        .into_iter()
        .flat_map(|table| table.with(Platforms::default()));
    let key = prop::sample::select(known.collect::<Vec<_>>());
    let value = prop::sample::select(vec![
        "1",
        "0.5",
        "true",
        "nan",
        "''",
        "'x'",
        "'/x'",
        "'5m'",
        "'wx0123456789abcdef'",
        "'jsapi'",
        "'0640'",
        "'root'",
        "[]",
        "['root']",
        "['jsapi', 1]",
        "{}",
        "{ x = 1 }",
        "[{ path = '/proc/x' }]",
        "'''",
        "\"",
        "[",
        "1979-05-27",
        "",
    ]);
    prop_oneof![
        (key.clone(), value).prop_map(|(key, value)| format!("{key} = {value}\n")),
        key.prop_map(|key| format!("{key}.")),
        prop::sample::select(vec![
            "[daemon]\n",
            "[api]\n",
            "[platform]\n",
            "[accounts]\n",
            "[accounts.a]\n",
            "[accounts.b]\n",
            "[[accounts.a.file]]\n",
            "[[accounts.a.socket]]\n",
            "[accounts.a.file]\n",
            "\u{feff}",
            "商",
            "\r",
            "]",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,8}",
    ]
}

proptest! {
    #[test]
    fn any_text_is_loaded_or_refused(pieces in prop::collection::vec(piece(), 0..24)) {
        let host = ConfigHost::new();
        let text = pieces.concat();
        let lines = text.lines().count().max(1);
        if let Err(faults) = host.load(&text) {
            prop_assert!(!faults.is_empty());
            for fault in faults {
                prop_assert!((1..=lines + 1).contains(&fault.line) && fault.column >= 1, "{fault}");
            }
        }
    }
}
