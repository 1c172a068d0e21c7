//! Files: whoever opens one at any moment gets a complete, current value with the right access, or nothing.

use super::access;
use super::error::{PublishError, PublishStep};
use super::node::{Identity, look, look_at};
use super::place::{Knowledge, Known, Place};
use super::temporary::{OpenDirectory, Temporary};
use crate::clock;
use crate::time::Moment;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fsync, openat, unlinkat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;
use zeroize::Zeroizing;

/// Time before its end at which a value is removed: removing takes a moment, and so does using it.
pub(crate) const EARLY: Duration = Duration::from_millis(250);

/// The result of publishing a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PublishedFile {
    /// It was written.
    Written,
    /// It was there already, as it should be.
    Unchanged,
    /// Nothing was put there: by then the value had expired, or the output was configured no more.
    TooLate,
}

/// Puts a file in its place, to be there until a moment. Blocks.
///
/// The file appears under its name with everything right about it; until then it is `0600` under a hidden name. A
/// file that is there already, with this content and the right access, is left alone.
pub(crate) fn publish(
    place: &Place,
    content: &[u8],
    until: Option<Moment>,
) -> Result<PublishedFile, PublishError> {
    place.failed(try_publish(place, content, until))
}

fn try_publish(
    place: &Place,
    content: &[u8],
    until: Option<Moment>,
) -> Result<PublishedFile, PublishError> {
    let directory = place.directory()?;
    let mut known = place.known();
    if let Some(identity) = existing(place, &directory, content) {
        known.content = Known::Ours(identity);
        known.until = until;
        known.held = place.home().held();
        return Ok(PublishedFile::Unchanged);
    }
    drop(known);
    let fail = place.error(PublishStep::Write);
    let mut temporary = write(place, directory, content)?;
    let mut known = place.known();
    let is_over = until.is_some_and(|until| until <= clock::now().at + EARLY);
    if is_over || place.is_given_up() {
        return Ok(PublishedFile::TooLate);
    }
    remove_elsewhere(place, &known, temporary.directory());
    known.content = Known::Ours(temporary.replace().map_err(&fail)?);
    known.until = until;
    known.held = place.home().held();
    drop(known);
    temporary.directory().sync().map_err(&fail)?;
    Ok(PublishedFile::Written)
}

/// Takes away what the daemon put into a directory that is not the output's any more: it was moved, or is below a
/// mount.
fn remove_elsewhere(place: &Place, known: &Knowledge, directory: &OpenDirectory) {
    let (Known::Ours(ours), Some(held)) = (known.content, &known.held) else {
        return;
    };
    let node = |directory: BorrowedFd<'_>| look_at(directory).map(|found| Identity::of(&found));
    // The same directory may be open twice: a reload finds it anew.
    let is_here = node(directory.as_fd())
        .is_ok_and(|here| node(held.as_fd()).is_ok_and(|held| held.is_same_node(&here)));
    let name = Path::new(place.file_name());
    let is_ours = || look(held, name).is_ok_and(|found| Identity::of(&found).is_same_node(&ours));
    if !is_here && is_ours() {
        // A file that cannot be removed there expires there.
        let _ = unlinkat(held, name, AtFlags::empty());
    }
}

/// Takes a file away, whoever wrote it; false if there was none. Blocks.
pub(crate) fn remove(place: &Place) -> Result<bool, PublishError> {
    place.failed(try_remove(place))
}

fn try_remove(place: &Place) -> Result<bool, PublishError> {
    let fail = place.error(PublishStep::Remove);
    let directory = match place.existing_directory() {
        Ok(directory) => directory,
        Err(error) if error.is_absence() => {
            place.known().content = Known::Nothing;
            return Ok(false);
        }
        Err(error) => return Err(error.at_removal()),
    };
    let mut known = place.known();
    let removed = directory.remove().map_err(&fail)?;
    known.content = Known::Nothing;
    known.held = None;
    drop(known);
    if removed {
        directory.sync().map_err(&fail)?;
    }
    Ok(removed)
}

/// Takes away what the daemon put there if its end has come by `now`, also where its directory was moved away. False if
/// there is nothing of that kind. Blocks.
pub(crate) fn remove_expired(place: &Place, now: Moment) -> Result<bool, PublishError> {
    let mut known = place.known();
    let (Known::Ours(ours), Some(until)) = (known.content, known.until) else {
        return Ok(false);
    };
    if until > now {
        return Ok(false);
    }
    let name = Path::new(place.file_name());
    let remove = |directory: BorrowedFd<'_>| match look(directory, name) {
        Ok(found) if Identity::of(&found).is_same_node(&ours) => {
            unlinkat(directory, name, AtFlags::empty()).map(|()| true)
        }
        Ok(_) | Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    };
    let removed = match &known.held {
        Some(held) => remove(held.as_fd()),
        None => match place.existing_directory() {
            Ok(directory) => remove(directory.as_fd()),
            Err(error) if error.is_absence() => Ok(false),
            Err(error) => return Err(error.at_removal()),
        },
    };
    let removed = removed.map_err(place.error(PublishStep::Remove))?;
    if removed {
        known.content = Known::Nothing;
        known.until = None;
        known.held = None;
    }
    Ok(removed)
}

/// The file that is there, if nothing about it needs to change.
fn existing(place: &Place, directory: &OpenDirectory, content: &[u8]) -> Option<Identity> {
    // A FIFO must not block the open, and a link must not lead elsewhere.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(openat(directory, directory.name(), flags, Mode::empty()).ok()?);
    let found = look(&file, Path::new("")).ok()?;
    let around = look(directory, Path::new("")).ok()?;
    let is_right = FileType::from_raw_mode(found.stx_mode.into()) == FileType::RegularFile
        && usize::try_from(found.stx_size) == Ok(content.len())
        && access::is_right(place.output(), &around, &file, &found)
        && holds(&mut file, content).ok()?;
    is_right.then(|| Identity::of(&found))
}

fn holds(file: &mut File, content: &[u8]) -> io::Result<bool> {
    let mut found = Zeroizing::new(vec![0; content.len()]);
    file.read_exact(&mut found)?;
    Ok(*found == content)
}

/// Writes a file under a hidden name, with everything right about it.
fn write(
    place: &Place,
    directory: OpenDirectory,
    content: &[u8],
) -> Result<Temporary, PublishError> {
    let fail = place.error(PublishStep::Write);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let (file, temporary) = directory
        .temporary(|directory, name| openat(directory, name, flags, mode))
        .map_err(&fail)?;
    let mut file = File::from(file);
    file.write_all(content)
        .map_err(|error| fail(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    access::apply(place.output(), &file)?;
    fsync(&file).map_err(&fail)?;
    // To close it later would look like somebody's edit to a watch.
    drop(file);
    Ok(temporary)
}

#[cfg(test)]
mod tests {
    use super::super::pin::Directories;
    use super::super::temporary::Leftovers;
    use super::super::testing::{
        FILE, STRANGER, TestMount, access, account, directory, group, in_own_process,
        is_own_process, place, run, run_as, user, wait_for_tick,
    };
    use super::*;
    use crate::account::Access;
    use inotify::{Inotify, WatchMask};
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::thread;

    const CONTENT: &[u8] = b"75_token";

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn read_as(uid: u32, gid: u32, path: &Path) -> bool {
        let read = run_as(uid, gid, "cat", &[path.to_str().unwrap()]);
        assert_eq!(read.status.success(), read.stdout == CONTENT);
        read.status.success()
    }

    #[test]
    fn access_is_as_configured() {
        crate::root::needs_root!();
        let directory = directory();
        let path = directory.path().join("token");
        let full = Access {
            mode: 0o640,
            owner: Some(70),
            group: Some(71),
            readers: [group(73), user(72), user(72), user(7)].into(),
        };
        for (access, acl) in [
            (
                access(0o600),
                "user::rw-\ngroup::---\nother::---\n".to_owned(),
            ),
            (
                access(0o644),
                "user::rw-\ngroup::r--\nother::r--\n".to_owned(),
            ),
            (
                Access {
                    readers: [user(72)].into(),
                    ..access(0o600)
                },
                "user::rw-\nuser:72:r--\ngroup::---\nmask::r--\nother::---\n".to_owned(),
            ),
            (
                full.clone(),
                "user::rw-\nuser:7:r--\nuser:72:r--\ngroup::r--\ngroup:73:r--\nmask::r--\nother::---\n"
                    .to_owned(),
            ),
        ] {
            let place = place(&path, FILE, access);
            assert_eq!(publish(&place, CONTENT, None).unwrap(), PublishedFile::Written);
            assert_eq!(publish(&place, CONTENT, None).unwrap(), PublishedFile::Unchanged);
            assert!(place.is_intact());
            let path = path.to_str().unwrap();
            assert_eq!(run("getfacl", &["-cnpE", path]).trim(), acl.trim());
        }
        let metadata = path.metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (70, 71));
        for (uid, gid, may_read) in [
            (70, 1, true),
            (1, 71, true),
            (72, 1, true),
            (7, 1, true),
            (1, 73, true),
            (1, 1, false),
            (73, 72, false),
        ] {
            assert_eq!(read_as(uid, gid, &path), may_read, "{uid} {gid}");
        }
    }

    #[test]
    fn file_is_replaced_and_never_removed_after_a_reload() {
        let directory = directory();
        let path = directory.path().join("token");
        let directories = Directories::new(directory.path());
        let account = account(&[(&path, FILE, access(0o600))]);
        let place = Place::new(account, 0, &directories);
        publish(&place, b"first", None).unwrap();
        let mut removals = Inotify::init().unwrap();
        removals
            .watches()
            .add(directory.path(), WatchMask::DELETE)
            .unwrap();
        directories.find_anew();
        publish(&place, b"second", None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        // A reader that opens it between a removal and the rename finds nothing.
        let removed = removals.read_events(&mut [0; 4096]).map(Iterator::count);
        assert_eq!(removed.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_default_list_of_the_directory_lets_nobody_in() {
        crate::root::needs_root!();
        let directory = directory();
        let path = directory.path().join("token");
        run(
            "setfacl",
            &[
                "-d",
                "-m",
                "u:72:rwx,g:73:rwx,o::rx",
                directory.path().to_str().unwrap(),
            ],
        );
        for (readers, list) in [
            (vec![], "user::rw-\ngroup::r--\nother::---"),
            (
                vec![user(74)],
                "user::rw-\nuser:74:r--\ngroup::r--\nmask::r--\nother::---",
            ),
        ] {
            let access = Access {
                readers: readers.into(),
                ..access(0o640)
            };
            publish(&place(&path, FILE, access), CONTENT, None).unwrap();
            let found = run("getfacl", &["-cnpE", path.to_str().unwrap()]);
            assert_eq!(found.trim(), list);
            assert!(!read_as(72, 1, &path));
            assert!(!read_as(1, 73, &path));
        }
    }

    #[test]
    fn an_unprivileged_owner_lets_any_reader_in() {
        const TEST: &str = "publish::file::tests::an_unprivileged_owner_lets_any_reader_in";
        let unprivileged = [
            "setpriv",
            "--reuid=54321",
            "--regid=54321",
            "--clear-groups",
        ];
        // The process of its own is not root, and needs not be.
        if !is_own_process() {
            crate::root::needs_root!();
        }
        if in_own_process(TEST, &unprivileged) {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let readers = Access {
            readers: [user(72), group(73)].into(),
            ..access(0o600)
        };
        publish(&place(&path, FILE, readers), CONTENT, None).unwrap();
        assert_eq!(
            run("getfacl", &["-cnpE", path.to_str().unwrap()]).trim(),
            "user::rw-\nuser:72:r--\ngroup::---\ngroup:73:r--\nmask::r--\nother::---"
        );
        for (owner, group) in [(Some(72), None), (None, Some(73))] {
            let foreign = Access {
                owner,
                group,
                ..access(0o600)
            };
            let error = publish(&place(&path, FILE, foreign), b"other", None).unwrap_err();
            assert!(
                error.to_string().contains("SupplementaryGroups="),
                "{error}"
            );
            assert_eq!(fs::read(&path).unwrap(), CONTENT);
            assert_eq!(names(directory.path()), ["token"]);
        }
    }

    #[test]
    fn every_foreign_change_is_seen_and_repaired() {
        crate::root::needs_root!();
        let directory = directory();
        let path = directory.path().join("token");
        let elsewhere = directory.path().join("elsewhere");
        let text = path.to_str().unwrap().to_owned();
        let change = |what: &str| match what {
            "delete" => fs::remove_file(&path).unwrap(),
            "edit" => fs::write(&path, b"76_token").unwrap(),
            "truncate" => fs::write(&path, b"").unwrap(),
            "append" => fs::write(&path, b"75_token\n").unwrap(),
            "mode" => fs::set_permissions(&path, Permissions::from_mode(0o604)).unwrap(),
            "owner" => std::os::unix::fs::chown(&path, Some(72), None).unwrap(),
            "group" => std::os::unix::fs::chown(&path, None, Some(72)).unwrap(),
            "list" => drop(run("setfacl", &["-m", "u:75:r", &text])),
            "no list" => drop(run("setfacl", &["-b", &text])),
            "symlink" => {
                fs::rename(&path, &elsewhere).unwrap();
                symlink(&elsewhere, &path).unwrap();
            }
            "directory" => {
                fs::remove_file(&path).unwrap();
                fs::create_dir(&path).unwrap();
            }
            "fifo" => {
                fs::remove_file(&path).unwrap();
                run("mkfifo", &[&text]);
            }
            "copy" => {
                fs::copy(&path, &elsewhere).unwrap();
                fs::rename(&elsewhere, &path).unwrap();
            }
            _ => unreachable!("a change"),
        };
        for what in [
            "delete",
            "edit",
            "truncate",
            "append",
            "mode",
            "owner",
            "group",
            "list",
            "no list",
            "symlink",
            "directory",
            "fifo",
            "copy",
        ] {
            let access = Access {
                readers: [user(74)].into(),
                ..access(0o600)
            };
            let place = place(&path, FILE, access);
            publish(&place, CONTENT, None).unwrap();
            assert!(place.is_intact(), "before {what}");
            wait_for_tick(&path);
            change(what);
            assert!(!place.is_intact(), "{what}");
            assert_eq!(
                publish(&place, CONTENT, None).unwrap(),
                PublishedFile::Written,
                "{what}"
            );
            assert!(place.is_intact(), "after {what}");
            assert_eq!(fs::read(&path).unwrap(), CONTENT, "{what}");
            let list = run("getfacl", &["-cnpE", &text]);
            let expected = "user::rw-\nuser:74:r--\ngroup::---\nmask::r--\nother::---";
            assert_eq!(list.trim(), expected, "{what}");
            let _ = fs::remove_file(&elsewhere);
            assert_eq!(names(directory.path()), ["token"], "{what}");
        }
    }

    #[test]
    fn a_reader_sees_whole_values_with_the_right_mode_only() {
        crate::root::needs_root!();
        let mount = TestMount::new("mode=755");
        let path = mount.path().join("token");
        let place = place(&path, FILE, access(0o640));
        let content = |n: usize| format!("{n:04}").repeat(1000 + n).into_bytes();
        publish(&place, &content(0), None).unwrap();
        let (is_over, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let mut file = File::open(&path).unwrap();
                    let mode = file.metadata().unwrap().permissions().mode();
                    let mut found = Vec::new();
                    file.read_to_end(&mut found).unwrap();
                    let n: usize = str::from_utf8(&found[..4]).unwrap().parse().unwrap();
                    assert_eq!(found, content(n));
                    assert_eq!(mode & 0o7777, 0o640);
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
            let mut n = 0;
            while !reader.is_finished() && (n < 1000 || reads.load(Ordering::Relaxed) < 100) {
                n += 1;
                let content = content(n % 1000);
                assert_eq!(
                    publish(&place, &content, None).unwrap(),
                    PublishedFile::Written
                );
            }
            is_over.store(true, Ordering::Relaxed);
            reader.join().unwrap();
        });
        assert_eq!(names(mount.path()), ["token"]);
    }

    #[test]
    fn empty_directory_in_the_way_goes_and_a_full_one_stays() {
        let directory = directory();
        let path = directory.path().join("token");
        let place = place(&path, FILE, access(0o600));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("precious"), b"").unwrap();
        let error = publish(&place, CONTENT, None).unwrap_err().to_string();
        assert!(
            error.ends_with("a directory is in its place: move that away"),
            "{error}"
        );
        assert!(!place.is_intact());
        let error = remove(&place).unwrap_err().to_string();
        assert!(
            error.ends_with("a directory is in its place: move that away"),
            "{error}"
        );
        fs::remove_file(path.join("precious")).unwrap();
        publish(&place, CONTENT, None).unwrap();
        assert_eq!(names(directory.path()), ["token"]);
    }

    #[test]
    fn a_removed_file_is_missed_by_nobody() {
        let directory = directory();
        let path = directory.path().join("token");
        let place = place(&path, FILE, access(0o600));
        assert!(place.is_intact());
        publish(&place, CONTENT, None).unwrap();
        assert!(remove(&place).unwrap());
        assert!(!remove(&place).unwrap());
        assert!(place.is_intact());
        fs::write(&path, CONTENT).unwrap();
        assert!(!place.is_intact());
        assert!(remove(&place).unwrap());
        directory.close().unwrap();
        assert!(!remove(&place).unwrap());
        assert!(place.is_intact());
    }

    #[test]
    fn a_full_disk_keeps_the_old_value() {
        crate::root::needs_root!();
        let mount = TestMount::new("size=64k,mode=755");
        let path = mount.path().join("token");
        let place = place(&path, FILE, access(0o600));
        publish(&place, CONTENT, None).unwrap();
        let filler = vec![b'x'; 1024 * 1024];
        let _ = fs::write(mount.path().join("filler"), filler);
        let error = publish(&place, b"76_token", None).unwrap_err().to_string();
        assert!(
            error.contains("no space left on device; free some space"),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), CONTENT);
        assert_eq!(names(mount.path()), ["filler", "token"]);
        assert!(!place.is_intact());
        fs::remove_file(mount.path().join("filler")).unwrap();
        publish(&place, b"76_token", None).unwrap();
        assert!(place.is_intact());
    }

    #[test]
    fn a_read_only_file_system_says_so() {
        crate::root::needs_root!();
        let mount = TestMount::new("mode=755");
        let path = mount.path().join("token");
        let place = place(&path, FILE, access(0o600));
        publish(&place, CONTENT, None).unwrap();
        run(
            "mount",
            &["-o", "remount,ro", mount.path().to_str().unwrap()],
        );
        assert_eq!(
            publish(&place, CONTENT, None).unwrap(),
            PublishedFile::Unchanged
        );
        let error = publish(&place, b"76_token", None).unwrap_err().to_string();
        assert!(error.contains("read-only file system"), "{error}");
        assert!(
            error.ends_with(&format!("ReadWritePaths={}", mount.path().display())),
            "{error}"
        );
        assert!(remove(&place).is_err());
        assert!(!place.is_intact());
    }

    #[test]
    fn missing_directories_are_made_below_the_runtime_directory_only() {
        crate::root::needs_root!();
        let directory = directory();
        let runtime_dir = directory.path().join("run");
        let directories = Directories::new(&runtime_dir);
        let account = |path: &Path| account(&[(path, FILE, access(0o644))]);
        let below = runtime_dir.join("apps/shop/token");
        let place = Place::new(account(&below), 0, &directories);
        publish(&place, CONTENT, None).unwrap();
        assert!(read_as(STRANGER, STRANGER, &below));
        for made in [
            &runtime_dir,
            &runtime_dir.join("apps"),
            &runtime_dir.join("apps/shop"),
        ] {
            assert_eq!(made.metadata().unwrap().mode() & 0o7777, 0o755);
        }
        fs::remove_dir_all(&runtime_dir).unwrap();
        assert!(!place.is_intact());
        publish(&place, CONTENT, None).unwrap();

        let beside = directory.path().join("other/token");
        let place = Place::new(account(&beside), 0, &directories);
        let error = publish(&place, CONTENT, None).unwrap_err().to_string();
        let parent = directory.path().join("other");
        assert!(
            error.ends_with(&format!("make the directory `{}`", parent.display())),
            "{error}"
        );
    }

    #[test]
    fn a_longest_name_has_room_for_its_temporary() {
        let directory = directory();
        let path = directory.path().join("n".repeat(255));
        publish(&place(&path, FILE, access(0o600)), CONTENT, None).unwrap();
        assert_eq!(fs::read(path).unwrap(), CONTENT);
    }

    #[test]
    fn only_our_own_leftovers_go() {
        let directory = directory();
        let path = directory.path().join("token");
        let ours = place(&path, FILE, access(0o600));
        let other = place(&directory.path().join("other"), FILE, access(0o600));
        let abandoned = |place: &Place| {
            let (_, temporary) = place
                .directory()
                .unwrap()
                .temporary(|directory, name| {
                    openat(
                        directory,
                        name,
                        OFlags::CREATE | OFlags::WRONLY,
                        Mode::empty(),
                    )
                })
                .unwrap();
            std::mem::forget(temporary);
        };
        let remove_leftovers = |place: &Place| {
            let leftovers = Leftovers::beside([&*place.output().path]);
            leftovers.iter().for_each(Leftovers::remove);
        };
        abandoned(&ours);
        abandoned(&other);
        fs::write(directory.path().join(".wxtokend-notes"), b"").unwrap();
        assert_eq!(names(directory.path()).len(), 3);
        remove_leftovers(&ours);
        let names = names(directory.path());
        assert_eq!(names.len(), 2, "{names:?}");
        remove_leftovers(&other);
        assert_eq!(self::names(directory.path()), [".wxtokend-notes"]);
    }

    #[test]
    fn a_socket_left_in_its_place_is_replaced() {
        let directory = directory();
        let path = directory.path().join("token");
        std::os::unix::net::UnixListener::bind(&path).unwrap();
        publish(&place(&path, FILE, access(0o600)), CONTENT, None).unwrap();
        assert_eq!(fs::read(path).unwrap(), CONTENT);
    }
}
