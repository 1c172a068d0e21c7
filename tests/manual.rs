//! The man pages name every command, every option and every key.

use wxtokend::cli;
use wxtokend::config::keys;
use wxtokend::platform::Platforms;

const COMMANDS: &str = include_str!("../packaging/man/wxtokend.8");
const CONFIGURATION: &str = include_str!("../packaging/man/wxtokend.toml.5");

#[test]
fn every_command_and_option_is_in_wxtokend_8() {
    let mut root = cli::command();
    root.build();
    for command in root.get_subcommands().filter(|c| c.get_name() != "help") {
        let name = command.get_name();
        assert!(COMMANDS.contains(&format!(".It Cm {name}\n")), "{name}");
        // What help hides is for the completions that the program itself prints.
        let shown = command.get_arguments().filter(|a| !a.is_hide_set());
        for option in shown.filter_map(|a| a.get_long()) {
            let spelled = [format!("Fl {option}"), format!("Fl Fl {option}")];
            let named = spelled.iter().any(|fl| COMMANDS.contains(fl.as_str()));
            assert!(named, "{name} --{option}");
        }
    }
}

#[test]
fn every_key_is_in_wxtokend_toml_5() {
    for table in keys::ALL.iter().skip(1) {
        let (_, section) = CONFIGURATION
            .split_once(table.table)
            .unwrap_or_else(|| panic!("no section for {}", table.table));
        for key in table.with(Platforms::default()) {
            let explained = section.lines().any(|line| {
                let mut words = line.split(' ').map(|word| word.trim_end_matches(','));
                line.starts_with(".It Cm") && words.any(|word| word == key)
                    || line.starts_with(".Ss") && line.contains(&format!(".{key}]]"))
            });
            assert!(explained, "{} {key}", table.table);
        }
    }
}

/// To the macros, a quote at the beginning of a word is markup and not text: it is written `\(dq`.
#[test]
fn no_quote_is_lost_in_a_literal() {
    for page in [COMMANDS, CONFIGURATION] {
        for line in page.lines().filter(|line| line.starts_with(".Ql ")) {
            assert!(!line.contains('"'), "{line}");
        }
    }
}
