//! Hands values to apps: files that are replaced atomically, sockets that are read to their end.
//!
//! Everything here that touches the file system blocks, and is meant for a `offload::Lane`.

mod access;
mod error;
mod linger;
mod listener;
mod mounts;
mod node;
mod pin;
mod place;
mod server;
mod temporary;
#[cfg(test)]
mod testing;
mod trusted;

pub(crate) mod expiry;
pub(crate) mod file;
pub(crate) mod left;
pub mod socket;
pub(crate) mod watch;

pub use error::PublishError;
pub(crate) use listener::{OpenSocket, stored_name};
pub(crate) use mounts::MountWatch;
pub use pin::Directories;
pub use place::Place;
pub use server::SocketServer;
pub(crate) use temporary::Leftovers;
pub(crate) use trusted::foreign_owner;
