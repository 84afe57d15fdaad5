// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! A flow's ring: what one socket has to send, in order, in bounded memory.
//!
//! Records are a 16-byte header and a payload, contiguous, in a ring of bytes.
//! Submitters append under a spin lock held for one copy (uncontended where one
//! thread sends on a flow, the common case); the one thread that drains (see
//! [`super::Gate`]) reads payloads in place, so they go into one `sendmsg`
//! without another copy, and consumes them by bytes after a short write.

use crate::sync::{AtomicBool, AtomicUsize, CacheLine, Ordering, spin_loop};
use std::cell::UnsafeCell;
use std::io::IoSlice;
use std::marker::PhantomData;

/// Bytes of a record's header, and the alignment of records.
const HEADER_BYTES: usize = 16;

/// What a record is charged to: the executor it was submitted to, and the page
/// (epoch) in which that was counted. The thread that completes it settles there.
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

#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Chunk([u8; HEADER_BYTES]);

const _: () = assert!(
    size_of::<UnsafeCell<Chunk>>() == size_of::<u128>()
        && align_of::<UnsafeCell<Chunk>>() == align_of::<u128>()
);

/// See the module's comment.
pub struct FlowRing {
    chunks: Box<[UnsafeCell<Chunk>]>,
    /// Bytes consumed, written by the thread that drains.
    head: CacheLine<AtomicUsize>,
    /// Bytes published, written by submitters.
    tail: CacheLine<AtomicUsize>,
    appending: AtomicBool,
    /// What submitters last saw of `head`: looked at again only when the ring
    /// seems full, since each look may cost a cache miss.
    head_seen: UnsafeCell<usize>,
}

// SAFETY: bytes between head and tail belong to the reader (exclusive by Gate),
// the others to the holder of `appending`; both ends move by release stores.
unsafe impl Send for FlowRing {}
// SAFETY: as above.
unsafe impl Sync for FlowRing {}

impl FlowRing {
    /// Makes a ring of `bytes` (rounded up to a power of two, at least 256). The
    /// only allocation.
    pub fn new(bytes: usize) -> Self {
        let chunks = bytes.max(256).next_power_of_two() / HEADER_BYTES;
        // Zeroed by the allocator, so that memory is touched as it is used.
        let zeros: Box<[u128]> = vec![0; chunks].into_boxed_slice();
        let chunks = Box::into_raw(zeros) as *mut [UnsafeCell<Chunk>];
        Self {
            // SAFETY: a u128 and a cell of a chunk have the same size and
            // alignment (asserted), and any bytes are a chunk.
            chunks: unsafe { Box::from_raw(chunks) },
            head: CacheLine(AtomicUsize::new(0)),
            tail: CacheLine(AtomicUsize::new(0)),
            appending: AtomicBool::new(false),
            head_seen: UnsafeCell::new(0),
        }
    }

    /// Bytes the ring holds at most, headers included.
    pub fn capacity(&self) -> usize {
        self.chunks.len() * HEADER_BYTES
    }

    /// The longest message a record may carry: a quarter of the ring, so that a
    /// record and the padding before it always fit an empty ring.
    pub fn message_max(&self) -> usize {
        self.capacity() / 4 - HEADER_BYTES
    }

    /// Is there nothing to drain? Orders nothing; see [`super::Gate`].
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed) == self.tail.load(Ordering::Relaxed)
    }

    /// Bytes in use, headers and padding included.
    #[inline]
    pub fn used(&self) -> usize {
        self.tail
            .load(Ordering::Relaxed)
            .wrapping_sub(self.head.load(Ordering::Relaxed))
    }

    /// How far submitters got: what is pushed by now is drained when
    /// [`FlowRing::is_drained_to`] says so of this.
    pub fn tail(&self) -> usize {
        self.tail.load(Ordering::Acquire)
    }

    /// Bytes consumed so far; exact for the thread that drains.
    #[inline]
    pub fn head(&self) -> usize {
        self.head.load(Ordering::Relaxed)
    }

    /// Was everything before that tail consumed?
    pub fn is_drained_to(&self, tail: usize) -> bool {
        self.head.load(Ordering::Acquire).wrapping_sub(tail) as isize >= 0
    }

    fn at(&self, position: usize) -> *mut u8 {
        self.chunks[(position & (self.capacity() - 1)) / HEADER_BYTES]
            .get()
            .cast()
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
        let capacity = self.capacity();
        let need = HEADER_BYTES + length.next_multiple_of(HEADER_BYTES);
        let mut tail = self.tail.load(Ordering::Relaxed);
        let to_end = capacity - (tail & (capacity - 1));
        let pad = if to_end < need { to_end } else { 0 };
        // SAFETY: only the holder of `appending` touches it.
        let head = unsafe { &mut *self.head_seen.get() };
        if capacity - tail.wrapping_sub(*head) < need + pad {
            *head = self.head.load(Ordering::Acquire);
            if capacity - tail.wrapping_sub(*head) < need + pad {
                return Err(Full);
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
            unsafe { self.at(tail).cast::<Header>().write(header) };
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
            self.at(tail).cast::<Header>().write(header);
        }
        if length > 0 {
            copy(self.at(tail.wrapping_add(HEADER_BYTES)));
        }
        self.tail.store(tail.wrapping_add(need), Ordering::Release);
        Ok(())
    }

    /// A reader of what is there.
    ///
    /// # Safety
    /// At most one reader exists at a time: the caller has entered the flow's
    /// [`super::Gate`].
    pub unsafe fn reader(&self) -> RingReader<'_> {
        RingReader {
            ring: self,
            _not_sync: PhantomData,
        }
    }
}

/// One record, in place.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// What it is.
    pub kind: RecordKind,
    /// What it is charged to.
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
        let ring = self.ring;
        let mut position = ring.head.load(Ordering::Relaxed);
        let tail = ring.tail.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            let (record, next) = read_record(ring, position, tail)?;
            position = next;
            Some(record)
        })
    }

    /// Takes the oldest record off; its payload's memory is free then.
    pub fn consume(&mut self) {
        let ring = self.ring;
        let tail = ring.tail.load(Ordering::Acquire);
        if let Some((_, next)) = read_record(ring, ring.head.load(Ordering::Relaxed), tail) {
            ring.head.store(next, Ordering::Release);
        }
    }

    /// Is there nothing (more)?
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }
}

fn read_record(ring: &FlowRing, mut position: usize, tail: usize) -> Option<(Record<'_>, usize)> {
    loop {
        if position == tail {
            return None;
        }
        // SAFETY: between head and tail headers were published by append, and
        // nobody writes there until head moves past.
        let header = unsafe { ring.at(position).cast::<Header>().read() };
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
            ring.at(position)
        } else {
            ring.at(position.wrapping_add(HEADER_BYTES))
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
mod tests {
    use super::*;

    fn push(ring: &FlowRing, bytes: &[u8]) -> Result<(), Full> {
        ring.push(RecordKind::Bytes, 0, bytes, Charge::default)
    }

    #[test]
    fn records_come_back_in_order_across_the_end() {
        let ring = FlowRing::new(1024);
        // SAFETY: the only reader.
        let mut reader = unsafe { ring.reader() };
        let mut seed = 7u32;
        let (mut sent, mut received) = (0u32, 0u32);
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let length = (seed >> 16) as usize % (ring.message_max() + 1);
            let message = vec![sent as u8; length];
            if !seed.is_multiple_of(3) && push(&ring, &message).is_ok() {
                sent += 1;
            } else if let Some(record) = reader.records().next() {
                assert!(record.payload.iter().all(|&b| b == received as u8));
                received += 1;
                reader.consume();
            }
        }
        assert!(received > 1_000);
        assert_eq!(reader.records().count() as u32, sent - received);
    }

    #[test]
    fn slices_become_one_record() {
        let ring = FlowRing::new(256);
        let slices = [&b"one "[..], b"", b"two"].map(IoSlice::new);
        assert_eq!(ring.push_gathered(&slices, 7, Charge::default), Ok(()));
        // SAFETY: the only reader.
        let reader = unsafe { ring.reader() };
        let payloads: Vec<_> = reader.records().map(|record| record.payload).collect();
        assert_eq!(payloads, [b"one two"]);
    }

    #[test]
    fn a_full_ring_refuses_and_counts_nothing() {
        let ring = FlowRing::new(256);
        assert_eq!(push(&ring, &[1; 48]), Ok(()));
        assert_eq!(
            push(&ring, &[2; 49]),
            Err(Full),
            "longer than a record may be"
        );
        while push(&ring, &[3; 48]).is_ok() {}
        let mut asked = false;
        let refused = ring.push(RecordKind::Bytes, 0, &[4; 48], || {
            asked = true;
            Charge::default()
        });
        assert_eq!(refused, Err(Full));
        assert!(!asked);
        // SAFETY: the only reader.
        unsafe { ring.reader() }.consume();
        assert_eq!(push(&ring, &[5; 48]), Ok(()));
    }

    #[test]
    fn a_message_of_the_greatest_length_always_fits_an_empty_ring() {
        let ring = FlowRing::new(256);
        // SAFETY: the only reader.
        let mut reader = unsafe { ring.reader() };
        for offset in 0..100 {
            assert_eq!(push(&ring, &vec![0; offset % 20]), Ok(()));
            reader.consume();
            assert_eq!(
                push(&ring, &vec![0; ring.message_max()]),
                Ok(()),
                "at step {offset}"
            );
            reader.consume();
        }
    }
}
