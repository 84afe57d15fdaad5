// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Version, error texts, and the class of the calling thread.

use crate::boundary::{errno_of, guard, may_wait};
use flexnet::abi::{Class, SOCKET_PATH};
use flexnet::client::set_class_of_self;
use libc::{c_char, c_int};
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Another path than the default one, if the caller has one.
///
/// # Safety
/// `path` is a string of the caller's, or null.
pub(crate) unsafe fn socket_path<'a>(path: *const c_char) -> &'a Path {
    if path.is_null() {
        return SOCKET_PATH.as_ref();
    }
    // SAFETY: as promised.
    OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()).as_ref()
}

/// # Safety
/// None is needed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Errors that mean something of their own here, and the usual ones of sockets.
fn text_of(errno: c_int) -> &'static CStr {
    match errno {
        0 => c"success",
        libc::EINVAL => {
            c"no handle of the library (null, foreign or closed), or an argument out of its range"
        }
        libc::EAGAIN => c"no room just now: try again when the descriptor is writable",
        libc::ENOBUFS => c"all coroutines of the runtime are in use: make it with more",
        libc::EDEADLK => c"this waits, and may not be called from a step or a callback",
        libc::EBUSY => c"in use: a runtime with open flows, or a completion that is pending",
        libc::ECANCELED => c"given up at the end of the runtime",
        libc::E2BIG => c"larger than the library knows of",
        libc::EIO => c"a panic inside the library or a step, or an input/output error",
        libc::ENOTSOCK => c"no socket",
        libc::ENOTCONN => c"the socket is not connected",
        libc::EPROTONOSUPPORT => c"neither TCP nor UDP over IP",
        libc::EOPNOTSUPP => c"not possible on this kind of flow",
        libc::EMSGSIZE => c"too long for a datagram",
        libc::ETIMEDOUT => c"not done in time",
        libc::ENOENT => c"no scheduler: its control socket is not there",
        libc::ECONNREFUSED => c"nobody listens there",
        libc::EACCES => c"permission denied: is the control socket another group's?",
        libc::EPIPE => c"the peer has closed the connection",
        libc::ECONNRESET => c"the peer has reset the connection",
        libc::EBADF => c"no open descriptor",
        libc::EPERM => c"not permitted",
        libc::ENOMEM => c"no memory left, or as many handles as there may be",
        libc::EMFILE => c"no descriptors left in this process",
        libc::ENFILE => c"no descriptors left in the system",
        libc::EHOSTUNREACH => c"no route to the host",
        libc::ENETUNREACH => c"no route to the network",
        _ => c"unknown error",
    }
}

/// # Safety
/// None is needed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_strerror(error: c_int) -> *const c_char {
    text_of(error.checked_abs().unwrap_or(c_int::MAX)).as_ptr()
}

/// # Safety
/// As flexnet.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_set_class(socket: *const c_char, task_class: u32) -> c_int {
    guard(|| {
        may_wait()?;
        let class = match task_class {
            0 => Class::Normal,
            1 => Class::Latency,
            2 => Class::Batch,
            _ => return Err(libc::EINVAL),
        };
        // SAFETY: the caller's string, or null.
        let path = unsafe { socket_path(socket) };
        set_class_of_self(path, class).map_err(|error| errno_of(&error))?;
        Ok(0)
    })
}
