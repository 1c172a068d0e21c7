//! The daemon as a process, tried from outside: on a simulated platform over TCP, below a service manager that listens,
//! with readers that are other Unix users. Needs root, openssl and socat.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;

mod add;
mod belief;
mod check;
mod clocks;
mod completions;
mod crowd;
mod demo;
mod errcodes;
mod fixture;
mod follow;
mod hangs;
mod heal;
mod hints;
mod inspect;
mod kept;
mod left;
mod life;
mod limits;
mod manager;
mod names;
mod network;
mod pace;
mod passive;
mod quota;
mod reload;
mod repair;
mod rights;
mod rotation;
mod secrets;
mod shortage;
mod surroundings;
mod tls;
mod trouble;
mod words;

use common::root;
