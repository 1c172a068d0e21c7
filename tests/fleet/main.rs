//! Fleets: daemons on hosts of their own, three members of etcd, and the simulated platform, each in a network namespace
//! with an address of its own. Needs root, `etcd`, `ip`, `mount`, `nsenter`,
//! `setpriv` and `openssl`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;

mod certificates;
mod chaos;
mod clocks;
mod cluster;
mod engine;
mod followers;
mod hosts;
mod keys;
mod leaders;
mod network;
mod orphans;
mod secure;
mod stalls;
mod strangers;

use common::root;
