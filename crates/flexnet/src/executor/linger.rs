// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! How far the end of a runtime has come: a record that its threads share. What they do then is in
//! end.rs.

use rustix::thread::futex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Instant;

/// How far the end of a runtime has come.
#[derive(Default)]
pub(super) struct End {
    /// Executor threads that run.
    pub(super) alive: AtomicUsize,
    /// 1: the last of them has ended. A futex.
    ended: AtomicU32,
    /// The linger time is over then.
    pub(super) deadline: OnceLock<Instant>,
    /// Flows with bytes that their peers did not take.
    pub(super) given_up: AtomicUsize,
    /// The process that has the threads: a child of fork(2) has none.
    process: OnceLock<rustix::process::Pid>,
}

impl End {
    /// A thread is about to be started.
    pub(super) fn add_thread(&self) {
        self.process.get_or_init(rustix::process::getpid);
        self.alive.fetch_add(1, Ordering::Relaxed);
    }

    /// A thread ends, or could not be started; was it the last one?
    pub(super) fn leave(&self) -> bool {
        self.alive.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// The last one has done what there was to do.
    pub(super) fn announce(&self) {
        self.ended.store(1, Ordering::Release);
        let _ = futex::wake(&self.ended, futex::Flags::PRIVATE, i32::MAX as u32);
    }

    /// Is the linger time over?
    pub(super) fn is_over(&self) -> bool {
        self.deadline.get().is_none_or(|at| Instant::now() >= *at)
    }

    /// Is this a child of the process that has the threads?
    pub(super) fn is_forked(&self) -> bool {
        let process = self.process.get();
        process.is_some_and(|process| *process != rustix::process::getpid())
    }

    /// Waits until the last executor has ended, at most until then; has it?
    pub(super) fn wait(&self, until: Instant) -> bool {
        while self.ended.load(Ordering::Acquire) == 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let timeout = futex::Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            };
            // A failed wait is a wakeup: this looks again.
            let _ = futex::wait(&self.ended, futex::Flags::PRIVATE, 0, Some(&timeout));
        }
        true
    }
}
