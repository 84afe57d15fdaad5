// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The children that may write to this process's sockets, and whether they have gone. A
//! close-on-exec pipe tells: only the child has its writing end.

use crate::table;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// Children that are watched at once; one more, and it is taken for alive as
/// long as the process lives.
const CHILDREN: usize = 64;
/// A synchronous flow looks whether the children have gone once in so many
/// sends: that is a system call for each child.
const SENDS_PER_POLL: u32 = 64;

/// In [`crate::process::ProcessState`], so wiped in a child. All zeros: no fork yet.
#[derive(Default)]
pub(crate) struct Forks {
    /// Forks so far, and other children that were started.
    pub(crate) count: AtomicU32,
    /// The number of the last fork whose child may share sockets, 0: none.
    pub(crate) newest: AtomicU32,
    /// The last one that is not watched.
    unwatched: AtomicU32,
    polls: AtomicU32,
    /// Guards `watched` (with signals blocked, or by a thread in a hook).
    lock: AtomicU32,
    /// Reading ends, plus one; 0: free. And each one's fork.
    watched: [[(AtomicI32, AtomicU32); 16]; CHILDREN / 16],
}

impl Forks {
    pub(crate) fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// A child is started in another way than by fork.
    pub(crate) fn count_child(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    fn all(&self) -> impl Iterator<Item = &(AtomicI32, AtomicU32)> {
        self.watched.iter().flatten()
    }

    /// May a child write to what was there at `made` (a count of forks)?
    #[inline]
    pub(crate) fn shares(&self, made: u32) -> bool {
        self.newest.load(Ordering::Acquire) > made && self.still_shares(made)
    }

    #[cold]
    fn still_shares(&self, made: u32) -> bool {
        if self
            .polls
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(SENDS_PER_POLL)
            && self.lock.swap(1, Ordering::Acquire) == 0
        {
            self.poll_children();
            self.lock.store(0, Ordering::Release);
        }
        self.newest.load(Ordering::Acquire) > made
    }

    /// Forgets the children that have gone.
    pub(crate) fn poll_children(&self) {
        let mut newest = self.unwatched.load(Ordering::Relaxed);
        for (end, fork) in self.all() {
            let fd = end.load(Ordering::Relaxed) - 1;
            if fd < 0 {
                continue;
            }
            // SAFETY: opened by `prepare`, closed below only.
            let pipe = unsafe { BorrowedFd::borrow_raw(fd) };
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let mut fds = [PollFd::from_borrowed_fd(pipe, PollFlags::IN)];
            if poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0) {
                end.store(0, Ordering::Relaxed);
                close(fd);
            } else {
                newest = newest.max(fork.load(Ordering::Relaxed));
            }
        }
        self.newest.store(newest, Ordering::Release);
    }

    pub(crate) fn watch(&self, pipe: OwnedFd, fork: u32) {
        for (end, of) in self.all() {
            if end.load(Ordering::Relaxed) == 0 {
                of.store(fork, Ordering::Relaxed);
                let fd = pipe.into_raw_fd();
                table::mark_internal(fd);
                end.store(fd + 1, Ordering::Relaxed);
                return;
            }
        }
        self.give_up(fork);
    }

    /// Nothing tells when that fork's child has gone.
    pub(crate) fn give_up(&self, fork: u32) {
        self.unwatched.fetch_max(fork, Ordering::Relaxed);
        self.newest.fetch_max(fork, Ordering::Release);
    }

    pub(crate) fn locked<R>(&self, f: impl FnOnce(&Self) -> R) -> R {
        while self.lock.swap(1, Ordering::Acquire) != 0 {
            rustix::thread::sched_yield();
        }
        let result = f(self);
        self.lock.store(0, Ordering::Release);
        result
    }
}

/// Closes a descriptor of the library's own.
fn close(fd: i32) {
    if let Some(slot) = table::slot(fd) {
        slot.set(table::UNKNOWN);
    }
    // SAFETY: ours, and closed once.
    unsafe { rustix::io::close(fd) };
}
