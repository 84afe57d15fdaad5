// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What is known of each descriptor, by its number. There is no lock and no system call. A
//! descriptor that is none of ours costs one load.
//!
//! Only sockets that this process was seen to make may be queued. Others may write to what was
//! inherited or received over a socket. The memory is wiped in a child (MADV_WIPEONFORK), however
//! the child was forked. So nothing of the parent's is taken for the child's.

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use rustix::process::{Resource, getrlimit};
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
/// The library's descriptors are from here on, or from half of a lower limit
/// on: what select() can hold stays the program's, and the kernel's table grows
/// by little.
const LOWEST_DESCRIPTOR: u64 = 512;

/// One descriptor.
#[derive(Default)]
pub(crate) struct Slot {
    tagged: AtomicUsize,
    /// Forks there were when it was made: later children share it.
    pub(crate) forks: AtomicU32,
    /// How often the number was closed.
    closes: AtomicU32,
}

/// What stands before the slots.
#[derive(Default)]
#[repr(align(64))]
struct Head {
    /// The highest number that ever was a candidate or the library's own.
    highest: AtomicI32,
}

static HEAD: AtomicPtr<Head> = AtomicPtr::new(ptr::null_mut());
static SLOTS: AtomicPtr<Slot> = AtomicPtr::new(ptr::null_mut());
/// 0: there is no table, and every hook lets through.
static LENGTH: AtomicUsize = AtomicUsize::new(0);

/// Zeros that are zeros again in a child, however it is forked. Never unmapped.
pub(crate) fn wiped_memory(bytes: usize) -> Option<*mut u8> {
    let (protection, flags) = (
        ProtFlags::READ | ProtFlags::WRITE,
        MapFlags::PRIVATE | MapFlags::NORESERVE,
    );
    let bytes = bytes.next_multiple_of(4096);
    // SAFETY: new memory at an address of the kernel's choice, never unmapped.
    let memory = unsafe { mmap_anonymous(ptr::null_mut(), bytes, protection, flags) }.ok()?;
    // SAFETY: the whole of what was just mapped.
    unsafe { madvise(memory, bytes, Advice::LinuxWipeOnFork) }.ok()?;
    Some(memory.cast())
}

/// Makes the table; without memory for it nothing is offloaded.
pub(crate) fn set_up(descriptors: u64) -> bool {
    let length = descriptors.clamp(256, DESCRIPTORS_MAX) as usize;
    let Some(memory) = wiped_memory(size_of::<Head>() + length * size_of::<Slot>()) else {
        return false;
    };
    HEAD.store(memory.cast(), Ordering::Relaxed);
    // SAFETY: within the mapping.
    let slots = unsafe { memory.add(size_of::<Head>()) };
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

/// Is it the program's, and something that the library looks after?
pub(crate) fn is_known(tagged: usize) -> bool {
    tagged != UNKNOWN && !is_internal(tagged)
}

/// Is it the address of an entry?
#[inline(always)]
pub(crate) fn is_entry(tagged: usize) -> bool {
    tagged > CANDIDATE
}

/// Where the library's own descriptors lie.
pub(crate) fn lowest_descriptor() -> i32 {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(LOWEST_DESCRIPTOR, |limit| {
        (limit / 2).min(LOWEST_DESCRIPTOR)
    }) as i32
}

/// One of the library's own.
pub(crate) fn mark_internal(fd: RawFd) {
    mark(fd, INTERNAL);
}

/// What that number is from here on.
pub(crate) fn mark(fd: RawFd, tagged: usize) {
    if let Some(slot) = slot(fd) {
        include(fd);
        slot.set(tagged);
    }
}

fn highest() -> Option<&'static AtomicI32> {
    // SAFETY: null or the mapping, which stays; zeros are valid.
    let head = unsafe { HEAD.load(Ordering::Relaxed).as_ref() };
    head.map(|head| &head.highest)
}

/// [`all`] has that number from here on.
pub(crate) fn include(fd: RawFd) {
    if let Some(highest) = highest()
        && highest.load(Ordering::Relaxed) < fd
    {
        highest.fetch_max(fd, Ordering::SeqCst);
    }
}

/// All descriptors there may be something about, and their slots.
pub(crate) fn all() -> impl Iterator<Item = (RawFd, &'static Slot)> {
    let highest = highest().map_or(-1, |highest| highest.load(Ordering::Acquire));
    (0..=highest).filter_map(|fd| Some((fd, slot(fd)?)))
}
