//! Random faults, one after the other: no reader on any host ever finds a dead token.

use crate::hosts::{ACCOUNTS, TestFleet, assert_not_misled};
use crate::root::needs_root;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// Faults, unless `WXTOKEND_FLEET_FAULTS` says another number.
const FAULTS: usize = 24;
const LIFETIME: Duration = Duration::from_secs(60);
/// Longest time that a host whose connections are well is without a token.
const RECOVERY_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
enum ChaosFault {
    Killed,
    Restarted,
    Stopped,
    CutFromEngine,
    CutFromPlatform,
    Unplugged,
    MemberKilled,
    MemberStopped,
    MemberUnplugged,
}

const ALL: [ChaosFault; 9] = [
    ChaosFault::Killed,
    ChaosFault::Restarted,
    ChaosFault::Stopped,
    ChaosFault::CutFromEngine,
    ChaosFault::CutFromPlatform,
    ChaosFault::Unplugged,
    ChaosFault::MemberKilled,
    ChaosFault::MemberStopped,
    ChaosFault::MemberUnplugged,
];

impl ChaosFault {
    /// True if the daemon does not run meanwhile.
    const fn ends_daemon(self) -> bool {
        matches!(self, Self::Killed | Self::Restarted | Self::Stopped)
    }
}

fn strike(fleet: &mut TestFleet, fault: ChaosFault, at: usize) {
    match fault {
        ChaosFault::Killed => fleet.hosts[at].kill(),
        ChaosFault::Restarted => fleet.hosts[at].terminate(),
        ChaosFault::Stopped => fleet.hosts[at].signal(Signal::STOP),
        ChaosFault::CutFromEngine => fleet.cut_from_engine(at, true),
        ChaosFault::CutFromPlatform => fleet.cut_from_platform(at, true),
        ChaosFault::Unplugged => fleet.hosts[at].machine.plug(false),
        ChaosFault::MemberKilled => fleet.cluster.kill(at),
        ChaosFault::MemberStopped => fleet.cluster.members[at].signal(Signal::STOP),
        ChaosFault::MemberUnplugged => fleet.cluster.members[at].machine.plug(false),
    }
}

fn mend(fleet: &mut TestFleet, fault: ChaosFault, at: usize) {
    match fault {
        ChaosFault::Killed | ChaosFault::Restarted => fleet.start_host(at),
        ChaosFault::Stopped => fleet.hosts[at].signal(Signal::CONT),
        ChaosFault::CutFromEngine => fleet.cut_from_engine(at, false),
        ChaosFault::CutFromPlatform => fleet.cut_from_platform(at, false),
        ChaosFault::Unplugged => fleet.hosts[at].machine.plug(true),
        ChaosFault::MemberKilled => fleet.cluster.start_again(),
        ChaosFault::MemberStopped => fleet.cluster.members[at].signal(Signal::CONT),
        ChaosFault::MemberUnplugged => fleet.cluster.members[at].machine.plug(true),
    }
}

#[test]
fn no_reader_finds_a_dead_token_whatever_fails() {
    needs_root!();
    let count = std::env::var("WXTOKEND_FLEET_FAULTS").map_or(FAULTS, |n| n.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(15);
    let mut fleet = TestFleet::start(LIFETIME);
    let began = Instant::now();
    for number in 0..count {
        let (fault, at) = (ALL[random.usize(..ALL.len())], random.usize(..3));
        // A daemon that does not run takes no file away: its readers are not asked.
        let asked: Vec<_> = (0..3)
            .filter(|&host| !(host == at && fault.ends_daemon()))
            .collect();
        let readers = fleet.read_files(&asked);
        strike(&mut fleet, fault, at);
        let lasts = Duration::from_millis(random.u64(500..14_000));
        let until = Instant::now() + lasts;
        while Instant::now() < until {
            // The time for which it lasts.
            std::thread::sleep(Duration::from_millis(50));
        }
        mend(&mut fleet, fault, at);
        let mended = fleet.stopwatch();
        for (name, ..) in ACCOUNTS {
            fleet.wait_for_rotation(name, "", &[0, 1, 2]);
        }
        let took = mended.elapsed();
        let found = readers.stop();
        println!("fault {number}: {fault:?} at {at} for {lasts:?}: well after {took:?}");
        assert!(took < RECOVERY_LIMIT, "{}", fleet.logs());
        assert_not_misled(&found);
    }
    // Three hosts spend no more than one: a rotation each half life, and a second call where one was lost.
    let lives = began.elapsed().as_secs() / LIFETIME.as_secs() + 1;
    let limit = 3 * lives + u64::try_from(count).unwrap() + 3;
    for name in ["classic", "corp"] {
        let calls = fleet.calls(name);
        assert!(calls <= limit, "{calls} calls of {name}, not {limit}");
    }
    fleet.assert_quiet_logs();
}
