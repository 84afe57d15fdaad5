// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! An executor's queue. Two rings: anybody pushes to the *inbox*, a ring in which
//! the pushing thread marks the slot when its value is there (as in Vyukov's, but the
//! slots' lines go one way only: a thread that pops writes its own line only), and its
//! owner alone to the *local* ring, without an atomic read-modify-write.
//! Popping, by the owner or by thieves, is under a lock that costs the owner
//! next to nothing ([`super::bias`]).

use super::bias::{Bias, wait_a_seizure};
use crate::sync::{AtomicUsize, CacheLine, Ordering, UnsafeCell, spin_loop};
use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// Entries that go from the inbox to the local ring at a time, and that a thief
/// takes at most.
const BATCH: usize = 16;

struct Slot<T> {
    /// `position + 1` of the push whose value is in here.
    published: AtomicUsize,
    /// Initialised from then until the head moves past.
    value: UnsafeCell<MaybeUninit<T>>,
}

/// Written by threads that push into the inbox.
#[derive(Default)]
struct Tail {
    inbox: AtomicUsize,
    /// The inbox's head as they last saw it: looked at again only when the
    /// inbox seems full, since each look may cost a cache miss.
    head_seen: AtomicUsize,
}

/// Written under the lock alone; any thread that wants to know how much there is
/// looks at it.
#[derive(Default)]
struct Ends {
    inbox_head: AtomicUsize,
    local_head: AtomicUsize,
    local_tail: AtomicUsize,
}

/// Bounded queue: many push, one owner pushes and pops, and others steal.
///
/// Pushes come from submitters (foreign threads) and from the executor it
/// belongs to, its [`Owner`]. First in, first out, within each of both, and
/// about so between them.
///
/// ```
/// let queue = flexnet::queue::RunQueue::new(64);
/// let owner = queue.own().expect("it has no owner yet");
/// queue.push("from anywhere")?;
/// owner.push("from its executor")?;
/// assert_eq!(owner.pop(), Some("from its executor"));
/// assert_eq!(owner.pop(), Some("from anywhere"));
/// # Ok::<(), &str>(())
/// ```
pub struct RunQueue<T> {
    inbox: Box<[Slot<T>]>,
    local: Box<[UnsafeCell<MaybeUninit<T>>]>,
    mask: usize,
    tail: CacheLine<Tail>,
    ends: CacheLine<Ends>,
    lock: Bias,
}

// SAFETY: an inbox slot's value is touched by the thread that won its position
// by compare-and-swap and then, handed over by the slot's mark and back by the
// head (release, acquire), by the holder of the lock; the local ring by the latter alone.
unsafe impl<T: Send> Send for RunQueue<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for RunQueue<T> {}

impl<T> RunQueue<T> {
    /// Makes a queue for at least `capacity` entries of either kind (rounded up
    /// to a power of two, at least 2). The only allocation.
    pub fn new(capacity: usize) -> Self {
        Self::with_thieves(capacity, true)
    }

    /// [`RunQueue::new`], and nobody steals while it has an owner.
    pub fn without_thieves(capacity: usize) -> Self {
        Self::with_thieves(capacity, false)
    }

    fn with_thieves(capacity: usize, thieves: bool) -> Self {
        let capacity = capacity.max(2).next_power_of_two();
        Self {
            inbox: (0..capacity)
                .map(|_| Slot {
                    published: AtomicUsize::new(0),
                    value: UnsafeCell::new(MaybeUninit::uninit()),
                })
                .collect(),
            local: (0..capacity)
                .map(|_| UnsafeCell::new(MaybeUninit::uninit()))
                .collect(),
            mask: capacity - 1,
            tail: CacheLine(Tail::default()),
            ends: CacheLine(Ends::default()),
            lock: Bias::new(thieves),
        }
    }

    #[inline(always)]
    fn slot(&self, position: usize) -> &Slot<T> {
        // SAFETY: there are `mask + 1` slots.
        unsafe { self.inbox.get_unchecked(position & self.mask) }
    }

    #[inline(always)]
    fn local(&self, position: usize) -> &UnsafeCell<MaybeUninit<T>> {
        // SAFETY: there are `mask + 1` of them.
        unsafe { self.local.get_unchecked(position & self.mask) }
    }

    /// Puts `value` at the inbox's tail, or gives it back when that is full.
    ///
    /// # Errors
    /// The value.
    #[inline]
    pub fn push(&self, value: T) -> Result<(), T> {
        let mut position = self.tail.inbox.load(Ordering::Relaxed);
        loop {
            if !self.has_room(position) {
                let now = self.tail.inbox.load(Ordering::Relaxed);
                if now == position {
                    return Err(value);
                }
                position = now;
                continue;
            }
            match self.tail.inbox.compare_exchange_weak(
                position,
                position.wrapping_add(1),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    let slot = self.slot(position);
                    // SAFETY: the slot was read (see has_room), and winning the
                    // position makes this thread its only user until published.
                    slot.value.with_mut(|cell| unsafe { (*cell).write(value) });
                    slot.published
                        .store(position.wrapping_add(1), Ordering::Release);
                    return Ok(());
                }
                Err(now) => position = now,
            }
        }
    }

    /// Is the slot for this position read? False also for a position that is
    /// history.
    #[inline(always)]
    fn has_room(&self, position: usize) -> bool {
        let seen = self.tail.head_seen.load(Ordering::Acquire);
        position.wrapping_sub(seen) <= self.mask || self.check_for_room(position)
    }

    #[cold]
    fn check_for_room(&self, position: usize) -> bool {
        let head = self.ends.inbox_head.load(Ordering::Acquire);
        // An older head than another thread saw is as true.
        self.tail.head_seen.store(head, Ordering::Release);
        position.wrapping_sub(head) <= self.mask
    }

    /// Makes the caller its executor; `None` while it has one.
    pub fn own(&self) -> Option<Owner<'_, T>> {
        self.lock.own().then(|| Owner {
            queue: self,
            _not_sync: PhantomData,
        })
    }

    /// Takes the oldest entry and, of the others, up to a half, each of which
    /// `more` gets. `None`: nothing to take now.
    pub fn steal(&self, more: impl FnMut(T)) -> Option<T> {
        if self.is_empty() || self.moves_on() || !self.lock.seize() {
            return None;
        }
        let mut others: [MaybeUninit<T>; BATCH] = [const { MaybeUninit::uninit() }; BATCH];
        let mut taken = 0;
        // SAFETY: with the lock.
        let first = unsafe { self.take() };
        for other in others.iter_mut().take(self.len() / 2) {
            // SAFETY: with the lock.
            let Some(value) = (unsafe { self.take() }) else {
                break;
            };
            other.write(value);
            taken += 1;
        }
        self.lock.release();
        // SAFETY: so many were written, and each is read once.
        let taken = others[..taken]
            .iter()
            .map(|value| unsafe { value.assume_init_read() });
        taken.for_each(more);
        first
    }

    /// Does its owner get along by itself? A thief pays for a system call, and
    /// interrupts the owner. So it waits for as long as that costs, and steals when what
    /// is left then takes the owner longer than that again. So it never costs
    /// more than twice what the better of both would have.
    fn moves_on(&self) -> bool {
        if !self.lock.is_owned() {
            return false;
        }
        let heads = || {
            let local = self.ends.local_head.load(Ordering::Relaxed);
            local.wrapping_add(self.ends.inbox_head.load(Ordering::Relaxed))
        };
        let before = heads();
        wait_a_seizure(|| self.is_empty());
        let moved = heads().wrapping_sub(before);
        self.len() <= moved
    }

    /// Takes the oldest entry of a queue that has no owner any more; waits for
    /// others that do.
    pub fn take_abandoned(&self) -> Option<T> {
        while !self.is_empty() && !self.lock.is_owned() {
            if self.lock.seize() {
                // SAFETY: with the lock.
                let value = unsafe { self.take() };
                self.lock.release();
                return value;
            }
            spin_loop();
        }
        None
    }

    /// The oldest entry.
    ///
    /// # Safety
    /// The caller holds the lock.
    #[inline(always)]
    unsafe fn take(&self) -> Option<T> {
        let head = self.ends.local_head.load(Ordering::Relaxed);
        if head == self.ends.local_tail.load(Ordering::Relaxed) {
            // SAFETY: as promised.
            return unsafe { self.take_inbox() };
        }
        if self.tail.inbox.load(Ordering::Relaxed) != self.ends.inbox_head.load(Ordering::Relaxed) {
            // SAFETY: as promised.
            unsafe { self.refill() };
        }
        // SAFETY: between the ends the local ring is initialised; once read, the
        // entry is outside.
        let value = self
            .local(head)
            .with_mut(|cell| unsafe { (*cell).assume_init_read() });
        self.ends
            .local_head
            .store(head.wrapping_add(1), Ordering::Relaxed);
        Some(value)
    }

    /// # Safety
    /// The caller holds the lock.
    #[inline(always)]
    unsafe fn take_inbox(&self) -> Option<T> {
        let position = self.ends.inbox_head.load(Ordering::Relaxed);
        let slot = self.slot(position);
        if slot.published.load(Ordering::Acquire) != position.wrapping_add(1) {
            return None;
        }
        // SAFETY: the value was published with the mark that was acquired above,
        // and is read once: the lock's holder moves the head.
        let value = slot
            .value
            .with_mut(|cell| unsafe { (*cell).assume_init_read() });
        self.ends
            .inbox_head
            .store(position.wrapping_add(1), Ordering::Release);
        Some(value)
    }

    /// Puts what is in the inbox behind what is in the local ring, so that
    /// neither waits for the other to be empty.
    ///
    /// # Safety
    /// The caller holds the lock.
    #[inline(never)]
    unsafe fn refill(&self) {
        for _ in 0..BATCH {
            if self.local_len() > self.mask {
                return;
            }
            // SAFETY: as promised.
            let Some(value) = (unsafe { self.take_inbox() }) else {
                return;
            };
            // SAFETY: as promised, and there is room.
            unsafe { self.put_local(value) };
        }
    }

    /// # Safety
    /// The caller holds the lock, and the local ring has room.
    #[inline(always)]
    unsafe fn put_local(&self, value: T) {
        let tail = self.ends.local_tail.load(Ordering::Relaxed);
        // SAFETY: outside of the ends nothing is initialised.
        self.local(tail)
            .with_mut(|cell| unsafe { (*cell).write(value) });
        self.ends
            .local_tail
            .store(tail.wrapping_add(1), Ordering::Relaxed);
    }

    #[inline(always)]
    fn local_len(&self) -> usize {
        let head = self.ends.local_head.load(Ordering::Relaxed);
        let tail = self.ends.local_tail.load(Ordering::Relaxed);
        // A head read before the tail may be old, but not the other way round.
        tail.wrapping_sub(head)
    }

    /// Entries now; exact only while nobody else uses the queue.
    #[inline]
    pub fn len(&self) -> usize {
        let head = self.ends.inbox_head.load(Ordering::Relaxed);
        let tail = self.tail.inbox.load(Ordering::Relaxed);
        tail.wrapping_sub(head).min(self.mask + 1) + self.local_len().min(self.mask + 1)
    }

    /// Does it look empty? The parking handshake's second look.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Drop for RunQueue<T> {
    fn drop(&mut self) {
        // SAFETY: exclusive access is better than the lock.
        while unsafe { self.take() }.is_some() {}
    }
}

/// The one executor of a [`RunQueue`], until dropped. May move to another
/// thread, but is used by one at a time.
pub struct Owner<'a, T> {
    queue: &'a RunQueue<T>,
    _not_sync: PhantomData<std::cell::Cell<()>>,
}

impl<T> Owner<'_, T> {
    /// Puts `value` at the local ring's tail, without an atomic
    /// read-modify-write; where that is not possible now, into the inbox.
    ///
    /// # Errors
    /// The value: both are full.
    #[inline]
    pub fn push(&self, value: T) -> Result<(), T> {
        let queue = self.queue;
        if queue.lock.enter() {
            if queue.local_len() <= queue.mask {
                // SAFETY: with the lock, and there is room.
                unsafe { queue.put_local(value) };
                queue.lock.exit();
                return Ok(());
            }
            queue.lock.exit();
        }
        queue.push(value)
    }

    /// Takes the oldest entry. `None`: there is none, or a thief is just taking
    /// some ([`RunQueue::is_empty`] tells).
    #[inline]
    pub fn pop(&self) -> Option<T> {
        if !self.queue.lock.enter() {
            return None;
        }
        // SAFETY: with the lock.
        let value = unsafe { self.queue.take() };
        self.queue.lock.exit();
        value
    }
}

impl<T> Drop for Owner<'_, T> {
    fn drop(&mut self) {
        self.queue.lock.disown();
    }
}

#[cfg(all(test, not(flexnet_loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn what_is_left_is_dropped_once() {
        let token = std::sync::Arc::new(());
        let queue = RunQueue::new(4);
        let owner = queue.own().unwrap();
        for _ in 0..3 {
            assert!(queue.push(token.clone()).is_ok());
            assert!(owner.push(token.clone()).is_ok());
        }
        drop(owner.pop());
        drop(owner);
        assert_eq!(std::sync::Arc::strong_count(&token), 6);
        drop(queue);
        assert_eq!(std::sync::Arc::strong_count(&token), 1);
    }

    #[test]
    fn first_in_first_out_and_full() {
        let queue = RunQueue::new(4);
        let owner = queue.own().unwrap();
        for i in 0..4 {
            assert_eq!(queue.push(i), Ok(()));
        }
        assert_eq!(queue.push(9), Err(9));
        assert_eq!(queue.len(), 4);
        for i in 0..4 {
            assert_eq!(owner.pop(), Some(i));
        }
        assert_eq!(owner.pop(), None);
        assert!(queue.is_empty());
        for i in 0..8 {
            assert_eq!(owner.push(i), Ok(()), "the local ring, then the inbox");
        }
        assert_eq!(owner.push(9), Err(9));
        assert!((0..8).eq(std::iter::from_fn(|| owner.pop())));
    }

    #[test]
    fn the_inbox_gets_its_turn_behind_what_is_local() {
        let queue = RunQueue::without_thieves(8);
        let owner = queue.own().unwrap();
        owner.push(0).unwrap();
        queue.push(1).unwrap();
        // A flow that goes on for ever.
        assert_eq!(owner.pop(), Some(0));
        owner.push(0).unwrap();
        assert_eq!(owner.pop(), Some(1));
    }

    #[test]
    fn one_owner_at_a_time_and_thieves_only_where_wanted() {
        let queue = RunQueue::without_thieves(8);
        let owner = queue.own().unwrap();
        assert!(queue.own().is_none());
        owner.push(1).unwrap();
        assert_eq!(queue.steal(|_| ()), None);
        assert_eq!(queue.take_abandoned(), None);
        drop(owner);
        assert_eq!(queue.take_abandoned(), Some(1));
        assert!(queue.own().is_some());
    }

    #[test]
    fn a_thief_takes_the_oldest_and_half_of_the_rest() {
        let queue = RunQueue::new(8);
        let owner = queue.own().unwrap();
        for i in 0..5 {
            owner.push(i).unwrap();
        }
        let mut more = Vec::new();
        assert_eq!(queue.steal(|value| more.push(value)), Some(0));
        assert_eq!(more, [1, 2]);
        assert_eq!(owner.pop(), Some(3));
    }

    #[test]
    fn nothing_is_lost_or_doubled_between_threads() {
        const EACH: usize = 20_000;
        let queue = RunQueue::new(64);
        let seen: Vec<AtomicU32> = (0..3 * EACH).map(|_| 0.into()).collect();
        let got = AtomicU32::new(0);
        let count = |value: usize| {
            seen[value].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            got.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        };
        let all = || got.load(std::sync::atomic::Ordering::Relaxed) as usize == 3 * EACH;
        std::thread::scope(|scope| {
            for producer in 0..2 {
                let queue = &queue;
                scope.spawn(move || {
                    for i in 0..EACH {
                        while queue.push(producer * EACH + i).is_err() {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            scope.spawn(|| {
                while !all() {
                    match queue.steal(count) {
                        Some(value) => count(value),
                        None => std::thread::yield_now(),
                    }
                }
            });
            let owner = queue.own().unwrap();
            let mut own = 2 * EACH..3 * EACH;
            let mut next = own.next();
            while !all() {
                if let Some(value) = next {
                    next = owner.push(value).map_or_else(Some, |()| own.next());
                }
                match owner.pop() {
                    Some(value) => count(value),
                    None => std::thread::yield_now(),
                }
            }
        });
        assert!(
            seen.iter()
                .all(|n| n.load(std::sync::atomic::Ordering::Relaxed) == 1)
        );
    }
}
