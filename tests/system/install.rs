//! First contact: the package is installed and runs.

use crate::machine::Machine;
use crate::packages::Packages;
use crate::platform::URL;
use std::fs;
use std::path::Path;

/// Installs a package as an administrator does.
pub(crate) fn apt_install(machine: &Machine, package: &Path) -> String {
    machine.write(
        "/root/wxtokend.deb",
        fs::read(package).expect("the package"),
        0o644,
    );
    machine.sh("apt-get install -y /root/wxtokend.deb")
}

/// The package before is installed and runs with no accounts.
pub(crate) fn install(machine: &mut Machine, packages: &Packages) {
    machine.write("/root/before", "", 0o600);
    apt_install(machine, &packages.before);
    assert_eq!(
        machine.sh("systemctl is-active wxtokend; systemctl is-enabled wxtokend"),
        "active\nenabled"
    );
    assert_eq!(
        machine.sh("systemctl list-units --failed --plain --no-legend"),
        ""
    );
    assert_eq!(machine.property("NRestarts"), "0");
    machine.sh("wxtokend check; wxtokend status");

    let owners = machine.sh(
        "stat -c '%n %U:%G %a' /etc/wxtokend /etc/wxtokend/config.toml /etc/wxtokend/accounts.d \
         /etc/wxtokend/secrets /var/lib/wxtokend /run/wxtokend /run/wxtokend/api.sock",
    );
    assert_eq!(
        owners,
        "/etc/wxtokend root:root 755\n\
         /etc/wxtokend/config.toml root:root 644\n\
         /etc/wxtokend/accounts.d root:root 755\n\
         /etc/wxtokend/secrets root:wxtokend 750\n\
         /var/lib/wxtokend wxtokend:wxtokend 700\n\
         /run/wxtokend wxtokend:wxtokend 755\n\
         /run/wxtokend/api.sock wxtokend:wxtokend 666"
    );
    assert_eq!(
        machine.sh("dpkg-query -W -f '${Conffiles}' wxtokend | cut -d' ' -f2"),
        "/etc/wxtokend/config.toml"
    );
    // Nothing was started that the package does not own, and everything it owns is there.
    assert_eq!(machine.sh("dpkg --verify wxtokend"), "");

    // The account that all that follows works with is the platform's; this is where the platform is.
    machine.sh(&format!(
        "printf '\\n[platform]\\nhosts = [\"{URL}\"]\\n' >>/etc/wxtokend/config.toml"
    ));
    machine.sh("systemctl reload wxtokend");
}

/// The unit is sound and exposes little.
pub(crate) fn unit(machine: &mut Machine, _packages: &Packages) {
    assert_eq!(
        machine.sh("systemd-analyze --man=no verify wxtokend.service"),
        ""
    );
    machine.sh("systemd-analyze security --threshold=13 wxtokend.service");
    let text = machine.sh("systemd-analyze security wxtokend.service");
    let exposure = text.rsplit("wxtokend.service: ").next().expect("a verdict");
    let exposure: f32 = exposure
        .split(' ')
        .next()
        .expect("a number")
        .parse()
        .expect(exposure);
    assert!(exposure <= 1.3, "{text}");

    // What the administrator is told, here and in Chinese.
    let journal = machine.sh("journalctl --sync; journalctl -u wxtokend -x");
    assert!(journal.contains("Subject: wxtokend is ready"), "{journal}");
    assert!(
        journal.contains("Documentation: man:wxtokend(8)"),
        "{journal}"
    );
    let chinese = machine.sh(
        "localedef -i zh_CN -f UTF-8 zh_CN.UTF-8; LC_ALL=zh_CN.UTF-8 journalctl -u wxtokend -x",
    );
    assert!(chinese.contains("wxtokend 已就绪"), "{chinese}");
    machine.until_status("no accounts: ");
    // Compiled, so that a syntax error in the catalog would show.
    machine.sh("journalctl --update-catalog && journalctl --list-catalog | grep -q wxtokend");
}
