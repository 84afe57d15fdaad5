// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Waits of the hooks for room in a queue.
//!
//! Promised: a thread that waits holds nothing, neither a reference nor a lock, and no other thread
//! has an address in its stack. So it may be cancelled, and a handler may leave by longjmp, as out
//! of the kernel's own wait. A wait sleeps on memory that is never freed ([`crate::entry`]).

use crate::entry::Entry;
use crate::real;
use crate::socket::deadline;
use crate::table::{self, Slot};
use flexnet::executor::Bell;
use libc::{c_int, c_long};
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Longer than any wait; a futex with a time limit is ended by every handler.
const FOR_EVER: Duration = Duration::from_secs(1 << 30);
/// How long a wait for a socket takes at a time once the executors have ended:
/// another thread may drain meanwhile, and nothing tells.
const WITHOUT_EXECUTORS: Duration = Duration::from_millis(10);

/// What a thread waits for. Plain values: nothing is owed for it.
#[derive(Clone, Copy)]
pub(crate) enum Wait {
    /// The bell rings, which had this value.
    Bell(&'static Bell, u32),
    /// The socket takes bytes: there are no executors.
    Socket(RawFd),
}

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slept {
    /// There may be news.
    News,
    /// Too late.
    TimedOut,
    /// A signal handler ran that was not to restart system calls (with a deadline:
    /// any handler), as in the kernel's own waits for a socket.
    Interrupted,
}

/// A hook's call, over its waits.
pub(crate) struct Call {
    fd: RawFd,
    /// The number was closed so often when the call began.
    closes: u32,
    /// When it gives up, once it has waited.
    until: Option<Option<Instant>>,
    /// It has waited.
    pub(crate) woken: bool,
}

impl Call {
    pub(crate) fn new(fd: RawFd, slot: &Slot) -> Self {
        Self {
            fd,
            closes: slot.closes(),
            until: None,
            woken: false,
        }
    }

    /// Did another thread close the descriptor while this one waited? The number
    /// may be another socket's.
    pub(crate) fn was_closed(&self, slot: &Slot) -> bool {
        self.woken && slot.closes() != self.closes
    }

    /// Sleeps, and says with which errno the call fails, if it does.
    ///
    /// Cancellation may unwind this function and its callers, so neither it nor
    /// they keep anything here that is to be dropped.
    #[cold]
    pub(crate) fn sleep(&mut self, wait: Wait) -> Option<c_int> {
        let until = match self.until {
            Some(until) => until,
            None => *self.until.insert(deadline(self.fd)),
        };
        self.woken = true;
        match sleep(wait, until) {
            Slept::News => None,
            Slept::TimedOut => Some(libc::EAGAIN),
            Slept::Interrupted => Some(libc::EINTR),
        }
    }
}

/// What to wait for; `None`: look again at once. The caller uses the entry, and has
/// found that it must wait. `ready` is asked after the bell is armed.
pub(crate) fn prepare(entry: &Entry, fd: RawFd, ready: impl FnOnce() -> bool) -> Option<Wait> {
    if entry.flow().is_stopped() {
        return Some(Wait::Socket(fd));
    }
    let seen = entry.bell().await_ring();
    let settled = ready() || entry.flow().error().is_some() || entry.ended.load(Ordering::SeqCst);
    (!settled && !entry.flow().is_stopped()).then_some(Wait::Bell(entry.bell(), seen))
}

unsafe extern "C-unwind" {
    fn pthread_setcanceltype(kind: c_int, before: *mut c_int) -> c_int;
    fn pthread_testcancel();
}
/// glibc's and musl's value.
const PTHREAD_CANCEL_ASYNCHRONOUS: c_int = 1;

/// A thread that was cancelled goes no further: a send is a point for that, one that is
/// queued, too. For callers that hold nothing.
#[inline]
pub(crate) fn cancellation_point() {
    // SAFETY: a plain call; it may unwind.
    unsafe { pthread_testcancel() };
}

/// Sleeps, as a cancellation point: the C library makes its own ones so.
#[inline(never)]
fn sleep(wait: Wait, until: Option<Instant>) -> Slept {
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    if left == Some(Duration::ZERO) {
        return Slept::TimedOut;
    }
    let mut before = 0;
    // SAFETY: a plain call on a local; while it is so this thread holds nothing.
    unsafe { pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &mut before) };
    let slept = match wait {
        Wait::Bell(bell, seen) => sleep_on(bell, seen, left),
        Wait::Socket(fd) => sleep_for_socket(fd, left),
    };
    // SAFETY: the type that was.
    unsafe { pthread_setcanceltype(before, &mut before) };
    slept
}

/// FUTEX_WAIT without a limit restarts after a handler that is to restart system
/// calls, and with one it does not: as a send, with and without SO_SNDTIMEO.
fn sleep_on(bell: &'static Bell, seen: u32, left: Option<Duration>) -> Slept {
    let errno = real::errno();
    let left = left.map(|left| timespec(left.min(FOR_EVER)));
    let timeout = left.as_ref().map_or(ptr::null(), ptr::from_ref);
    let word = ptr::from_ref(bell.as_word());
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: a word that stays, and null or a local.
    let slept = unsafe {
        real::syscall(
            libc::SYS_futex as c_long,
            word.addr(),
            operation as usize,
            seen as usize,
            timeout.addr(),
            0,
            0,
        )
    };
    let why = real::errno();
    real::set_errno(errno);
    match why {
        libc::EINTR if slept < 0 => Slept::Interrupted,
        libc::ETIMEDOUT if slept < 0 => Slept::TimedOut,
        _ => Slept::News,
    }
}

fn sleep_for_socket(fd: RawFd, left: Option<Duration>) -> Slept {
    let errno = real::errno();
    let limit = timespec(left.unwrap_or(FOR_EVER).min(WITHOUT_EXECUTORS));
    let mut waits = libc::pollfd {
        fd,
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one descriptor, of a local; the limit, too.
    let ready = unsafe { libc::ppoll(&mut waits, 1, &limit, ptr::null()) };
    let interrupted = ready < 0 && real::errno() == libc::EINTR;
    real::set_errno(errno);
    match interrupted {
        true => Slept::Interrupted,
        false => Slept::News,
    }
}

fn timespec(left: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: left.as_secs() as i64,
        tv_nsec: left.subsec_nanos().into(),
    }
}

/// Sleeps until the entry's bell rings or `until`; false: too late. For a thread of
/// which the end of a process, or a close, waits: it keeps the entry, and no signal
/// ends its wait.
pub(crate) fn sleep_through(entry: &Entry, until: Instant, ready: impl FnOnce() -> bool) -> bool {
    use rustix::thread::futex;
    let now = Instant::now();
    if now >= until {
        return false;
    }
    if entry.flow().is_stopped() {
        entry
            .flow()
            .wait_and_drain(until.min(now + WITHOUT_EXECUTORS));
        return true;
    }
    let seen = entry.bell().await_ring();
    if !ready() && entry.flow().error().is_none() && !entry.flow().is_stopped() {
        let left = until.duration_since(now);
        let left = futex::Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        let flags = futex::Flags::PRIVATE;
        let _ = futex::wait(entry.bell().as_word(), flags, seen, Some(&left));
    }
    true
}

/// What the threads sleep on that wait for a flow.
pub(crate) fn bells() -> Vec<&'static Bell> {
    let entries = table::all().filter_map(|(_, slot)| Entry::in_slot(slot));
    entries.map(|entry| entry.bell()).collect()
}
