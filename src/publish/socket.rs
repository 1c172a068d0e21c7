//! Token sockets: whoever may connect reads the value to its end, or nothing when there is none.

use super::access;
use super::error::{PublishError, PublishStep};
use super::listener::{self, HiddenSocket, store_name};
use super::node::{Identity, look};
use super::place::{Known, Place};
use super::server::{ServerShared, Serving, SocketServer};
use super::temporary::{OpenDirectory, open_node};
use crate::counters::Counters;
use crate::format::Rendered;
use rustix::fs::CWD;
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// A socket that listens, with its final access, but is not in its place yet. Dropped, it leaves no trace.
#[derive(Debug)]
pub struct BoundSocket {
    place: Arc<Place>,
    identity: Identity,
    socket: BoundOrigin,
}

#[derive(Debug)]
enum BoundOrigin {
    Hidden(HiddenSocket),
    /// In its place already.
    Inherited(OwnedFd),
}

impl BoundSocket {
    /// Makes the socket under a hidden name. Blocks.
    ///
    /// `inherited` may be the listener of an earlier daemon, known by `stored_name`: it goes on as it
    /// is, with all who wait to be accepted, unless its access has to change.
    pub fn prepare(place: Arc<Place>, inherited: Option<OwnedFd>) -> Result<Self, PublishError> {
        let directory = place.directory()?;
        if let Some(listener) = inherited
            && let Ok(Some(identity)) = take_over(&place, &directory, &listener)
        {
            return Ok(Self {
                place,
                identity,
                socket: BoundOrigin::Inherited(listener),
            });
        }
        let fail = place.error(PublishStep::Listen);
        let hidden = HiddenSocket::bind(directory).map_err(&fail)?;
        let node = hidden.node().map_err(&fail)?;
        access::apply(place.output(), &node)?;
        let identity = hidden.listen().map_err(&fail)?;
        drop(fail);
        Ok(Self {
            place,
            identity,
            socket: BoundOrigin::Hidden(hidden),
        })
    }

    /// The place where it will be.
    pub fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// Puts it in its place, and serves `value` from then on. Blocks.
    pub fn commit(
        self,
        value: Option<Rendered>,
        server: &SocketServer,
        counters: Arc<Counters>,
    ) -> Result<TokenSocket, PublishError> {
        let place = Arc::clone(&self.place);
        place.failed(self.try_commit(&place, value, server, counters))
    }

    fn try_commit(
        self,
        place: &Arc<Place>,
        value: Option<Rendered>,
        server: &SocketServer,
        counters: Arc<Counters>,
    ) -> Result<TokenSocket, PublishError> {
        let fail = place.error(PublishStep::Listen);
        let listener = match &self.socket {
            BoundOrigin::Hidden(hidden) => hidden.listener().try_clone(),
            BoundOrigin::Inherited(listener) => listener.try_clone(),
        };
        let listener =
            listener.map_err(|error| fail(Errno::from_io_error(&error).unwrap_or(Errno::MFILE)))?;
        let serving = Arc::new(Serving::new(Arc::clone(place), listener, counters, value));
        let shared = Arc::clone(server.shared());
        let socket = TokenSocket {
            key: shared.add(Arc::clone(&serving)).map_err(&fail)?,
            shared,
            serving,
            identity: self.identity,
        };
        let mut known = place.known();
        let identity = match self.socket {
            _ if place.is_given_up() => Err(Errno::CANCELED),
            BoundOrigin::Hidden(hidden) => hidden.put().map(|(_, identity)| identity),
            BoundOrigin::Inherited(_) => {
                look(CWD, &place.output().path).map(|found| Identity::of(&found))
            }
        };
        known.content = Known::Ours(identity.map_err(&fail)?);
        Ok(socket)
    }
}

/// Makes use of an inherited listener, if the socket in the place has the right access.
fn take_over(
    place: &Place,
    directory: &OpenDirectory,
    listener: &OwnedFd,
) -> Result<Option<Identity>, Errno> {
    let node = open_node(directory, directory.name())?;
    let found = look(&node, Path::new(""))?;
    let around = look(directory, Path::new(""))?;
    if !access::is_right(place.output(), &around, &node, &found) {
        return Ok(None);
    }
    listener::take_over(listener)?;
    Ok(Some(Identity::of(&found)))
}

/// A socket that serves a value. Dropped, it no longer does, and stays in its place for the daemon's successor.
#[derive(Debug)]
pub struct TokenSocket {
    serving: Arc<Serving>,
    identity: Identity,
    shared: Arc<ServerShared>,
    key: u64,
}

impl TokenSocket {
    /// Serves another value from now on, or none.
    pub fn set(&self, value: Option<Rendered>) {
        self.serving.set(value);
    }

    /// Its path.
    pub fn place(&self) -> &Arc<Place> {
        &self.serving.place
    }

    /// The name under which systemd is to keep its listener; see `stored_name`.
    pub(crate) fn stored_name(&self) -> String {
        store_name(&self.identity)
    }

    /// Takes it away, unless something else is in its place by now, and serves those who wait already. Blocks.
    pub fn retire(&self) -> Result<(), PublishError> {
        let removed = self.remove();
        self.shared.remove(self.key);
        while self.shared.serve_waiting(&self.serving) {}
        match removed {
            Err(error) if !error.is_absence() => Err(error.at_removal()),
            _ => Ok(()),
        }
    }

    /// Removes it from its place, if it is there.
    fn remove(&self) -> Result<(), PublishError> {
        let place = self.place();
        let directory = place.existing_directory()?;
        let mut known = place.known();
        let removed = listener::remove(&directory, &self.identity);
        if removed.map_err(place.error(PublishStep::Remove))? {
            known.content = Known::Nothing;
        }
        Ok(())
    }
}

impl AsFd for TokenSocket {
    /// The listener, for systemd to keep.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.serving.listener.as_fd()
    }
}

impl Drop for TokenSocket {
    fn drop(&mut self) {
        self.shared.remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::super::stored_name;
    use super::super::testing::{
        STRANGER, TestMount, access, directory, group, in_own_process, place, rendered, run_as,
        user,
    };
    use super::*;
    use crate::account::{Access, OutputKind};
    use crate::clock;
    use prometheus::IntCounter;
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
    use std::fs;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    const HOUR: Duration = Duration::from_secs(3600);
    /// Reads a socket to its end and prints that.
    const CLIENT: &str = "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Peer => shift) or exit 1; \
        local $/; print <$s>";

    fn socket_place(path: &Path, access: Access) -> Arc<Place> {
        place(path, OutputKind::Socket, access)
    }

    fn server() -> (SocketServer, IntCounter) {
        let denied = IntCounter::new("denied", "denied").unwrap();
        (SocketServer::start(denied.clone()).unwrap(), denied)
    }

    fn serve(place: &Arc<Place>, value: &str, server: &SocketServer) -> TokenSocket {
        let bound = BoundSocket::prepare(Arc::clone(place), None).unwrap();
        bound
            .commit(Some(rendered(value, HOUR)), server, Arc::default())
            .unwrap()
    }

    fn read(path: &Path) -> String {
        read_rest(UnixStream::connect(path).unwrap())
    }

    fn read_rest(mut stream: UnixStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn hidden(directory: &Path) -> std::path::PathBuf {
        let entries = fs::read_dir(directory).unwrap();
        let mut paths = entries.map(|entry| entry.unwrap().path());
        paths
            .find(|path| path.to_str().unwrap().contains("/.wxtokend-"))
            .unwrap()
    }

    #[test]
    fn a_client_reads_the_value_of_the_moment_or_nothing() {
        let directory = directory();
        let path = directory.path().join("s");
        let (server, denied) = server();
        let counters = Arc::<Counters>::default();
        let bound = BoundSocket::prepare(socket_place(&path, access(0o600)), None).unwrap();
        assert!(!path.exists());
        let socket = bound.commit(None, &server, Arc::clone(&counters)).unwrap();
        assert_eq!(read(&path), "");
        socket.set(Some(rendered("75_token", HOUR)));
        assert_eq!(read(&path), "75_token");
        socket.set(Some(rendered("76_token", HOUR)));
        assert_eq!(read(&path), "76_token");
        socket.set(None);
        assert_eq!(read(&path), "");
        assert_eq!(counters.socket_reads.load(Ordering::Relaxed), 2);
        assert_eq!(denied.get(), 0);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_value_is_served_until_it_expires_and_no_longer() {
        let directory = directory();
        let path = directory.path().join("s");
        let (server, _) = server();
        let value = rendered("75_token", Duration::from_millis(100));
        let expires = value.expires();
        let bound = BoundSocket::prepare(socket_place(&path, access(0o600)), None).unwrap();
        let socket = bound.commit(Some(value), &server, Arc::default()).unwrap();
        loop {
            let before = clock::now().at;
            let text = read(&path);
            let after = clock::now().at;
            assert!(text.is_empty() || before < expires);
            assert!(!text.is_empty() || after >= expires);
            if before >= expires {
                break;
            }
        }
        drop(socket);
    }

    #[test]
    fn a_value_that_expires_while_the_client_waits_is_not_served() {
        let directory = directory();
        let path = directory.path().join("s");
        let (server, _) = server();
        let value = rendered("75_token", Duration::from_millis(50));
        let bound = BoundSocket::prepare(socket_place(&path, access(0o600)), None).unwrap();
        let client = UnixStream::connect(hidden(directory.path())).unwrap();
        while clock::now().at < value.expires() {
            thread::yield_now();
        }
        let _socket = bound.commit(Some(value), &server, Arc::default()).unwrap();
        assert_eq!(read_rest(client), "");
    }

    #[test]
    fn input_of_a_client_is_ignored() {
        let directory = directory();
        let path = directory.path().join("s");
        let (server, _) = server();
        let _socket = serve(&socket_place(&path, access(0o600)), "75_token", &server);
        for size in [1, 4096, 100_000] {
            let clients: Vec<_> = (0..10)
                .map(|_| {
                    let mut client = UnixStream::connect(&path).unwrap();
                    client.write_all(&vec![b'x'; size]).unwrap();
                    client
                })
                .collect();
            for mut client in clients {
                let mut text = String::new();
                client.read_to_string(&mut text).unwrap();
                assert_eq!(text, "75_token");
                client.write_all(b"thanks").unwrap();
            }
        }
    }

    #[test]
    fn client_that_sends_late_sees_the_end_and_no_error() {
        const TEST: &str =
            "publish::socket::tests::client_that_sends_late_sees_the_end_and_no_error";
        if in_own_process(TEST, &[]) {
            return;
        }
        let directory = directory();
        let path = directory.path().join("s");
        let (server, _) = server();
        let _socket = serve(&socket_place(&path, access(0o600)), "75_token", &server);
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(&vec![b'x'; 100_000]).unwrap();
        // So many after it that its connection has been closed.
        for _ in 0..300 {
            assert_eq!(read(&path), "75_token");
        }
        assert!(client.write_all(b"x").is_err());
        assert_eq!(read_rest(client), "75_token");
    }

    #[test]
    fn a_thousand_silent_clients_cost_nobody_anything() {
        let directory = directory();
        let path = directory.path().join("s");
        let (server, _) = server();
        let _socket = serve(&socket_place(&path, access(0o600)), "75_token", &server);
        let open_files = || fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open_files();
        let mut clients = Command::new("prlimit")
            .args(["--nofile=4096", "perl", "-e"])
            .arg(
                "use IO::Socket::UNIX; $| = 1; \
                 my @s = map { IO::Socket::UNIX->new(Peer => $ARGV[0]) or die $! } 1..1000; \
                 print qq(connected\\n); <STDIN>; \
                 for (@s) { local $/; print <$_>, qq(\\n) }",
            )
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut printed = BufReader::new(clients.stdout.take().unwrap()).lines();
        assert_eq!(printed.next().unwrap().unwrap(), "connected");
        assert_eq!(read(&path), "75_token");
        // Other tests run beside this one.
        assert!(open_files() < before + 256 + 200);
        writeln!(clients.stdin.take().unwrap()).unwrap();
        let values: Vec<_> = printed.map(Result::unwrap).collect();
        assert_eq!(values, ["75_token"; 1000]);
        assert!(clients.wait().unwrap().success());
    }

    #[test]
    fn the_kernel_and_the_readers_decide_who_reads() {
        crate::root::needs_root!();
        let directory = directory();
        let path = directory.path().join("s");
        let (server, denied) = server();
        let text = path.to_str().unwrap();
        let denied = |socket: Access, uid, gid, supplementary: &str| {
            let _socket = serve(&socket_place(&path, socket), "75_token", &server);
            let before = denied.get();
            let client = if supplementary.is_empty() {
                run_as(uid, gid, "perl", &["-e", CLIENT, text])
            } else {
                let groups = format!("--groups={supplementary}");
                let (uid, gid) = (format!("--reuid={uid}"), format!("--regid={gid}"));
                Command::new("setpriv")
                    .args([&uid, &gid, &groups, "perl", "-e", CLIENT, text])
                    .output()
                    .unwrap()
            };
            if !client.status.success() {
                return "cannot connect";
            }
            match (client.stdout.as_slice(), denied.get() - before) {
                (b"75_token", 0) => "reads",
                (b"", 1) => "is denied",
                other => panic!("{other:?}"),
            }
        };
        let readers = |mode| Access {
            readers: [user(72), group(73)].into(),
            ..access(mode)
        };
        let owned = |mode| Access {
            owner: Some(70),
            group: Some(71),
            ..readers(mode)
        };
        for (access, uid, gid, groups, expected) in [
            (access(0o600), 0, 0, "", "reads"),
            (access(0o600), STRANGER, STRANGER, "", "cannot connect"),
            (access(0o666), STRANGER, STRANGER, "", "reads"),
            (readers(0o600), 72, 1, "", "reads"),
            (readers(0o600), 1, 73, "", "reads"),
            (readers(0o600), 1, 1, "2,73", "reads"),
            (readers(0o600), STRANGER, 1, "", "cannot connect"),
            (readers(0o666), STRANGER, 1, "", "is denied"),
            (readers(0o666), 1, 1, "74,75", "is denied"),
            (readers(0o666), 0, 0, "", "reads"),
            (owned(0o660), 70, 1, "", "reads"),
            (owned(0o660), 1, 71, "", "reads"),
            (owned(0o660), 1, 1, "71", "reads"),
            (owned(0o660), 71, 70, "", "cannot connect"),
        ] {
            let found = denied(access.clone(), uid, gid, groups);
            assert_eq!(found, expected, "{uid}:{gid}:{groups} {access:?}");
        }
    }

    #[test]
    fn temporary_socket_is_0600_and_not_listening() {
        crate::root::needs_root!();
        let mount = TestMount::new("mode=755");
        let list = [
            "-d",
            "-m",
            "u:99:rwx,g::rwx,o::rwx",
            mount.path().to_str().unwrap(),
        ];
        super::super::testing::run("setfacl", &list);
        let place = socket_place(&mount.path().join("s"), access(0o666));
        let _hidden = HiddenSocket::bind(place.directory().unwrap()).unwrap();
        let path = hidden(mount.path());
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
        assert!(UnixStream::connect(path).is_err());
    }

    #[test]
    fn socket_never_admits_more_than_its_readers() {
        crate::root::needs_root!();
        let directory = TestMount::new("mode=755");
        let (server, _) = server();
        super::super::testing::run(
            "setfacl",
            &[
                "-d",
                "-m",
                "u:99:rwx,o::rwx",
                directory.path().to_str().unwrap(),
            ],
        );
        let path = directory.path().join("s");
        let access = Access {
            readers: [user(72)].into(),
            ..access(0o620)
        };
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut seen = [0, 0];
                while !is_over.load(Ordering::Relaxed) {
                    for entry in fs::read_dir(directory.path()).unwrap() {
                        let entry = entry.unwrap();
                        let Ok(metadata) = entry.path().symlink_metadata() else {
                            continue;
                        };
                        assert!(metadata.file_type().is_socket());
                        let is_visible = entry.file_name() == "s";
                        seen[usize::from(is_visible)] += 1;
                        match metadata.mode() & 0o7777 {
                            0o660 => {}
                            mode => assert!(!is_visible && mode == 0o600, "{mode:o}"),
                        }
                    }
                }
                seen
            });
            let mut socket = None;
            for _ in 0..1000 {
                let place = socket_place(&path, access.clone());
                socket = Some(serve(&place, "75_token", &server));
            }
            drop(socket);
            is_over.store(true, Ordering::Relaxed);
            let seen = watcher.join().unwrap();
            assert!(seen[0] > 10 && seen[1] > 10, "{seen:?}");
        });
        let _socket = serve(&socket_place(&path, access), "75_token", &server);
        let list = super::super::testing::run("getfacl", &["-cnpE", path.to_str().unwrap()]);
        assert_eq!(
            list.trim(),
            "user::rw-\nuser:72:rw-\ngroup::-w-\nmask::rw-\nother::---"
        );
    }

    #[test]
    fn a_restart_keeps_those_who_wait() {
        let directory = directory();
        let path = directory.path().join("s");
        let place = socket_place(&path, access(0o600));
        let (stored, name, inode) = {
            let (server, _) = server();
            let socket = serve(&place, "75_token", &server);
            let stored = socket.as_fd().try_clone_to_owned().unwrap();
            (stored, socket.stored_name(), path.metadata().unwrap().ino())
        };
        let client = UnixStream::connect(&path).unwrap();
        assert_eq!(stored_name(&path), Some(name));

        let (server, _) = server();
        let place = socket_place(&path, access(0o600));
        let bound = BoundSocket::prepare(Arc::clone(&place), Some(stored)).unwrap();
        let socket = bound
            .commit(Some(rendered("76_token", HOUR)), &server, Arc::default())
            .unwrap();
        assert_eq!(read_rest(client), "76_token");
        assert_eq!(read(&path), "76_token");
        assert_eq!(path.metadata().unwrap().ino(), inode);
        assert!(place.is_intact());

        let stored = socket.as_fd().try_clone_to_owned().unwrap();
        drop(socket);
        let place = socket_place(&path, access(0o660));
        let bound = BoundSocket::prepare(place, Some(stored)).unwrap();
        let value = Some(rendered("77_token", HOUR));
        let _socket = bound.commit(value, &server, Arc::default()).unwrap();
        assert_eq!(read(&path), "77_token");
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o660);
    }

    #[test]
    fn only_sockets_have_a_name_in_the_store() {
        let directory = directory();
        let path = directory.path().join("s");
        assert_eq!(stored_name(&path), None);
        fs::write(&path, b"").unwrap();
        assert_eq!(stored_name(&path), None);
    }

    #[test]
    fn a_retired_socket_goes_and_serves_who_waited() {
        const TEST: &str = "publish::socket::tests::a_retired_socket_goes_and_serves_who_waited";
        if in_own_process(TEST, &[]) {
            return;
        }
        let directory = directory();
        let path = directory.path().join("s");
        let (server, _) = server();
        let place = socket_place(&path, access(0o600));
        let socket = serve(&place, "75_token", &server);
        socket.shared.remove(socket.key);
        let client = UnixStream::connect(&path).unwrap();
        socket.retire().unwrap();
        assert_eq!(read_rest(client), "75_token");
        assert!(!path.exists());
        assert!(place.is_intact());

        drop(serve(&place, "75_token", &server));
        assert!(path.exists());
        assert!(UnixStream::connect(&path).is_err());
    }

    #[test]
    fn a_socket_that_somebody_removed_is_put_right() {
        let directory = directory();
        let path = directory.path().join("s");
        let (server, _) = server();
        let place = socket_place(&path, access(0o600));
        let old = serve(&place, "75_token", &server);
        assert!(place.is_intact());
        fs::remove_file(&path).unwrap();
        assert!(!place.is_intact());
        let _new = serve(&place, "76_token", &server);
        assert!(place.is_intact());
        old.retire().unwrap();
        assert!(place.is_intact());
        assert_eq!(read(&path), "76_token");
    }

    #[test]
    fn uncommitted_socket_leaves_no_trace() {
        let directory = directory();
        let path = directory.path().join("s");
        let (server, _) = server();
        let place = socket_place(&path, access(0o600));
        let _old = serve(&place, "75_token", &server);
        let bound = BoundSocket::prepare(Arc::clone(&place), None).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
        drop(bound);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(place.is_intact());
        assert_eq!(read(&path), "75_token");
    }

    #[test]
    fn a_path_of_107_bytes_will_do() {
        let directory = directory();
        let long = "d".repeat(107 - directory.path().as_os_str().len() - 3);
        let path = directory.path().join(long).join("s");
        fs::create_dir(path.parent().unwrap()).unwrap();
        assert_eq!(path.as_os_str().len(), 107);
        let (server, _) = server();
        let _socket = serve(&socket_place(&path, access(0o600)), "75_token", &server);
        assert_eq!(read(&path), "75_token");
    }

    #[test]
    fn a_shortage_of_descriptors_is_waited_out() {
        const TEST: &str = "publish::socket::tests::a_shortage_of_descriptors_is_waited_out";
        if in_own_process(TEST, &["prlimit", "--nofile=64"]) {
            return;
        }
        let directory = directory();
        let path = directory.path().join("s");
        let (server, _) = server();
        let _socket = serve(&socket_place(&path, access(0o600)), "75_token", &server);
        let flags = SocketFlags::CLOEXEC;
        let client = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        let mut hoard = Vec::new();
        while let Ok(copy) = client.try_clone() {
            hoard.push(copy);
        }
        rustix::net::connect(&client, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        let busy = || {
            let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
            let usage = usage.unwrap();
            let spent = usage.user_time() + usage.system_time();
            Duration::from_micros(
                spent.tv_sec().cast_unsigned() * 1_000_000 + spent.tv_usec().cast_unsigned(),
            )
        };
        let before = busy();
        thread::sleep(Duration::from_secs(1));
        assert!(busy() < before + Duration::from_millis(100), "it spins");
        drop(hoard);
        assert_eq!(read_rest(client.into()), "75_token");
    }
}
