// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The functions behind the hooks: the next ones in the order of libraries (`dlsym(RTLD_NEXT)`), so
//! that other preload libraries are called too.
//!
//! They are resolved in .init_array. The constructor of another library may call a hook before
//! that. The hook then makes the system call. Where the function is no system call, the hook looks
//! it up at that moment.

use libc::{c_char, c_int, c_long, c_uint, c_void, size_t, ssize_t};
use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use syscalls::{Sysno, raw_syscall};

/// What a function says that is not there.
trait Fail {
    fn fail() -> Self;
}
impl Fail for c_int {
    fn fail() -> Self {
        -1
    }
}
impl Fail for ssize_t {
    fn fail() -> Self {
        -1
    }
}
impl Fail for i64 {
    fn fail() -> Self {
        -1
    }
}
impl<T> Fail for *mut T {
    fn fail() -> Self {
        ptr::null_mut()
    }
}
impl Fail for () {
    fn fail() {}
}

pub(crate) fn set_errno(errno: c_int) {
    // SAFETY: the calling thread's own.
    unsafe { *libc::__errno_location() = errno };
}

pub(crate) fn errno() -> c_int {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() }
}

/// A system call's result as the C library gives it.
fn settle(result: usize) -> isize {
    let result = result as isize;
    if (-4095..0).contains(&result) {
        set_errno(-result as c_int);
        return -1;
    }
    result
}

fn find(name: &CStr) -> *mut c_void {
    // SAFETY: a C string; RTLD_NEXT is from this library's place on.
    unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }
}

/// `name(arguments) -> result = the call that stands in for it`, which is
/// `later` where it is no system call.
macro_rules! real {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $early:tt;)*) => {
        #[allow(non_upper_case_globals, reason = "named as what they point to")]
        mod next {
            use super::{AtomicPtr, c_void, ptr};
            $(pub(super) static $name: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());)*
        }

        /// Finds all of them. Called once, by .init_array.
        pub(crate) fn resolve() {
            $(next::$name.store(
                find(real!(@name $name)),
                Ordering::Relaxed,
            );)*
        }

        $(
            /// The next function of this name.
            ///
            /// # Safety
            /// As for the function of that name.
            #[allow(non_snake_case, reason = "the C library's name")]
            #[inline]
            pub(crate) unsafe fn $name($($arg: $ty),*) -> $ret {
                let next = next::$name.load(Ordering::Relaxed);
                if next.is_null() {
                    return real!(@early $early, $name, ($($arg: $ty),*) -> $ret);
                }
                type Next = unsafe extern "C-unwind" fn($($ty),*) -> $ret;
                // SAFETY: dlsym found it under the name, whose type this is; the
                // rest as promised by the caller.
                unsafe { std::mem::transmute::<*mut c_void, Next>(next)($($arg),*) }
            }
        )*
    };
    (@name $name:ident) => {
        // SAFETY: ends with a zero and has no other.
        unsafe { CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes()) }
    };
    (@early (later), $name:ident, ($($arg:ident: $ty:ty),*) -> $ret:ty) => {{
        let found = find(real!(@name $name));
        if found.is_null() {
            set_errno(libc::ENOSYS);
            return Fail::fail();
        }
        type Found = unsafe extern "C-unwind" fn($($ty),*) -> $ret;
        // SAFETY: dlsym found it under the name, whose type this is; the rest as
        // promised by the caller.
        unsafe { std::mem::transmute::<*mut c_void, Found>(found)($($arg),*) }
    }};
    (@early ($call:ident), $name:ident, ($($arg:ident: $ty:ty),*) -> $ret:ty) => {
        // SAFETY: as promised by the caller; the kernel checks what it is given.
        settle(unsafe { raw_syscall!(Sysno::$call $(, $arg as usize)*) }) as $ret
    };
}

real! {
    write(fd: c_int, data: *const c_void, length: size_t) -> ssize_t = (write);
    writev(fd: c_int, slices: *const libc::iovec, count: c_int) -> ssize_t = (writev);
    send(fd: c_int, data: *const c_void, length: size_t, flags: c_int) -> ssize_t = (later);
    sendto(fd: c_int, data: *const c_void, length: size_t, flags: c_int,
        to: *const libc::sockaddr, to_length: libc::socklen_t) -> ssize_t = (sendto);
    sendmsg(fd: c_int, message: *const libc::msghdr, flags: c_int) -> ssize_t = (sendmsg);
    sendmmsg(fd: c_int, messages: *mut libc::mmsghdr, count: c_uint, flags: c_int) -> c_int = (sendmmsg);
    read(fd: c_int, data: *mut c_void, length: size_t) -> ssize_t = (read);
    readv(fd: c_int, slices: *const libc::iovec, count: c_int) -> ssize_t = (readv);
    recv(fd: c_int, data: *mut c_void, length: size_t, flags: c_int) -> ssize_t = (later);
    recvfrom(fd: c_int, data: *mut c_void, length: size_t, flags: c_int,
        from: *mut libc::sockaddr, from_length: *mut libc::socklen_t) -> ssize_t = (recvfrom);
    recvmsg(fd: c_int, message: *mut libc::msghdr, flags: c_int) -> ssize_t = (recvmsg);
    __read_chk(fd: c_int, data: *mut c_void, length: size_t, room: size_t) -> ssize_t = (later);
    __recv_chk(fd: c_int, data: *mut c_void, length: size_t, room: size_t, flags: c_int) -> ssize_t = (later);
    __recvfrom_chk(fd: c_int, data: *mut c_void, length: size_t, room: size_t, flags: c_int,
        from: *mut libc::sockaddr, from_length: *mut libc::socklen_t) -> ssize_t = (later);
    socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int = (socket);
    accept(fd: c_int, from: *mut libc::sockaddr, length: *mut libc::socklen_t) -> c_int = (accept);
    accept4(fd: c_int, from: *mut libc::sockaddr, length: *mut libc::socklen_t, flags: c_int) -> c_int = (accept4);
    epoll_create(size: c_int) -> c_int = (later);
    epoll_create1(flags: c_int) -> c_int = (epoll_create1);
    connect(fd: c_int, to: *const libc::sockaddr, length: libc::socklen_t) -> c_int = (connect);
    shutdown(fd: c_int, how: c_int) -> c_int = (shutdown);
    close(fd: c_int) -> c_int = (close);
    close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int = (close_range);
    closefrom(first: c_int) -> () = (later);
    dup(fd: c_int) -> c_int = (dup);
    dup2(fd: c_int, to: c_int) -> c_int = (later);
    dup3(fd: c_int, to: c_int, flags: c_int) -> c_int = (dup3);
    fcntl(fd: c_int, command: c_int, argument: usize) -> c_int = (fcntl);
    fcntl64(fd: c_int, command: c_int, argument: usize) -> c_int = (fcntl);
    ioctl(fd: c_int, request: usize, argument: usize) -> c_int = (ioctl);
    setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, length: libc::socklen_t) -> c_int = (setsockopt);
    getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, length: *mut libc::socklen_t) -> c_int = (getsockopt);
    sendfile(to: c_int, from: c_int, offset: *mut libc::off_t, count: size_t) -> ssize_t = (sendfile);
    sendfile64(to: c_int, from: c_int, offset: *mut libc::off64_t, count: size_t) -> ssize_t = (sendfile);
    splice(from: c_int, from_offset: *mut libc::off64_t, to: c_int, to_offset: *mut libc::off64_t,
        length: size_t, flags: c_uint) -> ssize_t = (splice);
    pwritev2(fd: c_int, slices: *const libc::iovec, count: c_int, offset: libc::off_t, flags: c_int) -> ssize_t = (later);
    pwritev64v2(fd: c_int, slices: *const libc::iovec, count: c_int, offset: libc::off64_t, flags: c_int) -> ssize_t = (later);
    vdprintf(fd: c_int, format: *const c_char, arguments: *mut c_void) -> c_int = (later);
    __vdprintf_chk(fd: c_int, flag: c_int, format: *const c_char, arguments: *mut c_void) -> c_int = (later);
    eventfd_write(fd: c_int, value: u64) -> c_int = (later);
    backtrace_symbols_fd(buffer: *const *mut c_void, size: c_int, fd: c_int) -> () = (later);
    aio_write(request: *mut libc::aiocb) -> c_int = (later);
    aio_write64(request: *mut libc::aiocb) -> c_int = (later);
    lio_listio(mode: c_int, list: *const *mut libc::aiocb, count: c_int, event: *mut libc::sigevent) -> c_int = (later);
    lio_listio64(mode: c_int, list: *const *mut libc::aiocb, count: c_int, event: *mut libc::sigevent) -> c_int = (later);
    fdopen(fd: c_int, mode: *const c_char) -> *mut libc::FILE = (later);
    fclose(file: *mut libc::FILE) -> c_int = (later);
    freopen(path: *const c_char, mode: *const c_char, file: *mut libc::FILE) -> *mut libc::FILE = (later);
    freopen64(path: *const c_char, mode: *const c_char, file: *mut libc::FILE) -> *mut libc::FILE = (later);
    _IO_file_attach(file: *mut libc::FILE, fd: c_int) -> *mut libc::FILE = (later);
    execve(path: *const c_char, arguments: *const *const c_char, environment: *const *const c_char) -> c_int = (execve);
    execv(path: *const c_char, arguments: *const *const c_char) -> c_int = (later);
    execvp(file: *const c_char, arguments: *const *const c_char) -> c_int = (later);
    execvpe(file: *const c_char, arguments: *const *const c_char, environment: *const *const c_char) -> c_int = (later);
    fexecve(fd: c_int, arguments: *const *const c_char, environment: *const *const c_char) -> c_int = (later);
    execveat(fd: c_int, path: *const c_char, arguments: *const *const c_char,
        environment: *const *const c_char, flags: c_int) -> c_int = (execveat);
    posix_spawn(pid: *mut libc::pid_t, path: *const c_char, actions: *const c_void, attributes: *const c_void,
        arguments: *const *const c_char, environment: *const *const c_char) -> c_int = (later);
    posix_spawnp(pid: *mut libc::pid_t, file: *const c_char, actions: *const c_void, attributes: *const c_void,
        arguments: *const *const c_char, environment: *const *const c_char) -> c_int = (later);
    _Fork() -> libc::pid_t = (later);
    system(command: *const c_char) -> c_int = (later);
    popen(command: *const c_char, mode: *const c_char) -> *mut libc::FILE = (later);
    pthread_exit(value: *mut c_void) -> () = (later);
    thrd_exit(value: c_int) -> () = (later);
    pthread_cancel(thread: libc::pthread_t) -> c_int = (later);
    daemon(stay: c_int, keep: c_int) -> c_int = (later);
    unshare(flags: c_int) -> c_int = (unshare);
    setns(fd: c_int, kind: c_int) -> c_int = (setns);
    prctl(option: c_int, a: usize, b: usize, c: usize, d: usize) -> c_int = (prctl);
    syscall(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> c_long = (later);
    quick_exit(status: c_int) -> () = (later);
}

/// The next function of a name, for a hook that jumps there with its caller's arguments;
/// null: there is none.
pub(crate) fn address(name: &CStr) -> *mut c_void {
    find(name)
}

/// Ends the process, at once.
pub(crate) fn exit_group(status: c_int) -> ! {
    loop {
        // SAFETY: does not return.
        unsafe { raw_syscall!(Sysno::exit_group, status as usize) };
    }
}
