//! The shipped templates, byte for byte. What real programs make of them is in `legacy.rs`.

#![expect(clippy::unwrap_used, reason = "a test panics")]

#[allow(dead_code, unused_imports, reason = "it uses a part")]
#[path = "common/root.rs"]
mod root;

use std::path::{Path, PathBuf};
use std::process::Command;
use wxtokend::template::{Facts, Template};
use wxtokend::value::ValueName;

const EXPIRE: i64 = 4_102_444_799;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/templates")
}

fn load(path: &Path) -> Template {
    Template::parse(path, &std::fs::read_to_string(path).unwrap()).unwrap()
}

fn render(template: &Template) -> String {
    let values = [
        (ValueName::AccessToken, "57_aZ-_0.token"),
        (ValueName::JsapiTicket, "sM4AOVdWfPE4DxkXGEs8VM"),
        (ValueName::WxCardTicket, "IpK_1T69hDhZkLQTlwsAX"),
    ];
    let output = template.render(Facts {
        account: "shop",
        appid: "wx0123456789abcdef",
        values: &values,
        expire_time: EXPIRE,
        obtained_time: EXPIRE - 7200,
        expires_in: 7199,
    });
    String::from_utf8(output.unwrap().to_vec()).unwrap()
}

/// Local time as the system's own `date` tells it.
fn date(format: &str) -> String {
    let output = Command::new("date")
        .args([format!("--date=@{EXPIRE}"), format!("+{format}")])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim_end().into()
}

#[test]
fn templates_are_byte_exact_and_need_the_values_they_name() {
    use ValueName::{AccessToken, JsapiTicket, WxCardTicket};
    let dashed = date("%Y-%m-%d %H:%M:%S");
    let slashed = date("%Y/%-m/%-d %-H:%M:%S");
    let expected = [
        (
            "access-expires.xml.j2",
            AccessToken,
            format!("<xml><AccessToken>57_aZ-_0.token</AccessToken><AccessExpires>{dashed}</AccessExpires></xml>"),
        ),
        (
            "access-youxrq.xml.j2",
            AccessToken,
            format!("<xml><Access_Token>57_aZ-_0.token</Access_Token><Access_YouXRQ>{slashed}</Access_YouXRQ></xml>"),
        ),
        (
            "api_ticket.php.j2",
            WxCardTicket,
            r#"<?php exit();?>{"api_ticket":"IpK_1T69hDhZkLQTlwsAX","expire_time":4102444799}"#.into(),
        ),
        (
            "laravel.j2",
            AccessToken,
            r#"4102444799s:14:"57_aZ-_0.token";"#.into(),
        ),
        (
            "return.php.j2",
            AccessToken,
            "<?php return array('access_token'=>'57_aZ-_0.token','expires_at'=>4102444799);".into(),
        ),
        (
            "thinkphp.j2",
            AccessToken,
            "<?php\n//000000007199\n exit();?>\ns:14:\"57_aZ-_0.token\";".into(),
        ),
        (
            "wechatdeveloper-jsapi.j2",
            JsapiTicket,
            r#"a:3:{s:4:"name";s:31:"wx0123456789abcdef_ticket_jsapi";s:5:"value";s:22:"sM4AOVdWfPE4DxkXGEs8VM";s:7:"expired";i:4102444799;}"#.into(),
        ),
        (
            "wechatdeveloper.j2",
            AccessToken,
            r#"a:3:{s:4:"name";s:31:"wx0123456789abcdef_access_token";s:5:"value";s:14:"57_aZ-_0.token";s:7:"expired";i:4102444799;}"#.into(),
        ),
    ];
    for (name, value, text) in &expected {
        let template = load(&shipped().join(name));
        assert_eq!(template.values(), [*value], "{name}");
        assert_eq!(&render(&template), text, "{name}");
    }
    let mut shipped: Vec<_> = std::fs::read_dir(shipped())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    shipped.sort();
    assert_eq!(shipped, expected.map(|(name, ..)| name));
}

/// Reads a file as `think\cache\driver\File` of `ThinkPHP` 6 does, and as the versions before and after it.
const THINKPHP: &str = r"
$content = file_get_contents($argv[1]);
$expire = (int) substr($content, 8, 12);
if ($expire != 0 && filemtime($argv[1]) + $expire < time()) { echo 'expired'; exit; }
echo unserialize(substr($content, 32));
";

/// Reads a file as `Illuminate\Cache\FileStore` of Laravel does.
const LARAVEL: &str = r"
$contents = file_get_contents($argv[1]);
$expire = substr($contents, 0, 10);
if (time() >= $expire) { echo 'expired'; exit; }
echo unserialize(substr($contents, 10));
";

#[test]
fn php_reads_them_as_its_frameworks_do() {
    if !root::has("php") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (name, code) in [("thinkphp.j2", THINKPHP), ("laravel.j2", LARAVEL)] {
        let file = dir.path().join(name);
        std::fs::write(&file, render(&load(&shipped().join(name)))).unwrap();
        let read = || {
            let output = Command::new("php")
                .args(["-r", code, "--"])
                .arg(&file)
                .output();
            let output = output.unwrap();
            assert!(output.stderr.is_empty(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(read(), "57_aZ-_0.token", "{name}");
        if name == "thinkphp.j2" {
            // It counts from the file's time.
            let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7300);
            let written = std::fs::File::options().append(true).open(&file).unwrap();
            written.set_modified(long_ago).unwrap();
            assert_eq!(read(), "expired", "{name}");
        }
    }
}
