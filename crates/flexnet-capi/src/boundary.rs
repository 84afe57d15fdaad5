// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Where C ends and Rust begins: errors become negative errno values, panics
//! stop, and callbacks are remembered, since what waits may not be called from
//! them.

use libc::c_int;
use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// An errno, positive.
pub(crate) type Errno = c_int;

thread_local! {
    /// How many steps and callbacks of the application this thread is inside.
    static CALLBACKS: Cell<u32> = const { Cell::new(0) };
}

/// The body of every function that C calls: its value, a negative error, or -EIO
/// for a panic.
#[inline]
pub(crate) fn guard<R: From<c_int>>(body: impl FnOnce() -> Result<R, Errno>) -> R {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => value,
        Ok(Err(errno)) => R::from(-errno),
        Err(payload) => {
            // Its destructor may panic, too.
            std::mem::forget(payload);
            R::from(-libc::EIO)
        }
    }
}

/// Runs a step or callback of the application.
#[inline]
pub(crate) fn call_back<R>(call: impl FnOnce() -> R) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            CALLBACKS.set(CALLBACKS.get() - 1);
        }
    }
    CALLBACKS.set(CALLBACKS.get() + 1);
    let _leave = Leave;
    call()
}

/// For what waits: EDEADLK in a step or a callback, whose executor would wait
/// for itself.
#[inline]
pub(crate) fn may_wait() -> Result<(), Errno> {
    match CALLBACKS.get() {
        0 => Ok(()),
        _ => Err(libc::EDEADLK),
    }
}

/// The errno of an error of the library.
pub(crate) fn errno_of(error: &io::Error) -> Errno {
    use io::ErrorKind::*;
    if let Some(errno) = error.raw_os_error() {
        return errno;
    }
    match error.kind() {
        WouldBlock => libc::EAGAIN,
        InvalidInput => libc::EINVAL,
        NotConnected => libc::ENOTCONN,
        NotFound => libc::ENOENT,
        PermissionDenied => libc::EACCES,
        ConnectionRefused => libc::ECONNREFUSED,
        TimedOut => libc::ETIMEDOUT,
        BrokenPipe => libc::EPIPE,
        UnexpectedEof => libc::ECONNRESET,
        OutOfMemory => libc::ENOMEM,
        _ => libc::EIO,
    }
}

/// A pointer for results: EINVAL when it is null or misaligned.
pub(crate) fn checked<T>(pointer: *mut T) -> Result<*mut T, Errno> {
    match !pointer.is_null() && pointer.is_aligned() {
        true => Ok(pointer),
        false => Err(libc::EINVAL),
    }
}

/// The bytes of a send.
///
/// # Safety
/// `buffer`, unless null, points to `length` bytes that stay as they are for
/// as long as the slice is used.
pub(crate) unsafe fn bytes<'a>(buffer: *const u8, length: usize) -> Result<&'a [u8], Errno> {
    if length == 0 {
        return Ok(&[]);
    }
    if buffer.is_null() || length > isize::MAX as usize {
        return Err(libc::EINVAL);
    }
    // SAFETY: as promised.
    Ok(unsafe { std::slice::from_raw_parts(buffer, length) })
}
