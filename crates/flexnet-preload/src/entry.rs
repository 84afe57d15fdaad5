// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! A socket whose sends may be queued: its flow, its users, and what is left when it is closed.
//!
//! Entries are type-stable: their memory is reused for other entries and never freed. So a thread
//! may read an entry that another thread is closing. Each user of an entry counts as a reference.
//! The table counts as one reference for each number (duplicates share an entry). The last
//! reference releases the flow.

use crate::table::{Slot, is_entry};
use flexnet::executor::Bell;
use flexnet::transport::RawFlow;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, Ordering};

/// Bytes of a flow's ring; the longest record is a quarter of it. A page of
/// small messages is coalesced into one system call long before it is full.
pub(crate) const RING_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Stream,
    Datagrams,
}

#[repr(align(128))]
pub(crate) struct Entry {
    /// Numbers in the table, and users. 0: nobody's.
    references: AtomicU32,
    /// Numbers in the table.
    pub(crate) handles: AtomicU32,
    /// The number the flow uses; -1: it has a descriptor of its own.
    pub(crate) fd: AtomicI32,
    /// Nothing is queued any more.
    pub(crate) passthrough: AtomicBool,
    /// The stream's end was asked for.
    pub(crate) ended: AtomicBool,
    /// The flow's error was told.
    pub(crate) error_reported: AtomicBool,
    /// Forks there were when its socket was made.
    pub(crate) forks: AtomicU32,
    /// For threads that wait for the flow, and hold no reference meanwhile.
    bell: Bell,
    flow: UnsafeCell<MaybeUninit<(RawFlow, Kind)>>,
    /// Where it is counted, and goes when it is spare.
    entries: &'static Entries,
    next: AtomicPtr<Entry>,
}

/// A process's entries. All zeros: none.
#[derive(Default)]
pub(crate) struct Entries {
    /// Flows there are.
    in_use: AtomicU32,
    /// Entries to be used again.
    spare: AtomicPtr<Entry>,
    lock: AtomicU32,
}

// SAFETY: `flow` is written while nobody has a reference.
unsafe impl Sync for Entry {}
// SAFETY: as above.
unsafe impl Send for Entry {}

/// A reference, while a hook uses the entry.
pub(crate) struct Used(&'static Entry);

impl std::ops::Deref for Used {
    type Target = Entry;
    fn deref(&self) -> &Entry {
        self.0
    }
}

impl Used {
    /// Gives up a number's reference, which the caller took out of the table.
    pub(crate) fn release(&self) {
        self.0.release();
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Entry {
    fn empty(entries: &'static Entries) -> Self {
        Self {
            references: AtomicU32::new(0),
            handles: AtomicU32::new(0),
            fd: AtomicI32::new(-1),
            passthrough: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            error_reported: AtomicBool::new(false),
            forks: AtomicU32::new(0),
            bell: Bell::new(),
            flow: UnsafeCell::new(MaybeUninit::uninit()),
            entries,
            next: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// An entry with one handle, for the flow over `fd` that `make` makes. Allocates
    /// where none is spare.
    pub(crate) fn new<E>(
        entries: &'static Entries,
        fd: RawFd,
        kind: Kind,
        make: impl FnOnce(&'static Bell) -> Result<RawFlow, E>,
    ) -> Result<&'static Self, E> {
        let entry = entries
            .take_spare()
            .unwrap_or_else(|| Box::leak(Box::new(Self::empty(entries))));
        let flow = match make(&entry.bell) {
            Ok(flow) => flow,
            Err(error) => {
                entries.give_spare(entry);
                return Err(error);
            }
        };
        entry.fd.store(fd, Ordering::Relaxed);
        entry.handles.store(1, Ordering::Relaxed);
        for flag in [&entry.passthrough, &entry.ended, &entry.error_reported] {
            flag.store(false, Ordering::Relaxed);
        }
        // SAFETY: nobody has a reference, so nobody looks.
        unsafe {
            (*entry.flow.get()).write((flow, kind));
        }
        entry.references.store(1, Ordering::Release);
        entries.in_use.fetch_add(1, Ordering::Relaxed);
        Ok(entry)
    }

    /// What threads that wait for the flow sleep on.
    pub(crate) fn bell(&self) -> &'static Bell {
        // SAFETY: entries' memory stays.
        unsafe { &*ptr::from_ref(&self.bell) }
    }

    /// The entry of a slot, while it is used.
    pub(crate) fn in_slot(slot: &Slot) -> Option<Used> {
        let tagged = slot.tagged();
        is_entry(tagged).then(|| Self::of(slot, tagged)).flatten()
    }

    /// The entry that a slot's tagged pointer names, if it still does.
    #[inline]
    pub(crate) fn of(slot: &Slot, tagged: usize) -> Option<Used> {
        // SAFETY: entries' memory stays; a tagged pointer that is an address is an entry's.
        let entry = unsafe { &*ptr::with_exposed_provenance::<Self>(tagged) };
        let used = entry.use_it()?;
        // The reference counts from before this look, so a thread that closes it
        // either is seen here or sees the reference.
        (slot.tagged() == tagged).then_some(used)
    }

    fn use_it(&'static self) -> Option<Used> {
        let mut count = self.references.load(Ordering::Relaxed);
        while count != 0 {
            match self.references.compare_exchange_weak(
                count,
                count + 1,
                Ordering::SeqCst,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Used(self)),
                Err(now) => count = now,
            }
        }
        None
    }

    /// A number's reference, as the table keeps it.
    pub(crate) fn tagged(&self) -> usize {
        ptr::from_ref(self).expose_provenance()
    }

    /// One more number for it. For a caller with a reference.
    pub(crate) fn add_handle(&self) {
        self.handles.fetch_add(1, Ordering::SeqCst);
        self.references.fetch_add(1, Ordering::SeqCst);
    }

    /// Do others use it now, beside the caller and the numbers?
    pub(crate) fn is_shared(&self) -> bool {
        self.references.load(Ordering::SeqCst) > self.handles.load(Ordering::SeqCst) + 1
    }

    /// A reference goes; with the last one the flow.
    pub(crate) fn release(&'static self) {
        if self.references.fetch_sub(1, Ordering::SeqCst) == 1 {
            // SAFETY: written by `new`, and nobody else has a reference.
            unsafe { (*self.flow.get()).assume_init_drop() };
            self.entries.in_use.fetch_sub(1, Ordering::Relaxed);
            self.entries.give_spare(self);
        }
    }

    pub(crate) fn flow(&self) -> &RawFlow {
        // SAFETY: the caller has a reference, so it was written and stays.
        unsafe { &(*self.flow.get()).assume_init_ref().0 }
    }

    pub(crate) fn kind(&self) -> Kind {
        // SAFETY: as above.
        unsafe { (*self.flow.get()).assume_init_ref().1 }
    }

    /// The error that is to be told, unless it was; from then on it was.
    pub(crate) fn take_error(&self) -> Option<i32> {
        match self.kind() {
            Kind::Datagrams => self.flow().take_error(),
            Kind::Stream => {
                let errno = self.flow().error()?;
                self.passthrough.store(true, Ordering::Relaxed);
                (!self.error_reported.swap(true, Ordering::AcqRel)).then_some(errno)
            }
        }
    }
}

impl Entry {
    /// The error that was taken is to be told all the same.
    pub(crate) fn restore_error(&self, errno: i32) {
        match self.kind() {
            Kind::Datagrams => self.flow().put_error(errno),
            Kind::Stream => self.error_reported.store(false, Ordering::Release),
        }
    }
}

impl Entries {
    /// Flows there are.
    pub(crate) fn in_use(&self) -> u32 {
        self.in_use.load(Ordering::SeqCst)
    }

    fn lock(&self) {
        while self.lock.swap(1, Ordering::Acquire) != 0 {
            std::hint::spin_loop();
        }
    }

    fn unlock(&self) {
        self.lock.store(0, Ordering::Release);
    }

    fn take_spare(&self) -> Option<&'static Entry> {
        self.lock();
        // SAFETY: null or an entry, whose memory stays.
        let first = unsafe { self.spare.load(Ordering::Relaxed).as_ref() };
        if let Some(first) = first {
            self.spare
                .store(first.next.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.unlock();
        first
    }

    fn give_spare(&self, entry: &'static Entry) {
        self.lock();
        entry
            .next
            .store(self.spare.load(Ordering::Relaxed), Ordering::Relaxed);
        self.spare
            .store(ptr::from_ref(entry).cast_mut(), Ordering::Relaxed);
        self.unlock();
    }
}
