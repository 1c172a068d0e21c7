//! `wxtokend check` looks as the service would: what the daemon's user cannot read or write is found.

use crate::common::{Bench, PATIENCE};
use crate::fixture::{bench, platform, shop};
use crate::root::needs_root;
use rustix::fs::chown;
use rustix::process::{Gid, Uid};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// A user that no host has.
const SERVICE: u32 = 54_321;

fn check(bench: &Bench, arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    run(bench.wxtokend(&[&["check"], arguments].concat()), bench)
}

/// Runs it to its end; `DIR` stands for the directory.
fn run(mut command: Command, bench: &Bench) -> (Option<i32>, Vec<String>) {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut status = None;
    crate::common::wait_until("its end", PATIENCE, String::new, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let dir = bench.path("");
    let said = said.replace(dir.to_str().unwrap().trim_end_matches('/'), "DIR");
    let code = output.status.code();
    (code, said.lines().map(ToOwned::to_owned).collect())
}

#[track_caller]
fn assert_said(said: &[String], expected: &[&[&str]]) {
    assert_eq!(said.len(), expected.len() + 1, "{said:#?}");
    for (line, parts) in said.iter().zip(expected) {
        for part in *parts {
            assert!(line.contains(part), "{part}: {said:#?}");
        }
    }
}

fn give(bench: &Bench, name: &str, uid: u32) {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid));
    chown(bench.path(name), Some(uid), Some(gid)).unwrap();
}

fn chmod(bench: &Bench, name: &str, mode: u32) {
    fs::set_permissions(bench.path(name), fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn check_finds_missing_rights_of_the_services_user() {
    needs_root!();
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop(""));
    give(&bench, "config.toml", SERVICE);
    give(&bench, "state", SERVICE);
    give(&bench, "run", SERVICE);
    give(&bench, "secret", SERVICE);
    assert_eq!(check(&bench, &["--strict"]).0, Some(0));

    // A secret that only root may read, a directory of root's, an owner that only root may set.
    give(&bench, "secret", 0);
    fs::create_dir(bench.path("apps")).unwrap();
    let outputs = "[[accounts.shop.file]]\npath = \"{dir}/apps/shop.json\"\n\
                   [[accounts.shop.file]]\npath = \"{dir}/run/owned.json\"\nowner = \"root\"\ngroup = \"root\"\n";
    bench.configure(&platform, &(shop("") + outputs));
    give(&bench, "config.toml", SERVICE);
    let (code, said) = check(&bench, &[]);
    assert_eq!(code, Some(0), "{said:#?}");
    assert_said(
        &said,
        &[
            &[
                "DIR/config.toml:15:15: warning: ",
                "`DIR/secret` cannot be read: permission denied",
                "chown root:wxtokend",
            ],
            &[
                "DIR/config.toml:",
                ": warning: `path` stands in `DIR/apps`, where the daemon cannot write: permission denied",
                "chown wxtokend DIR/apps",
            ],
            &[
                ":26:9: warning: `owner` of `DIR/run/owned.json` cannot be set: only root",
                "`readers`",
            ],
            &[
                ":27:9: warning: `group` of `DIR/run/owned.json` cannot be set: the daemon's user is no member of group 0",
                "`readers`",
            ],
        ],
    );
    assert_eq!(check(&bench, &["--strict"]).0, Some(78));
    // As root all of that can be done.
    let (code, said) = check(&bench, &["--as", "root", "--strict"]);
    assert_eq!((code, said.len()), (Some(0), 1), "{said:#?}");

    // A drop-in that only root may read.
    fs::create_dir(bench.path("accounts.d")).unwrap();
    fs::write(bench.path("accounts.d/blog.toml"), "").unwrap();
    chmod(&bench, "accounts.d/blog.toml", 0o600);
    bench
        .write_config("[daemon]\nstate_dir = \"{dir}/state\"\ninclude = [\"accounts.d/*.toml\"]\n");
    give(&bench, "config.toml", SERVICE);
    let (code, said) = check(&bench, &[]);
    assert_eq!(code, Some(78));
    assert_eq!(
        said,
        [
            "DIR/accounts.d/blog.toml:1:1: cannot read this file: permission denied; let the user that the daemon runs as read it, and enter the directories above it"
        ]
    );
    assert_eq!(check(&bench, &["--as", "root"]).0, Some(0));

    // A state directory that the named user may not write to keeps the daemon from running.
    let (code, said) = check(&bench, &["--as", "nobody"]);
    assert_eq!(code, Some(78), "{said:#?}");
    let (code, said) = check(&bench, &["--as", "no-such-user"]);
    assert_eq!(code, Some(2));
    assert_eq!(
        said,
        ["wxtokend: --as: this host has no user `no-such-user`"]
    );
}

#[test]
fn a_state_directory_that_cannot_be_written_to_is_a_fault() {
    needs_root!();
    let bench = bench();
    bench.write_config(
        "[daemon]\nstate_dir = \"{dir}/state\"\n[api]\nsocket = \"{dir}/apps/api.sock\"\n",
    );
    fs::create_dir(bench.path("apps")).unwrap();
    give(&bench, "config.toml", 65_534);
    let (code, said) = check(&bench, &["--as", "65534"]);
    assert_eq!(code, Some(78));
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(
        said[0].starts_with(
            "DIR/config.toml:2:13: `state_dir` `DIR/state` cannot be written to: permission denied"
        ),
        "{said:#?}"
    );
    assert!(
        said[1].starts_with(
            "DIR/config.toml:4:10: `socket` stands in `DIR/apps`, where the daemon cannot write"
        ),
        "{said:#?}"
    );
}

#[test]
fn secrets_that_are_of_no_use_are_warned_of_offline() {
    let (bench, platform) = (bench(), platform(|_| ()));
    for (name, bytes) in [
        ("empty", &b" \n"[..]),
        ("spaced", b"CANARY CANARY CANARY"),
        ("utf16", b"\xFF\xFEC\0A\0N\0A\0R\0Y\0"),
        ("short", b"CANARY"),
        ("quoted", b"\"0123456789abcdefCANARY0123456789\""),
        ("named", b"secret=0123456789abcdefCANARY"),
        ("cut", b"0123456789abcdef0123456789abcde"),
        (
            "marked",
            b"\xEF\xBB\xBF0123456789abcdef0123456789abcdef\r\n",
        ),
    ] {
        fs::write(bench.path(name), bytes).unwrap();
        chmod(&bench, name, 0o600);
    }
    let mut text = String::new();
    let names = [
        "missing",
        "empty",
        "spaced",
        "utf16",
        "short",
        "quoted",
        "named",
        "cut",
        "marked",
        "directory",
    ];
    fs::create_dir(bench.path("directory")).unwrap();
    for (n, name) in names.into_iter().enumerate() {
        let lines = format!(
            "[accounts.a{n}]\nappid = \"wx000000000000000{n}\"\nsecret_file = \"{{dir}}/{name}\"\n"
        );
        text.push_str(&lines);
    }
    text += "[accounts.b]\nappid = \"wx000000000000000b\"\nsecret_credential = \"b\"\n";
    bench.configure(&platform, &text);
    let (code, said) = check(&bench, &[]);
    assert_eq!(code, Some(0));
    let file = ":15: warning: secret file `DIR/";
    assert_said(
        &said,
        &[
            &[
                file,
                "missing` cannot be read: no such file or directory; put the AppSecret",
            ],
            &[file, "empty` is of no use: the secret is empty"],
            &[
                file,
                "spaced` is of no use: the secret holds a character that no AppSecret has",
            ],
            &[
                file,
                "utf16` is UTF-16 (Windows calls it Unicode); save it as UTF-8",
            ],
            &[":15: warning: the secret in `DIR/short` has only 6 characters; compare it"],
            &[
                ":15: warning: the secret in `DIR/quoted` stands in quotes, which are sent as a part of it",
            ],
            &[":15: warning: the secret in `DIR/named` holds more than letters, digits, - and _"],
            &[":15: warning: the secret in `DIR/cut` has 31 characters, and an AppSecret has 32"],
            &[file, "directory` is not a regular file; put the AppSecret"],
            &[
                ":21: warning: `secret_credential` \"b\" cannot be looked at from outside the service",
                "LoadCredential=b:PATH",
            ],
        ],
    );
    assert!(!said.concat().contains("CANARY"));
    assert_eq!(check(&bench, &["--strict"]).0, Some(78));
}

#[test]
fn nothing_but_a_regular_file_is_opened_for_reading() {
    let bench = bench();
    let pipe = bench.path("pipe.toml");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    let config = |text: &str| {
        bench.write_config(text);
        let (code, said) = check(&bench, &[]);
        assert_eq!(code, Some(78), "{said:#?}");
        said.concat()
    };
    let said = config("[daemon]\ninclude = [\"pipe.toml\"]\n");
    assert!(
        said.contains("DIR/pipe.toml:1:1: cannot read this file: not a regular file"),
        "{said}"
    );
    std::os::unix::fs::symlink(&pipe, bench.path("link")).unwrap();
    for device in ["{dir}/pipe.toml", "/dev/zero", "{dir}/link"] {
        let said = config(&format!("[platform]\nca_file = \"{device}\"\n"));
        assert!(said.contains(":2:11: `ca_file` "), "{said}");
        assert!(
            said.contains("which cannot be read: not a regular file"),
            "{said}"
        );
        let said = config(&format!(
            "[accounts.shop]\nappid = \"wx0123456789abcdef\"\nsecret_file = \"{{dir}}/secret\"\n\
             [[accounts.shop.file]]\npath = \"{{dir}}/run/x\"\nformat = \"template\"\ntemplate = \"{device}\"\n"
        ));
        assert!(said.contains(":7:12: `template` "), "{said}");
        assert!(said.contains("not a regular file"), "{said}");
    }
    let large = fs::File::create(bench.path("large")).unwrap();
    large.set_len(1 << 40).unwrap();
    std::os::unix::fs::symlink("large", bench.path("link-to-large")).unwrap();
    for large in ["large", "link-to-large"] {
        let said = config(&format!("[platform]\nca_file = \"{large}\"\n"));
        assert!(
            said.contains("which cannot be read: larger than 16 MiB"),
            "{said}"
        );
    }
    let mut as_config = bench.wxtokend(&["check"]);
    as_config.env("WXTOKEND_CONFIG", &pipe);
    let (code, said) = run(as_config, &bench);
    assert_eq!(code, Some(78));
    assert!(said[0].contains("not a regular file"), "{said:?}");
}
