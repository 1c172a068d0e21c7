//! What stays in the places of outputs over a restart, and goes when it is configured no more.

use crate::config::Config;
use crate::event::Event;
use crate::logging::Entry;
use crate::publish::{Place, left};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// To note what stays takes no longer: the daemon has to end.
const PATIENCE: Duration = Duration::from_millis(200);

/// Notes what the daemon leaves, once nobody publishes any more.
pub(super) async fn note(state_dir: PathBuf, places: Vec<Arc<Place>>) {
    let note = tokio::task::spawn_blocking(move || left::note(&state_dir, &places));
    if let Ok(Ok(Err(error))) = tokio::time::timeout(PATIENCE, note).await {
        Entry::new().warn(format_args!(
            "the state directory cannot be written: {}; what the next start finds configured no more stays where it is",
            crate::fault::reason(&error)
        ));
    }
}

/// Takes away what the daemon before has left in the places of outputs that are configured no more. Blocks.
pub(super) fn take_away(config: &Config) {
    let left = left::take_note(&config.daemon.state_dir);
    if left.is_empty() {
        return;
    }
    let accounts = config.accounts.values();
    let outputs = accounts.flat_map(|account| account.outputs.iter());
    let configured: HashSet<&Path> = outputs.map(|output| &*output.path).collect();
    for left in left {
        let path = left.path();
        if configured.contains(path) {
            continue;
        }
        let entry = Entry::new().output(path);
        match left.remove() {
            Ok(true) => entry.info(format_args!(
                "`{}` is configured no more and is removed",
                path.display()
            )),
            Ok(false) => {}
            Err(error) => entry.event(Event::OutputFailed).warn(format_args!(
                "`{}` is configured no more and cannot be removed: {}; remove it",
                path.display(),
                crate::fault::reason(&error)
            )),
        }
    }
}
