// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What the kernel says of a socket, and of its send buffer.

use crate::real;
use rustix::fd::BorrowedFd;
use rustix::fs::OFlags;
use rustix::net::sockopt;
use std::os::fd::RawFd;
use std::time::Instant;

pub(crate) fn borrowed(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the program's, for whose call this is; a bad one fails.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Would a send on it return EAGAIN where it cannot go on?
pub(crate) fn is_nonblocking(fd: RawFd) -> bool {
    rustix::fs::fcntl_getfl(borrowed(fd)).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK))
}

/// When a send on it that begins now gives up (SO_SNDTIMEO).
pub(crate) fn deadline(fd: RawFd) -> Option<Instant> {
    let timeout = sockopt::socket_timeout(borrowed(fd), sockopt::Timeout::Send);
    timeout
        .ok()
        .flatten()
        .map(|timeout| Instant::now() + timeout)
}

/// Of asm-generic/socket.h, since Linux 5.15: which buffers the kernel does not size itself,
/// since the program has set their size.
const SO_BUF_LOCK: libc::c_int = 72;

/// Nothing where the kernel has no such option.
pub(crate) fn buffer_lock(fd: RawFd) -> Option<libc::c_int> {
    let (mut value, mut length) = (0, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: a local integer and its size.
    let done = unsafe {
        real::getsockopt(
            fd,
            libc::SOL_SOCKET,
            SO_BUF_LOCK,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    (done == 0).then_some(value)
}

pub(crate) fn lock_buffers(fd: RawFd, locked: libc::c_int) {
    // SAFETY: a local integer and its size.
    unsafe {
        real::setsockopt(
            fd,
            libc::SOL_SOCKET,
            SO_BUF_LOCK,
            (&raw const locked).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
}

/// Bytes a program may ask for as SO_SNDBUF; 0 where that cannot be said.
pub(crate) fn send_buffer_limit() -> usize {
    let text = std::fs::read_to_string("/proc/sys/net/core/wmem_max").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}
