// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Receiving stays the kernel's. But an executor's send may have taken the error that the program's
//! next receive would have had. A reset connection then reads as ended. So the end of a stream is
//! checked twice.

use super::{unreported_error, with_entry};
use crate::entry::Kind;
use crate::real;
use libc::{c_int, c_void, iovec, msghdr, size_t, sockaddr, socklen_t, ssize_t};

/// What a receive says in the end.
#[inline(always)]
fn report_pending_error(fd: c_int, received: ssize_t) -> ssize_t {
    if received != 0 { received } else { end(fd) }
}

#[cold]
fn end(fd: c_int) -> ssize_t {
    if !is_stream(fd) {
        return 0; // an empty datagram is one
    }
    match unreported_error(fd) {
        Some(errno) => {
            real::set_errno(errno);
            -1
        }
        None => 0,
    }
}

fn is_stream(fd: c_int) -> bool {
    with_entry(fd, |_, entry| entry.kind() == Kind::Stream).unwrap_or(false)
}

/// # Safety
/// As for read(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn read(fd: c_int, data: *mut c_void, length: size_t) -> ssize_t {
    // SAFETY: as promised by the caller.
    report_pending_error(fd, unsafe { real::read(fd, data, length) })
}

/// # Safety
/// As for readv(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn readv(fd: c_int, slices: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: as promised by the caller.
    report_pending_error(fd, unsafe { real::readv(fd, slices, count) })
}

/// # Safety
/// As for recv(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn recv(
    fd: c_int,
    data: *mut c_void,
    length: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: as promised by the caller.
    report_pending_error(fd, unsafe { real::recv(fd, data, length, flags) })
}

/// # Safety
/// As for recvfrom(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn recvfrom(
    fd: c_int,
    data: *mut c_void,
    length: size_t,
    flags: c_int,
    from: *mut sockaddr,
    from_length: *mut socklen_t,
) -> ssize_t {
    // SAFETY: as promised by the caller.
    report_pending_error(fd, unsafe {
        real::recvfrom(fd, data, length, flags, from, from_length)
    })
}

/// # Safety
/// As for recvmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    // SAFETY: as promised by the caller.
    report_pending_error(fd, unsafe { real::recvmsg(fd, message, flags) })
}

/// # Safety
/// As for read(2), into `room` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __read_chk(
    fd: c_int,
    data: *mut c_void,
    length: size_t,
    room: size_t,
) -> ssize_t {
    // SAFETY: as promised by the caller.
    report_pending_error(fd, unsafe { real::__read_chk(fd, data, length, room) })
}

/// # Safety
/// As for recv(2), into `room` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __recv_chk(
    fd: c_int,
    data: *mut c_void,
    length: size_t,
    room: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: as promised by the caller.
    report_pending_error(fd, unsafe {
        real::__recv_chk(fd, data, length, room, flags)
    })
}

/// # Safety
/// As for recvfrom(2), into `room` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __recvfrom_chk(
    fd: c_int,
    data: *mut c_void,
    length: size_t,
    room: size_t,
    flags: c_int,
    from: *mut sockaddr,
    from_length: *mut socklen_t,
) -> ssize_t {
    // SAFETY: as promised by the caller.
    report_pending_error(fd, unsafe {
        real::__recvfrom_chk(fd, data, length, room, flags, from, from_length)
    })
}
