//! Completions in the shells themselves, on a terminal.

use crate::common::{Bench, PATIENCE, Terminal, output_of, program, wait_until};
use crate::fixture::{SECRET, account, appid, bench, platform, shop};
use crate::root;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::Arc;
use wxtokend::sim::SimPlatform;

/// The line before the tab key, and the line after it.
const CASES: [(&str, &str); 8] = [
    ("wxtokend get sh", "wxtokend get shop "),
    ("wxtokend status bl", "wxtokend status blog "),
    (
        "wxtokend refresh --bad-from-stdin sh",
        "--bad-from-stdin shop ",
    ),
    ("wxtokend watch bl", "wxtokend watch blog "),
    ("wxtokend quota bl", "wxtokend quota blog "),
    ("wxtokend check --online --account bl", "--account blog "),
    ("wxtokend mirr", "wxtokend mirror-key "),
    ("wxtokend get --value js", "--value jsapi_ticket "),
];

fn two() -> Arc<SimPlatform> {
    platform(|world| {
        world.account(&appid(1), SECRET);
    })
}

fn configured(platform: &SimPlatform) -> Bench {
    let bench = bench();
    bench.configure(platform, &(shop("") + &account("blog", &appid(1), "")));
    bench
}

/// A shell that finds the program in its path.
fn in_shell(bench: &Bench, shell: &str) -> Command {
    let bin = bench.path("bin");
    fs::create_dir(&bin).unwrap();
    symlink(program(), bin.join("wxtokend")).unwrap();
    let mut command = Command::new(shell);
    command
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .env("WXTOKEND_SOCKET", bench.socket())
        .env("WXTOKEND_CONFIG", bench.path("config.toml"))
        .env("HOME", bench.path(""))
        .env("TERM", "dumb")
        .env("LC_ALL", "C.UTF-8");
    command
}

/// Types each case, and waits for what the shell makes of it.
fn complete(shell: &str, start: impl FnOnce(&Bench, &mut Command)) {
    if !root::has(shell) {
        return;
    }
    let platform = two();
    let bench = configured(&platform);
    let _daemon = bench.start();
    let mut command = in_shell(&bench, shell);
    start(&bench, &mut command);
    let mut terminal = Terminal::run(&command);
    terminal.wait_for("READY> ", 1);
    for (typed, completed) in CASES {
        terminal.type_keys(&format!("{typed}\t"));
        wait_until(
            completed,
            PATIENCE,
            || terminal.shown(),
            || plain(&terminal.shown()).ends_with(completed),
        );
        // Ctrl-U empties the line.
        let shown = terminal.shown().len();
        terminal.type_keys("\x15\n");
        wait_until(
            "a new line",
            PATIENCE,
            || terminal.shown(),
            || terminal.shown()[shown..].contains("READY> "),
        );
    }
}

/// The text on the screen, without the codes that only move the cursor.
fn plain(shown: &str) -> String {
    anstream::adapter::strip_str(shown).to_string()
}

#[test]
fn bash_completes_accounts() {
    complete("bash", |bench, command| {
        let rc = bench.path("bashrc");
        fs::write(
            &rc,
            "source <(wxtokend completions bash)\nbind 'set bell-style none'\nPS1='READY> '\n",
        )
        .unwrap();
        command.args(["--noprofile", "--rcfile"]).arg(rc).arg("-i");
    });
}

#[test]
fn zsh_completes_accounts() {
    complete("zsh", |bench, command| {
        fs::write(
            bench.path(".zshrc"),
            "unsetopt BEEP ZLE_PROMPT_SP PROMPT_SP; autoload -U compinit; compinit -u -D\n\
             source <(wxtokend completions zsh)\nPS1='READY> '\n",
        )
        .unwrap();
        command.args(["-o", "NO_GLOBAL_RCS", "-i"]);
    });
}

#[test]
fn fish_completes_accounts() {
    if !root::has("fish") {
        return;
    }
    let platform = two();
    let bench = configured(&platform);
    let _daemon = bench.start();
    let mut fish = in_shell(&bench, "fish");
    let script = CASES
        .map(|(typed, _)| format!("complete -C '{typed}'\n"))
        .concat();
    fish.args(["--no-config", "-c"])
        .arg(format!("wxtokend completions fish | source\n{script}"));
    let found = output_of(&mut fish);
    // A line for each, with a description behind a tab.
    let found: Vec<_> = found
        .lines()
        .filter_map(|line| line.split('\t').next())
        .collect();
    let expected = CASES.map(|(_, completed)| completed.split_whitespace().last().unwrap());
    assert_eq!(found, expected);
}
