//! The machine boots.

use crate::accounts::{APPID, token};
use crate::machine::Machine;
use crate::packages::Packages;
use crate::platform::{is_alive, order, token_calls};

/// An app that starts after it finds its token at boot.
pub(crate) fn order_of_start(machine: &mut Machine, _packages: &Packages) {
    machine
        .sh("printf '[Install]\\nWantedBy=multi-user.target\\n' >>/etc/systemd/system/app.service");
    machine.sh("rm /var/lib/private/app/token; systemctl enable app");
    let (before, calls) = (token(machine), token_calls(machine, APPID));
    let began = machine.uptime();
    machine.reboot();
    assert_eq!(machine.sh("systemctl show app -P Result"), "success");
    assert_eq!(machine.sh("cat /var/lib/private/app/token"), before);
    assert!(is_alive(machine, &before));
    // Booting cost no call but the polling that goes on, every 10 s.
    machine.until("wxtokend status shop");
    let (made, took) = (
        token_calls(machine, APPID) - calls,
        machine.uptime() - began,
    );
    assert!(made <= 2 + took / 10, "{made} calls in {took} s");
}

/// The platform is away at boot.
pub(crate) fn platform_away(machine: &mut Machine, _packages: &Packages) {
    order(machine, "PUT", "fault", r#"{"effect":{"status":503}}"#);
    // A token that was stored is published all the same.
    let before = token(machine);
    machine.sh("rm /var/lib/private/app/token");
    machine.reboot();
    assert_eq!(machine.sh("cat /var/lib/private/app/token"), before);

    // Without one the daemon starts, says so, and goes on trying.
    machine.sh(
        "systemctl stop wxtokend; find /var/lib/wxtokend -type f -delete; systemctl start wxtokend",
    );
    assert_eq!(machine.try_sh("wxtokend status shop").code, Some(1));
    assert_eq!(machine.try_sh("wxtokend get shop").code, Some(69));
    assert_eq!(machine.sh("php -r 'echo stream_get_contents(stream_socket_client(\"unix:///run/wxtokend/shop.sock\"));'"), "");
    machine.until_status("0/1 accounts fresh; shop: ");
    order(machine, "DELETE", "fault", "");
    machine.until("wxtokend status shop");
    assert!(is_alive(machine, &token(machine)));
}
