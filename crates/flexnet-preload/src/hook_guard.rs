// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The hook guard: is this thread in a hook? A signal handler may interrupt a hook and call another
//! one. It must not wait for what its own thread holds, so its calls pass through. The calls of the
//! library's own threads pass through, too.

use std::cell::Cell;

thread_local! {
    static IN_HOOK: Cell<bool> = const { Cell::new(false) };
    /// A handler has waited in vain for the hook that it interrupted.
    static WAITED_IN_VAIN: Cell<bool> = const { Cell::new(false) };
}

/// Is it the library that calls on this thread?
pub(crate) fn is_in_hook() -> bool {
    IN_HOOK.get()
}

/// May a handler's send wait for the hook that it interrupted? Once only: where signals come
/// faster than it waits, the hook would never go on.
pub(crate) fn may_wait_in_handler() -> bool {
    !WAITED_IN_VAIN.get()
}

/// A handler's send has waited in vain.
pub(crate) fn waited_in_vain() {
    WAITED_IN_VAIN.set(true);
}

/// While it lives, hooks that this thread enters let through.
pub(crate) struct HookGuard {
    errno: i32,
}

impl HookGuard {
    /// None: it is inside already.
    #[inline]
    pub(crate) fn enter() -> Option<Self> {
        if IN_HOOK.get() || flexnet::executor::is_library_thread() {
            return None;
        }
        IN_HOOK.set(true);
        Some(Self {
            errno: crate::real::errno(),
        })
    }

    /// Sleeps: handlers that run meanwhile may use the hooks, since nothing is
    /// held.
    pub(crate) fn suspended<R>(&self, sleep: impl FnOnce() -> R) -> R {
        IN_HOOK.set(false);
        let result = sleep();
        IN_HOOK.set(true);
        result
    }
}

impl Drop for HookGuard {
    /// What the program sees of errno is what the hook says last.
    #[inline]
    fn drop(&mut self) {
        IN_HOOK.set(false);
        WAITED_IN_VAIN.set(false);
        crate::real::set_errno(self.errno);
    }
}

/// All signals are blocked while it lives: what is held, a handler that wants
/// it would wait for for ever.
pub(crate) struct SignalsBlocked(libc::sigset_t);

impl SignalsBlocked {
    pub(crate) fn new() -> Self {
        // SAFETY: plain calls on local sets; they cannot fail for these.
        unsafe {
            let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            Self(before)
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: the set that was in place.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

unsafe extern "C" {
    fn pthread_setcancelstate(state: libc::c_int, before: *mut libc::c_int) -> libc::c_int;
}
/// glibc's and musl's value.
const PTHREAD_CANCEL_DISABLE: libc::c_int = 1;

/// The thread is not cancelled (pthread_cancel) while it lives: what is held, nobody
/// would give back.
pub(crate) struct CancelDisabled(libc::c_int);

impl CancelDisabled {
    pub(crate) fn new() -> Self {
        let mut before = 0;
        // SAFETY: a plain call on a local; it cannot fail for this.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &mut before) };
        Self(before)
    }
}

impl Drop for CancelDisabled {
    fn drop(&mut self) {
        let mut before = 0;
        // SAFETY: the state that was.
        unsafe { pthread_setcancelstate(self.0, &mut before) };
    }
}

/// Neither a signal nor cancellation reaches the thread while it lives.
pub(crate) struct Quiet {
    _signals: SignalsBlocked,
    _cancellation: CancelDisabled,
}

impl Quiet {
    pub(crate) fn new() -> Self {
        Self {
            _cancellation: CancelDisabled::new(),
            _signals: SignalsBlocked::new(),
        }
    }
}
