//! The service that the daemon runs as: its user, and where its unit lets it write.

use crate::config::{self, Environment};
use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setgid, setgroups, setuid};
use std::ffi::CString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The user that the packages make.
const SERVICE_USER: &str = "wxtokend";

/// Becomes the user that the daemon runs as, for good: `named`, else the owner of the state directory, else
/// `wxtokend`. Without root, only the present user can be named. Must be called while there is one thread.
pub(super) fn become_user(
    named: Option<&str>,
    config: &Path,
    environment: &Environment,
) -> Result<(), String> {
    let user = match named {
        Some(name) => Some(find(name)?),
        None if geteuid().is_root() => usual(&config::state_dir(config, environment)),
        None => None,
    };
    let Some(user) = user else { return Ok(()) };
    if user.uid == geteuid() {
        return Ok(());
    }
    if !geteuid().is_root() {
        return Err(format!(
            "only root may check as another user ({})",
            user.name
        ));
    }
    let name = CString::new(user.name.as_str()).map_err(|error| error.to_string())?;
    let groups = if user.name.is_empty() {
        setgroups(&[user.gid])
    } else {
        initgroups(&name, user.gid)
    };
    groups
        .and_then(|()| setgid(user.gid))
        .and_then(|()| setuid(user.uid))
        .map_err(|error| format!("cannot become {}: {}", user.name, error.desc()))
}

struct ServiceUser {
    /// Empty if the host has no name for it.
    name: String,
    uid: Uid,
    gid: Gid,
}

impl From<User> for ServiceUser {
    fn from(user: User) -> Self {
        Self {
            name: user.name,
            uid: user.uid,
            gid: user.gid,
        }
    }
}

fn find(name: &str) -> Result<ServiceUser, String> {
    let by_name = User::from_name(name).ok().flatten();
    let by_id = || {
        User::from_uid(Uid::from_raw(name.parse().ok()?))
            .ok()
            .flatten()
    };
    by_name
        .or_else(by_id)
        .map(ServiceUser::from)
        .ok_or_else(|| format!("--as: this host has no user `{name}`"))
}

fn usual(state_dir: &Path) -> Option<ServiceUser> {
    let Ok(metadata) = state_dir.metadata() else {
        return Some(User::from_name(SERVICE_USER).ok()??.into());
    };
    let uid = Uid::from_raw(metadata.uid());
    let known = User::from_uid(uid).ok().flatten().map(ServiceUser::from);
    Some(known.unwrap_or(ServiceUser {
        name: String::new(),
        uid,
        gid: Gid::from_raw(metadata.gid()),
    }))
}

/// The group of the user that the daemon runs as, unless that is root.
pub(super) fn group(state_dir: &Path) -> Option<u32> {
    let user = usual(state_dir)?;
    (!user.uid.is_root()).then_some(user.gid.as_raw())
}

/// The paths where the unit lets the daemon write, if it does not let it write everywhere. `None` if the service is not
/// installed, or runs with another configuration.
pub(super) fn writable_paths(config: &Path) -> Option<Vec<PathBuf>> {
    if !Path::new("/run/systemd/system").exists() || config != Path::new(super::DEFAULT_CONFIG) {
        return None;
    }
    let properties = "LoadState,ProtectSystem,ReadWritePaths,RuntimeDirectory,StateDirectory";
    let output = Command::new("systemctl")
        .args(["show", "wxtokend.service", "--property", properties])
        .output()
        .ok()?;
    parse(&String::from_utf8(output.stdout).ok()?)
}

fn parse(properties: &str) -> Option<Vec<PathBuf>> {
    let property = |name: &str| {
        let mut lines = properties.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    };
    if property("LoadState") != Some("loaded") || property("ProtectSystem") != Some("strict") {
        return None;
    }
    let below = |directory: &str, name: &str| -> Vec<PathBuf> {
        let names = property(name).unwrap_or_default().split_whitespace();
        names.map(|name| Path::new(directory).join(name)).collect()
    };
    let mut paths = below("/", "ReadWritePaths");
    for path in &mut paths {
        let text = path.to_string_lossy();
        *path = Path::new("/").join(text.trim_start_matches(['/', '-', '+']));
    }
    paths.extend(below("/run", "RuntimeDirectory"));
    paths.extend(below("/var/lib", "StateDirectory"));
    Some(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_tells_where_the_daemon_may_write() {
        let unit = |protect: &str| {
            format!(
                "LoadState=loaded\nProtectSystem={protect}\nReadWritePaths=-/srv/app/tokens /opt/x\n\
                 RuntimeDirectory=wxtokend\nStateDirectory=wxtokend\n"
            )
        };
        let paths: Vec<PathBuf> = [
            "/srv/app/tokens",
            "/opt/x",
            "/run/wxtokend",
            "/var/lib/wxtokend",
        ]
        .map(PathBuf::from)
        .into();
        assert_eq!(parse(&unit("strict")), Some(paths));
        assert_eq!(parse(&unit("full")), None);
        assert_eq!(parse("LoadState=not-found\nProtectSystem=no\n"), None);
    }
}
