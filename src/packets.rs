// SPDX-License-Identifier: GPL-2.0-only
//! Packets with the descriptors that travel with them, over a unix socket that keeps
//! packets apart (SOCK_SEQPACKET).
//!
//! Promises that a receiver that has no room for descriptors never holds one: the
//! kernel drops what does not fit before it becomes a descriptor of this process.
//! Leaves to others what packets mean and whose they are.

use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Descriptors that a packet may carry.
pub const FDS_MAX: usize = 2;

/// Two connected sockets, which no program that is executed inherits.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = SocketFlags::CLOEXEC;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// Sends a packet with up to [`FDS_MAX`] descriptors.
///
/// # Errors
/// The kernel's; `AGAIN` with `DONTWAIT` where the other end does not read.
pub fn send(
    socket: impl AsFd,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL);
    }
    let flags = flags | SendFlags::NOSIGNAL;
    let slices = [IoSlice::new(bytes)];
    rustix::io::retry_on_intr(|| sendmsg(&socket, &slices, &mut control, flags))?;
    Ok(())
}

/// Receives a packet without its descriptors. How long it was; more than `bytes`
/// where it was cut.
///
/// # Errors
/// The kernel's; `PIPE` at the end of the connection, `AGAIN` where nothing is there.
pub fn receive_bytes(
    socket: impl AsFd,
    bytes: &mut [u8],
    flags: RecvFlags,
) -> Result<usize, Errno> {
    receive_into(socket, bytes, &mut RecvAncillaryBuffer::default(), flags)
}

/// Receives a packet with up to [`FDS_MAX`] descriptors.
///
/// # Errors
/// As [`receive_bytes`].
pub fn receive(
    socket: impl AsFd,
    bytes: &mut [u8],
    flags: RecvFlags,
) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let length = receive_into(socket, bytes, &mut control, flags)?;
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    Ok((length, fds.flatten().collect()))
}

fn receive_into(
    socket: impl AsFd,
    bytes: &mut [u8],
    control: &mut RecvAncillaryBuffer<'_>,
    flags: RecvFlags,
) -> Result<usize, Errno> {
    let flags = flags | RecvFlags::CMSG_CLOEXEC | RecvFlags::TRUNC;
    loop {
        let mut slices = [IoSliceMut::new(bytes)];
        match recvmsg(&socket, &mut slices, control, flags) {
            Ok(received) if received.bytes > 0 => return Ok(received.bytes),
            // No message of ours is empty.
            Ok(_) => return Err(Errno::PIPE),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_arrive_only_where_there_is_room() {
        let (here, there) = pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        for _ in 0..2 {
            let fds = [null.as_fd(), null.as_fd()];
            send(&here, &[1; 40], &fds, SendFlags::empty()).unwrap();
        }
        let mut bytes = [0; 16];
        let before = open();
        let flags = RecvFlags::empty();
        assert_eq!(receive_bytes(&there, &mut bytes, flags), Ok(40));
        // Other tests open and close descriptors at the same time; not hundreds.
        assert!(open() < before + 100);
        let (length, fds) = receive(&there, &mut bytes, flags).unwrap();
        assert_eq!((length, fds.len()), (40, 2));
        let flags = RecvFlags::DONTWAIT;
        assert_eq!(receive_bytes(&there, &mut bytes, flags), Err(Errno::AGAIN));
        drop(here);
        assert_eq!(receive_bytes(&there, &mut bytes, flags), Err(Errno::PIPE));
    }
}
