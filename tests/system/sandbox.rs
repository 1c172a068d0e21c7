//! The daemon cannot reach what it must not: tried from inside the unit's own sandbox.

use crate::machine::Machine;
use crate::packages::Packages;

/// The sandbox is real.
pub(crate) fn sandbox(machine: &mut Machine, _packages: &Packages) {
    machine.write(
        "/usr/local/lib/probe.pl",
        include_str!("guest/probe.pl"),
        0o644,
    );
    machine.sh("mkdir -p /srv/app /home/somebody");
    for path in [
        "/root/file",
        "/home/somebody/file",
        "/tmp/file",
        "/var/tmp/file",
    ] {
        machine.write(path, "readable by all", 0o644);
    }
    machine.sh("chmod 755 /root");

    // First without a sandbox, as root: each attempt succeeds, so none is denied for another reason.
    let free =
        machine.sh("mkdir -p /run/probe /var/lib/probe; perl /usr/local/lib/probe.pl /run/probe");
    for line in free.lines() {
        assert!(line.starts_with("possible"), "outside the sandbox: {line}");
    }

    // Then as another unit that is the daemon's to the letter, but for the program and its directories.
    machine.write("/run/systemd/system/probe.service", probe_unit(), 0o644);
    machine.sh("systemctl daemon-reload; rm -r /run/probe /var/lib/probe; systemctl start probe");
    let confined = machine.sh("cat /run/probe.out");
    assert_eq!(confined.lines().count(), free.lines().count(), "{confined}");
    for line in confined.lines() {
        let allowed = line.ends_with("its own directory");
        assert_eq!(
            line.starts_with("possible"),
            allowed,
            "inside the sandbox: {line}"
        );
    }

    // And the daemon that runs is in it.
    let status = machine.sh("cat /proc/$(systemctl show wxtokend -P MainPID)/status");
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.lines().any(|l| l == line), "{line} in {status}");
    }
    let limits = machine.sh("cat /proc/$(systemctl show wxtokend -P MainPID)/limits");
    assert!(
        limits.contains("Max core file size        0                    0"),
        "{limits}"
    );
    machine.sh(
        "chmod 700 /root; rm -rf /srv/app /home/somebody /tmp/file /var/tmp/file /var/lib/probe",
    );
}

fn probe_unit() -> String {
    let others = [
        "Type=",
        "ExecReload=",
        "WatchdogSec=",
        "Restart",
        "FileDescriptorStoreMax=",
    ];
    let unit = include_str!("../../packaging/systemd/wxtokend.service");
    let kept = unit
        .lines()
        .filter(|line| !others.iter().any(|other| line.starts_with(other)))
        .map(|line| match line.split_once('=') {
            Some(("ExecStart", _)) => "ExecStart=/usr/bin/perl /usr/local/lib/probe.pl /run/probe",
            Some(("StateDirectory", _)) => "StateDirectory=probe",
            Some(("RuntimeDirectory", _)) => "RuntimeDirectory=probe",
            Some(("User", _)) => "User=wxtokend\nType=oneshot\nStandardOutput=file:/run/probe.out",
            _ => line,
        });
    kept.collect::<Vec<_>>().join("\n")
}
