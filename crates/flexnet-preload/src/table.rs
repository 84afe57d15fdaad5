// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What is known of each descriptor, by its number. There is no lock and no system call. A
//! descriptor that is none of ours costs one load.
//!
//! Only sockets that this process was seen to make may be queued. Others may write to what was
//! inherited or received over a socket. The memory is wiped in a child (MADV_WIPEONFORK), however
//! the child was forked. So nothing of the parent's is taken for the child's.

use crate::entry::Entry;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// Not seen, or nothing for us: zero, as wiped memory is.
pub(crate) const UNKNOWN: usize = 0;
/// A socket that is written to past us for ever.
pub(crate) const PASSTHROUGH: usize = 1;
/// The library's own.
pub(crate) const INTERNAL: usize = 2;
/// A duplicate that the library keeps for a rest.
pub(crate) const REST: usize = 3;
/// An epoll instance, whose registrations a duplicate would keep alive.
pub(crate) const EPOLL: usize = 4;
/// A socket of this process's making.
pub(crate) const CANDIDATE: usize = 5;
// Anything else is the address of an entry.

/// What has one of these numbers the C library may write to by itself: by stdout and
/// stderr, and what it says before it aborts.
pub(crate) const STDIO_LAST: RawFd = 2;
/// Numbers from here on are not looked after.
const DESCRIPTORS_MAX: u64 = 1 << 20;

/// One descriptor.
#[derive(Default)]
pub(crate) struct Slot {
    tagged: AtomicUsize,
    /// Forks there were when it was made: later children share it.
    pub(crate) forks: AtomicU32,
    /// How often the number was closed.
    closes: AtomicU32,
}

/// What belongs to this process and not to its children. Zeroed in a child.
#[derive(Default)]
pub(crate) struct ProcessState {
    /// 0: a child that was not forked by fork(), which leaves sockets alone.
    pub(crate) alive: AtomicU32,
    /// Nothing is offloaded any more.
    pub(crate) off: AtomicU32,
    /// For making flows, for fork and for what stops executors.
    pub(crate) lock: AtomicU32,
    pub(crate) pid: AtomicI32,
    /// The first thread of the process, as pthread_self() calls it.
    pub(crate) first_thread: AtomicUsize,
    pub(crate) runtime: AtomicPtr<crate::start::Started>,
    /// The highest number that ever was a candidate or the library's own.
    pub(crate) highest: AtomicI32,
    /// A message said that sends are done by executors.
    pub(crate) announced: AtomicU32,
    /// What was made for queueing may go: see [`crate::start::withdraw`].
    pub(crate) leaving: AtomicU32,
    /// Flows there are.
    pub(crate) flows: AtomicU32,
    /// Entries to be used again.
    pub(crate) spare: AtomicPtr<Entry>,
    pub(crate) spare_lock: AtomicU32,
    pub(crate) forks: crate::forks::Forks,
    pub(crate) policy: crate::policy::Process,
    /// Duplicates that the library keeps for a rest.
    pub(crate) closing: AtomicU32,
}

static PROCESS_STATE: AtomicPtr<ProcessState> = AtomicPtr::new(ptr::null_mut());
static SLOTS: AtomicPtr<Slot> = AtomicPtr::new(ptr::null_mut());
/// 0: there is no table, and every hook lets through.
static LENGTH: AtomicUsize = AtomicUsize::new(0);

/// Bytes for [`ProcessState`], whole pages.
const PROCESS_STATE_BYTES: usize = 16384;
const _: () = assert!(size_of::<ProcessState>() <= PROCESS_STATE_BYTES);

/// Makes the table; without memory for it nothing is offloaded.
pub(crate) fn set_up(descriptors: u64) -> bool {
    let length = descriptors.clamp(256, DESCRIPTORS_MAX) as usize;
    let bytes = (PROCESS_STATE_BYTES + length * size_of::<Slot>()).next_multiple_of(4096);
    let (protection, flags) = (
        ProtFlags::READ | ProtFlags::WRITE,
        MapFlags::PRIVATE | MapFlags::NORESERVE,
    );
    // SAFETY: new memory at an address of the kernel's choice, never unmapped.
    let Ok(memory) = (unsafe { mmap_anonymous(ptr::null_mut(), bytes, protection, flags) }) else {
        return false;
    };
    // SAFETY: the whole of what was just mapped.
    if unsafe { madvise(memory, bytes, Advice::LinuxWipeOnFork) }.is_err() {
        return false;
    }
    PROCESS_STATE.store(memory.cast(), Ordering::Relaxed);
    // SAFETY: within the mapping.
    let slots = unsafe { memory.cast::<u8>().add(PROCESS_STATE_BYTES) };
    SLOTS.store(slots.cast(), Ordering::Relaxed);
    LENGTH.store(length, Ordering::Release);
    true
}

/// From here on there is no table: every hook lets through.
pub(crate) fn leave() {
    LENGTH.store(0, Ordering::SeqCst);
}

/// Is there a table?
pub(crate) fn is_there() -> bool {
    LENGTH.load(Ordering::Acquire) != 0
}

#[inline(always)]
pub(crate) fn slot(fd: RawFd) -> Option<&'static Slot> {
    // A negative one is a very high one.
    if (fd as u32 as usize) < LENGTH.load(Ordering::Relaxed) {
        // SAFETY: within the table, which stays; zeros and what is stored are
        // valid slots.
        Some(unsafe { &*SLOTS.load(Ordering::Relaxed).add(fd as usize) })
    } else {
        None
    }
}

/// None before there is a table.
#[inline]
pub(crate) fn process_state() -> Option<&'static ProcessState> {
    // SAFETY: null or the mapping, which stays; zeros are valid.
    unsafe { PROCESS_STATE.load(Ordering::Relaxed).as_ref() }
}

/// Is this the process that the table is of? A vfork child shares the memory
/// but has descriptors of its own.
pub(crate) fn is_ours(process: &ProcessState) -> bool {
    rustix::process::getpid().as_raw_nonzero().get() == process.pid.load(Ordering::Relaxed)
}

/// [`is_ours`], where there is a table.
pub(crate) fn is_ours_now() -> bool {
    is_there() && process_state().is_some_and(is_ours)
}

impl Slot {
    #[inline(always)]
    pub(crate) fn tagged(&self) -> usize {
        self.tagged.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn set(&self, tagged: usize) {
        self.tagged.store(tagged, Ordering::SeqCst);
    }

    pub(crate) fn closes(&self) -> u32 {
        self.closes.load(Ordering::Acquire)
    }

    /// The number is closed, and what it was is forgotten; false: it is another by now.
    pub(crate) fn close(&self, tagged: usize) -> bool {
        // First: a sender that finds no entry any more must find that it was closed.
        self.closes.fetch_add(1, Ordering::SeqCst);
        self.replace(tagged, UNKNOWN)
    }

    pub(crate) fn replace(&self, from: usize, to: usize) -> bool {
        let (ok, no) = (Ordering::SeqCst, Ordering::Relaxed);
        self.tagged.compare_exchange(from, to, ok, no).is_ok()
    }
}

/// Is it the library's own, and none of the program's?
pub(crate) fn is_internal(tagged: usize) -> bool {
    tagged == INTERNAL || tagged == REST
}

/// Is it the address of an entry?
#[inline(always)]
pub(crate) fn is_entry(tagged: usize) -> bool {
    tagged > CANDIDATE
}

/// The entry of a slot, while it is used.
pub(crate) fn entry(slot: &Slot) -> Option<crate::entry::Used> {
    let tagged = slot.tagged();
    is_entry(tagged).then(|| Entry::of(slot, tagged)).flatten()
}

/// A new descriptor of a socket, made by this process.
#[inline]
pub(crate) fn made(fd: RawFd) {
    mark(
        fd,
        if fd > STDIO_LAST {
            CANDIDATE
        } else {
            PASSTHROUGH
        },
    );
}

/// A new descriptor that this process made: a [`CANDIDATE`] or an [`EPOLL`].
pub(crate) fn mark(fd: RawFd, tagged: usize) {
    if let (Some(slot), Some(process)) = (slot(fd), process_state())
        && process.alive.load(Ordering::Relaxed) != 0
        && !is_internal(slot.tagged())
    {
        if is_entry(slot.tagged()) {
            crate::barrier::forget_stale(slot);
        }
        if process.highest.load(Ordering::Relaxed) < fd {
            process.highest.fetch_max(fd, Ordering::SeqCst);
        }
        slot.forks.store(process.forks.count(), Ordering::Relaxed);
        slot.set(tagged);
    }
}

/// One of the library's own.
pub(crate) fn mark_internal(fd: RawFd) {
    mark_ours(fd, INTERNAL);
}

/// A duplicate that the library keeps for a rest.
pub(crate) fn mark_rest(fd: RawFd) {
    if let Some(process) = process_state() {
        process.closing.fetch_add(1, Ordering::AcqRel);
    }
    mark_ours(fd, REST);
}

fn mark_ours(fd: RawFd, tagged: usize) {
    if let (Some(slot), Some(process)) = (slot(fd), process_state()) {
        process.highest.fetch_max(fd, Ordering::Relaxed);
        slot.set(tagged);
    }
}

/// The library closes one of its own.
pub(crate) fn internal_closed(slot: &Slot) {
    if slot.tagged() == REST
        && let Some(process) = process_state()
    {
        process.closing.fetch_sub(1, Ordering::AcqRel);
    }
    slot.set(UNKNOWN);
}

/// All descriptors there may be something about, and their slots.
pub(crate) fn all() -> impl Iterator<Item = (RawFd, &'static Slot)> {
    let highest = process_state().map_or(-1, |process| process.highest.load(Ordering::Acquire));
    (0..=highest).filter_map(|fd| Some((fd, slot(fd)?)))
}
