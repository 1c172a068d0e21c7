//! Apps that read in a loop, in PHP, as another user, while something happens to the daemon.

use crate::machine::Machine;
use crate::platform::URL;

/// How many of them read at the same time.
const READERS: usize = 3;

/// Does `what` while apps read from the account `shop`; none of them may notice anything.
pub(crate) fn notice_nothing(machine: &Machine, what: impl FnOnce()) {
    notice_at_most(machine, 0, what);
}

/// The same, but each of them may get so many empty answers.
pub(crate) fn notice_at_most(machine: &Machine, empty: u64, what: impl FnOnce()) {
    let directory = "/run/readers";
    machine.sh(&format!("mkdir -p {directory}; rm -f {directory}/*"));
    machine.write(
        "/usr/local/lib/reader.php",
        include_str!("guest/reader.php"),
        0o644,
    );
    for n in 1..=READERS {
        machine.sh(&format!(
            "systemd-run --quiet --collect --unit=reader-{n} --uid=www-data \
             -p StandardOutput=file:{directory}/{n} -p StandardError=inherit \
             php /usr/local/lib/reader.php /run/wxtokend/shop.sock /run/wxtokend/shop.json {URL} {directory}/stop"
        ));
    }
    what();
    machine.sh(&format!("touch {directory}/stop"));
    for n in 1..=READERS {
        machine.until(&format!("! systemctl --quiet is-active reader-{n}"));
        let text = machine.sh(&format!("cat {directory}/{n}"));
        let count: serde_json::Value = serde_json::from_str(&text).expect(&text);
        assert!(
            count["reads"].as_u64().is_some_and(|reads| reads > 20),
            "{text}"
        );
        for trouble in ["refused", "timed_out", "no_file", "expired", "dead"] {
            assert_eq!(count[trouble], 0, "{text}");
        }
        assert!(
            count["empty"].as_u64().is_some_and(|count| count <= empty),
            "{text}"
        );
    }
}
