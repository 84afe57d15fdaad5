// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Deadlines from threads that watch none: a submitter that did work inline
//! which waits for a time hands that over to an executor.

use crate::coroutine::Timers;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;
use std::time::Instant;

#[derive(Default)]
pub(crate) struct Deadlines {
    any: AtomicBool,
    list: Mutex<Vec<(Instant, Waker)>>,
}

impl Deadlines {
    /// Adds to them; the caller unparks an executor after this.
    pub(crate) fn add(&self, deadlines: impl IntoIterator<Item = (Instant, Waker)>) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.extend(deadlines);
        self.any.store(true, Ordering::Release);
    }

    /// Is there any that no executor watches yet?
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// An executor takes them all into its own timers.
    #[inline]
    pub(crate) fn move_to(&self, timers: &mut Timers) {
        if !self.any() {
            return;
        }
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        self.any.store(false, Ordering::Relaxed);
        for (deadline, waker) in list.drain(..) {
            timers.insert(deadline, waker);
        }
    }
}

#[cfg(all(test, not(flexnet_loom)))]
mod tests {
    use crate::coroutine::sleep;
    use crate::executor::Runtime;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn a_coroutine_resumed_inline_sleeps_and_goes_on() {
        let runtime = Runtime::builder().executors(1).build().unwrap();
        let (busy, flow) = (runtime.flow().unwrap(), runtime.flow().unwrap());
        let (release, released) = mpsc::channel::<()>();
        let (started, starts) = mpsc::channel();
        busy.submit(async move {
            started.send(()).ok();
            released.recv().ok();
        })
        .unwrap();
        starts.recv().unwrap();
        let (sender, receiver) = mpsc::channel();
        flow.submit(async move {
            sleep(Duration::from_millis(1)).await;
            sender.send(std::thread::current().id()).ok();
        })
        .unwrap();
        // The executor is busy: as a submitter that finds the ring full does.
        flow.0.serve_inline();
        release.send(()).unwrap();
        let thread = receiver.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_ne!(thread, std::thread::current().id());
    }
}
