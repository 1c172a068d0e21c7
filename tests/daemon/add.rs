//! `wxtokend add`, on a terminal and by its options.

use crate::common::{Bench, PATIENCE, Terminal, output_of, wait_until};
use crate::fixture::{SECRET, SHOP, appid, in_file, names, platform, token_calls};
use crate::root::needs_root;
use rustix::process::Signal;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use wxtokend::sim::SimPlatform;

/// A bench whose configuration has no account, and includes `accounts.d`.
fn empty(platform: &SimPlatform) -> Bench {
    let bench = Bench::new();
    for (name, mode) in [("accounts.d", 0o755), ("secrets", 0o750)] {
        fs::create_dir(bench.path(name)).unwrap();
        fs::set_permissions(bench.path(name), Permissions::from_mode(mode)).unwrap();
    }
    let url = platform.base_url();
    bench.write_config(&format!(
        "[daemon]\nstate_dir = \"{{dir}}/state\"\ninclude = [\"accounts.d/*.toml\"]\n\
         [api]\nsocket = \"{{dir}}/run/api.sock\"\n\
         [platform]\nhosts = [\"{url}\"]\nwecom_hosts = [\"{url}\"]\n"
    ));
    bench
}

/// Runs the command without a terminal, with `input` on its standard input.
fn add(bench: &Bench, arguments: &[&str], input: &str) -> Output {
    let mut command = bench.wxtokend(&[&["add", "shop"], arguments].concat());
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that is refused reads nothing.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(text).unwrap()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

/// Nothing was made, and nothing is left of what was.
fn has_nothing(bench: &Bench) {
    assert!(names(&bench.path("accounts.d")).is_empty());
    assert!(names(&bench.path("secrets")).is_empty());
}

/// Files below the bench that hold the secret.
fn with_secret(bench: &Bench) -> String {
    let mut grep = Command::new("grep");
    grep.args([
        "--recursive",
        "--files-with-matches",
        "--binary-files=text",
        SECRET,
    ]);
    let output = grep.arg(bench.path("")).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_terminal_is_asked_and_never_shows_the_secret() {
    let platform = platform(|_| ());
    let bench = empty(&platform);
    let mut terminal = Terminal::run(&bench.wxtokend(&["add", "shop"]));
    // A wrong answer is explained and asked for again.
    terminal.answer("appid (公众号", "gh_0123456789ab");
    terminal.wait_for("原始ID", 1);
    terminal.wait_for("appid (公众号", 2);
    terminal.type_keys(&format!("{SHOP}\n"));
    terminal.wait_for("AppSecret", 1);
    assert!(!terminal.echoes());
    terminal.type_keys(&format!("{SECRET}\n"));
    terminal.wait_for("Readers", 1);
    assert!(terminal.echoes());
    terminal.type_keys("no-such-user\n");
    terminal.wait_for("does not have", 1);
    terminal.wait_for("Readers", 2);
    terminal.type_keys("root, @root\n");
    terminal.answer("File for its apps", "");
    terminal.answer("Token socket", "none");
    let status = terminal.wait();
    terminal.wait_for("wxtokend status shop", 1);
    let shown = terminal.shown();
    assert!(status.success(), "{shown}");
    for part in [
        "shop: ok: the platform grants an access_token",
        "wxtokend reload --config",
        "run/shop.json",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(terminal.echoes());
    let secret = bench.path("secrets/shop");
    assert_eq!(fs::read_to_string(&secret).unwrap(), SECRET);
    assert_eq!(mode(&secret) & 0o137, 0);
    assert_eq!(mode(&bench.path("accounts.d/shop.toml")), 0o644);
    assert_eq!(with_secret(&bench).trim(), secret.to_str().unwrap());
    // The daemon takes it.
    let _daemon = bench.start();
    assert!(in_file(&bench, "shop").is_some());
}

#[test]
fn ctrl_c_and_ctrl_z_leave_the_terminal_as_it_was() {
    let platform = platform(|_| ());
    let bench = empty(&platform);
    let mut terminal = Terminal::run(&bench.wxtokend(&["add", "shop", "--appid", SHOP]));
    terminal.wait_for("AppSecret", 1);
    terminal.type_keys("half of a sec\x1a");
    wait_until(
        "it stops",
        PATIENCE,
        || terminal.shown(),
        || terminal.is_stopped(),
    );
    assert!(terminal.echoes());
    terminal.signal(Signal::CONT);
    terminal.wait_for("AppSecret", 2);
    assert!(!terminal.echoes());
    terminal.type_keys("\x03");
    assert_eq!(terminal.wait().signal(), Some(Signal::INT.as_raw()));
    assert!(terminal.echoes());
    has_nothing(&bench);
    // The end of input ends it too.
    let mut terminal = Terminal::run(&bench.wxtokend(&["add", "shop", "--appid", SHOP]));
    terminal.wait_for("AppSecret", 1);
    terminal.type_keys("\x04");
    assert_eq!(terminal.wait().code(), Some(1));
    terminal.wait_for("nothing was added", 1);
    assert!(terminal.echoes());
    has_nothing(&bench);
}

#[test]
fn options_take_the_place_of_questions() {
    let platform = platform(|world| {
        world.account(&appid(1), SECRET);
    });
    let bench = empty(&platform);
    let php = format!("php:{}", bench.path("run/sub/shop.php").display());
    let socket = bench.path("run/shop.sock").display().to_string();
    let arguments = [
        "--appid",
        SHOP,
        "--reader",
        "root",
        "--file",
        &php,
        "--token-socket",
        &socket,
    ];
    let output = add(&bench, &arguments, &format!("{SECRET}\n"));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(!said(&output).contains(SECRET));
    let text = fs::read_to_string(bench.path("accounts.d/shop.toml")).unwrap();
    for part in [
        &format!("appid = \"{SHOP}\""),
        "readers = [\"root\"]",
        "format = \"php\"",
        "[[accounts.shop.socket]]",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(token_calls(&platform, SHOP), 1);

    // A second one overwrites nothing, whichever file is there.
    let before = fs::read(bench.path("secrets/shop")).unwrap();
    for removed in ["nothing", "accounts.d/shop.toml", "secrets/shop"] {
        let _ = fs::remove_file(bench.path(removed));
        let there = [
            names(&bench.path("accounts.d")),
            names(&bench.path("secrets")),
        ];
        let output = add(&bench, &["--appid", &appid(1)], "another-secret-0123456789");
        if removed == "secrets/shop" {
            // With both gone it is a new one.
            assert_eq!(output.status.code(), Some(69), "{}", said(&output));
            continue;
        }
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(
            said(&output).contains("is there already"),
            "{}",
            said(&output)
        );
        assert_eq!(fs::read(bench.path("secrets/shop")).unwrap(), before);
        let now = [
            names(&bench.path("accounts.d")),
            names(&bench.path("secrets")),
        ];
        assert_eq!(now, there);
    }
}

#[test]
fn a_secret_comes_from_a_file_and_never_from_an_argument() {
    let platform = platform(|_| ());
    let bench = empty(&platform);
    let file = bench.secret("from", &format!("\u{feff}{SECRET}\r\n"));
    let file = file.to_str().unwrap();
    let output = add(&bench, &["--appid", SHOP, "--secret-from", file], "");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(
        fs::read_to_string(bench.path("secrets/shop")).unwrap(),
        SECRET
    );
    let help = output_of(&mut bench.wxtokend(&["add", "--help"]));
    assert!(!help.contains("--secret "), "{help}");
}

#[test]
fn wrong_answers_add_no_account() {
    let platform = platform(|_| ());
    let bench = empty(&platform);
    let missing = bench.path("no/such/shop.json").display().to_string();
    for (arguments, input, code, part) in [
        (&["--appid", "wx1"][..], SECRET, 2, "must be wx"),
        (&[], SECRET, 2, "--appid"),
        (&["--appid", SHOP], "", 2, "the secret is empty"),
        (
            &["--appid", SHOP],
            "two words",
            2,
            "a character that no AppSecret has",
        ),
        (
            &["--appid", SHOP, "--agentid", "1"],
            SECRET,
            2,
            "--agentid is not for",
        ),
        (
            &["--appid", SHOP, "--reader", "no-such-user"],
            SECRET,
            2,
            "does not have",
        ),
        (
            &["--appid", SHOP, "--file", "xml:/run/x"],
            SECRET,
            2,
            "json, php",
        ),
        (
            &["--appid", SHOP, "--file", &missing],
            SECRET,
            78,
            "which does not exist",
        ),
    ] {
        let output = add(&bench, arguments, input);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {}",
            said(&output)
        );
        assert!(
            said(&output).contains(part),
            "{arguments:?}: {}",
            said(&output)
        );
        has_nothing(&bench);
    }
    // A configuration that is faulty already is not made worse.
    let good = fs::read_to_string(bench.path("config.toml")).unwrap();
    bench.write_config(&format!("{good}[accounts.blog]\nappid = \"wx1\"\n"));
    let output = add(&bench, &["--appid", SHOP], SECRET);
    assert_eq!(output.status.code(), Some(78));
    assert!(
        said(&output).contains("correct the configuration first"),
        "{}",
        said(&output)
    );
    // One that would not find the file says what to set.
    bench.write_config(&good.replace("accounts.d/*.toml", "accounts.d/x*.toml"));
    let output = add(&bench, &["--appid", SHOP], SECRET);
    assert_eq!(output.status.code(), Some(78));
    assert!(
        said(&output).contains("include = [\"accounts.d/*.toml\"]"),
        "{}",
        said(&output)
    );
    has_nothing(&bench);
}

#[test]
fn account_that_the_platform_refuses_stays_and_is_explained() {
    let platform = platform(|world| {
        let account = world.account(SHOP, SECRET);
        account.whitelist = Some(Vec::new());
        account.seen_as = Some("203.0.113.7".parse().unwrap());
    });
    let bench = empty(&platform);
    let output = add(&bench, &["--appid", SHOP], SECRET);
    assert_eq!(output.status.code(), Some(69));
    for part in ["40164", "203.0.113.7", "IP白名单", "stay", "check --online"] {
        assert!(said(&output).contains(part), "{part}: {}", said(&output));
    }
    assert_eq!(names(&bench.path("accounts.d")), ["shop.toml"]);
    assert_eq!(names(&bench.path("secrets")), ["shop"]);
    // Without a question to the platform there is no trouble.
    for made in ["accounts.d/shop.toml", "secrets/shop"] {
        fs::remove_file(bench.path(made)).unwrap();
    }
    let calls = token_calls(&platform, SHOP);
    let output = add(&bench, &["--appid", SHOP, "--offline"], SECRET);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(token_calls(&platform, SHOP), calls);
}

#[test]
fn root_lets_the_group_of_the_secrets_read_and_trusts_no_open_directory() {
    const DAEMON: u32 = 4242;
    needs_root!();
    let platform = platform(|_| ());
    let bench = empty(&platform);
    fs::set_permissions(bench.path("config.toml"), Permissions::from_mode(0o644)).unwrap();
    for directory in ["state", "run"] {
        chown(bench.path(directory), Some(DAEMON), Some(DAEMON)).unwrap();
    }
    chown(bench.path("secrets"), None, Some(DAEMON)).unwrap();
    let output = add(&bench, &["--appid", SHOP], SECRET);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let secret = bench.path("secrets/shop").metadata().unwrap();
    assert_eq!(
        (secret.uid(), secret.gid(), secret.mode() & 0o7777),
        (0, DAEMON, 0o640)
    );
    let drop_in = bench.path("accounts.d/shop.toml").metadata().unwrap();
    assert_eq!((drop_in.uid(), drop_in.mode() & 0o7777), (0, 0o644));

    // Without a directory for secrets, one is made for the user that owns the state.
    fs::remove_file(bench.path("accounts.d/shop.toml")).unwrap();
    fs::remove_dir_all(bench.path("secrets")).unwrap();
    let output = add(&bench, &["--appid", SHOP], SECRET);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let secrets = bench.path("secrets").metadata().unwrap();
    assert_eq!(
        (secrets.uid(), secrets.gid(), secrets.mode() & 0o7777),
        (0, DAEMON, 0o750)
    );

    fs::remove_file(bench.path("accounts.d/shop.toml")).unwrap();
    fs::remove_file(bench.path("secrets/shop")).unwrap();
    fs::set_permissions(bench.path("secrets"), Permissions::from_mode(0o757)).unwrap();
    let output = add(&bench, &["--appid", SHOP], SECRET);
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(
        said.contains("secrets` can be written to by others"),
        "{said}"
    );
    has_nothing(&bench);
}
