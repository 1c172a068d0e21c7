//! Every kind of app reads through rotations, a reload and a restart.

use crate::reader::{Reader, Wanted};
use crate::web::Web;
use crate::{Stage, can_run};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;
use wxtokend::sim::{Account, Endpoint, World};

const SHOP: &str = "wx00000000000000a1";
const BLOG: &str = "wx00000000000000a2";
const CORP: &str = "ww00000000000000a3";
const CALM: &str = "wx00000000000000a4";

/// 公众号 under both methods, 企业微信, and one whose token outlives the test.
const ACCOUNTS: &str = r#"
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

/// Tokens that rotate every few seconds, and outlive their replacement by a few: this host may be busy.
fn world() -> World {
    let mut world = World::new();
    for id in [SHOP, BLOG, CORP] {
        world.add(Account {
            lifetime: Duration::from_secs(20),
            window: (id != CORP).then_some(Duration::from_secs(10)),
            overlap: Some(Duration::from_secs(10)),
            gettoken_mints: true,
            ..Account::new(id, "0123456789abcdef0123456789abcdef")
        });
    }
    world.account(CALM, "0123456789abcdef0123456789abcdef");
    world
}

/// A name, the program, and whose value it is to show.
type App = (&'static str, Command, Wanted);

const TOKEN: &str = "access_token";
const SHOP_TOKEN: Wanted = (SHOP, TOKEN);
const BLOG_TOKEN: Wanted = (BLOG, TOKEN);
const CORP_TOKEN: Wanted = (CORP, TOKEN);
const JSAPI: Wanted = (BLOG, "jsapi_ticket");
const CARD: Wanted = (BLOG, "wx_card_ticket");

fn on_php(stage: &Stage) -> Vec<App> {
    let php = |example: &str, expression: &str| stage.php(example, expression);
    let sdk = |example, method: &str| {
        let mut command = stage.php(example, &format!("(new JSSDK())->{method}()"));
        command.current_dir(stage.path("run/jssdk"));
        command
    };
    let cached = |name| {
        php(
            "wechatdeveloper.php",
            &format!("cached('OUT/cache', '{BLOG}_{name}')"),
        )
    };
    let api = |account| {
        php(
            "api_socket.php",
            &format!("(new Wxtokend('{account}', 'OUT/api.sock'))->accessToken()"),
        )
    };
    vec![
        (
            "PHP, own cache file",
            php("own_cache_file.php", "access_token('OUT/shop.json')"),
            SHOP_TOKEN,
        ),
        (
            "JS-SDK sample, older",
            sdk("jssdk_json.php", "getAccessToken"),
            BLOG_TOKEN,
        ),
        (
            "JS-SDK sample, older: ticket",
            sdk("jssdk_json.php", "getJsApiTicket"),
            JSAPI,
        ),
        (
            "JS-SDK sample, newer",
            sdk("jssdk_php.php", "getAccessToken"),
            BLOG_TOKEN,
        ),
        (
            "JS-SDK sample, newer: ticket",
            sdk("jssdk_php.php", "getJsApiTicket"),
            JSAPI,
        ),
        ("card ticket", sdk("jssdk_php.php", "getApiTicket"), CARD),
        (
            "raw answer cached",
            php("raw_answer.php", "access_token('OUT/raw/answer.json')"),
            SHOP_TOKEN,
        ),
        (
            "PHP return file",
            php("return_file.php", "access_token('OUT/return.php')"),
            SHOP_TOKEN,
        ),
        ("WeChatDeveloper", cached("access_token"), BLOG_TOKEN),
        ("WeChatDeveloper: ticket", cached("ticket_jsapi"), JSAPI),
        (
            "PHP, socket",
            php("token_socket.php", "access_token('OUT/shop.sock')"),
            SHOP_TOKEN,
        ),
        ("PHP, curl", api("blog"), BLOG_TOKEN),
    ]
}

fn on_php_fpm(stage: &Stage, web: &Web) -> Vec<App> {
    let page = |site, example: &str, expression: &str| {
        let url = web.page(site, &stage.path(example), &stage.expand(expression));
        stage.shell(&format!("curl -sSf {url}"))
    };
    let api = "(new Wxtokend('shop', 'OUT/api.sock'))->accessToken()";
    vec![
        (
            "php-fpm, own cache file",
            page(
                "open",
                "own_cache_file.php",
                "access_token('OUT/corp.json')",
            ),
            CORP_TOKEN,
        ),
        (
            "php-fpm, PHP return file",
            page("open", "return_file.php", "access_token('OUT/return.php')"),
            SHOP_TOKEN,
        ),
        (
            "php-fpm, open_basedir, socket",
            page("shut", "token_socket.php", "access_token('OUT/corp.sock')"),
            CORP_TOKEN,
        ),
        (
            "php-fpm, open_basedir, curl",
            page("shut", "api_socket.php", api),
            SHOP_TOKEN,
        ),
    ]
}

fn on_mono(stage: &Stage) -> Vec<App> {
    let run = |arguments: &[&str]| stage.csharp(arguments);
    vec![
        (
            "C#, string search",
            run(&["StringSearch", "AccessToken", "OUT/shop.json"]),
            SHOP_TOKEN,
        ),
        (
            "C#, XML file, AccessExpires",
            run(&["XmlFile", "AccessExpires", "OUT/access-expires.xml"]),
            SHOP_TOKEN,
        ),
        (
            "C#, XML file, Access_YouXRQ",
            run(&["XmlFile", "AccessYouXRQ", "OUT/access-youxrq.xml"]),
            BLOG_TOKEN,
        ),
        (
            "C#, socket",
            run(&["TokenSocket", "AccessToken", "OUT/corp.sock"]),
            CORP_TOKEN,
        ),
        (
            "C#, API by hand",
            run(&["ApiSocket", "AccessToken", "OUT/api.sock", "blog"]),
            BLOG_TOKEN,
        ),
    ]
}

fn in_shell(stage: &Stage) -> Vec<App> {
    let run = |arguments: &str| stage.shell(&format!("token.sh {arguments}"));
    vec![
        (
            "shell, wxtokend get",
            run("get OUT/api.sock corp"),
            CORP_TOKEN,
        ),
        ("shell, curl", run("curl OUT/api.sock shop"), SHOP_TOKEN),
        ("shell, env file", run("env OUT/token.env"), SHOP_TOKEN),
    ]
}

/// Everyone who reads, as other users than the daemon's. Pages are read by anyone, and run as www-data.
fn readers(stage: &Stage, web: &Web) -> Vec<Reader> {
    [
        ("www-data", on_php(stage)),
        ("news", on_php_fpm(stage, web)),
        ("nobody", on_mono(stage)),
        ("games", in_shell(stage)),
    ]
    .into_iter()
    .flat_map(|(user, apps)| apps.into_iter().map(move |app| (user, app)))
    .map(|(user, (name, command, wanted))| {
        Reader::start(name, user, command, wanted, &stage.platform)
    })
    .collect()
}

/// Whether a name in the list of readers goes by way of a socket, which is gone while the daemon is.
fn needs_the_daemon(name: &str) -> bool {
    ["socket", "curl", "API", "get"]
        .iter()
        .any(|way| name.contains(way))
}

/// Waits until every reader has had so many more values.
fn rotate(readers: &[Reader], more: usize) {
    let before: Vec<_> = readers
        .iter()
        .map(|reader| reader.seen().distinct.len())
        .collect();
    for (reader, before) in readers.iter().zip(before) {
        reader.until("new values", |seen| seen.distinct.len() >= before + more);
    }
}

/// Whether `news`, who is no reader at first, can read in any way.
fn news_can_read(stage: &Stage) -> bool {
    let user = nix::unistd::User::from_name("news").unwrap().unwrap();
    let run = |command: &mut Command| {
        let output = command
            .uid(user.uid.as_raw())
            .gid(user.gid.as_raw())
            .output()
            .unwrap();
        output.status.success() && !output.stdout.is_empty()
    };
    let out = stage.path("run");
    let file = run(Command::new("cat").arg(out.join("shop.json")));
    let socket = run(Command::new("php").arg("-r").arg(format!(
        "require '{}'; echo access_token('{}');",
        stage.path("token_socket.php").display(),
        out.join("shop.sock").display()
    )));
    let api = run(Command::new(stage.path("wxtokend"))
        .arg("-s")
        .arg(out.join("api.sock"))
        .args(["get", "shop"]));
    assert!(
        file == socket && socket == api,
        "file {file}, socket {socket}, api {api}"
    );
    file
}

#[test]
fn every_app_reads_live_values_only() {
    if !can_run("every_app_reads_live_values_only") {
        return;
    }
    let stage = Stage::new(world());
    let config = |readers: &str| ACCOUNTS.replace("READERS", readers);
    stage.configure(&config(r#"["www-data", "nobody", "@games"]"#));
    let daemon = stage.start();
    let web = Web::start(&stage.path("web"), &stage.path("run"));
    assert!(!open_basedir_lets_files_through(&stage, &web));
    assert!(!news_can_read(&stage));

    let readers = readers(&stage, &web);
    rotate(&readers, 3);

    stage.configure(&config(r#"["www-data", "nobody", "@games", "news"]"#));
    daemon.reload();
    assert!(news_can_read(&stage));
    rotate(&readers, 1);
    for reader in &readers {
        assert_eq!(reader.seen().failures, [""; 0], "{}", reader.name);
    }

    let calls = || {
        stage
            .platform
            .with(|world, _| world.calls(CALM, Endpoint::StableToken))
    };
    let before = calls();
    assert!(daemon.terminate().success());
    // As systemd does for a service that may not store descriptors: who waits for a socket is told at once.
    stage.bench.manager.with(Vec::clear);
    let _daemon = stage.start();
    assert_eq!(calls(), before, "a restart costs no call");
    let after: Vec<_> = readers
        .iter()
        .map(|reader| {
            let reads = reader.seen().reads;
            reader.until("reading again", |seen| seen.reads > reads);
            reader.seen().failures
        })
        .collect();
    rotate(&readers, 2);

    for (reader, after) in readers.iter().zip(after) {
        let seen = reader.seen();
        eprintln!(
            "{:36} {:5} reads, {:2} values, {:2} failures",
            reader.name,
            seen.reads,
            seen.distinct.len(),
            seen.failures.len()
        );
        assert_eq!(seen.dead, [], "{}", reader.name);
        assert_eq!(
            seen.failures, after,
            "{}: only while the daemon was away",
            reader.name
        );
        if !needs_the_daemon(reader.name) {
            assert_eq!(after, [""; 0], "{}: never", reader.name);
        }
    }
}

/// Under `open_basedir`, a page cannot read the file that another one of the same user can.
fn open_basedir_lets_files_through(stage: &Stage, web: &Web) -> bool {
    let example = stage.path("raw_answer.php");
    let file = stage.path("run/raw/answer.json");
    let [open, shut] = ["open", "shut"].map(|site| {
        let url = web.page(
            site,
            &example,
            &format!("access_token('{}')", file.display()),
        );
        let output = Command::new("curl").args(["-sSf", &url]).output().unwrap();
        !String::from_utf8_lossy(&output.stdout).starts_with('!')
    });
    assert!(open);
    shut
}
