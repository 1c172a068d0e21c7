//! The process at the other end of a Unix socket, as the kernel knows it.

use crate::account::Principal;
use nix::unistd::{Gid, Uid, User, getgrouplist};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use uapi::{c, getsockopt};

/// The process that connected: its effective ids at that moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its uid.
    pub(crate) uid: u32,
    /// Its gid.
    pub(crate) gid: u32,
    /// Its supplementary groups.
    pub(crate) groups: Vec<u32>,
}

impl Peer {
    /// The peer of a connected Unix socket. Fails on anything else.
    pub(crate) fn of(socket: impl AsFd) -> io::Result<Self> {
        let fd = socket.as_fd().as_raw_fd();
        let mut ids = c::ucred {
            pid: 0,
            uid: u32::MAX,
            gid: u32::MAX,
        };
        getsockopt(fd, c::SOL_SOCKET, c::SO_PEERCRED, &mut ids)?;
        if ids.uid == u32::MAX {
            return Err(io::ErrorKind::NotConnected.into());
        }
        Ok(Self {
            uid: ids.uid,
            gid: ids.gid,
            groups: groups(fd, &ids)?,
        })
    }

    /// True if one of these is its user or one of its groups.
    pub(crate) fn is_any_of(&self, principals: &[Principal]) -> bool {
        principals.iter().any(|principal| match principal {
            Principal::User(_, uid) => *uid == self.uid,
            Principal::Group(_, gid) => self.is_member_of(*gid),
            Principal::Unresolved(..) => false,
        })
    }

    /// True if it belongs to a group, as its own or as a supplementary one.
    pub(crate) fn is_member_of(&self, gid: u32) -> bool {
        gid == self.gid || self.groups.contains(&gid)
    }
}

fn groups(fd: RawFd, ids: &c::ucred) -> io::Result<Vec<u32>> {
    // Enough for nearly everybody; the kernel has at most 65536 for the rest.
    let mut groups = vec![0_u32; 64];
    loop {
        match getsockopt(fd, c::SOL_SOCKET, c::SO_PEERGROUPS, groups.as_mut_slice()) {
            Ok(bytes) => {
                groups.truncate(bytes / size_of::<u32>());
                return Ok(groups);
            }
            Err(error) if error.0 == c::ERANGE && groups.len() < 65536 => {
                groups.resize(groups.len() * 4, 0);
            }
            // Kernels before 4.13, and those that only look like Linux.
            Err(error) if error.0 == c::ENOPROTOOPT => return configured_groups(ids),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The groups that the user would get by logging in.
fn configured_groups(ids: &c::ucred) -> io::Result<Vec<u32>> {
    let Some(user) = User::from_uid(Uid::from_raw(ids.uid))? else {
        return Ok(Vec::new());
    };
    let name = CString::new(user.name)?;
    let groups = getgrouplist(&name, Gid::from_raw(ids.gid))?;
    Ok(groups.into_iter().map(Gid::as_raw).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::{Command, Stdio};

    fn of(uid: u32, gid: u32, groups: &[u32]) -> Peer {
        Peer {
            uid,
            gid,
            groups: groups.to_vec(),
        }
    }

    #[test]
    fn a_socket_pair_is_ourselves() {
        let (one, _two) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(peer.gid, nix::unistd::getegid().as_raw());
        let mut own: Vec<u32> = nix::unistd::getgroups()
            .unwrap()
            .into_iter()
            .map(Gid::as_raw)
            .collect();
        own.sort_unstable();
        assert_eq!(peer.groups, own);
    }

    #[test]
    fn another_user_and_its_groups() {
        crate::root::needs_root!();
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(
            dir.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let path = dir.path().join("socket");
        for groups in [0..0_u32, 3000..3001, 3000..3100, 3000..5000] {
            let listener = UnixListener::bind(&path).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))
                .unwrap();
            let list: Vec<String> = groups.clone().map(|gid| gid.to_string()).collect();
            let list = if list.is_empty() {
                "--clear-groups".to_owned()
            } else {
                format!("--groups={}", list.join(","))
            };
            let mut child = Command::new("setpriv")
                .args(["--reuid=1234", "--regid=2345", &list])
                .args(["perl", "-MIO::Socket::UNIX", "-e"])
                .arg("IO::Socket::UNIX->new(Peer => shift) or die $!")
                .arg(&path)
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            let (stream, _) = listener.accept().unwrap();
            assert_eq!(
                Peer::of(&stream).unwrap(),
                of(1234, 2345, &groups.collect::<Vec<_>>())
            );
            assert!(child.wait().unwrap().success());
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn file_has_no_peer() {
        let file = std::fs::File::open("/").unwrap();
        assert!(Peer::of(&file).is_err());
        let unconnected = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(Peer::of(&unconnected).is_err());
    }

    #[test]
    fn principals_match_user_own_group_and_supplementary_groups() {
        let user = |uid| Principal::User("u".into(), uid);
        let group = |gid| Principal::Group("g".into(), gid);
        let peer = of(33, 34, &[35, 36]);
        for (principals, expected) in [
            (vec![], false),
            (vec![user(33)], true),
            (vec![user(34)], false),
            (vec![group(33)], false),
            (vec![group(34)], true),
            (vec![group(36)], true),
            (vec![user(1), group(1), group(35)], true),
        ] {
            assert_eq!(peer.is_any_of(&principals), expected, "{principals:?}");
        }
    }
}
