//! `wxtokend completions`

use super::Exit;
use clap_complete::Shell;
use std::io::Write;

/// Print shell completions
///
/// Prints a script on standard output that completes the commands and options of wxtokend in a shell.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

const AFTER_HELP: &str = "\
Examples:
  wxtokend completions bash > /usr/share/bash-completion/completions/wxtokend
  wxtokend completions zsh > /usr/share/zsh/site-functions/_wxtokend
  wxtokend completions fish > /usr/share/fish/vendor_completions.d/wxtokend.fish

Exit status:
   0  Printed.";

/// Prints the script.
pub fn run(args: &CompletionsArgs) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "wxtokend", &mut script);
    let script = with_accounts(args.shell, &String::from_utf8_lossy(&script));
    match std::io::stdout().write_all(script.as_bytes()) {
        Ok(()) => Exit::Success,
        Err(_) => Exit::Failure,
    }
}

/// Completes the names of accounts too, as far as the daemon lets the user see them.
fn with_accounts(shell: Shell, script: &str) -> String {
    match shell {
        Shell::Bash => format!("{script}{BASH}"),
        Shell::Zsh => script.lines().fold(String::new(), |script, line| {
            let is_account = ZSH_ACCOUNTS.iter().any(|argument| line.contains(argument));
            let line = if is_account {
                line.replace(":_default", ZSH)
            } else {
                line.to_owned()
            };
            script + &line + "\n"
        }),
        Shell::Fish => format!("{script}{FISH}"),
        _ => script.to_owned(),
    }
}

/// The arguments that name accounts, as a script for zsh has them.
const ZSH_ACCOUNTS: [&str; 3] = [":account -- ", "::accounts -- ", "--account="];

const ZSH: &str = ":{ compadd -- $(wxtokend status --names 2>/dev/null) }";

const BASH: &str = r#"
_wxtokend_with_accounts() {
    _wxtokend "$@"
    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" command="" i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${COMP_WORDS[i]}" in
            -c | --config | -s | --socket) ((i++)) ;;
            -*) ;;
            *) command="${COMP_WORDS[i]}"; break ;;
        esac
    done
    case "${command} ${before}" in
        *" -c" | *" --config" | *" -s" | *" --socket" | *" --value" | *" --min-valid" | *" --timeout") return ;;
        "check --account") ;;
        "status "* | "get "* | "refresh "* | "watch "* | "quota "*) [[ ${word} != -* ]] || return ;;
        *) return ;;
    esac
    COMPREPLY=($(compgen -W "$(wxtokend status --names 2>/dev/null)" -- "${word}"))
}
complete -F _wxtokend_with_accounts -o bashdefault -o default wxtokend
"#;

const FISH: &str = r#"
complete -c wxtokend -n "__fish_seen_subcommand_from status get refresh watch quota" -f -a "(wxtokend status --names 2>/dev/null)"
complete -c wxtokend -n "__fish_seen_subcommand_from check" -l account -x -a "(wxtokend status --names 2>/dev/null)"
"#;
