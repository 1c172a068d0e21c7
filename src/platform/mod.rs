//! The platform: what it is asked, what it answers, and what an answer means.

pub mod client;
pub mod errcode;
pub mod request;
pub mod response;
