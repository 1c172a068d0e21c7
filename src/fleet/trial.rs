//! One question to the engine, for `check --online`: version, prefix, key and clock. Changes nothing.

use super::charter::{self, Charter};
use super::clocks::SKEW;
use super::etcd::Etcd;
use super::wire::{Condition, Op, Transaction};
use crate::config::FleetSection;
use crate::offload::Offload;
use crate::seal::FleetKeys;
use prometheus::IntCounter;
use std::time::Duration;
use tokio::time::timeout;

/// Members are given time as by this lease.
const SLOW_LEASE: Duration = Duration::from_secs(12);
/// Limit on the whole trial.
const LIMIT: Duration = Duration::from_secs(20);
/// The oldest version of etcd whose gateway is known.
const OLDEST: (u32, u32) = (3, 4);

/// Asks each member of etcd. Returns a line for each, and whether all is well.
pub(crate) async fn try_engine(section: &FleetSection) -> (Vec<String>, bool) {
    let trial = async {
        let mut lines = Vec::new();
        let mut is_well = true;
        for endpoint in section.endpoints.iter() {
            let of_one = FleetSection {
                endpoints: [endpoint.clone()].into(),
                // Nobody waits for this host meanwhile: a slow member is given time.
                lease: section.lease.max(SLOW_LEASE),
                ..section.clone()
            };
            let result = try_member(&of_one).await;
            is_well &= result.is_ok();
            let (Ok(text) | Err(text)) = result;
            lines.push(format!("{}: {text}", endpoint.as_str()));
        }
        (lines, is_well)
    };
    match timeout(LIMIT, trial).await {
        Ok(tried) => tried,
        Err(_) => (vec!["etcd does not answer in time".to_owned()], false),
    }
}

async fn try_member(section: &FleetSection) -> Result<String, String> {
    let keys = FleetKeys::read(&section.key_file).map_err(|error| {
        let path = section.key_file.display();
        format!("`key_file` `{path}` {error}")
    })?;
    let etcd = Etcd::new(section, &Offload::default(), counters()?)?;
    let version = etcd.version().await.map_err(|error| error.to_string())?;
    if is_too_old(&version) {
        return Err(format!(
            "etcd {version} is too old: wxtokend needs 3.4 or later"
        ));
    }
    let (all, _) = (etcd.all(&section.prefix).await).map_err(|error| error.to_string())?;
    let fleet = match charter::find(&all, &section.prefix, &keys, &section.host)? {
        Charter::Ours => "the fleet's key fits".to_owned(),
        Charter::New(_) if all.is_empty() => "no fleet is there yet".to_owned(),
        Charter::New(_) => "the fleet's key is being replaced".to_owned(),
        Charter::Waits { hosts, .. } => format!(
            "the fleet's key is being replaced, and these hosts do not have the new one first: {}",
            hosts.join(", ")
        ),
    };
    may_write(&etcd, section).await?;
    let ahead = etcd.clock_ahead().unwrap_or(0);
    if ahead.abs() > SKEW {
        let how = if ahead > 0 { "ahead of" } else { "behind" };
        return Err(format!(
            "this host's clock is about {} s {how} that of etcd's: set both by NTP",
            ahead.abs() / 1000
        ));
    }
    let hosts = all.iter().filter(|kv| {
        let rest = kv.key.strip_prefix(&*section.prefix).unwrap_or_default();
        rest.starts_with("hosts/")
    });
    Ok(format!(
        "ok: etcd {version}; {}: {fleet}, hosts: {}",
        section.prefix,
        hosts.count()
    ))
}

/// Looks whether this host may write below the prefix: by a write under a condition that never holds.
async fn may_write(etcd: &Etcd, section: &FleetSection) -> Result<(), String> {
    let key = format!("{}hosts/0", section.prefix);
    let never = Transaction {
        conditions: vec![Condition::Is {
            key: key.clone(),
            revision: -1,
            lease: 0,
        }],
        then: vec![Op::Put(key, Vec::new(), 0)],
        otherwise: Vec::new(),
    };
    let tried = etcd.transact(&never).await;
    tried.map(drop).map_err(|error| error.to_string())
}

/// Counts that nobody reads.
fn counters() -> Result<[IntCounter; 2], String> {
    let made = IntCounter::new("requests", "requests").map_err(|error| error.to_string())?;
    Ok([made.clone(), made])
}

fn is_too_old(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < OLDEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcd_is_known_from_3_4_on() {
        for (version, is_old) in [
            ("3.3.25", true),
            ("2.3.8", true),
            ("3.4.23", false),
            ("3.5.0-rc.1", false),
            ("4.0.0", false),
        ] {
            assert_eq!(is_too_old(version), is_old, "{version}");
        }
    }
}
