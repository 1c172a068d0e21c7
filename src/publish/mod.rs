//! Hands values to apps: files that are replaced atomically, sockets that are read to their end.
//!
//! Everything here that touches the file system blocks, and is meant for [`Offload`](crate::offload::Offload).

mod access;
mod error;
mod linger;
mod place;
mod server;
#[cfg(test)]
mod testing;

pub mod file;
pub mod left;
pub mod socket;
pub mod watch;

pub use error::PublishError;
pub use place::{Place, remove_leftovers};
pub use server::Server;
