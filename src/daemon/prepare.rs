//! Preparations before accounts start or change: sockets are bound, and places are looked at. Each file system may hang
//! alone; what takes too long is left to the account itself.

use super::outputs::Sockets;
use super::shared::Shared;
use crate::account::{Account, AccountName};
use crate::offload::{Hazard, Offload};
use crate::publish::Place;
use crate::publish::socket::BoundSocket;
use crate::publish::stored_name;
use crate::systemd::KeptSockets;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Limit on all file systems together.
const LIMIT: Duration = Duration::from_secs(2);

/// Sockets bound for accounts that are new or changed.
pub(super) type Prepared = BTreeMap<AccountName, Sockets>;

/// An account that is new or changed, and how it is served at present.
pub(super) type Change = (Arc<Account>, Option<Arc<Account>>);

/// Does the same with each of many things, each file system in its own lane. Gives what came of it within a limit.
pub(super) async fn in_lanes<I: Send + 'static, T: Send + 'static>(
    offload: &Offload,
    items: impl IntoIterator<Item = (Hazard, I)>,
    limit: Duration,
    work: impl Fn(I) -> T + Clone + Send + 'static,
) -> Vec<T> {
    let mut groups: HashMap<Hazard, Vec<I>> = HashMap::new();
    for (hazard, item) in items {
        groups.entry(hazard).or_default().push(item);
    }
    let (sender, mut results) = mpsc::unbounded_channel();
    for (hazard, items) in groups {
        let (sender, work) = (sender.clone(), work.clone());
        offload.lane(hazard).begin(move || {
            for item in items {
                // If the receiver is gone, the result is dropped and removes what it made.
                let _ = sender.send(work(item));
            }
        });
    }
    drop(sender);
    let mut all = Vec::new();
    let collect = async {
        while let Some(result) = results.recv().await {
            all.push(result);
        }
    };
    // The account itself makes those that are missing.
    let _ = timeout(limit, collect).await;
    all
}

/// Binds the sockets that accounts need beyond what is served already. Nothing is in its place yet; dropped, it leaves
/// no trace.
pub(super) async fn bind(
    changes: Vec<Change>,
    shared: &Arc<Shared>,
    kept: KeptSockets,
) -> Result<(Prepared, KeptSockets), Vec<(Box<Path>, String)>> {
    let kept = Arc::new(Mutex::new(kept));
    let mut places = Vec::new();
    for (account, serving) in changes {
        for (index, output) in account.outputs.iter().enumerate() {
            let is_served = serving
                .as_ref()
                .is_some_and(|old| old.outputs.contains(output) && old.readers == account.readers);
            let is_known = output.access.unresolved().is_none();
            if output.kind.listens() && !is_served && is_known {
                let place = Place::new(account.clone(), index, &shared.directories);
                places.push((Hazard::Outputs(place.device()), (index, Arc::new(place))));
            }
        }
    }
    let inherited = kept.clone();
    let bound = in_lanes(&shared.offload, places, LIMIT, move |(index, place)| {
        let name = stored_name(&place.output().path);
        let mut inherited = inherited.lock();
        let inherited = name.and_then(|name| inherited.take(&name));
        let (account, path) = (place.account().clone(), place.output().path.clone());
        (account, index, path, BoundSocket::prepare(place, inherited))
    });
    let (mut prepared, mut faults) = (Prepared::new(), Vec::new());
    for (account, index, path, bound) in bound.await {
        match bound {
            Ok(bound) => prepared.entry(account).or_default().push((index, bound)),
            Err(error) => faults.push((path, error.to_string())),
        }
    }
    if faults.is_empty() {
        let mut kept = kept.lock();
        Ok((prepared, std::mem::take(&mut *kept)))
    } else {
        Err(faults)
    }
}

/// The files of which it is certain that they are not there, so that nothing has to be done while there is no value.
pub(super) async fn vacant(
    accounts: impl IntoIterator<Item = Arc<Account>>,
    shared: &Shared,
) -> BTreeMap<AccountName, Vec<usize>> {
    let files = accounts.into_iter().flat_map(|account| {
        let outputs = (0..account.outputs.len()).map(move |index| (account.clone(), index));
        let files = outputs.filter_map(|(account, index)| {
            let output = &account.outputs[index];
            let device = shared.directories.device_of(&output.path);
            (!output.kind.listens()).then(|| (Hazard::Outputs(device), (account.clone(), index)))
        });
        files.collect::<Vec<_>>()
    });
    let looked = in_lanes(&shared.offload, files, LIMIT, |(account, index)| {
        let found = account.outputs[index].path.symlink_metadata();
        let is_vacant = found.is_err_and(|error| error.kind() == ErrorKind::NotFound);
        (account, index, is_vacant)
    });
    let mut vacant = BTreeMap::<AccountName, Vec<usize>>::new();
    for (account, index, is_vacant) in looked.await {
        if is_vacant {
            vacant.entry(account.name.clone()).or_default().push(index);
        }
    }
    vacant
}
