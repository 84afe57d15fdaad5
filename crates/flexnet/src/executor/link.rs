// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What executors need of a scheduler, and the pages their counters live in.
//!
//! A runtime starts on a page of its own memory, so that the same code runs
//! without a scheduler; when the [`Link`] has a shared page, new work is counted
//! there. Work counted before is settled where it was counted (its
//! [`Charge`](crate::queue::Charge) says where), so depth never drifts.

use crate::abi::{self, ExecutorState, FlowClass};
use crate::queue::Charge;
use std::io;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// A page that stays where it is as long as the process lives.
#[derive(Clone, Copy, Debug)]
pub struct PageRef(NonNull<abi::Page>);

// SAFETY: what several threads write in a page are atomics (abi.h names each
// line's writer); the rest is written before the page is seen.
unsafe impl Send for PageRef {}
// SAFETY: as above.
unsafe impl Sync for PageRef {}

impl PageRef {
    /// Wraps a mapped page.
    ///
    /// # Safety
    /// `page` points to [`abi::PAGE_BYTES`] bytes of initialised memory, aligned
    /// to a page, mapped until the process ends, and laid out as abi.h says.
    pub unsafe fn new(page: NonNull<abi::Page>) -> Self {
        Self(page)
    }

    /// The page.
    #[inline]
    pub fn get(&self) -> &abi::Page {
        // SAFETY: promised by `new`.
        unsafe { self.0.as_ref() }
    }
}

/// The way to a scheduler. [`crate::client::Client`] is the one there is; a
/// runtime without one works too.
pub trait Link: Send + Sync {
    /// The shared page, once there is one; it never changes then.
    fn page(&self) -> Option<PageRef>;

    /// Called by executor `slot` on its own thread when it starts and after each
    /// change of [`Link::generation`].
    ///
    /// # Errors
    /// The scheduler refuses or is gone: the executor goes on as an ordinary
    /// thread until the generation moves again.
    fn register(&self, slot: u32, flow_class: FlowClass) -> io::Result<()>;

    /// Called by executor `slot` before its thread ends.
    fn unregister(&self, slot: u32);

    /// Moves with each connection and each loss of it.
    fn generation(&self) -> &AtomicU64;

    /// Is a scheduler there? Only then its requests to park are followed.
    fn attached(&self) -> bool;

    /// Gives the link a way to wake every parked executor: for the scheduler's
    /// doorbell, and when the scheduler is lost.
    fn set_waker(&self, wake_all: Box<dyn Fn() + Send + Sync>);
}

/// A wish that was never told.
const NO_WISH: u32 = u32::MAX;

/// The private page (epoch 0) and the scheduler's (epoch 1).
pub(crate) struct Pages {
    private: PageRef,
    shared: OnceLock<PageRef>,
    epoch: AtomicU8,
    /// The client's wishes, for a page that comes later: weight and most cores,
    /// [`NO_WISH`] before the first.
    wishes: [AtomicU32; 2],
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: made by Box in `new`, and with the last user gone.
        drop(unsafe { Box::from_raw(self.private.0.as_ptr()) });
    }
}

impl Pages {
    pub(crate) fn new() -> Self {
        // SAFETY: a page of zeros is valid: integers and atomics only.
        let page =
            unsafe { Box::<MaybeUninit<abi::Page>>::new(MaybeUninit::zeroed()).assume_init() };
        Self {
            private: PageRef(NonNull::from(Box::leak(page))),
            shared: OnceLock::new(),
            epoch: AtomicU8::new(0),
            wishes: [const { AtomicU32::new(NO_WISH) }; 2],
        }
    }

    /// New work is counted in `page` from now on.
    pub(crate) fn share(&self, page: PageRef) {
        self.shared.get_or_init(|| page);
        self.epoch.store(1, Ordering::Release);
        self.publish_wishes();
    }

    /// What the scheduler shall know of the client, now and in a page to come.
    pub(crate) fn wish(&self, weight: u32, max_cores: u32) {
        self.wishes[0].store(weight, Ordering::Relaxed);
        self.wishes[1].store(max_cores, Ordering::Relaxed);
        self.publish_wishes();
    }

    fn publish_wishes(&self) {
        let client = &self.current().client;
        let lines = [&client.weight, &client.max_cores];
        for (line, wish) in lines.into_iter().zip(&self.wishes) {
            let wish = wish.load(Ordering::Relaxed);
            if wish != NO_WISH {
                line.store(wish, Ordering::Relaxed);
            }
        }
    }

    #[inline]
    fn of(&self, epoch: u8) -> &abi::Page {
        match self.shared.get() {
            Some(shared) if epoch == 1 => shared.get(),
            _ => self.private.get(),
        }
    }

    /// The page new work is counted in.
    #[inline]
    pub(crate) fn current(&self) -> &abi::Page {
        self.of(self.epoch.load(Ordering::Acquire))
    }

    /// Counts one message for `executor`; its number there, and its charge.
    #[inline]
    pub(crate) fn charge(&self, executor: u16) -> (u64, Charge) {
        let epoch = self.epoch.load(Ordering::Acquire);
        let line = &self.of(epoch).executors[usize::from(executor)];
        let number = line.foreign.enqueued.fetch_add(1, Ordering::Relaxed);
        // The private page's stamps nobody reads: no clock for those.
        if epoch == 1 && number.is_multiple_of(abi::STAMP_EVERY) {
            stamp(line, number);
        }
        (number, Charge { executor, epoch })
    }

    /// A flow was idle when message `number` came: if its executor's queue was
    /// empty too, the message is the oldest, and its age counts from now.
    #[inline]
    pub(crate) fn stamp_if_first(&self, charge: Charge, number: u64) {
        if charge.epoch == 0 {
            return;
        }
        let line = &self.of(charge.epoch).executors[usize::from(charge.executor)];
        let done = line
            .own
            .completed
            .load(Ordering::Relaxed)
            .wrapping_add(line.foreign.moved.load(Ordering::Relaxed));
        if done == number && !number.is_multiple_of(abi::STAMP_EVERY) {
            stamp(line, number);
        }
    }

    /// `count` messages under `charge` are done; `by` is the executor that did
    /// them, if the caller is one.
    #[inline]
    pub(crate) fn settle(&self, charge: Charge, count: u64, by: Option<u16>) {
        let line = &self.of(charge.epoch).executors[usize::from(charge.executor)];
        if by == Some(charge.executor) {
            // The line's only writer, so a load and a store will do.
            let done = line.own.completed.load(Ordering::Relaxed);
            line.own
                .completed
                .store(done.wrapping_add(count), Ordering::Release);
        } else {
            line.foreign.moved.fetch_add(count, Ordering::Release);
        }
    }

    /// Executor `slot` says what it does, for the scheduler's eyes.
    pub(crate) fn publish_state(&self, slot: u16, state: ExecutorState) {
        let own = &self.current().executors[usize::from(slot)].own;
        own.state.store(state as u32, Ordering::Relaxed);
        if state == ExecutorState::Parked {
            own.parks
                .store(own.parks.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    /// Executor `slot` resumes a coroutine.
    #[inline]
    pub(crate) fn publish_resume(&self, slot: u16) {
        let own = &self.current().executors[usize::from(slot)].own;
        own.resumes
            .store(own.resumes.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Messages queued for `slot`, over both pages.
    pub(crate) fn depth(&self, slot: u16) -> u64 {
        (0..=1u8)
            .filter(|&epoch| epoch == 0 || self.shared.get().is_some())
            .map(|epoch| {
                let line = &self.of(epoch).executors[usize::from(slot)];
                let completed = line.own.completed.load(Ordering::Acquire);
                let moved = line.foreign.moved.load(Ordering::Acquire);
                let done = completed.wrapping_add(moved);
                line.foreign
                    .enqueued
                    .load(Ordering::Acquire)
                    .saturating_sub(done)
            })
            .sum()
    }
}

fn stamp(line: &abi::Executor, number: u64) {
    let slot = (number / abi::STAMP_EVERY) as usize % abi::STAMPS;
    line.stamps[slot].store(now_ns(), Ordering::Relaxed);
}

/// CLOCK_MONOTONIC in ns, the clock of the page.
pub(crate) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_what_others_did_too_and_across_a_change_of_page() {
        let pages = Pages::new();
        let (number, early) = pages.charge(3);
        assert_eq!((number, pages.depth(3)), (0, 1));
        let shared = Pages::new();
        pages.share(shared.private);
        let (_, late) = pages.charge(3);
        assert_eq!(late.epoch, 1);
        assert_eq!(pages.depth(3), 2);
        pages.settle(early, 1, Some(3));
        pages.settle(late, 1, Some(2));
        assert_eq!(pages.depth(3), 0);
        assert_eq!(
            shared.private.get().executors[3]
                .foreign
                .moved
                .load(Ordering::Relaxed),
            1
        );
    }

    #[test]
    fn wishes_reach_the_page_there_is_and_the_one_that_comes() {
        let pages = Pages::new();
        pages.wish(300, 2);
        let shared = Pages::new();
        pages.share(shared.private);
        let wishes = || {
            let client = &shared.private.get().client;
            let load = |of: &AtomicU32| of.load(Ordering::Relaxed);
            (load(&client.weight), load(&client.max_cores))
        };
        assert_eq!(wishes(), (300, 2));
        pages.wish(50, 0);
        assert_eq!(wishes(), (50, 0));
    }

    #[test]
    fn the_first_message_of_an_empty_queue_is_stamped() {
        let pages = Pages::new();
        let shared = Pages::new();
        pages.share(shared.private);
        let line = &pages.current().executors[0];
        for _ in 0..3 {
            let (number, charge) = pages.charge(0);
            line.stamps[0].store(0, Ordering::Relaxed);
            pages.stamp_if_first(charge, number);
            assert_eq!(line.stamps[0].load(Ordering::Relaxed) != 0, number != 0);
            pages.settle(charge, 1, None);
        }
    }
}
