//! Every kind of app reads through rotations, a reload and a restart.

use crate::apps::{ACCOUNTS, APPS, AppProgram, BLOG, CORP, LegacyApp, SHOP};
use crate::database::AppDatabase;
use crate::reader::Reader;
use crate::web::Web;
use crate::{LegacyStage, can_run};
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;
use wxtokend::sim::{Endpoint, SimAccount, World};

/// One whose token outlives the test.
const CALM: &str = "wx00000000000000a4";

/// Tokens that rotate three times in a minute, and outlive their replacement by half of one: this host may stand still for seconds.
fn world() -> World {
    let mut world = World::new();
    for id in [SHOP, BLOG, CORP] {
        world.add(SimAccount {
            lifetime: Duration::from_secs(60),
            window: (id != CORP).then_some(Duration::from_secs(42)),
            overlap: Some(Duration::from_secs(30)),
            gettoken_mints: true,
            ..SimAccount::new(id, "0123456789abcdef0123456789abcdef")
        });
    }
    world.account(CALM, "0123456789abcdef0123456789abcdef");
    world
}

/// Starts an app, as another user than the daemon's. A page is read by anyone, and runs as www-data.
fn start(stage: &LegacyStage, web: &Web, app: &LegacyApp) -> Reader {
    let (user, command) = match app.program {
        AppProgram::Php(example, call) => ("www-data", stage.php(example, call)),
        AppProgram::JsSdk(example, call) => {
            let mut command = stage.php(example, call);
            command.current_dir(stage.path("run/jssdk"));
            ("www-data", command)
        }
        AppProgram::Page(site, example, call) => {
            let url = web.page(site, &stage.path(example), &stage.expand(call));
            ("news", stage.shell(&format!("curl -sSf {url}")))
        }
        AppProgram::Mono(arguments) => ("nobody", stage.mono(arguments)),
        AppProgram::DotNet(arguments) => ("nobody", stage.dotnet(arguments)),
        AppProgram::Shell(line) => ("games", stage.shell(line)),
    };
    let mut command = command;
    if !matches!(app.program, AppProgram::Page(..)) {
        // Hosts behind a proxy have it in the environment of everybody: a Unix socket is not to be reached by it.
        command.env("http_proxy", "http://127.0.0.1:9");
    }
    let name = format!("{}: {}", app.row, app.variant);
    Reader::start(name, user, command, app.wanted, &stage.platform)
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

/// Returns whether `news`, who is no reader at first, can read in any way.
fn news_can_read(stage: &LegacyStage) -> bool {
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
    let stage = LegacyStage::new(world());
    let config = |readers: &str| ACCOUNTS.replace("READERS", readers);
    stage.configure(&config(r#"["www-data", "nobody", "@games"]"#));
    let daemon = stage.start();
    let web = Web::start(&stage.path("web"), &stage.path("run"));
    assert!(!open_basedir_lets_files_through(&stage, &web));
    assert!(!news_can_read(&stage));

    let _database = AppDatabase::keep(&stage, "blog");
    let readers: Vec<_> = APPS.iter().map(|app| start(&stage, &web, app)).collect();
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
    // A young token of 企业微信: one that is due while the daemon is away is asked for at its end only, as that platform
    // gives the same until then.
    let corp = || fs::read_to_string(stage.path("run/corp.json")).unwrap_or_default();
    let old = corp();
    daemon.wait_until("another token of corp", || {
        let new = corp();
        !new.is_empty() && new != old
    });
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

    for ((reader, after), app) in readers.iter().zip(after).zip(APPS) {
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
        if !app.program.needs_the_daemon() {
            assert_eq!(after, [""; 0], "{}: never", reader.name);
        }
    }
}

/// Under `open_basedir`, a page cannot read the file that another one of the same user can.
fn open_basedir_lets_files_through(stage: &LegacyStage, web: &Web) -> bool {
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
