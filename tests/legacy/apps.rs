//! Every app of the README's table, and how it is run here. In arguments, `OUT` is the directory of the outputs.

use crate::reader::WantedValue;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

pub(crate) const SHOP: &str = "wx00000000000000a1";
pub(crate) const BLOG: &str = "wx00000000000000a2";
pub(crate) const CORP: &str = "ww00000000000000a3";

const TOKEN: &str = "access_token";
const SHOP_TOKEN: WantedValue = (SHOP, TOKEN);
const BLOG_TOKEN: WantedValue = (BLOG, TOKEN);
const CORP_TOKEN: WantedValue = (CORP, TOKEN);
const JSAPI: WantedValue = (BLOG, "jsapi_ticket");
const CARD: WantedValue = (BLOG, "wx_card_ticket");

/// 公众号 under both methods, 企业微信, and one whose token outlives the test.
pub(crate) const ACCOUNTS: &str = r#"
[accounts.shop]
appid = "wx00000000000000a1"
secret = "0123456789abcdef0123456789abcdef"
method = "classic"
refresh_at = 0.3
readers = READERS
file = [
    { path = "OUT/shop.json", on_expiry = "keep" },
    { path = "OUT/raw/answer.json", format = "api" },
    { path = "OUT/return.php", format = "template", template = "return.php.j2" },
    { path = "OUT/token.env", format = "env" },
    { path = "OUT/access-expires.xml", format = "template", template = "access-expires.xml.j2" },
]
socket = [{ path = "OUT/shop.sock", format = "raw" }]

[accounts.blog]
appid = "wx00000000000000a2"
secret = "0123456789abcdef0123456789abcdef"
tickets = ["jsapi", "wx_card"]
readers = READERS
file = [
    { path = "OUT/jssdk/access_token.json" },
    { path = "OUT/jssdk/jsapi_ticket.json", value = "jsapi_ticket" },
    { path = "OUT/jssdk/access_token.php", format = "php" },
    { path = "OUT/jssdk/jsapi_ticket.php", value = "jsapi_ticket", format = "php" },
    { path = "OUT/jssdk/api_ticket.php", value = "wx_card_ticket", format = "template", template = "api_ticket.php.j2" },
    { path = "OUT/cache/wx00000000000000a2_access_token", format = "template", template = "wechatdeveloper.j2" },
    { path = "OUT/cache/wx00000000000000a2_ticket_jsapi", value = "jsapi_ticket", format = "template", template = "wechatdeveloper-jsapi.j2" },
    { path = "OUT/access-youxrq.xml", format = "template", template = "access-youxrq.xml.j2" },
]

[accounts.corp]
corpid = "ww00000000000000a3"
refresh_at = 0.3
secret = "0123456789abcdef0123456789abcdef"
readers = READERS
file = [{ path = "OUT/corp.json" }]
socket = [{ path = "OUT/corp.sock", format = "raw" }]

[accounts.calm]
appid = "wx00000000000000a4"
secret = "0123456789abcdef0123456789abcdef"
readers = READERS
file = [{ path = "OUT/calm.json" }]
"#;

/// An app that reads.
pub(crate) struct LegacyApp {
    /// Its row in the README's table.
    pub(crate) row: &'static str,
    /// The difference from others of that row.
    pub(crate) variant: &'static str,
    pub(crate) program: AppProgram,
    /// The account and the name of the value that it is to show.
    pub(crate) wanted: WantedValue,
}

/// The program that runs it.
#[derive(Clone, Copy)]
pub(crate) enum AppProgram {
    /// An expression in PHP, once an example is loaded, as www-data.
    Php(&'static str, &'static str),
    /// The same, in the directory where the sample's files are.
    JsSdk(&'static str, &'static str),
    /// The same in a page of php-fpm behind nginx: which site, example and expression.
    Page(&'static str, &'static str, &'static str),
    /// Class, method and arguments on Mono, as nobody.
    Mono(&'static [&'static str]),
    /// The same on .NET.
    DotNet(&'static [&'static str]),
    /// A line of shell, as games.
    Shell(&'static str),
}

impl AppProgram {
    /// The file that is shipped and runs in it.
    fn example(self) -> String {
        match self {
            Self::Php(example, _) | Self::JsSdk(example, _) | Self::Page(_, example, _) => {
                example.to_owned()
            }
            Self::Mono(arguments) | Self::DotNet(arguments) => format!("{}.cs", arguments[0]),
            Self::Shell(line) => line.split(' ').next().unwrap().to_owned(),
        }
    }

    /// Returns whether it goes by way of a socket, which is gone while the daemon is.
    pub(crate) fn needs_the_daemon(self) -> bool {
        match self {
            Self::Php(_, call) | Self::JsSdk(_, call) | Self::Page(_, _, call) => {
                call.contains(".sock'")
            }
            Self::Mono(arguments) | Self::DotNet(arguments) => {
                arguments.iter().any(|argument| argument.contains(".sock"))
            }
            Self::Shell(line) => line.contains(".sock "),
        }
    }
}

const fn app(
    row: &'static str,
    variant: &'static str,
    program: AppProgram,
    wanted: WantedValue,
) -> LegacyApp {
    LegacyApp {
        row,
        variant,
        program,
        wanted,
    }
}

use AppProgram::{DotNet, JsSdk, Mono, Page, Php, Shell};

/// All of them.
pub(crate) const APPS: &[LegacyApp] = &[
    app(
        "PHP, own cache file",
        "CLI",
        Php("own_cache_file.php", "access_token('OUT/shop.json')"),
        SHOP_TOKEN,
    ),
    app(
        "PHP, own cache file",
        "php-fpm",
        Page(
            "open",
            "own_cache_file.php",
            "access_token('OUT/corp.json')",
        ),
        CORP_TOKEN,
    ),
    app(
        "JS-SDK sample, older",
        "token",
        JsSdk("jssdk_json.php", "(new JSSDK())->getAccessToken()"),
        BLOG_TOKEN,
    ),
    app(
        "JS-SDK sample, older",
        "ticket",
        JsSdk("jssdk_json.php", "(new JSSDK())->getJsApiTicket()"),
        JSAPI,
    ),
    app(
        "JS-SDK sample, newer",
        "token",
        JsSdk("jssdk_php.php", "(new JSSDK())->getAccessToken()"),
        BLOG_TOKEN,
    ),
    app(
        "JS-SDK sample, newer",
        "ticket",
        JsSdk("jssdk_php.php", "(new JSSDK())->getJsApiTicket()"),
        JSAPI,
    ),
    app(
        "card ticket",
        "CLI",
        JsSdk("jssdk_php.php", "(new JSSDK())->getApiTicket()"),
        CARD,
    ),
    app(
        "raw answer cached",
        "CLI",
        Php("raw_answer.php", "access_token('OUT/raw/answer.json')"),
        SHOP_TOKEN,
    ),
    app(
        "PHP return file",
        "CLI",
        Php("return_file.php", "access_token('OUT/return.php')"),
        SHOP_TOKEN,
    ),
    app(
        "PHP return file",
        "php-fpm with opcache",
        Page("open", "return_file.php", "access_token('OUT/return.php')"),
        SHOP_TOKEN,
    ),
    app(
        "WeChatDeveloper",
        "token",
        Php(
            "wechatdeveloper.php",
            "cached('OUT/cache', 'wx00000000000000a2_access_token')",
        ),
        BLOG_TOKEN,
    ),
    app(
        "WeChatDeveloper",
        "ticket",
        Php(
            "wechatdeveloper.php",
            "cached('OUT/cache', 'wx00000000000000a2_ticket_jsapi')",
        ),
        JSAPI,
    ),
    app(
        "PHP, socket",
        "CLI",
        Php("token_socket.php", "access_token('OUT/shop.sock')"),
        SHOP_TOKEN,
    ),
    app(
        "PHP, socket",
        "php-fpm, open_basedir",
        Page("shut", "token_socket.php", "access_token('OUT/corp.sock')"),
        CORP_TOKEN,
    ),
    app(
        "PHP, curl",
        "CLI",
        Php(
            "api_socket.php",
            "(new Wxtokend('blog', 'OUT/api.sock'))->accessToken()",
        ),
        BLOG_TOKEN,
    ),
    app(
        "PHP, curl",
        "php-fpm, open_basedir",
        Page(
            "shut",
            "api_socket.php",
            "(new Wxtokend('shop', 'OUT/api.sock'))->accessToken()",
        ),
        SHOP_TOKEN,
    ),
    app(
        "C#, string search",
        "Mono",
        Mono(&["StringSearch", "AccessToken", "OUT/shop.json"]),
        SHOP_TOKEN,
    ),
    app(
        "C#, string search",
        ".NET",
        DotNet(&["StringSearch", "AccessToken", "OUT/corp.json"]),
        CORP_TOKEN,
    ),
    app(
        "C#, XML file",
        "AccessExpires, Mono",
        Mono(&["XmlFile", "AccessExpires", "OUT/access-expires.xml"]),
        SHOP_TOKEN,
    ),
    app(
        "C#, XML file",
        "Access_YouXRQ, Mono",
        Mono(&["XmlFile", "AccessYouXRQ", "OUT/access-youxrq.xml"]),
        BLOG_TOKEN,
    ),
    app(
        "C#, XML file",
        "Access_YouXRQ, .NET",
        DotNet(&["XmlFile", "AccessYouXRQ", "OUT/access-youxrq.xml"]),
        BLOG_TOKEN,
    ),
    app(
        "C#, PHP and others, database",
        "SQLite, PHP",
        Php(
            "database_row.php",
            "access_token(new PDO('sqlite:OUT/../db/app.db'), 'blog')",
        ),
        BLOG_TOKEN,
    ),
    app(
        "C#, PHP and others, database",
        "SQLite, Mono",
        Mono(&["DatabaseRow", "AccessToken", "OUT/../db/app.db", "blog"]),
        BLOG_TOKEN,
    ),
    app(
        "C#, socket",
        "Mono",
        Mono(&["TokenSocket", "AccessToken", "OUT/corp.sock"]),
        CORP_TOKEN,
    ),
    app(
        "C#, socket",
        ".NET",
        DotNet(&["TokenSocket", "AccessToken", "OUT/shop.sock"]),
        SHOP_TOKEN,
    ),
    app(
        "C#, API",
        "Mono",
        Mono(&["ApiSocket", "AccessToken", "OUT/api.sock", "blog"]),
        BLOG_TOKEN,
    ),
    app(
        "C#, API",
        ".NET",
        DotNet(&["ApiSocket", "AccessToken", "OUT/api.sock", "corp"]),
        CORP_TOKEN,
    ),
    app(
        "modern .NET",
        "JSON file",
        DotNet(&["JsonFile", "AccessToken", "OUT/corp.json"]),
        CORP_TOKEN,
    ),
    app(
        "modern .NET",
        "HttpClient",
        DotNet(&["HttpClientApi", "AccessToken", "OUT/api.sock", "shop"]),
        SHOP_TOKEN,
    ),
    app(
        "shell",
        "wxtokend get",
        Shell("token.sh get OUT/api.sock corp"),
        CORP_TOKEN,
    ),
    app(
        "shell",
        "curl",
        Shell("token.sh curl OUT/api.sock shop"),
        SHOP_TOKEN,
    ),
    app(
        "shell",
        "env file",
        Shell("token.sh env OUT/token.env"),
        SHOP_TOKEN,
    ),
];

/// The names of the files in directories of `packaging`.
fn shipped(directories: &[&str]) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    let files = directories
        .iter()
        .flat_map(|directory| fs::read_dir(root.join(directory)).unwrap());
    files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn every_row_of_the_readme_is_an_app_here() {
    let readme = include_str!("../../README.md");
    let (_, table) = readme.split_once("| --- | --- | --- | --- |\n").unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    // `| [name](link)… | what it reads | …`
    let rows: BTreeSet<_> = rows
        .map(|row| {
            let cell = row.split('|').nth(1).unwrap().trim();
            let (name, _) = cell.strip_prefix('[').unwrap().split_once(']').unwrap();
            name
        })
        .collect();
    // `tests/feed/readers.rs` and `tests/watch` run these.
    let elsewhere = ["SDKs with Redis", "anything else"];
    let apps = APPS.iter().map(|app| app.row);
    assert_eq!(rows, apps.chain(elsewhere).collect());
}

#[test]
fn every_example_and_template_that_is_shipped_is_run() {
    // `tests/mirror/clients.rs` runs these.
    let elsewhere = ["MirrorToken.cs", "mirror.php"].map(str::to_owned);
    let run = APPS.iter().map(|app| app.program.example());
    let run: BTreeSet<String> = run.chain(elsewhere).collect();
    let examples = shipped(&[
        "examples/php",
        "examples/csharp",
        "examples/dotnet",
        "examples/shell",
        "examples/database",
    ]);
    assert_eq!(examples, run);
    // `tests/templates.rs` reads these with real PHP.
    let elsewhere = ["laravel.j2", "thinkphp.j2"];
    for template in shipped(&["templates"]) {
        assert!(
            elsewhere.contains(&template.as_str())
                || ACCOUNTS.contains(&format!("template = \"{template}\"")),
            "{template}"
        );
    }
}
