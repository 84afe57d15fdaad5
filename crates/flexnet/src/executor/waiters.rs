// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Submitters that wait for a flow: for room in its ring, or until it is
//! drained.

use rustix::io::Errno;
use rustix::thread::futex;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

#[derive(Default)]
pub(crate) struct Waiters {
    any: AtomicBool,
    list: Mutex<Vec<Waker>>,
    /// Threads that sleep on `moves`: they allocate nothing, and a signal ends
    /// their sleep.
    sleepers: AtomicU32,
    moves: AtomicU32,
}

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slept {
    /// What was waited for is there.
    Done,
    /// Too late.
    TimedOut,
    /// A signal handler ran, which was not asked to restart system calls (with a
    /// deadline: any handler), as the kernel's own waits for a socket do.
    Interrupted,
}

impl Waiters {
    /// Is woken at the next [`Waiters::wake`]. Look at the condition again
    /// after this.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if !list.iter().any(|other| other.will_wake(waker)) {
            list.push(waker.clone());
        }
        self.any.store(true, Ordering::Relaxed);
        // Pairs with the one before `wake`: either the waiter sees the change
        // or who made it sees the waiter.
        fence(Ordering::SeqCst);
    }

    /// Something changed, and a fence was passed since (the gate's).
    #[inline]
    pub(crate) fn wake(&self) {
        if self.any.load(Ordering::Relaxed) {
            self.wake_slow();
        }
        if self.sleepers.load(Ordering::Relaxed) != 0 {
            self.wake_sleepers();
        }
    }

    #[cold]
    fn wake_sleepers(&self) {
        self.moves.fetch_add(1, Ordering::Release);
        let _ = futex::wake(&self.moves, futex::Flags::PRIVATE, i32::MAX as u32);
    }

    /// Sleeps until `done`, which is asked after each change.
    pub(crate) fn sleep_until(
        &self,
        deadline: Option<Instant>,
        mut done: impl FnMut() -> bool,
    ) -> Slept {
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        // Pairs with the one before `wake`, as in `register`.
        fence(Ordering::SeqCst);
        let slept = loop {
            let seen = self.moves.load(Ordering::Acquire);
            if done() {
                break Slept::Done;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                break Slept::TimedOut;
            }
            let left = left.map(|left| futex::Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            });
            let slept = futex::wait(&self.moves, futex::Flags::PRIVATE, seen, left.as_ref());
            if slept == Err(Errno::INTR) {
                break if done() {
                    Slept::Done
                } else {
                    Slept::Interrupted
                };
            }
        };
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
        slept
    }

    #[cold]
    fn wake_slow(&self) {
        let mut left = {
            let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            self.any.store(false, Ordering::Relaxed);
            list.len()
        };
        // One by one, with the lock let go of: a waker may run what waits here
        // and now, and that may register again (then it is behind `left`).
        while left > 0 {
            let waker = {
                let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
                if list.is_empty() {
                    return;
                }
                list.remove(0)
            };
            waker.wake();
            left -= 1;
        }
    }
}

/// Wakes a thread that blocks on a future.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    /// One a thread, so that blocking does not allocate each time.
    static WAKER: Waker = Arc::new(Unpark(std::thread::current())).into();
}

/// Blocks this thread until `future` is ready, or for `timeout`.
pub(crate) fn block_on<F: Future>(future: F, timeout: Option<Duration>) -> Option<F::Output> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut future = pin!(future);
    WAKER.with(|waker| {
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(waker)) {
                return Some(output);
            }
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => std::thread::park(),
                Some(Duration::ZERO) => return None,
                Some(left) => std::thread::park_timeout(left),
            }
        }
    })
}
