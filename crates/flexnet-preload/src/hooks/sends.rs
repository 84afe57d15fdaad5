// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Functions that send the program's bytes: write, writev, send, sendto, sendmsg, sendmmsg. All of
//! them go out by [`crate::send`].

use crate::barrier;
use crate::real;
use crate::send::{self, Message};
use libc::{c_int, c_uint, c_void, iovec, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t};
use std::cell::Cell;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

/// More slices than the kernel takes (IOV_MAX).
const SLICES_MAX: usize = 1024;
/// Slices of a send, empty ones not counted, that is queued although an empty one has
/// no address.
const SLICES_WITHOUT_ADDRESS: usize = 16;

/// One contiguous send.
#[inline(always)]
unsafe fn one(
    fd: RawFd,
    data: *const c_void,
    length: size_t,
    flags: c_int,
    real: impl FnOnce() -> ssize_t,
) -> ssize_t {
    let slice = Cell::new([IoSlice::new(&[])]);
    // SAFETY: as for the function that was called; the message is used before `slice`
    // goes, and `slice` is not set again.
    let message = || match unsafe { bytes(data, length) } {
        Some(bytes) => {
            slice.set([IoSlice::new(bytes)]);
            Message {
                // SAFETY: as above.
                slices: unsafe { &*slice.as_ptr() },
                length,
                flags,
                plain: true,
                nothing: false,
            }
        }
        None => Message {
            flags,
            ..Message::other(0)
        },
    };
    send::send(fd, message, real)
}

/// The caller's bytes; `None`: the kernel's to judge.
unsafe fn bytes<'a>(data: *const c_void, length: size_t) -> Option<&'a [u8]> {
    if length == 0 {
        return Some(&[]);
    }
    let can = !data.is_null() && length <= isize::MAX as usize;
    // SAFETY: the caller's bytes, which write() would read too.
    can.then(|| unsafe { std::slice::from_raw_parts(data.cast::<u8>(), length) })
}

/// The slices of a call, gathered when it is looked at.
struct Gathered<'a> {
    /// Where they are copied to without the empty ones.
    copied: Cell<MaybeUninit<[IoSlice<'a>; SLICES_WITHOUT_ADDRESS]>>,
}

impl<'a> Gathered<'a> {
    #[inline(always)]
    fn new() -> Self {
        Self {
            copied: Cell::new(MaybeUninit::uninit()),
        }
    }

    /// The message of these slices; one that is not plain is the kernel's to judge,
    /// behind what is queued.
    ///
    /// # Safety
    /// The caller's array is as for writev; it is asked for once at a time.
    unsafe fn message(
        &'a self,
        (slices, count): (*const iovec, usize),
        (flags, plain): (c_int, bool),
    ) -> Message<'a> {
        let other = Message {
            flags,
            ..Message::other(0)
        };
        if (slices.is_null() && count > 0) || count > SLICES_MAX {
            return other;
        }
        let (mut length, mut lacks) = (0usize, false);
        for i in 0..count {
            // SAFETY: the caller's array, which the kernel would read too.
            let vector = unsafe { &*slices.add(i) };
            let Some(sum) = length.checked_add(vector.iov_len) else {
                return other;
            };
            length = sum;
            lacks |= vector.iov_base.is_null();
        }
        if length > isize::MAX as usize {
            return other;
        }
        let slices: &[IoSlice<'_>] = match (count, lacks) {
            (0, _) => &[],
            // SAFETY: IoSlice has the layout of iovec, and no base is null.
            (_, false) => unsafe { std::slice::from_raw_parts(slices.cast(), count) },
            // SAFETY: as promised by the caller.
            (_, true) => match unsafe { self.without_empty(slices, count) } {
                Some(slices) => slices,
                None => return other,
            },
        };
        Message {
            slices,
            length,
            flags,
            plain,
            nothing: false,
        }
    }

    /// The slices that are not empty. `None`: too many, or one that is not empty has
    /// no address.
    #[cold]
    unsafe fn without_empty(
        &'a self,
        slices: *const iovec,
        count: usize,
    ) -> Option<&'a [IoSlice<'a>]> {
        let mut copied = [IoSlice::new(&[]); SLICES_WITHOUT_ADDRESS];
        let mut filled = 0;
        for i in 0..count {
            // SAFETY: the caller's array.
            let vector = unsafe { &*slices.add(i) };
            if vector.iov_len == 0 {
                continue;
            }
            // SAFETY: the caller's bytes.
            let bytes = unsafe { bytes(vector.iov_base, vector.iov_len) }?;
            *copied.get_mut(filled)? = IoSlice::new(bytes);
            filled += 1;
        }
        self.copied.set(MaybeUninit::new(copied));
        // SAFETY: just written, and again only when the message is not used any more.
        Some(unsafe { &(*self.copied.as_ptr()).assume_init_ref()[..filled] })
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
/// As for write(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __write(fd: c_int, data: *const c_void, length: size_t) -> ssize_t {
    // SAFETY: as promised by the caller.
    unsafe { write(fd, data, length) }
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
    let real = || unsafe { real::send(fd, data, length, flags) };
    // SAFETY: as promised by the caller.
    unsafe { one(fd, data, length, flags, real) }
}

/// # Safety
/// As for send(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __send(
    fd: c_int,
    data: *const c_void,
    length: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: as promised by the caller.
    unsafe { send(fd, data, length, flags) }
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
    // To an address of its own: after what is queued.
    let message = || Message {
        flags,
        ..Message::other(0)
    };
    send::send(fd, message, real)
}

/// # Safety
/// As for writev(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn writev(fd: c_int, slices: *const iovec, count: c_int) -> ssize_t {
    let gathered = Gathered::new();
    let array = (slices, usize::try_from(count).unwrap_or(usize::MAX));
    let message = || {
        // SAFETY: as promised by the caller.
        let message = unsafe { gathered.message(array, (0, true)) };
        // Even of a datagram socket: writev of nothing ends before the socket.
        let nothing = message.plain && message.length == 0;
        Message { nothing, ..message }
    };
    // SAFETY: as promised by the caller.
    send::send(fd, message, || unsafe { real::writev(fd, slices, count) })
}

/// Descriptors that are sent to another process may be written to there.
///
/// # Safety
/// The message is one for sendmsg(2).
pub(super) unsafe fn pass_rights_through(message: &msghdr) {
    if message.msg_control.is_null() || message.msg_controllen == 0 {
        return;
    }
    // SAFETY: the caller's control messages, walked as the kernel does.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(message);
        while let Some(header) = control.as_ref() {
            if (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let fds = libc::CMSG_DATA(control).cast::<c_int>();
                // A length that is too long is the kernel's to refuse.
                let end = message.msg_control.addr() + message.msg_controllen;
                let room = end.saturating_sub(fds.addr());
                let bytes = header.cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
                let bytes = bytes.min(room);
                for i in 0..bytes / size_of::<c_int>() {
                    barrier::pass_through_permanently(fds.add(i).read_unaligned());
                }
            }
            control = libc::CMSG_NXTHDR(message, control);
        }
    }
}

unsafe fn message_of<'a>(gathered: &'a Gathered<'a>, header: &msghdr, flags: c_int) -> Message<'a> {
    let plain = header.msg_controllen == 0 && header.msg_namelen == 0;
    let array = (header.msg_iov.cast_const(), header.msg_iovlen);
    // SAFETY: as for sendmsg.
    unsafe { gathered.message(array, (flags, plain)) }
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
    let real = || unsafe { real::sendmsg(fd, message, flags) };
    // SAFETY: as promised by the caller.
    let Some(header) = (unsafe { message.as_ref() }) else {
        return real(); // EFAULT
    };
    // SAFETY: as promised by the caller.
    unsafe { pass_rights_through(header) };
    let gathered = Gathered::new();
    // SAFETY: as promised by the caller.
    let message = || unsafe { message_of(&gathered, header, flags) };
    send::send(fd, message, real)
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
        // SAFETY: as promised by the caller; EFAULT.
        return unsafe { real::sendmmsg(fd, messages, count, flags) };
    }
    let number = count as usize;
    for i in 0..number {
        // SAFETY: the caller's array.
        unsafe { pass_rights_through(&(*messages.add(i)).msg_hdr) };
    }
    let gathered = Gathered::new();
    send::send_several(
        fd,
        number,
        // SAFETY: as promised by the caller; one message is used at a time.
        |i| unsafe { message_of(&gathered, &(*messages.add(i)).msg_hdr, flags) },
        // SAFETY: the caller's array.
        |i, bytes| unsafe { (*messages.add(i)).msg_len = bytes as c_uint },
        // SAFETY: as promised by the caller, for the messages that are left.
        |from| unsafe { real::sendmmsg(fd, messages.add(from), (number - from) as c_uint, flags) },
    )
}
