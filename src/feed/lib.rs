//! Takes values from the stream of wxtokend and keeps them in rows of databases and keys of Redis.
//!
//! ```text
//! configuration ──► Feed ──► one task a target ──► database, Redis
//! stream of values ──┘             │
//!                                  └──► Reports ──► STATUS=, metrics, log
//! ```
//!
//! A [`config::FeedConfig`] is valid. [`feed`] follows the stream and tells each target what is to stand in it; a target decides
//! by itself when to write, to check and to try again, so that one that is away delays no other.

pub mod cli;
pub mod config;
pub mod database;
mod deadline;
pub mod failure;
pub mod feed;
pub mod found;
pub mod metrics;
pub mod presets;
pub mod redis;
pub mod report;
pub mod statement;
pub mod target;
pub mod tls;
pub mod wish;
pub mod writer;
