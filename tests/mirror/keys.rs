//! Keys: made by a command, read like secrets, compared for whom they are, withdrawn at once.

use crate::common::output_of;
use crate::fixture::{BLOG, SECRET, SHOP, Stage, entry, key, token_target};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

const LIFE: Duration = Duration::from_secs(7200);

#[test]
fn a_key_that_the_command_makes_opens_the_mirror() {
    let stage = Stage::new(LIFE);
    let path = stage.bench.path("shop-new");
    let run_command = || {
        stage
            .bench
            .wxtokend(&["mirror-key", path.to_str().unwrap()])
    };
    let said = output_of(&mut run_command());
    let made = fs::read_to_string(&path).unwrap();
    assert_eq!(made.len(), 32);
    assert!(
        made.bytes().all(|b| b.is_ascii_hexdigit()),
        "as an AppSecret looks"
    );
    assert!(!said.contains(&made) && said.contains("shop-new"), "{said}");
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
    assert_eq!(metadata.uid(), nix::unistd::geteuid().as_raw());
    // Once more: nothing is overwritten.
    let again = run_command().output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(fs::read_to_string(&path).unwrap(), made);
    let text = stage.text("", "0") + &entry("shop", "new", "0");
    stage.write(&text);
    let daemon = stage.start();
    assert!(stage.is_alive(&stage.ask(SHOP, &made).token()));
    assert!(!daemon.log().contains(&made));
    daemon.terminate();
}

#[test]
fn a_reload_withdraws_a_key_at_once_and_adds_one() {
    let stage = Stage::new(LIFE);
    stage.configure("", "0");
    let daemon = stage.start();
    let calls = stage.calls();
    let (cms, pos) = (key("shop", "cms"), key("shop", "pos"));
    let mut kept = stage.client();
    assert_eq!(kept.get(&token_target(SHOP, cms)).errcode(), 0);
    assert_eq!(kept.get(&token_target(SHOP, pos)).errcode(), 0);
    let without = stage.text("", "0").replace(&entry("shop", "cms", "0"), "");
    stage.write(&without);
    daemon.reload();
    // Also on a connection on which it was right.
    assert_eq!(kept.get(&token_target(SHOP, cms)).errcode(), 40125);
    assert_eq!(kept.get(&token_target(SHOP, pos)).errcode(), 0);
    stage.configure("", "0");
    daemon.reload();
    assert_eq!(kept.get(&token_target(SHOP, cms)).errcode(), 0);
    // A key that was replaced in its file counts after a reload.
    stage
        .bench
        .secret("shop-cms", "another-key-of-the-cms-000000000");
    daemon.reload();
    assert_eq!(kept.get(&token_target(SHOP, cms)).errcode(), 40125);
    assert_eq!(
        kept.get(&token_target(SHOP, "another-key-of-the-cms-000000000"))
            .errcode(),
        0
    );
    // No [mirror] any more: nobody listens.
    let none = without.split_once("[accounts.shop]").unwrap().1;
    let none = format!("[accounts.shop]{none}");
    stage.write(none.split("[[accounts.shop.mirror]]").next().unwrap());
    daemon.reload();
    daemon.wait_until("nobody listens", || {
        std::net::TcpStream::connect(stage.address).is_err()
    });
    drop(kept);
    assert_eq!(stage.calls(), calls, "none of this asked the platform");
    daemon.terminate();
}

#[test]
fn the_app_secret_is_refused_and_the_log_says_what_to_do() {
    let stage = Stage::new(LIFE);
    stage.configure("", "0");
    let daemon = stage.start();
    assert_eq!(stage.ask(SHOP, SECRET).errcode(), 40125);
    assert_eq!(stage.ask_stable(SHOP, SECRET, false).errcode(), 40125);
    daemon.wait_until("a line", || {
        let log = daemon.log();
        log.contains("shop: the mirror refuses the AppSecret itself")
            && log.contains(
                "`wxtokend mirror-key PATH`, name it under [[accounts.shop.mirror]], and give",
            )
    });
    assert!(!daemon.log().contains("CANARY"));
    // Nor is a key file any good that holds it.
    stage.bench.secret("shop-cms", SECRET);
    let touched = stage.text("poll_every = \"6m\"", "0");
    stage.write(&touched);
    daemon.reload();
    assert_eq!(stage.ask(SHOP, SECRET).errcode(), 40125);
    daemon.wait_until("another line", || {
        daemon
            .log()
            .contains("holds the AppSecret itself, which no app needs")
    });
    daemon.terminate();
}

#[test]
fn a_guesser_waits_and_nobody_else_does() {
    let stage = Stage::new(LIFE);
    stage.configure("", "0");
    let daemon = stage.start();
    let (mut guesser, mut app) = (stage.client(), stage.client());
    let began = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            for guess in ["wrong-1", "wrong-2", "wrong-3"] {
                assert_eq!(guesser.get(&token_target(SHOP, guess)).errcode(), 40125);
            }
            assert!(began.elapsed() >= Duration::from_secs(3), "one a second");
        });
        let mut answers = 0;
        while !waiting.is_finished() {
            assert_eq!(
                app.get(&token_target(SHOP, key("shop", "cms"))).errcode(),
                0
            );
            answers += 1;
        }
        assert!(answers > 3, "the app waits as long as the guesser");
    });
    // Keys of other accounts are wrong keys.
    assert_eq!(
        app.get(&token_target(SHOP, key("blog", "cms"))).errcode(),
        40125
    );
    assert_eq!(
        app.get(&token_target(BLOG, key("blog", "cms"))).errcode(),
        0
    );
    for line in [
        "wxtokend_mirror_refusals_total{account=\"shop\",reason=\"wrong_key\"} 4",
        "wxtokend_mirror_reads_total{account=\"blog\",app=\"cms\",value=\"access_token\"} 1",
    ] {
        daemon.wait_until(line, || stage.api("/metrics").body.contains(line));
    }
    for line in [
        "shop: the mirror refuses a wrong key, which 127.0.0.1:",
        "give the app the content of a `key_file` under [[accounts.shop.mirror]] as its AppSecret",
        "blog: `cms` reads access_token from the mirror",
    ] {
        daemon.wait_until(line, || daemon.log().contains(line));
    }
    let log = daemon.log();
    assert!(!log.contains("CANARY") && !log.contains("wrong-1"), "{log}");
    drop((app, guesser));
    daemon.terminate();
}

#[test]
fn a_key_file_that_is_missing_is_one_apps_trouble() {
    let stage = Stage::new(LIFE);
    fs::remove_file(stage.bench.path("shop-pos")).unwrap();
    stage.configure("", "0");
    let daemon = stage.start();
    assert_eq!(stage.ask(SHOP, key("shop", "cms")).errcode(), 0);
    assert_eq!(stage.ask(SHOP, key("shop", "pos")).errcode(), 40125);
    daemon.log_with(&["the mirror cannot answer `pos`: key file `"]);
    // Made later, it counts with the next look, half a minute at most.
    stage.bench.secret("shop-pos", key("shop", "pos"));
    daemon.wait_until("an answer", || {
        stage.ask(SHOP, key("shop", "pos")).errcode() == 0
    });
    daemon.terminate();
}

#[test]
fn faults_of_the_configuration_are_told() {
    let stage = Stage::new(LIFE);
    let base = stage.text("", "0");
    stage.bench.secret("open", "CANARY-open");
    fs::set_permissions(stage.bench.path("open"), fs::Permissions::from_mode(0o644)).unwrap();
    let more = |keys: &str| format!("[[accounts.shop.mirror]]\n{keys}");
    for (text, said) in [
        (
            base.replace("listen = \"127.0.0.1", "listen = \"0.0.0.0"),
            "must be a loopback address",
        ),
        (
            base.clone() + &more("key_file = \"{dir}/shop-x\"\n"),
            "`name` is missing",
        ),
        (
            base.clone() + &more("name = \"x\"\n"),
            "`key_file` is missing: make a key with `wxtokend mirror-key PATH`",
        ),
        (
            base.clone() + &more("name = \"cms\"\nkey_file = \"{dir}/shop-x\"\n"),
            "is used twice in this account",
        ),
        (
            base.clone() + &more("name = \"x\"\nkey_file = \"{dir}/shop-cms\"\n"),
            "is the key of `cms` too",
        ),
        (
            base.clone() + &more("name = \"x\"\nkey_file = \"{dir}/shop\"\n"),
            "holds the AppSecret itself",
        ),
        (
            base.clone() + &more("name = \"x\"\nkey_file = \"{dir}/open\"\n"),
            "everybody may read",
        ),
        (
            base.clone() + &more("name = \"x\"\nkey_file = \"{dir}/x\"\nmargin = \"5m\"\n"),
            "must be a number of seconds, or a table",
        ),
        (
            base.clone() + &more("name = \"x\"\nkey_file = \"{dir}/x\"\nmargin = { token = 5 }\n"),
            "must name access_token",
        ),
        (
            base.clone() + &more("name = \"x\"\nkey_file = \"{dir}/x\"\nmargin = 7201\n"),
            "from 0 to 7200",
        ),
        (
            base.clone() + &more("name = \"x\"\nkeyfile = \"{dir}/x\"\n"),
            "did you mean `key_file`?",
        ),
    ] {
        stage.write(&text);
        let check = stage.bench.wxtokend(&["check"]).output().unwrap();
        let output = String::from_utf8(check.stdout).unwrap();
        assert_eq!(check.status.code(), Some(78), "{said}: {output}");
        assert!(output.contains(said), "{said}: {output}");
        assert!(!output.contains("CANARY"), "{output}");
    }
    // A port that is taken.
    let taken = std::net::TcpListener::bind(stage.address).unwrap();
    stage.write(&base);
    let mut daemon = stage.bench.spawn();
    assert_eq!(daemon.wait().code(), Some(78));
    assert!(
        daemon
            .log()
            .contains("`listen` cannot listen on 127.0.0.1:")
    );
    drop(taken);
}
