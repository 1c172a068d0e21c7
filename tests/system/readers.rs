//! Apps that read in a loop, in PHP, as another user, while something happens to the daemon.

use crate::machine::Machine;
use crate::platform::URL;

/// Readers that read at the same time.
const READERS: usize = 3;

/// Does `what` while apps read from the account `shop`; none of them may notice anything.
pub(crate) fn notice_nothing(machine: &Machine, what: impl FnOnce()) {
    notice_at_most(machine, 0, what);
}

/// The same, but each of them may get so many empty answers.
pub(crate) fn notice_at_most(machine: &Machine, empty: u64, what: impl FnOnce()) {
    let count = read_while(machine, what);
    for count in count {
        assert_eq!(count["refused"], 0, "{count}");
        let empty_answers = count["empty"].as_u64();
        assert!(empty_answers.is_some_and(|count| count <= empty), "{count}");
    }
}

/// The same, but they may find nobody at the socket: only files have to be there, with a live token.
pub(crate) fn read_files(machine: &Machine, what: impl FnOnce()) {
    read_while(machine, what);
}

/// Has apps read while something happens. Returns what each of them counted; no file was missing, expired or dead.
fn read_while(machine: &Machine, what: impl FnOnce()) -> Vec<serde_json::Value> {
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
    let count = |n| {
        machine.until(&format!("! systemctl --quiet is-active reader-{n}"));
        let text = machine.sh(&format!("cat {directory}/{n}"));
        let count: serde_json::Value = serde_json::from_str(&text).expect(&text);
        assert!(
            count["reads"].as_u64().is_some_and(|reads| reads > 20),
            "{text}"
        );
        for trouble in ["timed_out", "no_file", "expired", "dead"] {
            assert_eq!(count[trouble], 0, "{text}");
        }
        count
    };
    (1..=READERS).map(count).collect()
}
