//! The one line that `systemctl status` shows.

use crate::account::AccountName;
use crate::fleet::{EngineState, Summary};
use crate::handle::AccountHandles;
use crate::platform::Platforms;
use crate::platform::errcode::{self, ErrcodeRow};
use crate::snapshot::{OutputState, Snapshot, State};
use crate::time::{Moment, Now, human};
use crate::trouble::Class;
use crate::trouble::LastError;

/// A line about all accounts: `3/4 accounts fresh; blog: 40164 IP 203.0.113.7 is not whitelisted; next refresh shop in
/// 4m`.
pub(super) fn line(directory: &AccountHandles, platforms: Platforms, now: &Now) -> String {
    if directory.is_empty() {
        return "no accounts: add one to the configuration and reload".to_owned();
    }
    let mut fresh = 0;
    let mut trouble: Option<(State, &AccountName, String)> = None;
    let mut next: Option<(Moment, &AccountName)> = None;
    for (name, handle) in directory {
        let snapshot = handle.snapshot.latest();
        match snapshot.state_at(now.at) {
            State::Fresh => fresh += 1,
            // One that has no token comes before one that has trouble.
            State::Expired if !matches!(trouble, Some((State::Expired, ..))) => {
                trouble = Some((State::Expired, name, reason(&snapshot, platforms, now)));
            }
            state @ State::Degraded if trouble.is_none() => {
                trouble = Some((state, name, reason(&snapshot, platforms, now)));
            }
            _ => {}
        }
        if let Some(at) = snapshot.next_refresh
            && next.is_none_or(|(best, _)| at < best)
        {
            next = Some((at, name));
        }
    }
    let mut parts = vec![format!("{fresh}/{} accounts fresh", directory.len())];
    if let Some((_, name, reason)) = trouble {
        parts.push(format!("{name}: {reason}"));
    }
    if let Some((at, name)) = next {
        parts.push(format!(
            "next refresh {name} in {}",
            human(now.at.until(at))
        ));
    }
    parts.join("; ")
}

/// The fleet: `fleet: leads 2 of 3, etcd ok`.
pub(super) fn fleet(summary: &Summary, now: &Now) -> String {
    let engine = match &summary.engine {
        EngineState::Joining => "joining etcd".to_owned(),
        EngineState::Present => format!("leads {} of {}, etcd ok", summary.leads, summary.accounts),
        EngineState::Away {
            since,
            why,
            is_refused,
        } => {
            let what = if *is_refused {
                "takes no part"
            } else {
                "etcd away"
            };
            format!("{what} for {}: {why}", human(since.until(now.at)))
        }
    };
    match &summary.clock_ahead {
        Some((host, ahead)) => {
            let (seconds, how) = (
                ahead.abs() / 1000,
                if *ahead > 0 { "ahead of" } else { "behind" },
            );
            format!("fleet: {engine}; this clock is {seconds}s {how} that of {host}")
        }
        None => format!("fleet: {engine}"),
    }
}

fn reason(snapshot: &Snapshot, platforms: Platforms, now: &Now) -> String {
    let failed = snapshot.outputs.iter().find_map(|state| match state {
        OutputState::Failed(error) => Some(error.to_string()),
        _ => None,
    });
    snapshot
        .last_error
        .as_deref()
        .map(|error| {
            brief(
                error,
                platforms.errcodes_of(snapshot.account.terms.kind),
                now,
            )
        })
        .or(failed)
        .unwrap_or_else(|| "no valid value".to_owned())
}

fn brief(error: &LastError, errcodes: &[ErrcodeRow], now: &Now) -> String {
    let said = match error.errcode {
        Some(errcode) => errcode::brief(errcodes, errcode, &error.message),
        None => error.message.clone(),
    };
    match error.class {
        Class::TimedBlock(block) => {
            let left = human(now.at.until(error.at + block));
            format!("{said}, blocked for {left}")
        }
        _ => said,
    }
}
