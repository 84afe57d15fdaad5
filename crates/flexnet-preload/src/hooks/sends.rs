// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! write, writev, send, sendto, sendmsg, sendmmsg.

use super::options::with_entry;
use crate::barrier;
use crate::real;
use crate::send::{Message, Verdict, concerns, offer};
use crate::table::Slot;
use libc::{c_int, c_uint, c_void, iovec, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t};
use std::io::IoSlice;
use std::os::fd::RawFd;

/// More slices than writev takes (IOV_MAX).
const SLICES_MAX: usize = 1024;

/// Says the errno, and raises SIGPIPE in this thread as the kernel would have.
#[cold]
fn fail(errno: c_int, flags: c_int) -> ssize_t {
    if errno == libc::EPIPE && flags & libc::MSG_NOSIGNAL == 0 {
        // SAFETY: a plain call; the handler, if any, runs here and now.
        unsafe { libc::raise(libc::SIGPIPE) };
    }
    real::set_errno(errno);
    -1
}

/// One contiguous send.
#[inline(always)]
unsafe fn one(
    fd: RawFd,
    data: *const c_void,
    length: size_t,
    flags: c_int,
    real: impl FnOnce() -> ssize_t,
) -> ssize_t {
    match concerns(fd) {
        None => real(),
        // SAFETY: as for the function that was called.
        Some((slot, tagged)) => unsafe {
            one_of_ours((fd, slot, tagged), data, length, flags, real)
        },
    }
}

unsafe fn one_of_ours(
    (fd, slot, tagged): (RawFd, &'static Slot, usize),
    data: *const c_void,
    length: size_t,
    flags: c_int,
    real: impl FnOnce() -> ssize_t,
) -> ssize_t {
    if data.is_null() || length > isize::MAX as usize {
        return real();
    }
    // SAFETY: the caller's bytes, which write() would read too.
    let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), length) };
    let slices = [IoSlice::new(bytes)];
    let message = Message {
        slices: &slices,
        length,
        flags,
        plain: true,
    };
    match offer(fd, slot, tagged, &message) {
        Verdict::Real => real(),
        Verdict::Accepted(bytes) => bytes as ssize_t,
        Verdict::Failed(errno) => fail(errno, flags),
        Verdict::RealFrom(sent) => {
            let rest = &bytes[sent..];
            // SAFETY: a part of the caller's bytes.
            let more = unsafe { real::send(fd, rest.as_ptr().cast(), rest.len(), flags) };
            match (more, sent) {
                (-1, 0) => -1,
                (-1, sent) => sent as ssize_t,
                (more, sent) => more + sent as ssize_t,
            }
        }
    }
}

/// The slices and their bytes; `None`: the kernel's to judge.
unsafe fn gathered<'a>(slices: *const iovec, count: usize) -> Option<(&'a [IoSlice<'a>], usize)> {
    if slices.is_null() || count > SLICES_MAX {
        return None;
    }
    // SAFETY: the caller's array, which the kernel would read too.
    let vectors = unsafe { std::slice::from_raw_parts(slices, count) };
    let mut length = 0usize;
    for vector in vectors {
        if vector.iov_base.is_null() {
            return None;
        }
        length = length.checked_add(vector.iov_len)?;
    }
    if length > isize::MAX as usize {
        return None;
    }
    // SAFETY: IoSlice has the layout of iovec, and no base is null.
    Some((
        unsafe { std::slice::from_raw_parts(slices.cast(), count) },
        length,
    ))
}

unsafe fn gathered_of_ours(
    (fd, slot, tagged): (RawFd, &'static Slot, usize),
    (slices, count): (*const iovec, usize),
    (flags, plain): (c_int, bool),
) -> Verdict {
    // SAFETY: as for the function that was called.
    match unsafe { gathered(slices, count) } {
        None => Verdict::Real,
        Some((slices, length)) => {
            let message = Message {
                slices,
                length,
                flags,
                plain,
            };
            offer(fd, slot, tagged, &message)
        }
    }
}

/// # Safety
/// As for write(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn write(fd: c_int, data: *const c_void, length: size_t) -> ssize_t {
    // SAFETY: as promised by the caller.
    unsafe { one(fd, data, length, 0, || real::write(fd, data, length)) }
}

/// # Safety
/// As for send(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn send(
    fd: c_int,
    data: *const c_void,
    length: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: as promised by the caller.
    unsafe {
        one(fd, data, length, flags, || {
            real::send(fd, data, length, flags)
        })
    }
}

/// # Safety
/// As for sendto(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sendto(
    fd: c_int,
    data: *const c_void,
    length: size_t,
    flags: c_int,
    to: *const sockaddr,
    to_length: socklen_t,
) -> ssize_t {
    // SAFETY: as promised by the caller.
    let real = || unsafe { real::sendto(fd, data, length, flags, to, to_length) };
    if to.is_null() {
        // SAFETY: as promised by the caller.
        return unsafe { one(fd, data, length, flags, real) };
    }
    let Some((slot, tagged)) = concerns(fd) else {
        return real();
    };
    // To an address of its own: after what is queued.
    let message = Message {
        slices: &[],
        length: 0,
        flags,
        plain: false,
    };
    match offer(fd, slot, tagged, &message) {
        Verdict::Failed(errno) => fail(errno, flags),
        _ => real(),
    }
}

/// # Safety
/// As for writev(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn writev(fd: c_int, slices: *const iovec, count: c_int) -> ssize_t {
    if let Some((slot, tagged)) = concerns(fd) {
        let array = (slices, usize::try_from(count).unwrap_or(usize::MAX));
        // SAFETY: as promised by the caller.
        match unsafe { gathered_of_ours((fd, slot, tagged), array, (0, true)) } {
            Verdict::Accepted(bytes) => return bytes as ssize_t,
            Verdict::Failed(errno) => return fail(errno, 0),
            Verdict::RealFrom(sent) => {
                // SAFETY: as promised by the caller; only one slice is handed
                // over.
                return unsafe { rest_of(fd, slices, sent, 0) };
            }
            Verdict::Real => {}
        }
    }
    // SAFETY: as promised by the caller.
    unsafe { real::writev(fd, slices, count) }
}

/// Sends the rest of a slice that was given back.
unsafe fn rest_of(fd: c_int, slice: *const iovec, sent: usize, flags: c_int) -> ssize_t {
    // SAFETY: the caller's slice, whose first `sent` bytes are sent.
    let more = unsafe {
        let from = (*slice).iov_base.cast::<u8>().add(sent);
        real::send(fd, from.cast(), (*slice).iov_len - sent, flags)
    };
    match (more, sent) {
        (-1, 0) => -1,
        (-1, sent) => sent as ssize_t,
        (more, sent) => more + sent as ssize_t,
    }
}

/// Descriptors that are sent to another process may be written to there.
unsafe fn pass_rights_through(message: &msghdr) {
    if message.msg_control.is_null() || message.msg_controllen == 0 {
        return;
    }
    // SAFETY: the caller's control messages, walked as the kernel does.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(message);
        while let Some(header) = control.as_ref() {
            if (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let bytes = header.cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
                let fds = libc::CMSG_DATA(control).cast::<c_int>();
                for i in 0..bytes / size_of::<c_int>() {
                    barrier::pass_through_permanently(fds.add(i).read_unaligned());
                }
            }
            control = libc::CMSG_NXTHDR(message, control);
        }
    }
}

unsafe fn message_of_ours(
    of: (RawFd, &'static Slot, usize),
    message: &msghdr,
    flags: c_int,
) -> Verdict {
    let plain = message.msg_controllen == 0 && message.msg_namelen == 0;
    let array = (message.msg_iov.cast_const(), message.msg_iovlen);
    // SAFETY: as for sendmsg.
    unsafe { gathered_of_ours(of, array, (flags, plain)) }
}

/// # Safety
/// As for sendmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sendmsg(
    fd: c_int,
    message: *const msghdr,
    flags: c_int,
) -> ssize_t {
    // SAFETY: as promised by the caller.
    if let Some(header) = unsafe { message.as_ref() } {
        // SAFETY: as promised by the caller.
        unsafe { pass_rights_through(header) };
        if let Some((slot, tagged)) = concerns(fd) {
            // SAFETY: as promised by the caller.
            match unsafe { message_of_ours((fd, slot, tagged), header, flags) } {
                Verdict::Accepted(bytes) => return bytes as ssize_t,
                Verdict::Failed(errno) => return fail(errno, flags),
                Verdict::RealFrom(sent) => {
                    // SAFETY: as promised by the caller; only one slice is
                    // handed over.
                    return unsafe { rest_of(fd, header.msg_iov, sent, flags) };
                }
                Verdict::Real => {}
            }
        }
    }
    // SAFETY: as promised by the caller.
    unsafe { real::sendmsg(fd, message, flags) }
}

/// # Safety
/// As for sendmmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sendmmsg(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
) -> c_int {
    if messages.is_null() {
        // SAFETY: as promised by the caller.
        return unsafe { real::sendmmsg(fd, messages, count, flags) };
    }
    let count = count as usize;
    for i in 0..count {
        // SAFETY: the caller's array.
        unsafe { pass_rights_through(&(*messages.add(i)).msg_hdr) };
    }
    let mut sent = 0;
    while sent < count
        && let Some((slot, tagged)) = concerns(fd)
    {
        // SAFETY: the caller's array.
        let message = unsafe { &mut *messages.add(sent) };
        // SAFETY: as promised by the caller.
        match unsafe { message_of_ours((fd, slot, tagged), &message.msg_hdr, flags) } {
            Verdict::Real => break,
            Verdict::Accepted(bytes) => message.msg_len = bytes as c_uint,
            Verdict::Failed(errno) if sent == 0 => return fail(errno, flags) as c_int,
            Verdict::Failed(errno) => {
                report_later(fd, errno);
                return sent as c_int;
            }
            Verdict::RealFrom(from) => {
                let slice = message.msg_hdr.msg_iov;
                // SAFETY: as promised by the caller; only one slice is handed
                // over.
                let (done, whole) = unsafe { (rest_of(fd, slice, from, flags), (*slice).iov_len) };
                if done < 0 {
                    return if sent == 0 { -1 } else { sent as c_int };
                }
                message.msg_len = done as c_uint;
                if (done as usize) < whole {
                    return sent as c_int + 1;
                }
            }
        }
        sent += 1;
    }
    if sent == count && count > 0 {
        return sent as c_int;
    }
    // SAFETY: as promised by the caller, for the messages that are left.
    let more = unsafe { real::sendmmsg(fd, messages.add(sent), (count - sent) as c_uint, flags) };
    match (more, sent) {
        (-1, 0) => -1,
        (-1, sent) => sent as c_int,
        (more, sent) => more + sent as c_int,
    }
}

/// An error of a message behind others that were sent: the next call says it, as
/// the kernel does.
fn report_later(fd: RawFd, errno: c_int) {
    if !matches!(errno, libc::EAGAIN | libc::EINTR | libc::ENOBUFS) {
        with_entry(fd, |_, entry| entry.restore_error(errno));
    }
}
