//! The output of `check` without asking the platform.

use crate::example;
use wxtokend::cli::check::offline;

#[test]
fn each_fault_is_a_line_and_no_fault_is_one_too() {
    let host = example::host();
    let check = |text: &str| {
        let path = host.file("config.toml", 0o600, text);
        let mut out = Vec::new();
        let (config, _) = offline(&path, &host.env, None, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        let dir = host.path("").display().to_string();
        (config.is_some(), out.replace(&dir, "DIR/"))
    };
    let (good, out) = check(&example::text(&host));
    assert_eq!(out, "DIR/config.toml: no fault; accounts: 3, outputs: 3\n");
    assert!(good);
    let (good, out) = check("[api]\nsocket = 1\nadmin = []");
    assert_eq!(
        out,
        "DIR/config.toml:2:10: `socket` 1 must be a text in quotes, not a number\n\
         DIR/config.toml:3:1: unknown key `admin`; did you mean `admins`?\n"
    );
    assert!(!good);
}
