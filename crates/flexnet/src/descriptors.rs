// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Where the library's own descriptors lie. A program may count on the lowest
//! free number (`close(0)`, then `open`), so a library that the program knows
//! nothing of moves its own out of the way.

use rustix::io::{Errno, fcntl_dupfd_cloexec};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

static LOWEST_DESCRIPTOR: AtomicI32 = AtomicI32::new(0);
static OBSERVER: OnceLock<fn(RawFd)> = OnceLock::new();

/// Descriptors that the library makes from here on are `lowest` or higher, where
/// the process may have such. 0, the default: the lowest free ones.
pub fn set_lowest_descriptor(lowest: i32) {
    LOWEST_DESCRIPTOR.store(lowest, Ordering::Relaxed);
}

/// `observer` is called with each descriptor that the library makes from here on and keeps,
/// on the thread that makes it, before it is used: for a caller that keeps a program's
/// hands off them. It learns of a descriptor's end by close(2). The first call counts.
pub fn on_descriptor_created(observer: fn(RawFd)) {
    // One that is there already stays.
    let _ = OBSERVER.set(observer);
}

/// The descriptor, or one in its place at or above the lowest descriptor; for one that is kept.
///
/// # Errors
/// The program has closed it meanwhile.
pub(crate) fn raised(fd: OwnedFd) -> io::Result<OwnedFd> {
    let fd = match LOWEST_DESCRIPTOR.load(Ordering::Relaxed) {
        0 => fd,
        lowest => match fcntl_dupfd_cloexec(&fd, lowest) {
            Ok(raised) => raised,
            Err(Errno::BADF) => {
                // The number may be another's by now, which would lose it.
                std::mem::forget(fd);
                return Err(Errno::BADF.into());
            }
            // There are none so high.
            Err(_) => fd,
        },
    };
    if let Some(observer) = OBSERVER.get() {
        observer(fd.as_raw_fd());
    }
    Ok(fd)
}
