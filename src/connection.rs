// SPDX-License-Identifier: GPL-2.0-only
//! The control socket's two ends: the listening one, and a connection's
//! packets with the descriptors that travel with them.
//!
//! Promises that nothing here blocks. What packets mean is message.rs's.

use crate::message::REQUEST_BYTES;
use crate::peer::Peer;
use anyhow::{Context, Result, bail};
use flexnet::abi::Message;
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind,
    connect, listen, recvmsg, sendmsg, socket_with,
};
use std::ffi::CString;
use std::fs::{self, DirBuilder, Permissions};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// The listening socket; its file goes with it.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    left_to_another: bool,
}

impl Listener {
    /// Listens at a path, for everybody or for one group.
    pub fn new(path: &Path, group: Option<&str>) -> Result<Self> {
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        let address = SocketAddrUnix::new(path)?;
        // What a daemon left that died; anything but a socket is not ours.
        if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
            if connect(&socket, &address).is_ok() {
                bail!("another daemon serves {}", path.display());
            }
            fs::remove_file(path)?;
        }
        bind(&socket, &address)
            .with_context(|| format!("cannot make the socket {}", path.display()))?;
        let listener = Self::taken(socket, path);
        // Nobody can connect before listen(): the mode is right by then.
        listener.belong_to(group)?;
        listen(&listener.socket, 64)?;
        Ok(listener)
    }

    /// What another daemon listened at.
    pub fn taken(socket: OwnedFd, path: &Path) -> Self {
        Self {
            socket,
            path: path.to_owned(),
            left_to_another: false,
        }
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

    /// Another daemon listens there from now on.
    pub fn leave(&mut self) {
        self.left_to_another = true;
    }

    /// The next connection, if there is one.
    pub fn accept(&self) -> Option<Connection> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = accept_with(&self.socket, flags).ok()?;
        match Peer::of(socket.as_fd()) {
            Ok(peer) => Some(Connection {
                socket,
                peer,
                client: None,
                hello: None,
            }),
            Err(error) => {
                log::debug!("a connection's peer is gone: {error}");
                None
            }
        }
    }
}

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

/// A connection and who is at its other end.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    /// The process that connected.
    pub peer: Peer,
    /// The client it became.
    pub client: Option<u32>,
    /// The HELLO whose page is being placed; nothing else is read meanwhile.
    pub hello: Option<Message>,
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
    /// Connects to a daemon's socket.
    pub fn connect(path: &Path) -> Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self {
            peer: Peer::of(socket.as_fd())?,
            socket,
            client: None,
            hello: None,
        })
    }

    /// The next packet; `Ok(None)` when there is none yet, an error when the
    /// other end is gone.
    pub fn receive(&self) -> Result<Option<Packet>, Errno> {
        let mut bytes = [0; REQUEST_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let received = recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            flags,
        );
        let length = match received {
            Ok(received) if received.bytes > 0 => received.bytes,
            Ok(_) => return Err(Errno::PIPE),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        // There is room for one: the kernel has closed any others.
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        Ok(Some(Packet {
            bytes,
            kept: length.min(REQUEST_BYTES),
            length,
            fd,
        }))
    }

    /// Sends a packet with up to two descriptors. One who does not read what
    /// he asked for gets an error, and his connection is closed for it.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Errno::INVAL);
        }
        sendmsg(
            &self.socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        )?;
        Ok(())
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

    fn pair() -> (Listener, Connection, OwnedFd) {
        let directory = std::env::temp_dir().join(format!(
            "flexnet-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let path = directory.join("control.sock");
        let listener = Listener::new(&path, None).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
        let client = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::empty(),
            None,
        )
        .unwrap();
        connect(&client, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        let connection = listener.accept().unwrap();
        (listener, connection, client)
    }

    #[test]
    fn packets_arrive_with_length_and_descriptor() {
        let (_listener, connection, client) = pair();
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
        let (listener, _connection, _client) = pair();
        let path = listener.path.clone();
        assert!(Listener::new(&path, None).is_err());
        drop(listener);
        assert!(!path.exists());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        Listener::new(&path, None).unwrap();
    }

    #[test]
    fn the_peer_is_this_process() {
        let (listener, connection, _client) = pair();
        assert_eq!(connection.peer.pid as u32, std::process::id());
        assert!(listener.accept().is_none());
    }
}
