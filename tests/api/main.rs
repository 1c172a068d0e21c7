//! The API over a real Unix socket, asked by real processes of several users; and the client commands over it. What
//! accounts publish is made up here, so that each answer is known. Needs root, curl, perl,
//! promtool, script and setpriv.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod abuse;
mod commands;
mod fixture;
mod metrics;
mod permissions;
#[path = "../common/root.rs"]
mod root;
mod routes;
mod watch;
