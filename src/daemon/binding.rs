//! The daemon's own sockets, and the file descriptors that they take.

use super::mirror::{MirrorBound, PreparedMirror};
use super::shared::Shared;
use super::supervisor;
use crate::api::listener::Listener;
use crate::config::{Config, Places, Setting};
use crate::fault::Fault;
use crate::logging::Entry;
use crate::offload::{Hazard, Stopping};
use crate::publish::stored_name;
use crate::systemd::{KeptSockets, Notifier};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

/// File descriptors besides sockets: the store, connections to the platform, the runtime.
const SPARE_FILES: usize = 256;

/// The faults that keep sockets from being bound, at the `path` of each.
pub(super) fn unbound(places: &Places, faults: Vec<(Box<Path>, String)>) -> Vec<Fault> {
    let fault = |(path, message)| places.fault(&Setting::Output(path), format!("`path` {message}"));
    faults.into_iter().map(fault).collect()
}

/// Opens the API's socket, or takes over the one that the service manager kept; others that it kept are closed. Takes its
/// place at once.
pub(super) fn open_api(
    shared: &Shared,
    config: &Config,
    mut kept: KeptSockets,
) -> impl Future<Output = Result<Result<Listener, String>, Stopping>> + Send + use<> {
    let (path, runtime) = (config.api.socket.clone(), Handle::current());
    let notifier = shared.notifier.clone();
    shared.outputs_at(&path).run(move || {
        let _runtime = runtime.enter();
        let inherited = stored_name(&path).and_then(|name| kept.take(&name));
        let listener = listen(&path, inherited, &notifier);
        kept.drop_rest(&notifier);
        listener
    })
}

fn listen(
    path: &Path,
    inherited: Option<OwnedFd>,
    notifier: &Notifier,
) -> Result<Listener, String> {
    let listener = Listener::open(path, inherited).map_err(|error| format!("`socket` {error}"))?;
    if let Some(name) = stored_name(path) {
        // One that was inherited is kept already; the same once more would be kept twice.
        notifier.drop_kept(&name);
        if let Err(error) = notifier.keep(&name, &listener) {
            Entry::new().warn(format_args!(
                "`{}` cannot be kept open over a restart: {}",
                path.display(),
                crate::fault::reason(&error)
            ));
        }
    }
    Ok(listener)
}

/// Binds the address that metrics are served on, if there is one.
pub(super) async fn listen_tcp(address: Option<SocketAddr>) -> Result<Option<TcpListener>, String> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let reason = crate::fault::reason(&error);
        format!("`metrics` cannot listen on {address}: {reason}; choose a free port or stop what uses it")
    });
    listener.map(Some)
}

/// Binds the sockets of the mirror that are not bound yet.
pub(super) fn bind_mirror(
    shared: &Shared,
    config: &Config,
    bound: MirrorBound,
) -> impl Future<Output = Result<Result<PreparedMirror, (Setting, String)>, Stopping>> + Send + use<>
{
    let (section, runtime) = (config.mirror.clone(), Handle::current());
    let lane = match &section.socket {
        Some(path) => shared.outputs_at(path),
        None => shared.offload.lane(Hazard::Configuration),
    };
    lane.run(move || {
        let _runtime = runtime.enter();
        bound.prepare(&section)
    })
}

/// Raises the soft limit of open files to the hard one: each token socket and each connection needs one.
pub(super) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        // Where that is not allowed the old limit stays, and is checked against what is needed.
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        );
    }
}

pub(super) fn enough_files(config: &Config) -> Result<(), String> {
    let needed = supervisor::sockets(&config.accounts) + SPARE_FILES;
    match getrlimit(Resource::Nofile).current {
        Some(limit) if usize::try_from(limit).unwrap_or(usize::MAX) < needed => Err(format!(
            "{} token sockets need {needed} open files, but the hard limit is {limit}: set LimitNOFILE={needed} or more in the service",
            needed - SPARE_FILES
        )),
        _ => Ok(()),
    }
}

/// Tells what looks like a mistake in a configuration that is right.
pub(super) fn warn_of(warnings: &[Fault]) {
    for warning in warnings {
        Entry::new().by_words().warn(warning);
    }
}
