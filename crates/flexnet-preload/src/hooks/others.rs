// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Ways other than the sends to give the kernel bytes for a descriptor: sendfile, splice, pwritev2,
//! asynchronous writes, and what the C library formats and writes by itself. tests/rules/names.txt
//! has every such name.

use super::descriptors;
use super::sends::pass_rights_through;
use crate::barrier;
use crate::real;
use crate::send::{Message, send};
use libc::{
    aiocb, c_char, c_int, c_uint, c_void, iovec, mmsghdr, msghdr, off_t, off64_t, sigevent, size_t,
    ssize_t,
};
use syscalls::{Sysno, raw_syscall};

/// Calls `real` behind what is queued on `fd`.
fn behind<T: Result>(fd: c_int, waits: bool, real: impl FnOnce() -> T) -> T {
    let flags = if waits { 0 } else { libc::MSG_DONTWAIT };
    T::from(send(fd, || Message::other(flags), || real().into()))
}

/// What such a function returns: -1 for an error.
trait Result {
    fn into(self) -> isize;
    fn from(result: isize) -> Self;
}
impl Result for c_int {
    fn into(self) -> isize {
        self as isize
    }
    fn from(result: isize) -> Self {
        result as Self
    }
}
impl Result for ssize_t {
    fn into(self) -> isize {
        self
    }
    fn from(result: isize) -> Self {
        result
    }
}

/// # Safety
/// As for sendfile(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sendfile(
    to: c_int,
    from: c_int,
    offset: *mut off_t,
    count: size_t,
) -> ssize_t {
    // SAFETY: as promised by the caller.
    behind(to, true, || unsafe {
        real::sendfile(to, from, offset, count)
    })
}

/// # Safety
/// As for sendfile(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sendfile64(
    to: c_int,
    from: c_int,
    offset: *mut off64_t,
    count: size_t,
) -> ssize_t {
    // SAFETY: as promised by the caller.
    behind(to, true, || unsafe {
        real::sendfile64(to, from, offset, count)
    })
}

/// # Safety
/// As for splice(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn splice(
    from: c_int,
    from_offset: *mut off64_t,
    to: c_int,
    to_offset: *mut off64_t,
    length: size_t,
    flags: c_uint,
) -> ssize_t {
    let waits = flags & libc::SPLICE_F_NONBLOCK == 0;
    // SAFETY: as promised by the caller.
    behind(to, waits, || unsafe {
        real::splice(from, from_offset, to, to_offset, length, flags)
    })
}

/// With an offset of -1 it is writev.
///
/// # Safety
/// As for pwritev2(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pwritev2(
    fd: c_int,
    slices: *const iovec,
    count: c_int,
    offset: off_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: as promised by the caller.
    behind(fd, flags & libc::RWF_NOWAIT == 0, || unsafe {
        real::pwritev2(fd, slices, count, offset, flags)
    })
}

/// # Safety
/// As for pwritev2(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pwritev64v2(
    fd: c_int,
    slices: *const iovec,
    count: c_int,
    offset: off64_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: as promised by the caller.
    behind(fd, flags & libc::RWF_NOWAIT == 0, || unsafe {
        real::pwritev64v2(fd, slices, count, offset, flags)
    })
}

/// # Safety
/// As for vdprintf(3). A va_list is passed by its address, on x86-64 as on arm64.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn vdprintf(
    fd: c_int,
    format: *const c_char,
    arguments: *mut c_void,
) -> c_int {
    // SAFETY: as promised by the caller.
    behind(fd, true, || unsafe {
        real::vdprintf(fd, format, arguments)
    })
}

/// # Safety
/// As for vdprintf(3), which this is with checks.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __vdprintf_chk(
    fd: c_int,
    flag: c_int,
    format: *const c_char,
    arguments: *mut c_void,
) -> c_int {
    // SAFETY: as promised by the caller.
    behind(fd, true, || unsafe {
        real::__vdprintf_chk(fd, flag, format, arguments)
    })
}

/// # Safety
/// As for eventfd_write(3), which writes to whatever it is given.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn eventfd_write(fd: c_int, value: u64) -> c_int {
    // SAFETY: as promised by the caller.
    behind(fd, true, || unsafe { real::eventfd_write(fd, value) })
}

/// # Safety
/// As for backtrace_symbols_fd(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn backtrace_symbols_fd(
    buffer: *const *mut c_void,
    size: c_int,
    fd: c_int,
) {
    behind(fd, true, || {
        // SAFETY: as promised by the caller.
        unsafe { real::backtrace_symbols_fd(buffer, size, fd) };
        0
    });
}

/// # Safety
/// As for backtrace_symbols_fd(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __backtrace_symbols_fd(
    buffer: *const *mut c_void,
    size: c_int,
    fd: c_int,
) {
    // SAFETY: as promised by the caller.
    unsafe { backtrace_symbols_fd(buffer, size, fd) };
}

/// A thread of the C library's writes, when it comes to it: nothing is queued any
/// more on what it writes to.
unsafe fn pass_request(request: *const aiocb) {
    // SAFETY: the caller's, or null.
    if let Some(request) = unsafe { request.as_ref() } {
        barrier::pass_through_permanently(request.aio_fildes);
    }
}

/// # Safety
/// As for aio_write(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn aio_write(request: *mut aiocb) -> c_int {
    // SAFETY: as promised by the caller.
    unsafe {
        pass_request(request);
        real::aio_write(request)
    }
}

/// # Safety
/// As for aio_write(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn aio_write64(request: *mut aiocb) -> c_int {
    // SAFETY: as promised by the caller; the number is at the same place.
    unsafe {
        pass_request(request);
        real::aio_write64(request)
    }
}

unsafe fn pass_requests(list: *const *mut aiocb, count: c_int) {
    for i in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: the caller's array.
        unsafe { pass_request(*list.add(i)) };
    }
}

/// # Safety
/// As for lio_listio(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn lio_listio(
    mode: c_int,
    list: *const *mut aiocb,
    count: c_int,
    event: *mut sigevent,
) -> c_int {
    // SAFETY: as promised by the caller.
    unsafe {
        pass_requests(list, count);
        real::lio_listio(mode, list, count, event)
    }
}

/// # Safety
/// As for lio_listio(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn lio_listio64(
    mode: c_int,
    list: *const *mut aiocb,
    count: c_int,
    event: *mut sigevent,
) -> c_int {
    // SAFETY: as promised by the caller; the number is at the same place.
    unsafe {
        pass_requests(list, count);
        real::lio_listio64(mode, list, count, event)
    }
}

/// More messages than the kernel takes at once (UIO_MAXIOV).
const MESSAGES_MAX: usize = 1024;

/// [`pass_rights_through`] for a message of a raw system call: an address that is bad is the
/// kernel's to refuse.
fn pass_if_readable(header: usize) {
    if !is_readable(header, size_of::<msghdr>()) {
        return;
    }
    // SAFETY: it can be read, and zeros and anything else are a header.
    let message = unsafe { (header as *const msghdr).read_unaligned() };
    if is_readable(message.msg_control as usize, message.msg_controllen) {
        // SAFETY: its control messages can be read.
        unsafe { pass_rights_through(&message) };
    }
}

/// Can the memory be read? The kernel copies the set of signals before it refuses what to do with
/// it: filters let this call pass, and it changes nothing.
fn is_readable(at: usize, bytes: usize) -> bool {
    const SET: usize = 8;
    const PAGE: usize = 4096;
    let Some(end) = at.checked_add(bytes) else {
        return false;
    };
    let pages = (at & !(PAGE - 1)..end).step_by(PAGE);
    pages.map(|page| page.max(at) & !(SET - 1)).all(|probe| {
        let none = usize::MAX;
        // SAFETY: the kernel checks the address, and knows no such operation.
        let result = unsafe { raw_syscall!(Sysno::rt_sigprocmask, none, probe, 0usize, SET) };
        result as isize != -(libc::EFAULT as isize)
    })
}

/// syscall(2) with the number of a hook that changes what descriptors are.
///
/// # Safety
/// As for syscall(2).
unsafe fn descriptor_by_number(number: libc::c_long, a: [usize; 6]) -> Option<c_int> {
    let fd = a[0] as c_int;
    // SAFETY: as promised by the caller.
    Some(unsafe {
        match number {
            libc::SYS_close => descriptors::close(fd),
            libc::SYS_dup => descriptors::dup(fd),

            #[cfg(target_arch = "x86_64")]
            libc::SYS_dup2 => descriptors::dup2(fd, a[1] as c_int),
            libc::SYS_dup3 => descriptors::dup3(fd, a[1] as c_int, a[2] as c_int),
            libc::SYS_fcntl => descriptors::fcntl(fd, a[1] as c_int, a[2]),
            libc::SYS_close_range => {
                descriptors::close_range(fd as c_uint, a[1] as c_uint, a[2] as c_int)
            }
            _ => return None,
        }
    })
}

/// syscall(2) with the number of one of the hooks.
///
/// # Safety
/// As for syscall(2).
pub(super) unsafe fn by_number(number: libc::c_long, a: [usize; 6]) -> Option<libc::c_long> {
    // SAFETY: as promised by the caller.
    if let Some(result) = unsafe { descriptor_by_number(number, a) } {
        return Some(libc::c_long::from(result));
    }
    let dont_wait = |flag: c_int| match a[5] & flag as usize {
        0 => 0,
        _ => libc::MSG_DONTWAIT,
    };
    let (fd, flags) = match number {
        libc::SYS_write | libc::SYS_writev | libc::SYS_sendfile => (a[0], 0),
        libc::SYS_sendto => (a[0], a[3] as c_int),
        libc::SYS_sendmmsg => {
            let headers = (0..a[2].min(MESSAGES_MAX)).map(|i| i * size_of::<mmsghdr>());
            headers.for_each(|offset| pass_if_readable(a[1].wrapping_add(offset)));
            (a[0], a[3] as c_int)
        }
        libc::SYS_sendmsg => {
            pass_if_readable(a[1]);
            (a[0], a[2] as c_int)
        }
        libc::SYS_pwritev2 => (a[0], dont_wait(libc::RWF_NOWAIT)),
        libc::SYS_splice => (a[2], dont_wait(libc::SPLICE_F_NONBLOCK as c_int)),
        _ => return None,
    };
    let real = || {
        // SAFETY: as promised by the caller.
        unsafe { real::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) as isize }
    };
    Some(send(fd as c_int, || Message::other(flags), real) as libc::c_long)
}

/// The variadic ones: behind what is queued, and on to the real function with the
/// caller's registers and stack as they are.
#[cfg(target_arch = "x86_64")]
mod variadic {
    use crate::real;
    use crate::send::{Message, send};
    use libc::{c_int, c_void};
    use std::ffi::CStr;

    /// The real function; null: the call fails, with errno.
    fn before(fd: c_int, name: &CStr) -> *mut c_void {
        let may = send(fd, || Message::other(0), || 0);
        match may {
            0 => real::address(name),
            _ => std::ptr::null_mut(),
        }
    }

    extern "C-unwind" fn before_dprintf(fd: c_int) -> *mut c_void {
        before(fd, c"dprintf")
    }
    extern "C-unwind" fn before_dprintf_chk(fd: c_int) -> *mut c_void {
        before(fd, c"__dprintf_chk")
    }

    macro_rules! variadic {
        ($name:ident, $before:ident) => {
            /// # Safety
            /// As for dprintf(3).
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            pub unsafe extern "C-unwind" fn $name() {
                // The argument registers are kept, those for floating point, too. The
                // frame is described for the unwinder, since the call may wait, and
                // the thread be cancelled there.
                core::arch::naked_asm!(
                    ".cfi_startproc",
                    "push rdi", "push rsi", "push rdx", "push rcx", "push r8", "push r9", "push rax",
                    ".cfi_def_cfa_offset 64",
                    "sub rsp, 128",
                    ".cfi_def_cfa_offset 192",
                    "movups [rsp], xmm0", "movups [rsp+16], xmm1",
                    "movups [rsp+32], xmm2", "movups [rsp+48], xmm3",
                    "movups [rsp+64], xmm4", "movups [rsp+80], xmm5",
                    "movups [rsp+96], xmm6", "movups [rsp+112], xmm7",
                    "call {before}",
                    "mov r11, rax",
                    "movups xmm0, [rsp]", "movups xmm1, [rsp+16]",
                    "movups xmm2, [rsp+32]", "movups xmm3, [rsp+48]",
                    "movups xmm4, [rsp+64]", "movups xmm5, [rsp+80]",
                    "movups xmm6, [rsp+96]", "movups xmm7, [rsp+112]",
                    "add rsp, 128",
                    ".cfi_def_cfa_offset 64",
                    "pop rax", "pop r9", "pop r8", "pop rcx", "pop rdx", "pop rsi", "pop rdi",
                    ".cfi_def_cfa_offset 8",
                    "test r11, r11",
                    "je 2f",
                    "jmp r11",
                    "2:",
                    "mov eax, -1",
                    "ret",
                    ".cfi_endproc",
                    before = sym $before,
                );
            }
        };
    }
    variadic!(dprintf, before_dprintf);
    variadic!(__dprintf_chk, before_dprintf_chk);
}
