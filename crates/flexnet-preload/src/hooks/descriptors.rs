// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Functions that make, connect, duplicate and close descriptors.

use super::with_entry;
use crate::barrier;
use crate::entry::Kind;
use crate::process::is_ours_now;
use crate::real;
use crate::rests;
use crate::send::clear;
use crate::table::{self, CANDIDATE, EPOLL, PASSTHROUGH, UNKNOWN};
use libc::{FILE, c_char, c_int, c_uint, sockaddr, socklen_t};
use std::sync::atomic::Ordering;

/// # Safety
/// As for socket(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    // SAFETY: as promised by the caller.
    let fd = unsafe { real::socket(domain, kind, protocol) };
    if fd >= 0 && (domain == libc::AF_INET || domain == libc::AF_INET6) {
        barrier::made(fd);
    }
    fd
}

/// # Safety
/// As for epoll_create(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn epoll_create(size: c_int) -> c_int {
    // SAFETY: as promised by the caller.
    let fd = unsafe { real::epoll_create(size) };
    if fd >= 0 {
        barrier::mark(fd, EPOLL);
    }
    fd
}

/// # Safety
/// As for epoll_create1(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn epoll_create1(flags: c_int) -> c_int {
    // SAFETY: as promised by the caller.
    let fd = unsafe { real::epoll_create1(flags) };
    if fd >= 0 {
        barrier::mark(fd, EPOLL);
    }
    fd
}

/// # Safety
/// As for accept(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn accept(
    fd: c_int,
    from: *mut sockaddr,
    length: *mut socklen_t,
) -> c_int {
    // SAFETY: as promised by the caller.
    let made = unsafe { real::accept(fd, from, length) };
    if made >= 0 {
        barrier::made(made);
    }
    made
}

/// # Safety
/// As for accept4(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn accept4(
    fd: c_int,
    from: *mut sockaddr,
    length: *mut socklen_t,
    flags: c_int,
) -> c_int {
    // SAFETY: as promised by the caller.
    let made = unsafe { real::accept4(fd, from, length, flags) };
    if made >= 0 {
        barrier::made(made);
    }
    made
}

/// # Safety
/// As for connect(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn connect(
    fd: c_int,
    to: *const sockaddr,
    length: socklen_t,
) -> c_int {
    // Datagrams to the peer there was; then another one's flow.
    let datagrams = with_entry(fd, |_, entry| entry.kind() == Kind::Datagrams);
    let _ = clear(fd, true);
    if datagrams == Some(true) {
        barrier::forget(fd);
        barrier::made(fd);
    }
    // SAFETY: as promised by the caller.
    unsafe { real::connect(fd, to, length) }
}

/// When a stream with a flow ends, and to what that came.
enum Ended {
    /// Behind what is queued.
    Later,
    /// Now; with the result and errno of `end`.
    Now(c_int, c_int),
}

/// The stream's end comes behind what is queued, or now, by `end`. Never waits, as the kernel's own
/// does not. `None`: there is no flow.
fn end_behind(fd: c_int, end: impl FnOnce() -> c_int) -> Option<Ended> {
    with_entry(fd, |_, entry| {
        if entry.kind() != Kind::Stream {
            return Ended::Now(end(), real::errno());
        }
        // First: a sender that has queued since then looks whether it was too late.
        entry.ended.store(true, Ordering::SeqCst);
        let ended = barrier::quietly(|| entry.flow().end_when_drained(end));
        let errno = real::errno();
        // A thread that waits for room has none to expect.
        entry.bell().ring();
        ended.map_or(Ended::Later, |result| Ended::Now(result, errno))
    })
}

/// # Safety
/// As for shutdown(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn shutdown(fd: c_int, how: c_int) -> c_int {
    // SAFETY: as promised by the caller.
    let real = |how| unsafe { real::shutdown(fd, how) };
    if how == libc::SHUT_RD {
        return real(how);
    }
    let ended = end_behind(fd, || real(how)).or_else(|| {
        // Without a flow there is none any more; but one may have been made just now.
        table::slot(fd)?.replace(CANDIDATE, PASSTHROUGH);
        end_behind(fd, || real(how))
    });
    match ended {
        None => real(how),
        Some(Ended::Now(result, errno)) => {
            if result < 0 {
                real::set_errno(errno);
            }
            result
        }
        Some(Ended::Later) => {
            if how == libc::SHUT_RDWR {
                real(libc::SHUT_RD);
            }
            0
        }
    }
}

/// # Safety
/// As for close(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn close(fd: c_int) -> c_int {
    if let Some(slot) = table::slot(fd) {
        match slot.tagged() {
            UNKNOWN => {}
            tagged if table::is_internal(tagged) => {
                if !flexnet::executor::is_library_thread() && !crate::hook_guard::is_in_hook() {
                    // Not the program's: as if it were not open.
                    real::set_errno(libc::EBADF);
                    return -1;
                }
                rests::internal_closed(slot);
            }
            _ if barrier::forget_or_keep(fd) => return 0,
            _ => {}
        }
    }
    // SAFETY: as promised by the caller.
    unsafe { real::close(fd) }
}

/// Forgets the numbers in the range; the library's own ones are left open.
/// Calls `close` for each stretch between those.
fn forget_range(
    first: c_uint,
    last: c_uint,
    mut close: impl FnMut(c_uint, c_uint) -> c_int,
) -> c_int {
    let mut from = first;
    for (fd, slot) in table::all() {
        let fd = fd as c_uint;
        if fd < first || fd > last {
            continue;
        }
        match slot.tagged() {
            UNKNOWN => continue,
            tagged if table::is_internal(tagged) => {}
            _ if barrier::forget_or_keep(fd as c_int) => {}
            _ => continue,
        }
        // The library's own.
        if fd > from && close(from, fd - 1) != 0 {
            return -1;
        }
        from = fd + 1;
    }
    if from > last {
        return 0;
    }
    close(from, last)
}

/// # Safety
/// As for close_range(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    // SAFETY: as promised by the caller.
    let real = |first, last| unsafe { real::close_range(first, last, flags) };
    if flags & libc::CLOSE_RANGE_CLOEXEC as c_int != 0 || !is_ours_now() || first > last {
        return real(first, last);
    }
    forget_range(first, last, real)
}

/// # Safety
/// As for closefrom(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn closefrom(first: c_int) {
    if !is_ours_now() {
        // SAFETY: as promised by the caller.
        return unsafe { real::closefrom(first) };
    }
    let first = first.max(0) as c_uint;
    // SAFETY: as promised by the caller.
    forget_range(first, c_uint::MAX, |first, last| unsafe {
        real::close_range(first, last, 0)
    });
}

/// `to` is another number of the socket `fd`.
fn doubled(fd: c_int, to: c_int) {
    if to < 0 || to == fd {
        return;
    }
    let Some(slot) = table::slot(fd) else {
        return;
    };
    let tagged = slot.tagged();
    let Some(other) = table::slot(to) else {
        // Out of sight: its sends could not be kept in order.
        return barrier::pass_through_permanently(fd);
    };
    if to <= table::STDIO_LAST {
        barrier::pass_through_permanently(fd);
    }
    if tagged == CANDIDATE || tagged == PASSTHROUGH {
        // Two numbers, and no flow that both could share.
        slot.replace(CANDIDATE, PASSTHROUGH);
        other.set(PASSTHROUGH);
        return;
    }
    if tagged == EPOLL {
        return barrier::mark(to, EPOLL);
    }
    let shared = with_entry(fd, |_, entry| {
        entry.add_handle();
        table::mark(to, entry.tagged());
    });
    if shared.is_none() && !table::is_internal(other.tagged()) {
        other.set(UNKNOWN);
    }
}

/// # Safety
/// As for dup(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn dup(fd: c_int) -> c_int {
    // SAFETY: as promised by the caller.
    let to = unsafe { real::dup(fd) };
    if to >= 0 && is_ours_now() {
        doubled(fd, to);
    }
    to
}

/// dup2 and dup3, which close `to`.
fn dup_to(fd: c_int, to: c_int, real: impl FnOnce() -> c_int) -> c_int {
    if fd == to || !is_ours_now() {
        return real();
    }
    // SAFETY: asks only whether it is open.
    if unsafe { real::fcntl(fd, libc::F_GETFD, 0) } < 0 {
        return real();
    }
    if let Some(slot) = table::slot(to) {
        match slot.tagged() {
            // One of dup2's own errors: a number that is about to be taken.
            tagged if table::is_internal(tagged) => {
                real::set_errno(libc::EBUSY);
                return -1;
            }
            _ => barrier::forget(to),
        }
    }
    let made = real();
    if made >= 0 {
        doubled(fd, made);
    }
    made
}

/// # Safety
/// As for dup2(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn dup2(fd: c_int, to: c_int) -> c_int {
    // SAFETY: as promised by the caller.
    dup_to(fd, to, || unsafe { real::dup2(fd, to) })
}

/// # Safety
/// As for dup3(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn dup3(fd: c_int, to: c_int, flags: c_int) -> c_int {
    // SAFETY: as promised by the caller.
    dup_to(fd, to, || unsafe { real::dup3(fd, to, flags) })
}

fn controlled(fd: c_int, command: c_int, result: c_int) -> c_int {
    if (command == libc::F_DUPFD || command == libc::F_DUPFD_CLOEXEC)
        && result >= 0
        && is_ours_now()
        && !flexnet::executor::is_library_thread()
        && !crate::hook_guard::is_in_hook()
    {
        doubled(fd, result);
    }
    result
}

/// # Safety
/// As for fcntl(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
    // SAFETY: as promised by the caller.
    controlled(fd, command, unsafe { real::fcntl(fd, command, argument) })
}

/// # Safety
/// As for fcntl(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn fcntl64(fd: c_int, command: c_int, argument: usize) -> c_int {
    // SAFETY: as promised by the caller.
    controlled(fd, command, unsafe { real::fcntl64(fd, command, argument) })
}

/// # Safety
/// As for fdopen(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn fdopen(fd: c_int, mode: *const c_char) -> *mut FILE {
    // stdio writes past every hook.
    barrier::pass_through_permanently(fd);
    // SAFETY: as promised by the caller.
    unsafe { real::fdopen(fd, mode) }
}

/// The C library closes its descriptor past the hooks: without this, the flow of a duplicate would
/// keep the socket open for ever.
///
/// # Safety
/// As for fclose(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn fclose(file: *mut FILE) -> c_int {
    // SAFETY: as promised by the caller.
    unsafe {
        before_closing(file);
        real::fclose(file)
    }
}

/// The C library closes the FILE's descriptor past the hooks.
///
/// # Safety
/// The FILE is null, or the caller's and open.
unsafe fn before_closing(file: *mut FILE) {
    if file.is_null() || !is_ours_now() {
        return;
    }
    let errno = real::errno();
    // SAFETY: as promised.
    let fd = unsafe { libc::fileno(file) };
    if table::slot(fd).is_some_and(|slot| table::is_known(slot.tagged())) {
        // What it has comes before the end. Its result is for the caller to say.
        // SAFETY: as above.
        unsafe { libc::fflush(file) };
        barrier::forget(fd);
    }
    real::set_errno(errno);
}

/// # Safety
/// As for freopen(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn freopen(
    path: *const c_char,
    mode: *const c_char,
    file: *mut FILE,
) -> *mut FILE {
    // SAFETY: as promised by the caller.
    unsafe {
        before_closing(file);
        real::freopen(path, mode, file)
    }
}

/// # Safety
/// As for freopen(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn freopen64(
    path: *const c_char,
    mode: *const c_char,
    file: *mut FILE,
) -> *mut FILE {
    // SAFETY: as promised by the caller.
    unsafe {
        before_closing(file);
        real::freopen64(path, mode, file)
    }
}

/// What fdopen does within the C library, which exports it.
///
/// # Safety
/// As for fdopen(3), with a FILE that has no descriptor.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn _IO_file_attach(file: *mut FILE, fd: c_int) -> *mut FILE {
    barrier::pass_through_permanently(fd);
    // SAFETY: as promised by the caller.
    unsafe { real::_IO_file_attach(file, fd) }
}

/// The C library's other names of some of the above.
mod other_names {
    use super::*;

    /// # Safety
    /// As for connect.
    #[unsafe(no_mangle)]
    pub unsafe extern "C-unwind" fn __connect(
        fd: c_int,
        to: *const sockaddr,
        length: socklen_t,
    ) -> c_int {
        // SAFETY: as promised by the caller.
        unsafe { connect(fd, to, length) }
    }

    /// # Safety
    /// As for close.
    #[unsafe(no_mangle)]
    pub unsafe extern "C-unwind" fn __close(fd: c_int) -> c_int {
        // SAFETY: as promised by the caller.
        unsafe { close(fd) }
    }

    /// # Safety
    /// As for dup2.
    #[unsafe(no_mangle)]
    pub unsafe extern "C-unwind" fn __dup2(fd: c_int, to: c_int) -> c_int {
        // SAFETY: as promised by the caller.
        unsafe { dup2(fd, to) }
    }

    /// # Safety
    /// As for fcntl.
    #[unsafe(no_mangle)]
    pub unsafe extern "C-unwind" fn __fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
        // SAFETY: as promised by the caller.
        unsafe { fcntl(fd, command, argument) }
    }

    /// # Safety
    /// As for fclose.
    #[unsafe(no_mangle)]
    pub unsafe extern "C-unwind" fn _IO_fclose(file: *mut FILE) -> c_int {
        // SAFETY: as promised by the caller.
        unsafe { fclose(file) }
    }

    /// # Safety
    /// As for fdopen.
    #[unsafe(no_mangle)]
    pub unsafe extern "C-unwind" fn _IO_fdopen(fd: c_int, mode: *const c_char) -> *mut FILE {
        // SAFETY: as promised by the caller.
        unsafe { fdopen(fd, mode) }
    }
}
