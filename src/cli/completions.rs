//! `wxtokend completions`

use super::Exit;
use std::io::Write;

/// Print shell completions
///
/// Prints a script on standard output that completes the commands and options of wxtokend in a shell.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

const AFTER_HELP: &str = "\
Examples:
  wxtokend completions bash > /usr/share/bash-completion/completions/wxtokend
  wxtokend completions zsh > /usr/share/zsh/site-functions/_wxtokend
  wxtokend completions fish > /usr/share/fish/vendor_completions.d/wxtokend.fish

Exit status:
   0  Printed.";

/// Prints the script.
pub fn run(args: &Args) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "wxtokend", &mut script);
    match std::io::stdout().write_all(&script) {
        Ok(()) => Exit::Success,
        Err(_) => Exit::Failure,
    }
}
