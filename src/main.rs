//! The `wxtokend` command.

fn main() {}
