//! The platform: what it is asked, what it answers, and what an answer means.

pub mod client;
pub mod errcode;
mod exchange;
pub mod request;
pub mod response;

pub use exchange::{Credential, Exchange, credential, exchange, try_account};
