//! The simulated WeChat platform as a program of its own.
fn main() {}
