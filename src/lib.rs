//! Keeps the `access_token`s of WeChat accounts fresh and hands them to local apps.
//!
//! ARCHITECTURE.md has the map and the rules.

pub mod account;
pub mod clock;
pub mod config;
pub mod event;
pub mod fault;
pub mod handle;
pub mod peer;
pub mod platform;
pub mod secret;
pub mod template;
pub mod time;
pub mod value;
