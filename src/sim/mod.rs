//! A simulated WeChat platform: for the demo, for tests, and for anyone who wants to try an app without an account.
//!
//! It behaves as the platform does, also where that is awkward, has a fault for everything that goes wrong out there,
//! counts calls, and knows the truth about each token. [`World`] is the platform without network or clock;
//! [`SimPlatform`] puts one on a TCP port, where a process can do all that a test in Rust can:
//!
//! ```text
#![doc = include_str!("control.txt")]
//! ```

mod account;
mod answer;
mod call;
mod control;
mod count;
mod fault;
mod line;
mod quota;
mod record;
mod reply;
mod server;
mod token;
mod world;

pub use account::{ContentType, SimAccount};
pub use call::{Endpoint, SimRequest};
pub use fault::{Effect, SimFault};
pub use record::{CallLog, CallRecord, InFlight};
pub use reply::{Body, Reply};
pub use server::SimPlatform;
pub use world::{Kill, Truth, World};
