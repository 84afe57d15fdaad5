// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The end of a runtime: its executors finish what was accepted, within the linger time, and the
//! last of them lets go of the rest.
//!
//! Promised: the end comes within the linger time and [`GRACE`], whatever coroutines do; afterwards
//! nothing in the runtime refers to a flow, and no coroutine runs. Left to others: what an executor
//! still does before it ends (worker.rs).

use super::current;
use super::schedule::Schedule;
use super::shared::{SERVING, STOPPED, STOPPING, Shared};
use crate::coroutine::{Timers, with_timers};
use std::sync::PoisonError;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

/// How much longer than the linger time an executor may take to notice that it is over. One that is
/// in a coroutine then is left to itself.
const GRACE: Duration = Duration::from_secs(1);

/// Ends an executor's part when dropped, also by a panic.
pub(super) struct Ending<'a>(pub(super) &'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let shared = self.0;
        // Before this thread's storage goes: what is woken may look at its timers.
        shared.deadlines.add(with_timers(Timers::take_all));
        shared.wake_all();
        let is_last = shared.end.leave();
        // After the end, what is left in its queue is nobody else's.
        if is_last || shared.is_stopped() {
            shared.release_all();
        }
        if is_last {
            shared.end.announce();
        }
    }
}

impl Shared {
    /// Has the executors finish and end, and waits for that; how many flows were given up. Where
    /// this thread is an executor it does not wait. In a child of fork(2) there is nothing to end.
    pub(super) fn stop(&self) -> usize {
        let end = &self.end;
        if end.is_forked() {
            return 0;
        }
        let deadline = *end.deadline.get_or_init(|| Instant::now() + self.linger);
        let before = self.phase.fetch_max(STOPPING, Ordering::AcqRel);
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        if before != SERVING {
            self.release_all();
            return 0;
        }
        self.wake_all();
        if current::may_wait().is_err() {
            return 0;
        }
        if end.wait(deadline + GRACE) {
            for thread in threads {
                // A worker that panicked has nothing more to say.
                let _ = thread.join();
            }
        } else {
            // An executor is in a coroutine that does not return. It ends when that does.
            self.release_all();
            let stuck = end.alive.load(Ordering::Relaxed);
            // Its queue is its own: nobody else may take what is behind it.
            let behind: usize = self.executors.iter().map(|slot| slot.queue.len()).sum();
            end.given_up.fetch_add(stuck + behind, Ordering::Relaxed);
        }
        end.given_up.load(Ordering::Relaxed)
    }

    /// There are no executors from here on. What is queued or waits in here is sent as far as the
    /// time goes; coroutines are ended.
    fn release_all(&self) {
        self.phase.store(STOPPED, Ordering::Release);
        fence(Ordering::SeqCst);
        // What was submitted between the executors' last look and now.
        self.serve_here();
        for (_, waker) in self.deadlines.close() {
            waker.wake();
        }
        // A thread may still wait: the executors lingered for it, or they had ended
        // when a submitter found its socket full.
        let deadline = self
            .end
            .deadline
            .get()
            .copied()
            .unwrap_or_else(Instant::now);
        let flows = self.reactor.abandon();
        let given_up = flows
            .iter()
            .filter(|flow| !flow.drain_until(deadline))
            .count();
        self.end.given_up.fetch_add(given_up, Ordering::Relaxed);
        // Coroutines that wait for what nobody here wakes. One that owns its flow would do so for
        // ever.
        for flow in self.flows.all() {
            if !flow.is_drained() {
                flow.end_coroutines();
            }
        }
    }
}
