//! The table of mounts, which tells file systems apart without touching them.

use crate::offload::Device;
use rustix::event::{PollFd, PollFlags, poll};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::thread;
use tokio::sync::mpsc::{self, error::TrySendError};

const MOUNTS: &str = "/proc/self/mountinfo";

/// The mounts of this process, by their places.
#[derive(Debug, Default)]
pub(super) struct Mounts(Vec<(PathBuf, Device)>);

impl Mounts {
    /// Asks the kernel. Does not touch the file systems.
    pub(super) fn read() -> Self {
        Self::parse(&std::fs::read(MOUNTS).unwrap_or_default())
    }

    fn parse(text: &[u8]) -> Self {
        let lines = text.split(|byte| *byte == b'\n');
        Self(lines.filter_map(mount).collect())
    }

    /// The file system that is mounted where a path leads, symbolic links aside.
    pub(super) fn device_of(&self, path: &Path) -> Device {
        let above = self.0.iter().filter(|(place, _)| path.starts_with(place));
        // The last one that is mounted on a place covers those before it.
        let nearest = above.max_by_key(|(place, _)| place.as_os_str().len());
        nearest.map_or((0, 0), |(_, device)| *device)
    }
}

/// Reads `36 35 98:0 /root /place …`, in whose place a space is written `\040`.
fn mount(line: &[u8]) -> Option<(PathBuf, Device)> {
    let mut fields = line.split(|byte| *byte == b' ').skip(2);
    let (major, minor) = str::from_utf8(fields.next()?).ok()?.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let mut place = Vec::new();
    let mut rest = fields.nth(1)?.iter();
    while let Some(byte) = rest.next() {
        place.push(match byte {
            b'\\' => {
                let digits = rest.as_slice().first_chunk::<3>()?;
                rest.nth(2);
                u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok()?
            }
            byte => *byte,
        });
    }
    Some((OsString::from_vec(place).into(), device))
}

/// Tells when something is mounted or unmounted.
#[derive(Debug)]
pub(crate) struct MountWatch(mpsc::Receiver<()>);

impl MountWatch {
    /// Starts a thread that waits for the kernel to tell.
    pub(crate) fn new() -> io::Result<Self> {
        let mounts = File::open(MOUNTS)?;
        let (sender, receiver) = mpsc::channel(1);
        let wait = move || {
            loop {
                let mut mounts = [PollFd::new(&mounts, PollFlags::PRI)];
                // An interruption is one more look.
                let _ = poll(&mut mounts, None);
                if let Err(TrySendError::Closed(())) = sender.try_send(()) {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("mounts".to_owned())
            .spawn(wait)?;
        Ok(Self(receiver))
    }

    /// Waits for the next change. May be dropped and called again.
    pub(crate) async fn changed(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_mount_counts_and_the_last_of_those_on_one_place() {
        let text = b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            30 22 0:21 / /run rw - tmpfs tmpfs rw\n\
            31 22 0:50 / /srv/a\\040b rw - fuse x rw\n\
            32 31 0:51 / /srv/a\\040b rw - tmpfs x rw\nnonsense\n";
        let mounts = Mounts::parse(text);
        for (path, device) in [
            ("/etc/x", (8, 1)),
            ("/run/wxtokend/shop.json", (0, 21)),
            ("/running", (8, 1)),
            ("/srv/a b/c", (0, 51)),
        ] {
            assert_eq!(mounts.device_of(Path::new(path)), device, "{path}");
        }
    }
}
