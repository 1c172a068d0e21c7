//! A fleet: many hosts that hold the same token and fetch it once. They agree through an engine, etcd.

pub(crate) mod seal;
