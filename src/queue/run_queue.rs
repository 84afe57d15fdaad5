// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! A bounded queue any thread may push to and pop from: Vyukov's ring, in which
//! each slot carries the position it is next good for.

use crate::sync::{AtomicUsize, CacheLine, Ordering, UnsafeCell};
use std::mem::MaybeUninit;

struct Slot<T> {
    /// `position` when free for the push at that position, `position + 1` when
    /// it holds that push's value.
    sequence: AtomicUsize,
    /// Initialised while the sequence says so.
    value: UnsafeCell<MaybeUninit<T>>,
}

/// Bounded multi-producer multi-consumer queue.
///
/// Pushes come from submitters (foreign threads), pops from the executor it
/// belongs to and from thieves. First in, first out.
pub struct RunQueue<T> {
    slots: Box<[Slot<T>]>,
    mask: usize,
    head: CacheLine<AtomicUsize>,
    tail: CacheLine<AtomicUsize>,
}

// SAFETY: a slot's value is touched only by the thread that won its position by
// compare-and-swap, and handed over by the slot's sequence (release, acquire).
unsafe impl<T: Send> Send for RunQueue<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for RunQueue<T> {}

impl<T> RunQueue<T> {
    /// Makes a queue for at least `capacity` entries (rounded up to a power of
    /// two, at least 2). The only allocation.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(2).next_power_of_two();
        Self {
            slots: (0..capacity)
                .map(|i| Slot {
                    sequence: AtomicUsize::new(i),
                    value: UnsafeCell::new(MaybeUninit::uninit()),
                })
                .collect(),
            mask: capacity - 1,
            head: CacheLine(AtomicUsize::new(0)),
            tail: CacheLine(AtomicUsize::new(0)),
        }
    }

    #[inline(always)]
    fn slot(&self, position: usize) -> &Slot<T> {
        // SAFETY: there are `mask + 1` slots.
        unsafe { self.slots.get_unchecked(position & self.mask) }
    }

    /// Puts `value` at the tail, or gives it back when the queue is full.
    #[inline]
    pub fn push(&self, value: T) -> Result<(), T> {
        let mut position = self.tail.load(Ordering::Relaxed);
        loop {
            let slot = self.slot(position);
            let sequence = slot.sequence.load(Ordering::Acquire);
            let distance = sequence.wrapping_sub(position) as isize;
            if distance == 0 {
                match self.tail.compare_exchange_weak(
                    position,
                    position.wrapping_add(1),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => {
                        // SAFETY: winning the position makes this thread the
                        // slot's only user until the sequence moves on.
                        slot.value.with_mut(|cell| unsafe { (*cell).write(value) });
                        slot.sequence
                            .store(position.wrapping_add(1), Ordering::Release);
                        return Ok(());
                    }
                    Err(now) => position = now,
                }
            } else if distance < 0 {
                return Err(value);
            } else {
                position = self.tail.load(Ordering::Relaxed);
            }
        }
    }

    /// Takes the entry at the head.
    #[inline]
    pub fn pop(&self) -> Option<T> {
        let mut position = self.head.load(Ordering::Relaxed);
        loop {
            let slot = self.slot(position);
            let sequence = slot.sequence.load(Ordering::Acquire);
            let distance = sequence.wrapping_sub(position.wrapping_add(1)) as isize;
            if distance == 0 {
                match self.head.compare_exchange_weak(
                    position,
                    position.wrapping_add(1),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => {
                        // SAFETY: as in push; the value was published with the
                        // sequence that was acquired above, and is read once.
                        let value = slot
                            .value
                            .with_mut(|cell| unsafe { (*cell).assume_init_read() });
                        slot.sequence
                            .store(position.wrapping_add(self.mask + 1), Ordering::Release);
                        return Some(value);
                    }
                    Err(now) => position = now,
                }
            } else if distance < 0 {
                return None;
            } else {
                position = self.head.load(Ordering::Relaxed);
            }
        }
    }

    /// Entries now; exact only while nobody else uses the queue.
    #[inline]
    pub fn len(&self) -> usize {
        let head = self.head.load(Ordering::Relaxed);
        let tail = self.tail.load(Ordering::Relaxed);
        tail.wrapping_sub(head).min(self.mask + 1)
    }

    /// Does it look empty? The parking handshake's second look.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Drop for RunQueue<T> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

#[cfg(all(test, not(flexnet_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_dropped_once() {
        let token = std::sync::Arc::new(());
        let queue = RunQueue::new(4);
        for _ in 0..3 {
            assert!(queue.push(token.clone()).is_ok());
        }
        drop(queue.pop());
        assert_eq!(std::sync::Arc::strong_count(&token), 3);
        drop(queue);
        assert_eq!(std::sync::Arc::strong_count(&token), 1);
    }

    #[test]
    fn first_in_first_out_and_full() {
        let queue = RunQueue::new(4);
        for i in 0..4 {
            assert_eq!(queue.push(i), Ok(()));
        }
        assert_eq!(queue.push(9), Err(9));
        assert_eq!(queue.len(), 4);
        for i in 0..4 {
            assert_eq!(queue.pop(), Some(i));
        }
        assert_eq!(queue.pop(), None);
        assert!(queue.is_empty());
    }

    #[test]
    fn nothing_is_lost_or_doubled_between_threads() {
        let queue = RunQueue::new(64);
        let seen: Vec<std::sync::atomic::AtomicU32> = (0..40_000).map(|_| 0.into()).collect();
        std::thread::scope(|scope| {
            for producer in 0..2 {
                let queue = &queue;
                scope.spawn(move || {
                    for i in 0..20_000usize {
                        while queue.push(producer * 20_000 + i).is_err() {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let value = loop {
                            match queue.pop() {
                                Some(value) => break value,
                                None => std::thread::yield_now(),
                            }
                        };
                        seen[value].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                });
            }
        });
        assert!(
            seen.iter()
                .all(|n| n.load(std::sync::atomic::Ordering::Relaxed) == 1)
        );
    }
}
