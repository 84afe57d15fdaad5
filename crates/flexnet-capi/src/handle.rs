// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Handles: names of objects, in the form of pointers that point nowhere.
//!
//! A name has the top bit set, which no address of a program has; below it the
//! slot's generation, the kind, the slot, and four zero bits. So null, foreign,
//! misaligned and closed handles are told by arithmetic and one look at a slot,
//! never by touching what they might point to. A slot whose generations are used
//! up is not used again: no name is given twice.
//!
//! A thread that uses an object is counted, so closing it in another thread is
//! safe: the object goes when its last user does.

use crate::boundary::Errno;
use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Slots of a chunk; chunks are made when they are needed and stay.
const CHUNK: usize = 256;
/// Handles of a kind that may be open at once: 1,048,576.
const CHUNKS: usize = 4096;
/// Slots are named by so many bits.
const SLOT_BITS: u32 = 20;
const SLOT_SHIFT: u32 = 4;
const KIND_SHIFT: u32 = SLOT_SHIFT + SLOT_BITS;
const GENERATION_SHIFT: u32 = 32;
const NAME: u64 = 1 << 63;
/// Generations have 31 bits.
const GENERATIONS: u64 = 1 << 31;

const _: () = assert!(CHUNK * CHUNKS == 1 << SLOT_BITS && KIND_SHIFT + 8 == GENERATION_SHIFT);

/// A slot's state: its generation above, below it the users, and whether the
/// name is (still) nobody's.
const CLOSED: u64 = 1 << 31;
const USERS: u64 = CLOSED - 1;

/// On a line of its own: users of different objects share none.
#[repr(align(64))]
struct Slot<T> {
    state: AtomicU64,
    object: UnsafeCell<Option<T>>,
}

/// Objects of one kind. `KIND` tells its names from those of others.
pub(crate) struct Table<T, const KIND: u8> {
    chunks: [AtomicPtr<Slot<T>>; CHUNKS],
    free: Mutex<Free>,
    objects: PhantomData<T>,
}

/// Slots nobody has, the one that was left first first, and how many were made.
struct Free {
    slots: VecDeque<u32>,
    made: u32,
}

// SAFETY: an object is reached through its slot's count: written before its name
// is given, taken out by the last user.
unsafe impl<T: Send + Sync, const KIND: u8> Sync for Table<T, KIND> {}

/// A use of an object, which stays as long as this does.
pub(crate) struct Use<'a, T, const KIND: u8> {
    table: &'a Table<T, KIND>,
    slot: &'a Slot<T>,
    index: u32,
}

impl<T, const KIND: u8> std::ops::Deref for Use<'_, T, KIND> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: counted in, so the object is there and nobody writes it.
        match unsafe { &*self.slot.object.get() } {
            Some(object) => object,
            None => unreachable!("a slot with users has its object"),
        }
    }
}

impl<T, const KIND: u8> Drop for Use<'_, T, KIND> {
    #[inline]
    fn drop(&mut self) {
        // AcqRel: the last one sees what the others did.
        let before = self.slot.state.fetch_sub(1, Ordering::AcqRel);
        if before & USERS == 1 {
            self.table.free_slot(self.slot, self.index);
        }
    }
}

/// A table that nobody changes.
pub(crate) struct Frozen<'a>(MutexGuard<'a, Free>);

/// A slot without an object.
pub(crate) struct Reserved<'a, T, const KIND: u8> {
    table: &'a Table<T, KIND>,
    index: u32,
}

impl<T, const KIND: u8> Reserved<'_, T, KIND> {
    /// Names an object.
    pub(crate) fn fill<H>(self, object: T) -> Result<*mut H, Errno> {
        let named = self.table.fill(self.index, object);
        // The slot is the object's now.
        std::mem::forget(self);
        named
    }
}

impl<T, const KIND: u8> Drop for Reserved<'_, T, KIND> {
    fn drop(&mut self) {
        self.table.lock_free().slots.push_back(self.index);
    }
}

impl<T, const KIND: u8> Table<T, KIND> {
    pub(crate) const fn new() -> Self {
        Self {
            chunks: [const { AtomicPtr::new(null_mut()) }; CHUNKS],
            free: Mutex::new(Free {
                slots: VecDeque::new(),
                made: 0,
            }),
            objects: PhantomData,
        }
    }

    fn slot(&self, index: u32) -> Option<&Slot<T>> {
        let chunk = self.chunks[index as usize / CHUNK].load(Ordering::Acquire);
        if chunk.is_null() {
            return None;
        }
        // SAFETY: a chunk that is there has CHUNK slots and stays.
        Some(unsafe { &*chunk.add(index as usize % CHUNK) })
    }

    /// Room for an object. ENOMEM: there are as many as there may be.
    pub(crate) fn reserve(&self) -> Result<Reserved<'_, T, KIND>, Errno> {
        let index = self.take_slot().ok_or(libc::ENOMEM)?;
        Ok(Reserved { table: self, index })
    }

    /// Names an object, which goes into a slot that is the caller's.
    fn fill<H>(&self, index: u32, object: T) -> Result<*mut H, Errno> {
        let slot = self.slot(index).ok_or(libc::ENOMEM)?;
        let generation = slot.state.load(Ordering::Relaxed) >> GENERATION_SHIFT;
        // SAFETY: nobody has a name for it yet, so nobody looks.
        unsafe { *slot.object.get() = Some(object) };
        // The table itself is its first user.
        slot.state
            .store(generation << GENERATION_SHIFT | 1, Ordering::Release);
        let name = NAME
            | generation << GENERATION_SHIFT
            | u64::from(KIND) << KIND_SHIFT
            | u64::from(index) << SLOT_SHIFT;
        Ok(std::ptr::without_provenance_mut(name as usize))
    }

    /// The slot of a well-formed name, and the generation it must have.
    #[inline]
    fn named<H>(&self, handle: *const H) -> Result<(&Slot<T>, u32, u64), Errno> {
        let name = handle.addr() as u64;
        let formed = name & NAME != 0
            && name & ((1 << SLOT_SHIFT) - 1) == 0
            && (name >> KIND_SHIFT) as u8 == KIND;
        let index = (name >> SLOT_SHIFT) as u32 & ((1 << SLOT_BITS) - 1);
        let slot = match formed {
            true => self.slot(index).ok_or(libc::EINVAL)?,
            false => return Err(libc::EINVAL),
        };
        Ok((slot, index, (name & !NAME) >> GENERATION_SHIFT))
    }

    /// The object of a handle; EINVAL when it names none.
    #[inline]
    pub(crate) fn get<H>(&self, handle: *const H) -> Result<Use<'_, T, KIND>, Errno> {
        let (slot, index, generation) = self.named(handle)?;
        let mut state = slot.state.load(Ordering::Relaxed);
        loop {
            if state >> GENERATION_SHIFT != generation || state & CLOSED != 0 {
                return Err(libc::EINVAL);
            }
            match slot.state.compare_exchange_weak(
                state,
                state + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        Ok(Use {
            table: self,
            slot,
            index,
        })
    }

    /// The handle names nothing from here on: the table's own use of the object,
    /// the last one if nobody else is at it. EINVAL when it names none.
    pub(crate) fn close<H>(&self, handle: *const H) -> Result<Use<'_, T, KIND>, Errno> {
        let (slot, index, generation) = self.named(handle)?;
        let mut state = slot.state.load(Ordering::Relaxed);
        loop {
            if state >> GENERATION_SHIFT != generation || state & CLOSED != 0 {
                return Err(libc::EINVAL);
            }
            match slot.state.compare_exchange_weak(
                state,
                state | CLOSED,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        Ok(Use {
            table: self,
            slot,
            index,
        })
    }

    /// Keeps the table as it is until the guard is dropped: around a fork.
    pub(crate) fn freeze(&self) -> Frozen<'_> {
        Frozen(self.lock_free())
    }

    /// In the child of a fork: what the parent had open names nothing here. Its
    /// threads do not exist, so the objects are left alone: nothing is dropped.
    pub(crate) fn forget_all(&self, frozen: &Frozen<'_>) {
        for index in 0..frozen.0.made {
            if let Some(slot) = self.slot(index) {
                slot.state.fetch_or(CLOSED, Ordering::Relaxed);
            }
        }
    }

    fn lock_free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_slot(&self) -> Option<u32> {
        let mut free = self.lock_free();
        // A slot rests as long as there are as many others: a stale name is
        // recognised by its generation, this only spares generations.
        if free.slots.len() >= CHUNK / 2 || free.made as usize == CHUNK * CHUNKS {
            return free.slots.pop_front();
        }
        let index = free.made;
        if (index as usize).is_multiple_of(CHUNK) {
            let chunk: Box<[Slot<T>]> = (0..CHUNK)
                .map(|_| Slot {
                    state: AtomicU64::new(CLOSED),
                    object: UnsafeCell::new(None),
                })
                .collect();
            let chunk = Box::into_raw(chunk).cast::<Slot<T>>();
            self.chunks[index as usize / CHUNK].store(chunk, Ordering::Release);
        }
        free.made += 1;
        Some(index)
    }

    /// Its last user left.
    #[cold]
    fn free_slot(&self, slot: &Slot<T>, index: u32) {
        // SAFETY: closed and without users: nobody else reaches the object.
        drop(unsafe { (*slot.object.get()).take() });
        let generation = (slot.state.load(Ordering::Relaxed) >> GENERATION_SHIFT) + 1;
        if generation == GENERATIONS {
            return;
        }
        slot.state
            .store(generation << GENERATION_SHIFT | CLOSED, Ordering::Release);
        self.lock_free().slots.push_back(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    type Of = Table<Arc<()>, 7>;

    fn handle(table: &Of, object: &Arc<()>) -> *mut u8 {
        table.reserve().unwrap().fill(object.clone()).unwrap()
    }

    #[test]
    fn only_an_open_name_is_one() {
        let (table, other) = (Of::new(), Table::<(), 8>::new());
        let object = Arc::new(());
        let first = handle(&table, &object);
        assert!(table.get(first).is_ok());
        assert!(other.get(first).is_err(), "of another kind");
        assert!(table.get(null_mut::<u8>()).is_err());
        assert!(table.get(first.wrapping_add(1)).is_err(), "misaligned");
        assert!(table.get(first.wrapping_add(1 << SLOT_SHIFT)).is_err());
        assert!(table.get(&raw const object).is_err(), "an address");
        drop(table.close(first).unwrap());
        assert_eq!(Arc::strong_count(&object), 1);
        assert!(table.get(first).is_err() && table.close(first).is_err());
    }

    #[test]
    fn no_name_is_given_twice() {
        let table = Of::new();
        let object = Arc::new(());
        let mut names = std::collections::HashSet::new();
        for _ in 0..3 * CHUNK {
            let name = handle(&table, &object);
            assert!(names.insert(name));
            drop(table.close(name).unwrap());
        }
        assert!(names.iter().all(|&name| table.get(name).is_err()));
        // A slot that has had its last generation rests for ever.
        let last = handle(&table, &object);
        let (slot, index, _) = table.named(last).unwrap();
        slot.state
            .store((GENERATIONS - 1) << GENERATION_SHIFT | 1, Ordering::Relaxed);
        let name = last.map_addr(|name| name | 0x7fff_ffff << GENERATION_SHIFT);
        drop(table.close(name).unwrap());
        assert!(!table.lock_free().slots.contains(&index));
    }

    #[test]
    fn an_object_stays_as_long_as_it_is_used() {
        let table = Of::new();
        let object = Arc::new(());
        for _ in 0..1000 {
            let name = handle(&table, &object) as usize;
            std::thread::scope(|scope| {
                let user = || {
                    let name = std::ptr::without_provenance::<u8>(name);
                    while let Ok(held) = table.get(name) {
                        assert!(Arc::strong_count(&held) > 1);
                    }
                };
                scope.spawn(user);
                scope.spawn(user);
                assert!(
                    table
                        .close(std::ptr::without_provenance::<u8>(name))
                        .is_ok()
                );
            });
            assert_eq!(Arc::strong_count(&object), 1);
        }
    }
}
