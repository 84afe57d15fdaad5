// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Submitters that wait for a flow: for room in its ring, or until it is
//! drained.

use rustix::thread::futex;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// A word that threads sleep on while they hold nothing else of a flow.
///
/// It lies in memory that is never freed, so a thread that is cancelled or leaves
/// its sleep by longjmp owes nothing.
#[derive(Debug, Default)]
pub struct Bell(AtomicU32);

/// Somebody sleeps on the bell, or is about to.
const AWAITED: u32 = 1;

impl Bell {
    /// A bell that nobody awaits.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// The value to sleep on. What changes after this call ends the sleep, so the
    /// caller looks at what it waits for once more before it sleeps.
    pub fn await_ring(&self) -> u32 {
        let value = self.0.fetch_or(AWAITED, Ordering::SeqCst) | AWAITED;
        // Pairs with the one before `ring`: either this thread sees the change or
        // the thread that made it sees the flag.
        fence(Ordering::SeqCst);
        value
    }

    /// Wakes all that sleep. Call it after a change and a fence.
    #[inline]
    pub fn ring(&self) {
        if self.0.load(Ordering::Relaxed) & AWAITED != 0 {
            self.ring_slow();
        }
    }

    #[cold]
    fn ring_slow(&self) {
        let next = |value| (value & AWAITED != 0).then(|| u32::wrapping_add(value, 1));
        if self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::Relaxed, next)
            .is_ok()
        {
            let _ = futex::wake(&self.0, futex::Flags::PRIVATE, i32::MAX as u32);
        }
    }

    /// The word, for a futex of the caller's own.
    pub fn as_word(&self) -> &AtomicU32 {
        &self.0
    }
}

#[derive(Default)]
pub(crate) struct Waiters {
    any: AtomicBool,
    list: Mutex<Vec<Waker>>,
    /// Rings as well, where the flow's owner has one.
    bell: AtomicPtr<Bell>,
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
        // or the thread that made it sees the waiter.
        fence(Ordering::SeqCst);
    }

    /// Something changed, and a fence was passed since (the gate's).
    #[inline]
    pub(crate) fn wake(&self) {
        if self.any.load(Ordering::Relaxed) {
            self.wake_slow();
        }
        // SAFETY: null, or what `set_bell` was given.
        if let Some(bell) = unsafe { self.bell.load(Ordering::Relaxed).as_ref() } {
            bell.ring();
        }
    }

    /// Rings `bell` at each [`Waiters::wake`] from here on. Before the flow is used.
    pub(crate) fn set_bell(&self, bell: &'static Bell) {
        let bell = std::ptr::from_ref(bell).cast_mut();
        self.bell.store(bell, Ordering::Release);
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
