// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The parking handshake between an executor and a thread that has work for it.
//!
//! Executor: state = PARKED, fence, look again, sleep. Producer: publish, fence,
//! load the state, and only the winner of PARKED -> NOTIFIED wakes. The explicit
//! fences are what makes one of the two see the other; taking any out fails the
//! loom tests (ci/mutants).

use crate::sync::{AtomicU32, Ordering, fence_seqcst};
use std::time::Duration;

const RUNNING: u32 = 0;
const PARKED_FUTEX: u32 = 1;
const PARKED_POLL: u32 = 2;
const NOTIFIED: u32 = 3;

/// How a parked executor sleeps, and so how it is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sleep {
    /// On the futex in here: nothing else can wake it.
    Futex,
    /// In poll on its own descriptors: woken by writing to its eventfd.
    Poll,
}

/// One executor's handshake word. In the process's private memory, so that the
/// futex is a private one (a shared futex on a BPF map's page gives EFAULT).
#[derive(Debug)]
pub struct Parker {
    state: AtomicU32,
}

impl Default for Parker {
    fn default() -> Self {
        Self::new()
    }
}

impl Parker {
    /// The executor runs.
    pub fn new() -> Self {
        Self {
            state: AtomicU32::new(RUNNING),
        }
    }

    /// Executor: announces that it is about to sleep. Look for work after this,
    /// and call [`Parker::cancel`] if there is some, else sleep.
    #[inline]
    pub fn prepare(&self, sleep: Sleep) {
        let parked = match sleep {
            Sleep::Futex => PARKED_FUTEX,
            Sleep::Poll => PARKED_POLL,
        };
        self.state.store(parked, Ordering::Relaxed);
        fence_seqcst!("parker_prepare");
    }

    /// Executor: runs again, whether it slept or not.
    #[inline]
    pub fn cancel(&self) {
        self.state.store(RUNNING, Ordering::Release);
    }

    /// Executor: sleeps until woken, after [`Parker::prepare`] with
    /// [`Sleep::Futex`], or until `timeout` has passed; returns at once when
    /// somebody woke it since.
    pub fn sleep(&self, timeout: Option<Duration>) {
        while self.state.load(Ordering::Acquire) == PARKED_FUTEX {
            futex_wait(&self.state, PARKED_FUTEX, timeout);
            if timeout.is_some() {
                break;
            }
        }
        self.cancel();
    }

    /// Was it woken since `prepare`?
    #[inline]
    pub fn is_notified(&self) -> bool {
        self.state.load(Ordering::Acquire) == NOTIFIED
    }

    /// Is it parked, or about to park? A hint without ordering.
    #[inline]
    pub fn is_parked(&self) -> bool {
        matches!(
            self.state.load(Ordering::Relaxed),
            PARKED_FUTEX | PARKED_POLL
        )
    }

    /// Producer: work was published before this. Wakes a futex sleeper;
    /// `Some(Sleep::Poll)` tells the caller to write to the executor's eventfd.
    /// `None`: it was not parked. Costs one fence and one load then.
    #[inline]
    pub fn unpark(&self) -> Option<Sleep> {
        fence_seqcst!("parker_unpark");
        let state = self.state.load(Ordering::Relaxed);
        if state != PARKED_FUTEX && state != PARKED_POLL {
            return None;
        }
        self.unpark_slow(state)
    }

    #[cold]
    fn unpark_slow(&self, state: u32) -> Option<Sleep> {
        self.state
            .compare_exchange(state, NOTIFIED, Ordering::AcqRel, Ordering::Relaxed)
            .ok()?;
        if state == PARKED_POLL {
            return Some(Sleep::Poll);
        }
        futex_wake(&self.state);
        Some(Sleep::Futex)
    }
}

#[cfg(not(flexnet_loom))]
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    use rustix::thread::futex;
    let timeout = timeout.map(|t| futex::Timespec {
        tv_sec: t.as_secs() as i64,
        tv_nsec: t.subsec_nanos().into(),
    });
    // A failed wait (the word changed, a signal) is a wakeup: callers look again.
    let _ = futex::wait(word, futex::Flags::PRIVATE, expected, timeout.as_ref());
}

#[cfg(not(flexnet_loom))]
pub(crate) fn futex_wake(word: &AtomicU32) {
    let _ = rustix::thread::futex::wake(word, rustix::thread::futex::Flags::PRIVATE, 1);
}

// loom has no futex: a sleeper lets others run until the word changes, and a
// lost wakeup shows as a model that never ends.
#[cfg(flexnet_loom)]
pub(crate) fn futex_wait(_word: &AtomicU32, _expected: u32, _timeout: Option<Duration>) {
    loom::thread::yield_now();
}

#[cfg(flexnet_loom)]
pub(crate) fn futex_wake(_word: &AtomicU32) {}

#[cfg(all(test, not(flexnet_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_parked_thread_is_woken_and_a_running_one_is_not() {
        let parker = Parker::new();
        assert_eq!(parker.unpark(), None);
        std::thread::scope(|scope| {
            parker.prepare(Sleep::Futex);
            scope.spawn(|| assert_eq!(parker.unpark(), Some(Sleep::Futex)));
            parker.sleep(None);
        });
        assert!(!parker.is_parked());
        parker.prepare(Sleep::Poll);
        assert_eq!(parker.unpark(), Some(Sleep::Poll));
        assert_eq!(parker.unpark(), None, "one wakes, the others need not");
        assert!(parker.is_notified());
    }
}
