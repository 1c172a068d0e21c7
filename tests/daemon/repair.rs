//! Outputs that somebody else touches are put right.

use crate::common::read_socket;
use crate::fixture::{SHOP, bench, get, in_file, names, platform, shop, token_calls};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

#[test]
fn removed_edited_or_opened_output_is_repaired() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop(""));
    let daemon = bench.start();
    let (file, socket) = (bench.path("run/shop.json"), bench.path("run/shop.sock"));
    let good = fs::read_to_string(&file).unwrap();
    let token = in_file(&bench, "shop").unwrap();
    let damages: [(&str, &dyn Fn()); 6] = [
        ("removed", &|| fs::remove_file(&file).unwrap()),
        ("edited", &|| {
            fs::write(&file, "{\"access_token\":\"mine\"}").unwrap();
        }),
        ("opened", &|| {
            fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        }),
        ("a directory", &|| {
            // At one moment: else the daemon may be faster.
            let other = bench.path("other");
            fs::create_dir(&other).unwrap();
            renameat_with(CWD, &other, CWD, &file, RenameFlags::EXCHANGE).unwrap();
        }),
        ("the socket", &|| fs::remove_file(&socket).unwrap()),
        ("the socket's mode", &|| {
            fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
        }),
    ];
    let mode = |path| {
        fs::symlink_metadata(path)
            .map(|found| found.mode() & 0o7777)
            .ok()
    };
    for (n, (what, damage)) in (1..).zip(damages) {
        damage();
        daemon.wait_until(what, || {
            fs::read_to_string(&file).is_ok_and(|text| text == good)
                && read_socket(&socket).is_ok_and(|text| text == token)
                && (mode(&file), mode(&socket)) == (Some(0o600), Some(0o600))
        });
        let told = || {
            daemon
                .log()
                .matches("was changed or removed by somebody else and is put right")
                .count()
        };
        daemon.wait_until("that it is told", || told() >= n);
    }
    let metrics = get(&bench, "/metrics").body;
    let repairs = metrics
        .lines()
        .filter(|line| line.starts_with("wxtokend_output_repairs_total{"));
    assert_eq!(repairs.count(), 2, "{metrics}");
    daemon.wait_until("that nothing else is there", || {
        names(&bench.path("run")) == ["api.sock", "shop.json", "shop.sock"]
    });
    assert_eq!(token_calls(&platform, SHOP), 1);
    daemon.terminate();
}
