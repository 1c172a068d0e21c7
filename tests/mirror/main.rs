//! The mirror from outside: the real daemon beside the simulated platform, requests as SDKs send them, and real SDKs.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod caching;
mod clients;
#[path = "../common/mod.rs"]
mod common;
mod doubts;
mod fixture;
mod http;
mod keys;
mod load;
#[path = "../common/port.rs"]
mod port;
mod requests;

use common::root;
