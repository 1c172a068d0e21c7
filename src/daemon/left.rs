//! Files and sockets that stay over a restart, and go when they are configured no more.

use super::prepare::in_lanes;
use super::shared::Shared;
use crate::config::Config;
use crate::event::Event;
use crate::fault::reason;
use crate::logging::Entry;
use crate::offload::Hazard;
use crate::publish::left::Left;
use crate::publish::{Leftovers, Place, left};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Limit on writing the note: the daemon has to end.
const NOTE_LIMIT: Duration = Duration::from_millis(200);
/// Longest wait of the start for what was left.
const LIMIT: Duration = Duration::from_secs(2);

/// Notes what the daemon leaves, once nobody publishes any more.
pub(super) async fn note(shared: &Shared, state_dir: PathBuf, places: Vec<Arc<Place>>) {
    let state = shared.offload.lane(Hazard::State);
    let note = state.run(move || left::note(&state_dir, &places));
    if let Ok(Ok(Err(error))) = timeout(NOTE_LIMIT, note).await {
        Entry::new().warn(format_args!(
            "the state directory cannot be written: {}; what the next start finds configured no more stays where it is",
            reason(&error)
        ));
    }
}

/// Removes the temporaries that a killed daemon left beside its outputs and its API socket.
pub(super) async fn remove_leftovers(config: &Config, shared: &Shared) {
    let outputs = config
        .accounts
        .values()
        .flat_map(|account| &account.outputs);
    let paths = outputs.map(|output| &*output.path);
    let leftovers = Leftovers::beside(paths.chain([&*config.api.socket]));
    let leftovers = leftovers.into_iter().map(|leftovers| {
        let device = shared.directories.device_of(leftovers.directory());
        (Hazard::Outputs(device), leftovers)
    });
    in_lanes(&shared.offload, leftovers, LIMIT, |leftovers| {
        leftovers.remove();
    })
    .await;
}

/// Takes away what the daemon before has left in the places of outputs that are configured no more.
pub(super) async fn take_away(config: &Config, shared: &Shared) {
    let state_dir = config.daemon.state_dir.clone();
    let state = shared.offload.lane(Hazard::State);
    let noted = timeout(LIMIT, state.run(move || left::take_note(&state_dir))).await;
    let Ok(Ok(left)) = noted else { return };
    let accounts = config.accounts.values();
    let outputs = accounts.flat_map(|account| account.outputs.iter());
    let configured: HashSet<&Path> = outputs.map(|output| &*output.path).collect();
    let gone = left
        .into_iter()
        .filter(|left| !configured.contains(left.path()))
        .map(|left| {
            let device = shared.directories.device_of(left.path());
            (Hazard::Outputs(device), left)
        });
    in_lanes(&shared.offload, gone, LIMIT, |left| remove(&left)).await;
}

fn remove(left: &Left) {
    let path = left.path();
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
            reason(&error)
        )),
    }
}
