// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The little that is asked of a socket, so that the same coroutines run over
//! the kernel's and over a fake one that fails on purpose.

use crate::executor::as_own_thread;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use std::io::IoSlice;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

/// A connected socket. Never blocks, never raises SIGPIPE.
pub(crate) trait Socket: Send {
    /// Sends what the slices hold as one stretch of bytes or one datagram; how
    /// many bytes were taken.
    fn send(&self, slices: &[IoSlice<'_>]) -> Result<usize, Errno>;

    /// Sends as `send`, and waits until at least one byte is taken.
    fn send_waiting(&self, bytes: &[u8]) -> Result<usize, Errno> {
        loop {
            match self.send(&[IoSlice::new(bytes)]) {
                Err(Errno::AGAIN) => {
                    let fd = self.fd();
                    poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None)?;
                }
                other => return other,
            }
        }
    }

    /// Sends the slices as datagrams of `segment` bytes, the last one possibly
    /// shorter, all or none.
    fn send_segments(&self, slices: &[IoSlice<'_>], segment: u16) -> Result<usize, Errno>;

    /// Ends the stream: the peer reads its end after what was sent.
    fn shutdown_write(&self) {}

    /// What is waited on after EAGAIN.
    fn fd(&self) -> BorrowedFd<'_>;
}

const FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

impl Socket for Arc<TcpStream> {
    fn send(&self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        sendmsg(self, slices, &mut SendAncillaryBuffer::default(), FLAGS)
    }
    fn send_waiting(&self, bytes: &[u8]) -> Result<usize, Errno> {
        // One system call where the socket blocks; else by turns.
        match rustix::net::send(self, bytes, SendFlags::NOSIGNAL) {
            Err(Errno::AGAIN) => {
                poll(
                    &mut [PollFd::from_borrowed_fd(self.as_fd(), PollFlags::OUT)],
                    None,
                )?;
                Ok(0)
            }
            other => other,
        }
    }
    fn send_segments(&self, _: &[IoSlice<'_>], _: u16) -> Result<usize, Errno> {
        Err(Errno::OPNOTSUPP)
    }
    fn fd(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

impl Socket for Arc<UdpSocket> {
    fn send(&self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        sendmsg(self, slices, &mut SendAncillaryBuffer::default(), FLAGS)
    }

    fn send_segments(&self, slices: &[IoSlice<'_>], segment: u16) -> Result<usize, Errno> {
        sendmsg_segments(self.as_fd(), slices, segment)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

/// `sendmsg` of a datagram that the kernel cuts. rustix knows no UDP_SEGMENT.
pub(super) fn sendmsg_segments(
    fd: BorrowedFd<'_>,
    slices: &[IoSlice<'_>],
    segment: u16,
) -> Result<usize, Errno> {
    /// Room for one control message of two bytes, aligned as its header.
    #[repr(C, align(8))]
    struct Control([u8; 32]);
    let mut control = Control([0; 32]);
    // SAFETY: zeros are a valid msghdr; every pointer in it is to memory
    // that outlives the call; `control` is larger than CMSG_SPACE(2), so
    // CMSG_FIRSTHDR is not null and its data has room for the two bytes.
    let sent = unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = slices.as_ptr().cast_mut().cast();
        header.msg_iovlen = slices.len() as _;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = libc::CMSG_SPACE(2) as _;
        let message = libc::CMSG_FIRSTHDR(&header);
        (*message).cmsg_level = libc::SOL_UDP;
        (*message).cmsg_type = libc::UDP_SEGMENT;
        (*message).cmsg_len = libc::CMSG_LEN(2) as _;
        libc::CMSG_DATA(message)
            .cast::<u16>()
            .write_unaligned(segment);
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // In the preload library a symbol of this name is its hook, which lets
        // threads of the library through.
        as_own_thread(|| libc::sendmsg(fd.as_raw_fd(), &header, flags))
    };
    usize::try_from(sent).map_err(|_| last_errno())
}

fn last_errno() -> Errno {
    let error = std::io::Error::last_os_error();
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// Can this kernel cut datagrams (UDP_SEGMENT, Linux 4.18)? Asked of the socket.
pub(crate) fn has_segmentation(socket: BorrowedFd<'_>) -> bool {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: pointers to locals of the sizes that are given.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    result == 0
}
