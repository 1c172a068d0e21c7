//! `wxtokend reload`

use super::client::{ApiClient, CommandError, complain, print, printable};
use super::{CommonArgs, Exit};
use crate::api::body::ReloadBody;
use crate::changes::Changes;
use crate::logging::is_journal;
use hyper::body::Bytes;

/// Have the daemon reload its configuration
///
/// Waits until it has, and prints which accounts changed. A faulty configuration changes nothing: its faults are printed
/// as `path:line:col: message`, and the daemon goes on with the old one. For administrators of the daemon.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct ReloadArgs {}

const AFTER_HELP: &str = "\
Exit status:
   0  Reloaded.
  69  No daemon answers.
  77  You are not allowed to.
  78  The configuration is faulty; the old one still runs.";

/// Reloads the daemon's configuration.
pub fn run(common: &CommonArgs, _args: &ReloadArgs) -> Exit {
    reload(common).unwrap_or_else(|trouble| trouble.report())
}

fn reload(common: &CommonArgs) -> Result<Exit, CommandError> {
    let answer: ReloadBody = ApiClient::new(common)?
        .post("/v1/reload", Bytes::new())?
        .parse()?;
    // The daemon has written warnings and faults to its log: where ours is the same, once is enough.
    let tells = !is_journal();
    for mut warning in answer.warnings.into_iter().filter(|_| tells) {
        warning.is_warning = true;
        complain(&warning.to_string());
    }
    if answer.reloaded {
        let sections = answer.sections.iter().map(|name| format!("[{name}]"));
        let changes = answer.accounts.unwrap_or_default();
        print(&said(&sections.collect::<Vec<_>>(), &changes))?;
        return Ok(Exit::Success);
    }
    for fault in answer
        .faults
        .unwrap_or_default()
        .into_iter()
        .filter(|_| tells)
    {
        complain(&fault.to_string());
    }
    complain("wxtokend: the configuration is faulty, the old one still runs");
    Ok(Exit::BadConfiguration)
}

/// One line for each kind of change.
fn said(sections: &[String], changes: &Changes) -> String {
    let mut text = "reloaded\n".to_owned();
    for (what, names) in [
        ("changed", sections),
        ("added", &changes.added),
        ("changed", &changes.changed),
        ("removed", &changes.removed),
    ] {
        if !names.is_empty() {
            text.push_str(&printable(&format!("{what}: {}", names.join(", "))));
            text.push('\n');
        }
    }
    text
}
