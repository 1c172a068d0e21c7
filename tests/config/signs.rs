//! Files as Chinese keyboards and Windows editors write them.

use crate::ConfigHost;
use wxtokend::config;

#[test]
fn chinese_punctuation_is_named_with_the_right_sign() {
    let host = ConfigHost::new();
    host.faults(
        "[daemon]\nlog_level = “info”\n",
        &["2:13: this is not valid TOML: it holds Chinese punctuation; write `\"` for `“`, `\"` for `”`"],
    );
    host.faults(
        "[daemon]\nlog_level ＝ 'info'\n",
        &["2:11: this is not valid TOML: it holds Chinese punctuation; write `=` for `＝`"],
    );
    host.faults(
        "[api]\nadmins = ['root'，'0']\n",
        &["2:17: this is not valid TOML: it holds Chinese punctuation; write `,` for `，`"],
    );
    host.faults(
        "【api】\nmetrics = 1\n",
        &["1:1: this is not valid TOML: it holds Chinese punctuation; write `[` for `【`, `]` for `】`"],
    );
    host.faults(
        "[api]\nsocket = \"x.sock”\n",
        &["2:17: this is not valid TOML: it holds Chinese punctuation; write `\"` for `”`"],
    );
    host.good("[daemon] # “，”【】＝\nlog_level = 'info'\n");
}

#[test]
fn a_forgotten_quotation_mark_is_told() {
    let host = ConfigHost::new();
    let file = |line: &str| {
        format!(
            "[accounts.shop]\nappid = 'wx0123456789abcdef'\nsecret_file = 'DIR/secret'\n[[accounts.shop.file]]\npath = 'DIR/run/x'\n{line}\n"
        )
    };
    let hint = |line: &str, hint: &str| {
        let faults = host.load(&file(line)).unwrap_err();
        let shown = host.shown(&faults);
        assert_eq!(shown.len(), 1, "{shown:?}");
        assert!(
            shown[0].starts_with("DIR/config.toml:6:"),
            "{line}: {shown:?}"
        );
        assert!(shown[0].ends_with(hint), "{line}: {shown:?}");
    };
    hint("mode = 0640", "a mode needs quotes: mode = \"0640\"");
    hint("mode = 640", "must be an octal number in quotes: \"0640\"");
    hint(
        "mode = 0o640",
        "must be an octal number in quotes: \"0640\"",
    );
    hint(
        "readers = [www-data]",
        "put each item in quotes: [\"one\", \"two\"]",
    );
    hint(
        "readers = www-data, @apps",
        "write a list in [ ], each item in quotes: [\"one\", \"two\"]",
    );
    hint(
        "readers = www-data",
        "write a list in [ ], each item in quotes: [\"one\", \"two\"]",
    );
    hint("owner = root", "put a text in quotes");
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_fine() {
    let host = ConfigHost::new();
    let shop = "[accounts.shop]\r\nappid = 'wx0123456789abcdef'\r\nsecret_file = 'DIR/secret'\r\n";
    host.file("accounts.d/shop.toml", 0o600, &format!("\u{feff}{shop}"));
    host.file("x.j2", 0o644, "\u{feff}{{ access_token }}\r\n");
    let output = "[[accounts.blog.file]]\r\npath = 'DIR/run/x'\r\nformat = 'template'\r\ntemplate = 'x.j2'\r\n";
    let text = shop.replace("shop", "blog") + output;
    let config = host.good(&format!(
        "\u{feff}[daemon]\r\ninclude = ['accounts.d/*.toml']\r\n{text}"
    ));
    assert_eq!(config.accounts.len(), 2);
    // Lines and columns are those of the file as an editor shows it.
    host.faults(
        "\u{feff}log_level = 1\r\n[api]\r\nsocket = 1\r\n",
        &[
            "1:1: unknown key `log_level`; it belongs to [daemon]",
            "3:10: `socket` 1 must be a text in quotes, not a number",
        ],
    );
}

#[test]
fn other_encodings_are_named() {
    let host = ConfigHost::new();
    let path = host.path("config.toml");
    let text = "# 配置\r\n[daemon]\r\nlog_level = \"info\"\r\n";
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let marked = [&b"\xFF\xFE"[..], &little].concat();
    for bytes in [&little, &big, &marked] {
        std::fs::write(&path, bytes).unwrap();
        let faults = config::load(&path, &host.env).unwrap_err();
        assert_eq!(
            host.shown(&faults),
            [
                "DIR/config.toml:1:1: this file is UTF-16 (Windows calls it Unicode); save it as UTF-8"
            ]
        );
    }
}

#[test]
fn unusual_input_is_a_warning() {
    let host = ConfigHost::new();
    let check = |id: &str, platform: &str, expected: &[&str]| {
        let text = format!("{platform}[accounts.a]\n{id}\nsecret_file = 'DIR/secret'\n");
        let path = host.file("config.toml", 0o600, &text);
        let warnings = config::load(&path, &host.env)
            .unwrap_or_else(|faults| panic!("{id}: {:?}", host.shown(&faults)))
            .warnings;
        let shown = host.shown(&warnings);
        assert_eq!(shown.len(), expected.len(), "{id}: {shown:?}");
        for (shown, expected) in shown.iter().zip(expected) {
            assert!(shown.contains(expected), "{shown}");
        }
    };
    check("appid = 'wx0123456789ABCDEF'", "", &[]);
    check(
        "appid = 'wx0123456789abcdeg'",
        "",
        &[
            "2:9: warning: `appid` \"wx0123456789abcdeg\" is unusual: an AppID is wx and 16 hexadecimal digits",
        ],
    );
    check("corpid = 'wpAOYBDQAA_0123456789-abcdefghij'", "", &[]);
    check("corpid = 'woAOYBDQAA_0123456789-abcdefghij'", "", &[]);
    check(
        "corpid = 'wpAOYBDQAA_0123456789-abcdefghijk'",
        "",
        &["is unusual"],
    );
    let hosts = "[platform]\nhosts = ['https://gateway.example/wechat/']\nwecom_hosts = ['http://wecom.corp.example:8080/api']\nallow_http = ['wecom.corp.example:8080']\n";
    check("corpid = 'ww0123456789abcdef'", hosts, &[]);
    let config = host.good(hosts);
    assert_eq!(
        config.platform.hosts[0].hosts[0].as_str(),
        "https://gateway.example/wechat"
    );
    assert_eq!(
        config.platform.hosts[1].hosts[0].as_str(),
        "http://wecom.corp.example:8080/api"
    );
}

#[test]
fn http_is_for_the_hosts_that_are_allowed_it() {
    let host = ConfigHost::new();
    host.faults(
        "[platform]\nallow_http = ['http://a', 'b/c', 'u@d', '', 'wecom.example:8080']\n\
         hosts = ['http://wecom.example:8081', 'http://other.example:8080']\n",
        &[
            "2:15: `allow_http` \"http://a\" must be a host and perhaps its port, such as \"wecom.corp.example:8080\"",
            "2:27: `allow_http` \"b/c\" must be a host and perhaps its port, such as \"wecom.corp.example:8080\"",
            "2:34: `allow_http` must be a host and perhaps its port, such as \"wecom.corp.example:8080\"",
            "2:41: `allow_http` must not be empty",
            "3:10: `hosts` \"http://wecom.example:8081\" must begin with https://; http:// is for loopback addresses and the hosts in `allow_http`",
            "3:39: `hosts` \"http://other.example:8080\" must begin with https://; http:// is for loopback addresses and the hosts in `allow_http`",
        ],
    );
}
