// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! A flow's ring: what one socket has to send, in order, in bounded memory.
//!
//! Records are a 16-byte header and a payload, contiguous, in a ring of bytes. It grows: a ring that
//! is full goes on in a larger segment, up to its limit, and the thread that drains follows. So a
//! flow that has little to send takes little memory. A segment goes when it is drained; the last one
//! stays.
//!
//! Submitters append under a spin lock held for one copy (uncontended where one
//! thread sends on a flow, the common case); the one thread that drains (see
//! [`super::Gate`]) reads payloads in place, so they go into one `sendmsg`
//! without another copy, and consumes them by bytes after a short write.

use crate::sync::{AtomicBool, AtomicPtr, AtomicUsize, CacheLine, Ordering, spin_loop};
use std::cell::UnsafeCell;
use std::io::IoSlice;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::null_mut;

/// Bytes of a record's header, and the alignment of records.
const HEADER_BYTES: usize = 16;

/// Which account pays for a record: that of the executor it was submitted to, and the page
/// (epoch) in which that was counted. Whoever completes it settles there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// Executor slot, below [`crate::abi::EXECUTORS_MAX`].
    pub executor: u16,
    /// 0: the private page, 1: the scheduler's.
    pub epoch: u8,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// The payload is the message.
    Bytes = 0,
    /// `data` points to a submitter's completion, which waits; the message is
    /// the submitter's buffer.
    Handover = 1,
    /// `data` is a coroutine's cell.
    Coroutine = 2,
    /// Fills the ring's end; never shown to readers.
    Pad = 3,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Header {
    length: u32,
    kind: u8,
    epoch: u8,
    executor: u16,
    data: u64,
}

/// The ring has no room for the record now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

#[repr(C, align(16))]
struct Chunk(UnsafeCell<MaybeUninit<[u8; HEADER_BYTES]>>);

/// Part of a ring: itself a ring of bytes, a power of two. A position lies in it at the position's
/// low bits.
struct Segment {
    /// Written as they are used, so that untouched memory stays so.
    chunks: Box<[Chunk]>,
    /// Where the next one takes over; null: it is the last one, and `end` means nothing.
    next: AtomicPtr<Segment>,
    end: AtomicUsize,
}

impl Segment {
    /// Of so many bytes, a power of two; None: there is no memory.
    fn new(bytes: usize) -> Option<*mut Self> {
        let count = bytes / HEADER_BYTES;
        let mut chunks = Vec::new();
        chunks.try_reserve_exact(count).ok()?;
        // SAFETY: there is room for so many, and a chunk may have any bytes or none.
        unsafe { chunks.set_len(count) };
        Some(Box::into_raw(Box::new(Self {
            chunks: chunks.into_boxed_slice(),
            next: AtomicPtr::new(null_mut()),
            end: AtomicUsize::new(0),
        })))
    }

    fn capacity(&self) -> usize {
        self.chunks.len() * HEADER_BYTES
    }

    fn at(&self, position: usize) -> *mut u8 {
        let offset = position & (self.capacity() - 1);
        self.chunks[offset / HEADER_BYTES].0.get().cast()
    }

    /// The segment that goes on at this position, which was published: itself, or the next one.
    fn going_on(&self, position: usize) -> &Self {
        match self.next_at(position) {
            // SAFETY: a segment that is linked stays until `reader` has passed the one before it.
            Some(next) => unsafe { &*next },
            None => self,
        }
    }

    /// The next segment, where that goes on at this position.
    fn next_at(&self, position: usize) -> Option<*mut Self> {
        let next = self.next.load(Ordering::Acquire);
        let after_end = position.wrapping_sub(self.end.load(Ordering::Relaxed)) as isize;
        (!next.is_null() && after_end >= 0).then_some(next)
    }
}

/// What the holder of `appending` has.
struct Writing {
    segment: *mut Segment,
    /// The position at which the segment took over.
    start: usize,
    /// What submitters last saw of `head`: looked at again only when the
    /// ring seems full, since each look may cost a cache miss.
    head_seen: usize,
}

/// What the thread that drains has.
struct Reading {
    segment: UnsafeCell<*mut Segment>,
    /// Bytes consumed.
    head: AtomicUsize,
}

/// See the module's comment.
pub struct FlowRing {
    reading: CacheLine<Reading>,
    /// Bytes published, written by submitters.
    tail: CacheLine<AtomicUsize>,
    appending: AtomicBool,
    writing: UnsafeCell<Writing>,
    limit: usize,
}

// SAFETY: bytes between head and tail, and the segments that they are in, belong to the reader
// (exclusive by Gate), the others to the holder of `appending`; both ends move by release stores.
unsafe impl Send for FlowRing {}
// SAFETY: as above.
unsafe impl Sync for FlowRing {}

impl FlowRing {
    /// Makes a ring of `bytes` (rounded up to a power of two, at least 256). The
    /// only allocation.
    pub fn new(bytes: usize) -> Self {
        Self::growing(bytes, bytes)
    }

    /// Makes a ring that has `bytes` at first and grows by need up to `limit` (both rounded up to a
    /// power of two, at least 256).
    pub fn growing(bytes: usize, limit: usize) -> Self {
        let limit = limit.max(256).next_power_of_two();
        let bytes = bytes.max(256).next_power_of_two().min(limit);
        let Some(segment) = Segment::new(bytes) else {
            let layout = std::alloc::Layout::new::<Chunk>();
            std::alloc::handle_alloc_error(layout);
        };
        Self {
            reading: CacheLine(Reading {
                segment: UnsafeCell::new(segment),
                head: AtomicUsize::new(0),
            }),
            tail: CacheLine(AtomicUsize::new(0)),
            appending: AtomicBool::new(false),
            writing: UnsafeCell::new(Writing {
                segment,
                start: 0,
                head_seen: 0,
            }),
            limit,
        }
    }

    /// Bytes the ring holds at most, headers included.
    pub fn capacity(&self) -> usize {
        self.limit
    }

    /// The longest message a record may carry: a quarter of the ring, so that a
    /// record and the padding before it always fit an empty ring.
    pub fn message_max(&self) -> usize {
        self.capacity() / 4 - HEADER_BYTES
    }

    /// Is there nothing to drain? Orders nothing; see [`super::Gate`].
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.reading.head.load(Ordering::Relaxed) == self.tail.load(Ordering::Relaxed)
    }

    /// Bytes in use, headers and padding included.
    #[inline]
    pub fn used(&self) -> usize {
        self.tail
            .load(Ordering::Relaxed)
            .wrapping_sub(self.reading.head.load(Ordering::Relaxed))
    }

    /// How far submitters got: what is pushed by now is drained when
    /// [`FlowRing::is_drained_to`] says so of this.
    pub fn tail(&self) -> usize {
        self.tail.load(Ordering::Acquire)
    }

    /// Bytes consumed so far; exact for the thread that drains.
    #[inline]
    pub fn head(&self) -> usize {
        self.reading.head.load(Ordering::Relaxed)
    }

    /// Was everything before that tail consumed?
    pub fn is_drained_to(&self, tail: usize) -> bool {
        self.reading.head.load(Ordering::Acquire).wrapping_sub(tail) as isize >= 0
    }

    /// Appends a record; `payload` is copied. `charge` is asked for once there
    /// is room, so that nothing refused is counted.
    #[inline]
    pub fn push(
        &self,
        kind: RecordKind,
        data: u64,
        payload: &[u8],
        charge: impl FnOnce() -> Charge,
    ) -> Result<(), Full> {
        let copy = |to: *mut u8| {
            // SAFETY: `append` gives room for as many bytes, which nobody else
            // touches.
            unsafe { std::ptr::copy_nonoverlapping(payload.as_ptr(), to, payload.len()) };
        };
        self.push_with(kind, data, payload.len(), copy, charge)
    }

    /// Appends a record of bytes that lie in several places, as one. `length` is
    /// that of all the slices.
    #[inline]
    pub fn push_gathered(
        &self,
        slices: &[IoSlice<'_>],
        length: usize,
        charge: impl FnOnce() -> Charge,
    ) -> Result<(), Full> {
        let copy = |to: *mut u8| {
            let mut done = 0;
            for slice in slices {
                let part = slice.len().min(length - done);
                // SAFETY: `append` gives room for `length` bytes, which nobody
                // else touches; `done + part` stays within.
                unsafe { std::ptr::copy_nonoverlapping(slice.as_ptr(), to.add(done), part) };
                done += part;
            }
            debug_assert_eq!(done, length);
        };
        self.push_with(RecordKind::Bytes, 0, length, copy, charge)
    }

    /// `copy` writes exactly `length` bytes to where it is told.
    #[inline]
    fn push_with(
        &self,
        kind: RecordKind,
        data: u64,
        length: usize,
        copy: impl FnOnce(*mut u8),
        charge: impl FnOnce() -> Charge,
    ) -> Result<(), Full> {
        if length > self.message_max() {
            return Err(Full);
        }
        while self.appending.swap(true, Ordering::Acquire) {
            while self.appending.load(Ordering::Relaxed) {
                spin_loop();
            }
        }
        let result = self.append(kind, data, length, copy, charge);
        self.appending.store(false, Ordering::Release);
        result
    }

    #[inline]
    fn append(
        &self,
        kind: RecordKind,
        data: u64,
        length: usize,
        copy: impl FnOnce(*mut u8),
        charge: impl FnOnce() -> Charge,
    ) -> Result<(), Full> {
        let need = HEADER_BYTES + length.next_multiple_of(HEADER_BYTES);
        let mut tail = self.tail.load(Ordering::Relaxed);
        // SAFETY: only the holder of `appending` touches it.
        let writing = unsafe { &mut *self.writing.get() };
        // SAFETY: the last segment stays.
        let mut segment = unsafe { &*writing.segment };
        let mut pad = pad_before(segment, tail, need);
        let has_room =
            |writing: &Writing, bytes| writing.has_room(segment, tail, bytes, self.limit);
        if !has_room(writing, need + pad) {
            writing.head_seen = self.reading.head.load(Ordering::Acquire);
            if !has_room(writing, need + pad) {
                segment = self.grow(writing, tail, need)?;
                pad = pad_before(segment, tail, need);
            }
        }
        if pad > 0 {
            let header = Header {
                length: (pad - HEADER_BYTES) as u32,
                kind: RecordKind::Pad as u8,
                epoch: 0,
                executor: 0,
                data: 0,
            };
            // SAFETY: the bytes from tail on are free (checked) and this thread
            // alone appends; a chunk is aligned for a header.
            unsafe { segment.at(tail).cast::<Header>().write(header) };
            tail = tail.wrapping_add(pad);
        }
        let charge = charge();
        let header = Header {
            length: length as u32,
            kind: kind as u8,
            epoch: charge.epoch,
            executor: charge.executor,
            data,
        };
        // SAFETY: as above; header and payload do not cross the ring's end.
        unsafe {
            segment.at(tail).cast::<Header>().write(header);
        }
        if length > 0 {
            copy(segment.at(tail.wrapping_add(HEADER_BYTES)));
        }
        self.tail.store(tail.wrapping_add(need), Ordering::Release);
        Ok(())
    }

    /// Goes on in a larger segment, if the limit allows it: a record and the padding before it
    /// always fit there.
    #[cold]
    fn grow(&self, writing: &mut Writing, tail: usize, need: usize) -> Result<&Segment, Full> {
        // SAFETY: the last segment stays.
        let before = unsafe { &*writing.segment };
        let used = tail.wrapping_sub(writing.head_seen);
        // With the padding, which is less than a record.
        if before.capacity() == self.limit || used + 2 * need > self.limit {
            return Err(Full);
        }
        let capacity = (2 * before.capacity()).max((2 * need).next_power_of_two());
        let segment = Segment::new(capacity.min(self.limit)).ok_or(Full)?;
        // What follows at `tail` is published after this, with the tail.
        before.end.store(tail, Ordering::Relaxed);
        before.next.store(segment, Ordering::Release);
        writing.segment = segment;
        writing.start = tail;
        // SAFETY: just made.
        Ok(unsafe { &*segment })
    }

    /// A reader of what is there.
    ///
    /// # Safety
    /// At most one reader exists at a time: the caller has entered the flow's
    /// [`super::Gate`]. No payload of an earlier reader is used any more.
    pub unsafe fn reader(&self) -> RingReader<'_> {
        // SAFETY: the only reader. What a segment's end has passed nobody refers to: its bytes
        // are consumed, and submitters have left it.
        unsafe {
            let segment = self.reading.segment.get();
            let head = self.reading.head.load(Ordering::Relaxed);
            while let Some(next) = (**segment).next_at(head) {
                drop(Box::from_raw(std::mem::replace(&mut *segment, next)));
            }
        }
        RingReader {
            ring: self,
            _not_sync: PhantomData,
        }
    }
}

/// Bytes up to the segment's end where a record does not fit before it.
fn pad_before(segment: &Segment, tail: usize, need: usize) -> usize {
    let to_end = segment.capacity() - (tail & (segment.capacity() - 1));
    if to_end < need { to_end } else { 0 }
}

impl Writing {
    /// Are so many bytes of its segment free, and of all segments together?
    #[inline]
    fn has_room(&self, segment: &Segment, tail: usize, bytes: usize, limit: usize) -> bool {
        let used = tail.wrapping_sub(self.head_seen);
        // What is before the start is in other segments.
        let used_here = used.min(tail.wrapping_sub(self.start));
        segment.capacity() - used_here >= bytes && used + bytes <= limit
    }
}

impl Drop for FlowRing {
    fn drop(&mut self) {
        let mut segment = *self.reading.0.segment.get_mut();
        while !segment.is_null() {
            // SAFETY: exclusive access; each is linked once.
            let owned = unsafe { Box::from_raw(segment) };
            segment = owned.next.load(Ordering::Relaxed);
        }
    }
}

/// One record, in place.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// What it is.
    pub kind: RecordKind,
    /// Which account pays for it.
    pub charge: Charge,
    /// By kind.
    pub data: u64,
    /// The copied message; empty for the other kinds.
    pub payload: &'a [u8],
}

/// Reads and consumes records; one a ring at a time.
pub struct RingReader<'a> {
    ring: &'a FlowRing,
    _not_sync: PhantomData<*const ()>,
}

impl<'a> RingReader<'a> {
    /// The records there are, oldest first.
    pub fn records(&self) -> impl Iterator<Item = Record<'a>> + use<'a> {
        let (mut segment, mut position, tail) = self.ends();
        std::iter::from_fn(move || {
            let (record, next) = read_record(&mut segment, position, tail)?;
            position = next;
            Some(record)
        })
    }

    /// Takes the oldest record off; its payload's memory is free then.
    pub fn consume(&mut self) {
        let (mut segment, head, tail) = self.ends();
        if let Some((_, next)) = read_record(&mut segment, head, tail) {
            self.ring.reading.head.store(next, Ordering::Release);
        }
    }

    /// Where there is something, from the head to the tail, and in which segment it begins.
    #[inline]
    fn ends(&self) -> (&'a Segment, usize, usize) {
        let ring = self.ring;
        let tail = ring.tail.load(Ordering::Acquire);
        let head = ring.reading.head.load(Ordering::Relaxed);
        // SAFETY: the only reader, which alone lets segments go, when it is made.
        let mut segment = unsafe { &**ring.reading.segment.get() };
        // More than one may have been passed since.
        loop {
            let next = segment.going_on(head);
            if std::ptr::eq(next, segment) {
                return (segment, head, tail);
            }
            segment = next;
        }
    }

    /// Is there nothing (more)?
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }
}

fn read_record<'a>(
    segment: &mut &'a Segment,
    mut position: usize,
    tail: usize,
) -> Option<(Record<'a>, usize)> {
    loop {
        if position == tail {
            return None;
        }
        *segment = segment.going_on(position);
        // SAFETY: between head and tail headers were published by append, and
        // nobody writes there until head moves past.
        let header = unsafe { segment.at(position).cast::<Header>().read() };
        let length = header.length as usize;
        let next = position.wrapping_add(HEADER_BYTES + length.next_multiple_of(HEADER_BYTES));
        let kind = match header.kind {
            0 => RecordKind::Bytes,
            1 => RecordKind::Handover,
            2 => RecordKind::Coroutine,
            _ => {
                position = next;
                continue;
            }
        };
        let start = if length == 0 {
            segment.at(position)
        } else {
            segment.at(position.wrapping_add(HEADER_BYTES))
        };
        // SAFETY: append wrote `length` contiguous bytes there, and they stay
        // until the record is consumed by this one reader.
        let payload = unsafe { std::slice::from_raw_parts(start, length) };
        let charge = Charge {
            executor: header.executor,
            epoch: header.epoch,
        };
        return Some((
            Record {
                kind,
                charge,
                data: header.data,
                payload,
            },
            next,
        ));
    }
}

#[cfg(all(test, not(flexnet_loom)))]
#[path = "ring_tests.rs"]
mod tests;
