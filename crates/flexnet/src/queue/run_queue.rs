// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! An executor's queue. It has no bound: what is queued has its link in itself ([`Linked`]), so
//! a push needs no memory and always succeeds.
//!
//! Any thread pushes to the *inbox*, a ring in which the pushing thread marks the slot when its
//! value is there (as in Vyukov's, but the slots' lines go one way only: a thread that pops writes
//! its own line only). What finds the inbox full goes to the *overflow*, a list with the newest entry
//! first. The owner alone pushes to the *local* list, without an atomic read-modify-write.
//! Popping, by the owner or by thieves, is under a lock that costs the owner
//! next to nothing ([`super::bias`]).

use super::bias::{Bias, wait_a_seizure};
use super::link::{Link, Linked};
use crate::sync::{AtomicPtr, AtomicUsize, CacheLine, Ordering, UnsafeCell, spin_loop};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::{NonNull, null_mut};

/// Entries that go from the inbox to the local list at a time, and that a thief
/// takes at most.
const BATCH: usize = 16;
/// Slots of the inbox, a power of two. Few for loom, so that it explores the overflow.
const INBOX: usize = if cfg!(flexnet_loom) { 2 } else { 1024 };
const MASK: usize = INBOX - 1;

struct Slot {
    /// `position + 1` of the push whose entry is in here.
    published: AtomicUsize,
    entry: AtomicPtr<Link>,
}

/// Written by threads that push into the inbox.
#[derive(Default)]
struct Tail {
    inbox: AtomicUsize,
    /// The inbox's head as they last saw it: looked at again only when the
    /// inbox seems full, since each look may cost a cache miss.
    head_seen: AtomicUsize,
}

/// Written by threads that find the inbox full, and by the thread that takes all of it.
#[derive(Default)]
struct Overflow {
    /// Each one's link is to the one before it.
    newest: AtomicPtr<Link>,
    /// Entries that were pushed, or are about to be.
    pushed: AtomicUsize,
}

/// Written under the lock alone; the counts may be read by any thread.
struct Local {
    inbox_head: AtomicUsize,
    list: UnsafeCell<List>,
    pushed: AtomicUsize,
    /// Entries that were taken, of the list and so of the overflow.
    taken: AtomicUsize,
}

/// From the oldest entry to the newest one; both null: empty.
struct List {
    oldest: *mut Link,
    newest: *mut Link,
}

/// Unbounded queue: many push, one owner pushes and pops, and others steal.
///
/// Pushes come from submitters (foreign threads) and from the executor it
/// belongs to, its [`Owner`]. First in, first out, about so: exactly so within each of both as long
/// as the inbox is not full.
///
/// ```
/// use flexnet::queue::{Node, RunQueue};
///
/// let queue = RunQueue::new();
/// let owner = queue.own().expect("it has no owner yet");
/// queue.push(Node::boxed("from anywhere"));
/// owner.push(Node::boxed("from its executor"));
/// assert_eq!(owner.pop().map(|node| node.value), Some("from its executor"));
/// assert_eq!(owner.pop().map(|node| node.value), Some("from anywhere"));
/// ```
pub struct RunQueue<T: Linked> {
    inbox: Box<[Slot]>,
    tail: CacheLine<Tail>,
    overflow: CacheLine<Overflow>,
    local: CacheLine<Local>,
    lock: Bias,
    entries: PhantomData<T>,
}

// SAFETY: an entry is handed over by its slot's mark or by the overflow (release, acquire), or
// touched by the holder of the lock alone; nobody refers to it in between.
unsafe impl<T: Linked + Send> Send for RunQueue<T> {}
// SAFETY: as above.
unsafe impl<T: Linked + Send> Sync for RunQueue<T> {}

impl<T: Linked> Default for RunQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Linked> RunQueue<T> {
    /// An empty queue. The only allocation.
    pub fn new() -> Self {
        Self::with_thieves(true)
    }

    /// [`RunQueue::new`], and nobody steals while it has an owner.
    pub fn without_thieves() -> Self {
        Self::with_thieves(false)
    }

    fn with_thieves(thieves: bool) -> Self {
        Self {
            inbox: (0..INBOX)
                .map(|_| Slot {
                    published: AtomicUsize::new(0),
                    entry: AtomicPtr::new(null_mut()),
                })
                .collect(),
            tail: CacheLine(Tail::default()),
            overflow: CacheLine(Overflow::default()),
            local: CacheLine(Local {
                inbox_head: AtomicUsize::new(0),
                list: UnsafeCell::new(List {
                    oldest: null_mut(),
                    newest: null_mut(),
                }),
                pushed: AtomicUsize::new(0),
                taken: AtomicUsize::new(0),
            }),
            lock: Bias::new(thieves),
            entries: PhantomData,
        }
    }

    #[inline(always)]
    fn slot(&self, position: usize) -> &Slot {
        // SAFETY: there are `MASK + 1` slots.
        unsafe { self.inbox.get_unchecked(position & MASK) }
    }

    /// Puts `value` at the inbox's tail, or where that is full into the overflow.
    #[inline]
    pub fn push(&self, value: T) {
        let link = value.into_link();
        let mut position = self.tail.inbox.load(Ordering::Relaxed);
        loop {
            if !self.has_room(position) {
                let now = self.tail.inbox.load(Ordering::Relaxed);
                if now == position {
                    return self.push_overflow(link);
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
                    // The slot was read (see has_room), and winning the position makes this
                    // thread its only user until published.
                    let slot = self.slot(position);
                    slot.entry.store(link.as_ptr(), Ordering::Relaxed);
                    slot.published
                        .store(position.wrapping_add(1), Ordering::Release);
                    return;
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
        position.wrapping_sub(seen) <= MASK || self.check_for_room(position)
    }

    #[cold]
    fn check_for_room(&self, position: usize) -> bool {
        let head = self.local.inbox_head.load(Ordering::Acquire);
        // An older head than another thread saw is as true.
        self.tail.head_seen.store(head, Ordering::Release);
        position.wrapping_sub(head) <= MASK
    }

    #[cold]
    fn push_overflow(&self, link: NonNull<Link>) {
        // Before the entry is there: a queue that has something never looks empty.
        self.overflow.pushed.fetch_add(1, Ordering::Relaxed);
        let mut newest = self.overflow.newest.load(Ordering::Relaxed);
        loop {
            // SAFETY: the queue's, and still this thread's alone.
            unsafe { link.as_ref() }
                .next
                .store(newest, Ordering::Relaxed);
            match self.overflow.newest.compare_exchange_weak(
                newest,
                link.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => newest = now,
            }
        }
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
            let taken = self.local.taken.load(Ordering::Relaxed);
            taken.wrapping_add(self.local.inbox_head.load(Ordering::Relaxed))
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
        if !self.overflow.newest.load(Ordering::Relaxed).is_null() {
            // SAFETY: as promised.
            unsafe { self.collect_overflow() };
        }
        if self.listed() == 0 {
            // SAFETY: as promised; of `into_link`, and off the inbox.
            return unsafe { self.take_inbox().map(|link| T::from_link(link)) };
        }
        if self.tail.inbox.load(Ordering::Relaxed) != self.local.inbox_head.load(Ordering::Relaxed)
        {
            // SAFETY: as promised.
            unsafe { self.refill(BATCH) };
        }
        // SAFETY: as promised, so nobody else touches the list; its entries are the queue's.
        let oldest = self.local.list.with_mut(|list| unsafe {
            let link = NonNull::new((*list).oldest)?;
            (*list).oldest = link.as_ref().next.load(Ordering::Relaxed);
            if (*list).oldest.is_null() {
                (*list).newest = null_mut();
            }
            Some(link)
        })?;
        self.count(&self.local.taken);
        // SAFETY: of `into_link`, and off the list.
        Some(unsafe { T::from_link(oldest) })
    }

    /// # Safety
    /// The caller holds the lock.
    #[inline(always)]
    unsafe fn take_inbox(&self) -> Option<NonNull<Link>> {
        let position = self.local.inbox_head.load(Ordering::Relaxed);
        let slot = self.slot(position);
        if slot.published.load(Ordering::Acquire) != position.wrapping_add(1) {
            return None;
        }
        let entry = slot.entry.load(Ordering::Relaxed);
        self.local
            .inbox_head
            .store(position.wrapping_add(1), Ordering::Release);
        NonNull::new(entry)
    }

    /// Puts what is in the inbox, up to `count` of it, behind what is in the local list,
    /// so that neither waits for the other to be empty.
    ///
    /// # Safety
    /// The caller holds the lock.
    #[inline(never)]
    unsafe fn refill(&self, count: usize) {
        for _ in 0..count {
            // SAFETY: as promised.
            let Some(link) = (unsafe { self.take_inbox() }) else {
                return;
            };
            // SAFETY: as promised.
            unsafe { self.put_local(link) };
        }
    }

    /// # Safety
    /// The caller holds the lock, and the entry is the queue's.
    #[inline(always)]
    unsafe fn put_local(&self, link: NonNull<Link>) {
        // SAFETY: as promised.
        unsafe { link.as_ref() }
            .next
            .store(null_mut(), Ordering::Relaxed);
        self.count(&self.local.pushed);
        // SAFETY: as promised.
        unsafe { self.append(link.as_ptr(), link.as_ptr()) };
    }

    /// One more, by the holder of the lock.
    #[inline(always)]
    fn count(&self, count: &AtomicUsize) {
        let before = count.load(Ordering::Relaxed);
        count.store(before.wrapping_add(1), Ordering::Relaxed);
    }

    /// Puts the inbox, which was full, and then the overflow behind what is in the local
    /// list, the oldest first.
    ///
    /// # Safety
    /// The caller holds the lock.
    #[cold]
    unsafe fn collect_overflow(&self) {
        // SAFETY: as promised.
        unsafe { self.refill(INBOX) };
        let newest = self.overflow.newest.swap(null_mut(), Ordering::Acquire);
        let (mut at, mut after) = (newest, null_mut());
        while let Some(link) = NonNull::new(at) {
            // SAFETY: the queue's, published with the value that was acquired, and off the overflow.
            let next = unsafe { &link.as_ref().next };
            at = next.load(Ordering::Relaxed);
            next.store(after, Ordering::Relaxed);
            after = link.as_ptr();
        }
        if !after.is_null() {
            // SAFETY: as promised; from the oldest one to the newest, whose link is null.
            unsafe { self.append(after, newest) };
        }
    }

    /// Entries that are linked, behind what is in the local list.
    ///
    /// # Safety
    /// The caller holds the lock, and the entries are the queue's.
    #[inline(always)]
    unsafe fn append(&self, oldest: *mut Link, newest: *mut Link) {
        // SAFETY: as promised, so nobody else touches the list or its entries.
        self.local.list.with_mut(|list| unsafe {
            match NonNull::new((*list).newest) {
                Some(before) => before.as_ref().next.store(oldest, Ordering::Relaxed),
                None => (*list).oldest = oldest,
            }
            (*list).newest = newest;
        });
    }

    /// Entries of the local list and the overflow. Negative: a push was not seen whose taking was.
    #[inline(always)]
    fn listed(&self) -> isize {
        let taken = self.local.taken.load(Ordering::Relaxed);
        let pushed = self.local.pushed.load(Ordering::Relaxed);
        let pushed = pushed.wrapping_add(self.overflow.pushed.load(Ordering::Relaxed));
        pushed.wrapping_sub(taken) as isize
    }

    /// Entries of the inbox.
    #[inline(always)]
    fn inbox_len(&self) -> usize {
        let head = self.local.inbox_head.load(Ordering::Relaxed);
        let tail = self.tail.inbox.load(Ordering::Relaxed);
        // A head read before the tail may be old, but not the other way round.
        tail.wrapping_sub(head).min(INBOX)
    }

    /// Entries now; exact only while nobody else uses the queue.
    #[inline]
    pub fn len(&self) -> usize {
        self.inbox_len() + self.listed().max(0) as usize
    }

    /// Does it look empty? The parking handshake's second look.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.inbox_len() == 0 && self.listed() == 0
    }
}

impl<T: Linked> Drop for RunQueue<T> {
    fn drop(&mut self) {
        // SAFETY: exclusive access is better than the lock.
        while unsafe { self.take() }.is_some() {}
    }
}

/// The one executor of a [`RunQueue`], until dropped. May move to another
/// thread, but is used by one at a time.
pub struct Owner<'a, T: Linked> {
    queue: &'a RunQueue<T>,
    _not_sync: PhantomData<std::cell::Cell<()>>,
}

impl<T: Linked> Owner<'_, T> {
    /// Puts `value` at the local list's end, without an atomic
    /// read-modify-write; while a thief takes some, into the inbox.
    #[inline]
    pub fn push(&self, value: T) {
        let queue = self.queue;
        if !queue.lock.enter() {
            return queue.push(value);
        }
        // SAFETY: with the lock, and the entry is the queue's now.
        unsafe { queue.put_local(value.into_link()) };
        queue.lock.exit();
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

impl<T: Linked> Drop for Owner<'_, T> {
    fn drop(&mut self) {
        self.queue.lock.disown();
    }
}
