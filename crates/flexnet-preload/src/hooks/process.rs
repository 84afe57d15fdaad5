// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Functions that end the process, make it another program, or change what its threads may do.

use crate::barrier::{self, Patience};
use crate::hook_guard::{HookGuard, SignalsBlocked};
use crate::process::{ProcessState, is_ours_now, process_state};
use crate::real;
use crate::start;
use crate::table;
use libc::{FILE, c_char, c_int, c_long, c_void, pid_t};
use std::sync::atomic::Ordering;

/// Gives the kernel what was accepted.
fn drain_all(patience: Patience) {
    let some = |process: &&ProcessState| {
        !process.runtime.load(Ordering::Acquire).is_null() || process.entries.in_use() > 0
    };
    if !table::is_there() || process_state().filter(some).is_none() {
        return;
    }
    if let Some(guard) = HookGuard::enter() {
        match is_ours_now() {
            true => guard.suspended(|| barrier::drain_all(patience)),
            false => {
                // Of vfork: this memory is the parent's.
                process_state().inspect(|process| process.forks.count_child());
                guard.suspended(barrier::settle_for_child)
            }
        }
    }
}

/// Before exec: this process's memory goes, and the queues with it.
fn before_exec() {
    drain_all(Patience::Bounded);
}

/// At the end, which is not the parent's if this is a vfork child. Other libraries'
/// destructors, and other threads, may go on sending: nothing is queued any more.
fn before_end() {
    if let Some(process) = process_state()
        && is_ours_now()
    {
        process.off.store(1, Ordering::SeqCst);
        drain_all(Patience::Bounded);
    }
}

/// Before a child is started that may have the sockets there are.
fn before_spawn() {
    if let Some(process) = process_state() {
        process.forks.count_child();
    }
    drain_all(Patience::Forking);
}

/// No executors from here on.
fn stop(why: &str) {
    if is_ours_now()
        && let Some(process) = process_state()
        && let Some(_guard) = HookGuard::enter()
    {
        let _signals = SignalsBlocked::new();
        start::stop(process, why);
    }
}

/// A filter may kill for any system call of the library's.
fn leave() {
    if is_ours_now()
        && let Some(process) = process_state()
        && let Some(_guard) = HookGuard::enter()
    {
        let _signals = SignalsBlocked::new();
        start::leave(process, "the program installs a seccomp filter");
    }
}

type Strings = *const *const c_char;

/// # Safety
/// As for execve(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn execve(
    path: *const c_char,
    arguments: Strings,
    environment: Strings,
) -> c_int {
    before_exec();
    // SAFETY: as promised by the caller.
    unsafe { real::execve(path, arguments, environment) }
}

/// # Safety
/// As for execv(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn execv(path: *const c_char, arguments: Strings) -> c_int {
    before_exec();
    // SAFETY: as promised by the caller.
    unsafe { real::execv(path, arguments) }
}

/// # Safety
/// As for execvp(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn execvp(file: *const c_char, arguments: Strings) -> c_int {
    before_exec();
    // SAFETY: as promised by the caller.
    unsafe { real::execvp(file, arguments) }
}

/// # Safety
/// As for execvpe(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn execvpe(
    file: *const c_char,
    arguments: Strings,
    environment: Strings,
) -> c_int {
    before_exec();
    // SAFETY: as promised by the caller.
    unsafe { real::execvpe(file, arguments, environment) }
}

/// # Safety
/// As for fexecve(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn fexecve(
    fd: c_int,
    arguments: Strings,
    environment: Strings,
) -> c_int {
    before_exec();
    // SAFETY: as promised by the caller.
    unsafe { real::fexecve(fd, arguments, environment) }
}

/// # Safety
/// As for execveat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn execveat(
    fd: c_int,
    path: *const c_char,
    arguments: Strings,
    environment: Strings,
    flags: c_int,
) -> c_int {
    before_exec();
    // SAFETY: as promised by the caller.
    unsafe { real::execveat(fd, path, arguments, environment, flags) }
}

/// # Safety
/// As for posix_spawn(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn posix_spawn(
    pid: *mut pid_t,
    path: *const c_char,
    actions: *const c_void,
    attributes: *const c_void,
    arguments: Strings,
    environment: Strings,
) -> c_int {
    before_spawn();
    // SAFETY: as promised by the caller.
    unsafe { real::posix_spawn(pid, path, actions, attributes, arguments, environment) }
}

/// # Safety
/// As for posix_spawnp(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn posix_spawnp(
    pid: *mut pid_t,
    file: *const c_char,
    actions: *const c_void,
    attributes: *const c_void,
    arguments: Strings,
    environment: Strings,
) -> c_int {
    before_spawn();
    // SAFETY: as promised by the caller.
    unsafe { real::posix_spawnp(pid, file, actions, attributes, arguments, environment) }
}

/// # Safety
/// As for _Fork(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn _Fork() -> pid_t {
    let real = || {
        // SAFETY: as promised by the caller.
        unsafe { real::_Fork() }
    };
    match is_ours_now() {
        true => crate::forks::around_fork(real),
        false => real(),
    }
}

/// # Safety
/// As for system(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn system(command: *const c_char) -> c_int {
    before_spawn();
    // SAFETY: as promised by the caller.
    unsafe { real::system(command) }
}

/// # Safety
/// As for popen(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn popen(command: *const c_char, mode: *const c_char) -> *mut FILE {
    before_spawn();
    // SAFETY: as promised by the caller.
    unsafe { real::popen(command, mode) }
}

/// The variadic ones: drain, and go on to the real function with the caller's
/// registers and stack as they are.
#[cfg(target_arch = "x86_64")]
mod variadic {
    use crate::real::address;
    use libc::c_void;

    extern "C" fn before_execl() -> *mut c_void {
        super::before_exec();
        address(c"execl")
    }
    extern "C" fn before_execlp() -> *mut c_void {
        super::before_exec();
        address(c"execlp")
    }
    extern "C" fn before_execle() -> *mut c_void {
        super::before_exec();
        address(c"execle")
    }

    macro_rules! variadic {
        ($name:ident, $before:ident) => {
            /// # Safety
            /// As for the function of this name in exec(3).
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            pub unsafe extern "C" fn $name() {
                // The argument registers and the number of vector arguments
                // (al) are kept; seven pushes keep the stack aligned.
                core::arch::naked_asm!(
                    "push rdi", "push rsi", "push rdx", "push rcx", "push r8", "push r9", "push rax",
                    "call {before}",
                    "mov r11, rax",
                    "pop rax", "pop r9", "pop r8", "pop rcx", "pop rdx", "pop rsi", "pop rdi",
                    "jmp r11",
                    before = sym $before,
                );
            }
        };
    }
    variadic!(execl, before_execl);
    variadic!(execlp, before_execlp);
    variadic!(execle, before_execle);
}

/// # Safety
/// As for _exit(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn _exit(status: c_int) -> ! {
    before_end();
    real::exit_group(status)
}

/// # Safety
/// As for _Exit(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn _Exit(status: c_int) -> ! {
    before_end();
    real::exit_group(status)
}

/// # Safety
/// As for quick_exit(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn quick_exit(status: c_int) -> ! {
    before_end();
    // SAFETY: as promised by the caller.
    unsafe { real::quick_exit(status) };
    real::exit_group(status)
}

/// exit() and the end of main, by .fini_array.
pub(crate) extern "C" fn at_exit() {
    before_end();
}

const FIRST_ENDS: &str = "the program's first thread ends";

/// A process ends with its last thread, and executors count: once the first thread
/// has gone there may be no other left. So they go before.
fn is_first_thread() -> bool {
    table::is_there() && rustix::thread::gettid() == rustix::process::getpid()
}

/// # Safety
/// As for pthread_exit(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pthread_exit(value: *mut c_void) {
    if is_first_thread() {
        stop(FIRST_ENDS);
    }
    // SAFETY: as promised by the caller.
    unsafe { real::pthread_exit(value) }
}

/// # Safety
/// As for thrd_exit(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn thrd_exit(value: c_int) {
    if is_first_thread() {
        stop(FIRST_ENDS);
    }
    // SAFETY: as promised by the caller.
    unsafe { real::thrd_exit(value) }
}

/// # Safety
/// As for pthread_cancel(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pthread_cancel(thread: libc::pthread_t) -> c_int {
    let first =
        |process: &ProcessState| process.first_thread.load(Ordering::Relaxed) == thread as usize;
    if process_state().is_some_and(first) {
        stop(FIRST_ENDS);
    }
    // SAFETY: as promised by the caller.
    unsafe { real::pthread_cancel(thread) }
}

/// The parent ends past every hook.
///
/// # Safety
/// As for daemon(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn daemon(stay: c_int, keep: c_int) -> c_int {
    before_exec();
    // SAFETY: as promised by the caller.
    unsafe { real::daemon(stay, keep) }
}

/// # Safety
/// As for unshare(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn unshare(flags: c_int) -> c_int {
    stop("the program calls unshare");
    // SAFETY: as promised by the caller.
    unsafe { real::unshare(flags) }
}

/// # Safety
/// As for setns(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn setns(fd: c_int, kind: c_int) -> c_int {
    stop("the program calls setns");
    // SAFETY: as promised by the caller.
    unsafe { real::setns(fd, kind) }
}

/// SECCOMP_SET_MODE_STRICT, SECCOMP_SET_MODE_FILTER; without a program the latter
/// only asks what the kernel knows.
fn installs_filter(operation: usize, program: usize) -> bool {
    operation == 0 || (operation == 1 && program != 0)
}

/// # Safety
/// As for prctl(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn prctl(
    option: c_int,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
) -> c_int {
    let strict = a == libc::SECCOMP_MODE_STRICT as usize;
    if option == libc::PR_SET_SECCOMP && (strict || b != 0) {
        leave();
    }
    // SAFETY: as promised by the caller.
    unsafe { real::prctl(option, a, b, c, d) }
}

/// libseccomp installs its filters, and older programs exec, in this way.
///
/// # Safety
/// As for syscall(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn syscall(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    match number {
        libc::SYS_seccomp if installs_filter(a, c) => leave(),
        libc::SYS_prctl if a == libc::PR_SET_SECCOMP as usize => leave(),
        libc::SYS_unshare => stop("the program calls unshare"),
        libc::SYS_setns => stop("the program calls setns"),
        libc::SYS_exit if is_first_thread() => stop(FIRST_ENDS),
        libc::SYS_execve | libc::SYS_execveat => before_exec(),
        libc::SYS_exit_group => before_end(),
        _ => {
            // SAFETY: as promised by the caller.
            let sent = unsafe { super::others::by_number(number, [a, b, c, d, e, f]) };
            if let Some(result) = sent {
                return result;
            }
        }
    }
    // SAFETY: as promised by the caller.
    unsafe { real::syscall(number, a, b, c, d, e, f) }
}
