//! One program for all targets: `WXTOKEND_FUZZ` names the one that gets the bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use wxtokend::fuzz::{FuzzTarget, TARGETS};

static TARGET: LazyLock<FuzzTarget> = LazyLock::new(|| {
    let wanted = std::env::var("WXTOKEND_FUZZ").expect("WXTOKEND_FUZZ names a target");
    let target = TARGETS.iter().find(|(name, _)| *name == wanted);
    target.expect("a target of this name").1
});

fuzz_target!(|bytes: &[u8]| TARGET(bytes));
