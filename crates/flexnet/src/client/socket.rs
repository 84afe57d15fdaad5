// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The control socket from the client's side: one message a packet, with
//! descriptors.

use crate::abi::{self, Message, Wire};
use crate::descriptors::raised;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg,
    sendmsg, socket_with,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest a request waits for its reply: the daemon's slowest answer waits for
/// two RCU grace periods, tens of milliseconds.
pub(super) const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// Where root is served whatever others do: beside the control socket at `path`, with
/// places of its own. The functions that ask for something go there
/// when the caller is root.
pub fn root_door(path: &Path) -> PathBuf {
    path.with_extension("root.sock")
}

#[derive(Debug)]
pub(super) struct ControlSocket {
    socket: OwnedFd,
}

/// A packet: how long it was, and its descriptors.
pub(super) struct Packet {
    pub(super) length: usize,
    pub(super) descriptors: Vec<OwnedFd>,
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl ControlSocket {
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let socket = raised(socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?)?;
        let timeout = Some(REPLY_TIMEOUT);
        rustix::net::sockopt::set_socket_timeout(
            &socket,
            rustix::net::sockopt::Timeout::Recv,
            timeout,
        )?;
        rustix::net::sockopt::set_socket_timeout(
            &socket,
            rustix::net::sockopt::Timeout::Send,
            timeout,
        )?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self { socket })
    }

    /// Connects for a request: root at its own door, where there is one.
    pub(super) fn connect_to_ask(path: &Path) -> io::Result<Self> {
        if rustix::process::geteuid().is_root()
            && let Ok(socket) = Self::connect(&root_door(path))
        {
            return Ok(socket);
        }
        Self::connect(path)
    }

    pub(super) fn send<T: Wire>(&self, message: &T, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&fds));
        }
        let slices = [IoSlice::new(message.as_bytes())];
        sendmsg(&self.socket, &slices, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Receives one packet into `buffer`. An end of the connection is an error
    /// (`UnexpectedEof`).
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<Packet> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut slices = [IoSliceMut::new(buffer)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            match recvmsg(&self.socket, &mut slices, &mut control, flags) {
                Err(Errno::INTR) => {}
                other => break other?,
            }
        };
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                for fd in fds {
                    descriptors.push(raised(fd)?);
                }
            }
        }
        Ok(Packet {
            length: received.bytes,
            descriptors,
        })
    }

    /// Sends a request and receives its reply, on a connection nobody else uses.
    pub(super) fn call<Q: Wire, R: Wire>(
        &self,
        request: &Q,
        fd: Option<BorrowedFd<'_>>,
    ) -> io::Result<(R, Vec<OwnedFd>)> {
        let (header, reply, descriptors) = self.exchange(request, fd)?;
        check_status(&header)?;
        Ok((reply, descriptors))
    }

    /// The same, whatever the reply's status is.
    pub(super) fn exchange<Q: Wire, R: Wire>(
        &self,
        request: &Q,
        fd: Option<BorrowedFd<'_>>,
    ) -> io::Result<(Message, R, Vec<OwnedFd>)> {
        self.send(request, fd)?;
        let mut buffer = vec![0; size_of::<R>().max(size_of::<Message>())];
        let packet = self.receive(&mut buffer)?;
        let bytes = &buffer[..packet.length];
        let header = Message::from_bytes(bytes).ok_or(io::ErrorKind::InvalidData)?;
        let reply = R::from_bytes(bytes).ok_or(io::ErrorKind::InvalidData)?;
        Ok((header, reply, packet.descriptors))
    }
}

/// The status of a connection for which there is no room.
const TOO_MANY: i32 = -Errno::USERS.raw_os_error();

/// A reply's status as a result.
pub(super) fn check_status(reply: &Message) -> io::Result<()> {
    match reply.status {
        0 => Ok(()),
        TOO_MANY => Err(io::Error::other(
            "the scheduler has no place for one more connection of this user; \
             those that ask for nothing are closed after 10 s",
        )),
        status => Err(io::Error::from_raw_os_error(status.saturating_neg())),
    }
}

/// The header of a request of `size` bytes.
pub(super) fn header(kind: u16, size: usize, sequence: u32) -> Message {
    Message {
        size: size as u32,
        kind,
        version: abi::VERSION,
        sequence,
        status: 0,
    }
}

/// A pidfd of the calling thread. Raised and told of like all that outlive a call:
/// an executor's registration, in which the program may close what it finds.
pub(super) fn own_thread() -> io::Result<OwnedFd> {
    pidfd_of(rustix::thread::gettid()).and_then(raised)
}

/// A pidfd of a thread or process.
pub(super) fn pidfd_of(id: rustix::process::Pid) -> io::Result<OwnedFd> {
    use rustix::process::{PidfdFlags, pidfd_open};
    // PIDFD_THREAD is O_EXCL (Linux 6.9).
    let flags = PidfdFlags::from_bits_retain(libc::O_EXCL as u32);
    Ok(pidfd_open(id, flags)?)
}
