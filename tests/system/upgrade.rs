//! The package changes and goes.

use crate::accounts::token;
use crate::install::apt_install;
use crate::machine::{Machine, eventually};
use crate::packages::Packages;
use crate::readers::notice_nothing;

/// An upgrade costs no read.
pub(crate) fn upgrade(machine: &mut Machine, packages: &Packages) {
    machine.sh("systemctl enable --now wxtokend-feed@shop");
    let feed = "systemctl show -P MainPID wxtokend-feed@shop";
    let feed_before = machine.sh(feed);
    let (pid, before) = (machine.property("MainPID"), token(machine));
    let version = "dpkg-query -W -f '${Version}' wxtokend";
    assert_eq!(machine.sh(version), "0.0.9-1");
    notice_nothing(machine, || {
        apt_install(machine, &packages.current);
    });
    assert!(machine.sh(version).starts_with(env!("CARGO_PKG_VERSION")));
    assert_ne!(machine.property("MainPID"), pid);
    eventually("another feed", || {
        let feed_now = machine.sh(feed);
        (feed_now != feed_before && feed_now != "0").then_some(())
    });
    assert_eq!(token(machine), before);
    machine.sh("grep -q '^hosts' /etc/wxtokend/config.toml");

    // What an administrator stopped stays stopped.
    machine.sh("systemctl stop wxtokend; apt-get install -y --reinstall /root/wxtokend.deb");
    assert_eq!(
        machine.try_sh("systemctl is-active wxtokend").text.trim(),
        "inactive"
    );
    machine.sh("systemctl start wxtokend");
}

/// An upgrade over a bad configuration restarts nothing.
pub(crate) fn bad_configuration(machine: &mut Machine, packages: &Packages) {
    let (pid, before) = (machine.property("MainPID"), token(machine));
    machine.write(
        "/etc/wxtokend/accounts.d/typo.toml",
        "[accounts.typo]\nappidd = 1\n",
        0o644,
    );
    let text = apt_install(machine, &packages.current);
    let again = machine.sh("apt-get install -y --reinstall /root/wxtokend.deb");
    assert!(
        again.contains("/etc/wxtokend/accounts.d/typo.toml:2:1: "),
        "{text}{again}"
    );
    assert_eq!((machine.property("MainPID"), token(machine)), (pid, before));
    machine.sh("rm /etc/wxtokend/accounts.d/typo.toml; systemctl reload wxtokend");
}

/// Purge leaves nothing.
pub(crate) fn purge(machine: &mut Machine, _packages: &Packages) {
    machine
        .sh("systemctl disable --now app; rm -r /etc/systemd/system/app.service /var/lib/app /var/lib/private/app");
    machine.sh("apt-get remove -y wxtokend");
    assert_eq!(
        machine.sh("ls /etc/wxtokend"),
        "accounts.d\nconfig.toml\nfeeds.d\nsecrets"
    );
    eventually("both have ended", || {
        let states = machine.try_sh("systemctl is-active wxtokend wxtokend-feed@shop");
        (states.text.trim() == "inactive\ninactive").then_some(())
    });
    machine.sh("apt-get purge -y wxtokend");
    let left = machine.sh(
        "find / -xdev \\( -path /proc -o -path /sys -o -path /var/log -o -path /root \\) -prune -o \
         \\( -iname '*wxtokend*' -o -nouser -o -nogroup \\) -print; ls -d /run/wxtokend 2>&1 || :",
    );
    assert_eq!(
        left,
        "ls: cannot access '/run/wxtokend': No such file or directory"
    );
    assert_eq!(
        machine
            .try_sh("getent passwd wxtokend; getent group wxtokend wxtokend-feed")
            .text,
        ""
    );
    assert_eq!(
        machine.sh("systemctl list-units --failed --plain --no-legend"),
        ""
    );
}
