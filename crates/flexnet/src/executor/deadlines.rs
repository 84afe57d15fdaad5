// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Deadlines that no thread watches: a sender whose flow is to be tried again later hands that over
//! to an executor, and so does an executor that ends.

use crate::coroutine::Timers;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

type List = Vec<(Instant, Waker)>;

pub(crate) struct Deadlines {
    any: AtomicBool,
    /// None once the executors have ended.
    list: Mutex<Option<List>>,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            any: AtomicBool::new(false),
            list: Mutex::new(Some(Vec::new())),
        }
    }
}

impl Deadlines {
    fn lock(&self) -> MutexGuard<'_, Option<List>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to them; the caller unparks an executor after this. Forgets them once there is none.
    pub(crate) fn add(&self, deadlines: impl IntoIterator<Item = (Instant, Waker)>) {
        let refused = match &mut *self.lock() {
            Some(list) => {
                list.extend(deadlines);
                self.any.store(true, Ordering::Release);
                None
            }
            None => Some(deadlines),
        };
        // A waker may be the last that keeps a flow, so it goes without the lock.
        drop(refused);
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
        let mut list = self.lock();
        self.any.store(false, Ordering::Relaxed);
        for (deadline, waker) in list.iter_mut().flat_map(|list| list.drain(..)) {
            timers.insert(deadline, waker);
        }
    }

    /// No thread watches any from here on; those there are.
    pub(crate) fn close(&self) -> List {
        self.any.store(false, Ordering::Relaxed);
        self.lock().take().unwrap_or_default()
    }
}
