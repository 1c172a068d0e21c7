//! The daemon ends, in every way there is, and apps go on.

use crate::accounts::token;
use crate::machine::Machine;
use crate::packages::Packages;
use crate::platform::is_alive;
use crate::readers::{notice_at_most, notice_nothing};

/// A daemon that hangs is killed and replaced.
pub(crate) fn watchdog(machine: &mut Machine, _packages: &Packages) {
    let (pid, since, before) = (machine.property("MainPID"), machine.now(), token(machine));
    machine.sh(&format!("kill -STOP {pid}"));
    replaced(machine, &pid);
    let journal = machine.journal(&since, "-o cat");
    assert!(journal.contains("Watchdog timeout"), "{journal}");
    assert_eq!(token(machine), before);
    assert!(is_alive(machine, &before));
    assert_eq!(
        machine
            .sh("find / -xdev -name 'core*' -newer /run/wxtokend/api.sock -type f -path '*core.*'"),
        ""
    );
}

/// A daemon that is killed comes back.
pub(crate) fn kill(machine: &mut Machine, _packages: &Packages) {
    let before = token(machine);
    // A connection that had been accepted is cut off; those that wait are served by the next daemon.
    let times = 3;
    notice_at_most(machine, times, || {
        for _ in 0..times {
            let pid = machine.property("MainPID");
            machine.sh(&format!("kill -KILL {pid}"));
            replaced(machine, &pid);
        }
    });
    assert_eq!(token(machine), before);
    // A file that is about to be put in place is there for a moment.
    machine.until("test \"$(ls -A /run/wxtokend | xargs)\" = 'api.sock shop.json shop.sock'");
}

/// Twenty restarts cost no read.
pub(crate) fn twenty(machine: &mut Machine, _packages: &Packages) {
    notice_nothing(machine, || {
        for _ in 0..20 {
            let pid = machine.property("MainPID");
            machine.sh("systemctl restart wxtokend");
            replaced(machine, &pid);
        }
    });
    // What systemd keeps does not grow: a socket of the API and one of the account.
    assert_eq!(machine.property("NFileDescriptorStore"), "2");
}

/// Waits until another process than `pid` serves.
fn replaced(machine: &Machine, pid: &str) {
    machine.until(&format!(
        "test \"$(systemctl show wxtokend -P MainPID)\" != {pid}; systemctl is-active wxtokend; wxtokend status"
    ));
}
