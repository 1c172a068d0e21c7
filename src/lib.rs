//! Keeps the `access_token`s of WeChat accounts fresh and hands them to local apps.
//!
//! ARCHITECTURE.md has the map and the rules.

pub mod account;
pub mod api;
pub mod budget;
pub mod call;
pub mod changes;
pub mod cli;
pub mod clock;
pub mod config;
pub mod counters;
pub mod daemon;
pub mod event;
pub mod fault;
pub mod files;
pub mod fleet;
pub mod follow;
pub mod format;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod handle;
pub mod ledger;
pub(crate) mod local_stream;
pub mod logging;
pub mod mirror;
pub(crate) mod offload;
pub(crate) mod outbox;
pub(crate) mod pace;
pub(crate) mod peer;
pub mod platform;
pub mod publish;
pub mod quota;
pub mod schedule;
pub(crate) mod seal;
pub mod secret;
pub mod sim;
pub mod snapshot;
pub mod store;
pub mod subscribe;
pub mod systemd;
pub mod template;
pub mod terms;
pub mod text;
pub mod time;
pub mod trouble;
pub mod value;

#[cfg(test)]
#[path = "../tests/common/root.rs"]
mod root;

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that this build was made from: as whoever built it said in `WXTOKEND_COMMIT`, else as git says.
pub const COMMIT: &str = env!("WXTOKEND_COMMIT");
