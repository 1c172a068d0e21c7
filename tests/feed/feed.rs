//! `wxtokend-feed` from outside, with real servers that the tests start on ports and sockets of their own.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]
#![expect(clippy::print_stderr, reason = "tests report what they measure")]
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "it uses parts of other tests"
)]

mod bench;
mod check;
mod disks;
mod faults;
mod health;
#[path = "../common/manager.rs"]
mod manager;
mod mariadb;
#[path = "../common/port.rs"]
mod port;
mod postgres;
mod readers;
mod redis;
#[path = "../common/root.rs"]
mod root;
mod servers;
mod sqlite;
mod sqlserver;
#[path = "../watch/stand_in.rs"]
mod stand_in;
mod tree;
