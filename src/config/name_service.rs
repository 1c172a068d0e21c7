//! Users and groups of the host. The name service (LDAP, for one) may hang: it has threads of its own for that.

use crate::account::Principal;
use crate::fault::reason;
use nix::errno::Errno;
use nix::unistd::{Group, User};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Limit on the first look-up.
const LIMIT: Duration = Duration::from_secs(2);
/// Limit on a look-up while another one hangs: what the host's own files say needs no longer.
const LIMIT_BESIDE_HUNG: Duration = Duration::from_millis(200);
/// Look-ups that may hang at a time.
const MAX_HUNG: usize = 16;

/// The result of a look-up.
pub(super) enum LookedUp {
    Principal(Principal),
    /// The name service says that there is no such name.
    Absent,
    /// The name service cannot say now, and why.
    Unavailable(String),
}

/// Looks users and groups up. Clones share the count of look-ups that hang.
#[derive(Debug, Clone, Default)]
pub struct NameService {
    hung: Arc<AtomicUsize>,
}

/// There is one in a process, so that all are equal.
impl PartialEq for NameService {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for NameService {}

impl NameService {
    /// The user `name` or group `@name`, within two seconds. Blocks.
    pub(super) fn look_up(&self, text: &str) -> LookedUp {
        // Uid 0 has this name also where there is no passwd.
        if matches!(text, "root" | "0") {
            return LookedUp::Principal(Principal::User(text.into(), 0));
        }
        let hung = self.hung.load(Ordering::Relaxed);
        if hung >= MAX_HUNG {
            return LookedUp::Unavailable("the name service does not answer".to_owned());
        }
        let limit = if hung == 0 { LIMIT } else { LIMIT_BESIDE_HUNG };
        let (answer, answers) = mpsc::sync_channel(1);
        let name = text.to_owned();
        // Counted as hung until it ends, so that a look-up beside it waits no longer than it must.
        self.hung.fetch_add(1, Ordering::Relaxed);
        let count = Arc::clone(&self.hung);
        let started = thread::Builder::new()
            .name("names".to_owned())
            .spawn(move || {
                let found = ask(&name);
                count.fetch_sub(1, Ordering::Relaxed);
                // A look-up that took too long has no receiver any more.
                let _ = answer.send(found);
            });
        if let Err(error) = started {
            self.hung.fetch_sub(1, Ordering::Relaxed);
            return LookedUp::Unavailable(format!("no thread can be had: {}", reason(&error)));
        }
        answers.recv_timeout(limit).unwrap_or_else(|_| {
            LookedUp::Unavailable("the name service does not answer".to_owned())
        })
    }
}

fn ask(text: &str) -> LookedUp {
    let (group, name) = match text.strip_prefix('@') {
        Some(name) => (true, name),
        None => (false, text),
    };
    let id = if group {
        Group::from_name(name).map(|found| found.map(|group| group.gid.as_raw()))
    } else {
        User::from_name(name).map(|found| found.map(|user| user.uid.as_raw()))
    };
    // As chown does: a number is an id unless it is a name. The last one stands for "unchanged" to the kernel.
    let is_number = name.bytes().all(|b| b.is_ascii_digit());
    let number = || (name.parse().ok()).filter(|id| is_number && *id != u32::MAX);
    let principal = |id| {
        if group {
            Principal::Group(name.into(), id)
        } else {
            Principal::User(name.into(), id)
        }
    };
    match id {
        Ok(id) => match id.or_else(number) {
            Some(id) => LookedUp::Principal(principal(id)),
            None => LookedUp::Absent,
        },
        Err(error) => match number() {
            Some(id) => LookedUp::Principal(principal(id)),
            None if is_absent(error, group) => LookedUp::Absent,
            None => LookedUp::Unavailable(reason(&error.into())),
        },
    }
}

/// Returns whether an error only says that the host has no such file of names at all.
fn is_absent(error: Errno, group: bool) -> bool {
    let file = if group { "/etc/group" } else { "/etc/passwd" };
    error == Errno::EINVAL || error == Errno::ENOENT && !Path::new(file).exists()
}
