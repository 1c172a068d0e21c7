//! Every fault that an administrator can cause: where it is said to be, what is wrong, and what to do.

use crate::Host;

#[test]
fn a_path_that_is_not_absolute() {
    Host::new().faults(
        "[daemon]\nstate_dir = 'var'",
        &["2:13: `state_dir` must be an absolute path: begin it with /"],
    );
}
