//! Collisions: each thing is right by itself, but not beside the other, in one file or in several.

use crate::ConfigHost;
use std::os::unix::fs::symlink;

/// An account named after the last digit of its appid.
fn account(name: char, rest: &str) -> String {
    format!(
        "[accounts.{name}]\nappid = 'wx0123456789abcde{name}'\nsecret_file = 'DIR/secret'\n{rest}\n"
    )
}

#[test]
fn two_outputs_have_one_path() {
    let host = ConfigHost::new();
    host.directory("real", 0o755);
    symlink(host.path("real"), host.path("link")).unwrap();
    // As configured, so that an administrator finds it.
    for other in [
        "DIR/real/x",
        "DIR/real//x",
        "DIR/real/../real/./x",
        "DIR/link/x",
    ] {
        let output = |kind, path| format!("[[accounts.a.{kind}]]\npath = '{path}'\n");
        let text = account(
            'a',
            &(output("socket", "DIR/real/x") + &output("file", other)),
        );
        host.faults(
            &text,
            &["5:8: `path` \"DIR/real/x\" is taken already, by `path` at DIR/config.toml:7: choose another"],
        );
        let text = account('a', &output("file", "DIR/real/x"))
            + &account('b', &output("file", other).replace(".a.", ".b."));
        host.faults(
            &text,
            &[&format!("11:8: `path` \"{other}\" is taken already, by `path` at DIR/config.toml:5: choose another")],
        );
    }
}

#[test]
fn an_output_has_the_path_of_the_api() {
    let host = ConfigHost::new();
    let text = "[api]\nsocket = 'DIR/run/x'\n".to_owned()
        + &account('a', "[[accounts.a.socket]]\npath = 'DIR/run/x'");
    host.faults(
        &text,
        &["7:8: `path` \"DIR/run/x\" is taken already, by `socket` at DIR/config.toml:2: choose another"],
    );
}

#[test]
fn two_accounts_fetch_for_one_app() {
    let host = ConfigHost::new();
    let twice = |id: &str, one: &str, other: &str| {
        let account =
            |name, more| format!("[accounts.{name}]\n{id}\nsecret_file = 'DIR/secret'\n{more}\n");
        account("one", one) + &account("other", other)
    };
    let appid = "appid = 'wx0123456789abcdef'";
    host.good(&twice(appid, "method = 'stable'", ""));
    host.good(&twice(appid, "method = 'classic'", ""));
    host.faults(
        &twice(appid, "method = 'classic'", "method = 'classic'"),
        &["6:9: `appid` \"wx0123456789abcdef\" is used at DIR/config.toml:2 too, and each account would end the other's token: merge the two, or set `method = \"stable\"`"],
    );
    let corpid = "corpid = 'ww0123456789abcdef'";
    host.good(&twice(corpid, "agentid = 1", "agentid = 2"));
    host.good(&twice(corpid, "agentid = 1", ""));
    for agentid in ["agentid = 1", ""] {
        host.faults(
            &twice(corpid, agentid, agentid),
            &["6:10: `corpid` \"ww0123456789abcdef\" is used at DIR/config.toml:2 too, and each account would end the other's token: merge the two, or give each app its `agentid`"],
        );
    }
}

#[test]
fn files_collide_with_each_other() {
    let host = ConfigHost::new();
    let output = "[[accounts.NAME.file]]\npath = 'DIR/run/x'";
    let included =
        |name| account(name, "method = 'classic'") + &output.replace("NAME", &name.to_string());
    host.file("a.toml", 0o600, &included('a'));
    host.file("b.toml", 0o600, &included('b').replace("cdeb", "cdea"));
    host.file("c.toml", 0o600, &account('f', ""));
    host.file(
        "d.toml",
        0o600,
        "[daemon]\nlog_level = 'info'\n[api]\n[platform]\n[account]\n",
    );
    let text = "[daemon]\ninclude = ['[a-d].toml', 'a.toml']\nlog_level = 1\n".to_owned()
        + &account('f', "");
    host.faults(
        &text,
        &[
            "2:12: warning: `include` leaves out `DIR/secret` because of its name: rename it so that the pattern finds it (it must end in .toml), or move it elsewhere",
            "3:13: `log_level` 1 must be a text in quotes, not a number",
            "DIR/b.toml:2:9: `appid` \"wx0123456789abcdea\" is used at DIR/a.toml:2 too, and each account would end the other's token: merge the two, or set `method = \"stable\"`",
            "DIR/b.toml:6:8: `path` \"DIR/run/x\" is taken already, by `path` at DIR/a.toml:6: choose another",
            "DIR/c.toml:1:11: account `f` is there already, at DIR/config.toml:4: rename one of them",
            "DIR/d.toml:1:1: `daemon` may not stand in an included file, which holds only [accounts.*]: move it to the main file",
            "DIR/d.toml:3:1: `api` may not stand in an included file, which holds only [accounts.*]: move it to the main file",
            "DIR/d.toml:4:1: `platform` may not stand in an included file, which holds only [accounts.*]: move it to the main file",
            "DIR/d.toml:5:2: unknown key `account`; did you mean `accounts`?",
        ],
    );
}
