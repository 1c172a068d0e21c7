//! Fleets: daemons on hosts of their own, three members of etcd, and the simulated platform, each in a network namespace
//! with an address of its own. Needs root, `etcd`, `ip`, `nsenter` and `setpriv`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;

mod chaos;
mod cluster;
mod engine;
mod hosts;
mod leaders;
mod network;

use common::root;
