// SPDX-License-Identifier: GPL-2.0-only
//! The control socket's two ends: the listening one, and a connection's
//! packets with the descriptors that travel with them.
//!
//! Promises that nothing here blocks. What packets mean is message.rs's; what accepts,
//! and is between a client and its connection here, is the front's.

use crate::front::{Arrival, Front};
use crate::message::REQUEST_BYTES;
use crate::packets;
use crate::peer::Peer;
use crate::why::Walk;
use anyhow::{Context, Result, bail};
use flexnet::abi::Message;
use flexnet::client::root_door;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect,
    listen, socket_with,
};
use std::ffi::CString;
use std::fs::{self, DirBuilder, Permissions};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a daemon that has just died may take to leave the socket.
const LEAVING: Duration = Duration::from_secs(1);

/// The listening socket; its file goes with it.
#[derive(Debug)]
pub struct Listener {
    socket: ManuallyDrop<OwnedFd>,
    path: PathBuf,
    left_to_another: bool,
    /// Device and number of the socket's file.
    file: Option<(u64, u64)>,
    /// The process that accepts; `None` before there is one and after its end.
    front: Option<Front>,
}

impl Listener {
    /// Listens at a path, for everybody or for one group.
    pub fn new(path: &Path, group: Option<&str>) -> Result<Self> {
        make_directory(path)?;
        // What a daemon left that died; anything but a socket is not ours.
        if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
            if is_served(path)? {
                bail!("another daemon serves {}", path.display());
            }
            fs::remove_file(path)
                .with_context(|| format!("cannot make the socket {}", path.display()))?;
        }
        let listener = Self::bound(path)?;
        // Nobody can connect before listen(): the mode is right by then.
        listener.belong_to(group)?;
        listen(&listener, 64)?;
        Ok(listener)
    }

    /// Listens beside a path, for root alone, where nobody finds it before [`show`].
    ///
    /// [`show`]: Listener::show
    pub fn door(path: &Path) -> Result<Self> {
        let path = root_door(path);
        make_directory(&path)?;
        let new = path.with_extension("new");
        let _ = fs::remove_file(&new);
        let listener = Self::bound(&new)?;
        fs::set_permissions(&new, Permissions::from_mode(0o600))?;
        listen(&listener, 64)?;
        Ok(listener)
    }

    /// Has root's door beside a path found there. A process that listened there before is no
    /// longer found.
    pub fn show(mut self, path: &Path) -> Result<Self> {
        let path = root_door(path);
        fs::rename(&self.path, &path)
            .with_context(|| format!("cannot make the socket {}", path.display()))?;
        self.path = path;
        Ok(self)
    }

    /// A socket bound at a path.
    fn bound(path: &Path) -> Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        bind(&socket, &SocketAddrUnix::new(path)?)
            .with_context(|| format!("cannot make the socket {}", path.display()))?;
        Ok(Self::with(socket, path))
    }

    fn with(socket: OwnedFd, path: &Path) -> Self {
        Self {
            socket: ManuallyDrop::new(socket),
            path: path.to_owned(),
            left_to_another: false,
            file: file_at(path),
            front: None,
        }
    }

    /// What another daemon listened at.
    ///
    /// # Errors
    /// It is no listening socket.
    pub fn taken(socket: OwnedFd, path: &Path) -> Result<Self> {
        // A client that connects asks which process listens: it is this one from here on.
        listen(&socket, 64)?;
        Ok(Self::with(socket, path))
    }

    /// Is there that group?
    ///
    /// # Errors
    /// There is not.
    pub fn check_group(group: Option<&str>) -> Result<()> {
        group.map_or(Ok(()), |group| group_id(group).map(drop))
    }

    /// Lets everybody connect, or one group.
    ///
    /// # Errors
    /// There is no such group, or the file cannot be changed.
    pub fn belong_to(&self, group: Option<&str>) -> Result<()> {
        let mode = match group {
            Some(name) => {
                chown(&self.path, None, Some(group_id(name)?))?;
                0o660
            }
            None => 0o666,
        };
        fs::set_permissions(&self.path, Permissions::from_mode(mode))?;
        Ok(())
    }

    /// Lets in so many connections at a time, from now on.
    ///
    /// # Errors
    /// No process can be started.
    pub fn open(&mut self, places: usize) -> Result<()> {
        if self.front.is_none() {
            self.front = Some(Front::start(self.as_fd(), places)?);
        }
        Ok(())
    }

    /// Lets in no client any more. Those that were let in before are still to be taken.
    pub fn close(&mut self) {
        if let Some(front) = &mut self.front {
            front.stop();
        }
    }

    /// Another daemon listens there from now on.
    pub fn leave(&mut self) {
        self.left_to_another = true;
    }

    /// Listens there again, if that is where clients still connect to.
    pub fn again(mut self) -> Option<Self> {
        let found = self.file.is_some() && self.file == file_at(&self.path);
        (self.front, self.left_to_another) = (None, !found);
        // Clients that connect ask which process listens.
        (found && listen(&self, 64).is_ok()).then_some(self)
    }

    /// The next connection, if there is one.
    pub fn accept(&mut self) -> Option<Result<Connection, Refused>> {
        match self.front.as_ref()?.next() {
            Ok(None) => None,
            Ok(Some(Arrival::Admitted(socket, peer))) => Some(Ok(Connection::new(socket, peer))),
            Ok(Some(Arrival::Refused(user))) => Some(Err(Refused(user))),
            Err(_) => {
                self.front = None;
                None
            }
        }
    }

    /// Where connections are told of, while they are let in.
    pub fn arrivals(&self) -> Option<BorrowedFd<'_>> {
        self.front.as_ref().map(AsFd::as_fd)
    }
}

/// A user's connection for which there was no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub u32);

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if !self.left_to_another {
            let _ = fs::remove_file(&self.path);
        }
        drop(self.front.take());
        // Connections that nobody accepted go with the socket, and with them what
        // was passed over them, whose close may wait. The end of the process does not.
        // SAFETY: nothing uses it after this, as it is being dropped.
        let socket = unsafe { ManuallyDrop::take(&mut self.socket) };
        let _ = std::thread::Builder::new().spawn(move || drop(socket));
    }
}

/// Which file is there.
fn file_at(path: &Path) -> Option<(u64, u64)> {
    let file = fs::symlink_metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

fn make_directory(path: &Path) -> Result<()> {
    let Some(directory) = path.parent().filter(|directory| !directory.exists()) else {
        return Ok(());
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
        .with_context(|| format!("cannot create {}", directory.display()))
}

/// Does somebody listen there, and go on to do so?
fn is_served(path: &Path) -> Result<bool> {
    let (start, address) = (Instant::now(), SocketAddrUnix::new(path)?);
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::AGAIN) if start.elapsed() > LEAVING => return Ok(true),
            // The front of a daemon that was killed ends a moment after it.
            Ok(()) | Err(Errno::AGAIN) => std::thread::sleep(LEAVING / 20),
            Err(_) => return Ok(false),
        }
    }
}

/// A group's number by its name or its number.
fn group_id(group: &str) -> Result<u32> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let name = CString::new(group)?;
    // SAFETY: a zero-terminated name; no other thread asks for groups.
    let entry = unsafe { libc::getgrnam(name.as_ptr()) };
    if entry.is_null() {
        bail!("there is no group {group}");
    }
    // SAFETY: not null, and valid until the next call.
    Ok(unsafe { (*entry).gr_gid })
}

/// A connection and the process at its other end.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    /// The process that connected.
    pub peer: Peer,
    /// The client it became.
    pub client: Option<u32>,
    /// The HELLO whose page is being placed; nothing else is read meanwhile.
    pub hello: Option<Message>,
    /// The walk over a process' threads that it has asked for.
    pub walk: Option<Walk>,
    /// When it last asked for something.
    pub heard: Instant,
}

/// A packet that arrived.
#[derive(Debug)]
pub struct Packet {
    /// Its beginning.
    pub bytes: [u8; REQUEST_BYTES],
    /// How much of `bytes` it filled.
    pub kept: usize,
    /// How long it was.
    pub length: usize,
    /// The descriptor that came with it.
    pub fd: Option<OwnedFd>,
}

impl Connection {
    fn new(socket: OwnedFd, peer: Peer) -> Self {
        Self {
            socket,
            peer,
            client: None,
            hello: None,
            walk: None,
            heard: Instant::now(),
        }
    }

    /// Connects to a daemon's socket.
    pub fn connect(path: &Path) -> Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        let peer = Peer::of(socket.as_fd())?;
        Ok(Self::new(socket, peer))
    }

    /// The next packet; `Ok(None)` when there is none yet, an error when the
    /// other end is gone.
    pub fn receive(&self) -> Result<Option<Packet>, Errno> {
        let mut bytes = [0; REQUEST_BYTES];
        match packets::receive(&self.socket, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((length, fds)) => Ok(Some(Packet {
                bytes,
                kept: length.min(REQUEST_BYTES),
                length,
                fd: fds.into_iter().next(),
            })),
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Sends a packet with up to two descriptors. A client that does not read
    /// what it asked for gets an error, and its connection is closed for it.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        packets::send(&self.socket, bytes, fds, SendFlags::DONTWAIT)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flexnet::abi::Wire;

    fn path() -> PathBuf {
        let directory = std::env::temp_dir().join(format!(
            "flexnet-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        directory.join("control.sock")
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn packets_arrive_with_length_and_descriptor() {
        let (client, relay) = packets::pair().unwrap();
        let peer = Peer::of(relay.as_fd()).unwrap();
        assert_eq!(peer.pid as u32, std::process::id());
        let connection = Connection::new(relay, peer);
        assert!(connection.receive().unwrap().is_none());
        rustix::io::write(&client, Message::default().as_bytes()).unwrap();
        let packet = connection.receive().unwrap().unwrap();
        assert_eq!((packet.kept, packet.length), (16, 16));
        assert!(packet.fd.is_none());
        rustix::io::write(&client, &[1; 4000]).unwrap();
        let packet = connection.receive().unwrap().unwrap();
        assert_eq!((packet.kept, packet.length), (REQUEST_BYTES, 4000));
        drop(client);
        assert!(connection.receive().is_err());
    }

    #[test]
    fn a_served_path_is_left_alone_and_a_dead_one_taken() {
        let path = path();
        let listener = Listener::new(&path, None).unwrap();
        assert_eq!(mode(&path), 0o666);
        assert!(Listener::new(&path, None).is_err());
        drop(listener);
        assert!(!path.exists());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        Listener::new(&path, None).unwrap();
    }

    #[test]
    fn a_listener_that_was_left_listens_again_where_it_is_found() {
        let path = path();
        let mut listener = Listener::new(&path, None).unwrap();
        listener.leave();
        let mut listener = listener.again().unwrap();
        assert!(Connection::connect(&path).is_ok());
        listener.leave();
        fs::remove_file(&path).unwrap();
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(listener.again().is_none());
        // It is another one's file.
        assert!(path.exists());
        drop(other);
    }

    #[test]
    fn roots_door_is_roots_and_takes_the_place_of_another() {
        let path = path();
        let door = || Listener::door(&path).unwrap();
        let first = door().show(&path).unwrap();
        // One that is not shown is in nobody's way, and neither is its end.
        drop(door());
        assert!(Connection::connect(&root_door(&path)).is_ok());
        let second = door().show(&path).unwrap();
        assert_eq!(mode(&root_door(&path)), 0o600);
        let mut first = first;
        first.leave();
        drop(first);
        assert!(Connection::connect(&root_door(&path)).is_ok());
        drop(second);
        assert!(!root_door(&path).exists());
    }
}
