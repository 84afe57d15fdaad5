// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What belongs to this process and not to its children. It is zeroed in a child, as the table
//! is, so a child starts with nothing of its parent's.

use crate::children::Forks;
use crate::entry::Entries;
use crate::policy;
use crate::table;
use flexnet::client::Client;
use flexnet::executor::Runtime;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// The runtime, while there is one.
pub(crate) struct Started {
    pub(crate) runtime: Runtime,
    pub(crate) link: Option<Arc<Client>>,
}

/// What belongs to this process and not to its children. Zeroed in a child.
#[derive(Default)]
pub(crate) struct ProcessState {
    /// 0: a child that was not forked by fork(), which leaves sockets alone.
    pub(crate) alive: AtomicU32,
    /// Nothing is offloaded any more.
    pub(crate) off: AtomicU32,
    /// For making flows, for fork and for what stops executors.
    lock: AtomicU32,
    pid: AtomicI32,
    /// The first thread of the process, as pthread_self() calls it.
    pub(crate) first_thread: AtomicUsize,
    pub(crate) runtime: AtomicPtr<Started>,
    /// A message said that sends are done by executors.
    pub(crate) announced: AtomicU32,
    /// What was made for queueing may go: see [`crate::start::withdraw`].
    pub(crate) leaving: AtomicU32,
    pub(crate) entries: Entries,
    pub(crate) forks: Forks,
    pub(crate) policy: policy::Process,
    /// Duplicates that the library keeps for a rest.
    pub(crate) closing: AtomicU32,
}

static PROCESS_STATE: AtomicPtr<ProcessState> = AtomicPtr::new(ptr::null_mut());

/// Before there is a table. Without memory for it nothing is offloaded.
pub(crate) fn set_up() -> bool {
    let Some(memory) = table::wiped_memory(size_of::<ProcessState>()) else {
        return false;
    };
    PROCESS_STATE.store(memory.cast(), Ordering::Relaxed);
    true
}

/// None where the library does nothing.
#[inline]
pub(crate) fn process_state() -> Option<&'static ProcessState> {
    // SAFETY: null or the mapping, which stays; zeros are valid.
    unsafe { PROCESS_STATE.load(Ordering::Relaxed).as_ref() }
}

/// [`ProcessState::is_ours`], where there is a table.
pub(crate) fn is_ours_now() -> bool {
    table::is_there() && process_state().is_some_and(ProcessState::is_ours)
}

impl ProcessState {
    /// Is this the process that the table is of? A vfork child shares the memory
    /// but has descriptors of its own.
    pub(crate) fn is_ours(&self) -> bool {
        pid() == self.pid.load(Ordering::Relaxed)
    }

    /// This process may offload.
    pub(crate) fn revive(&self) {
        self.pid.store(pid(), Ordering::Relaxed);
        // SAFETY: a plain call. This is the process's only thread, or its first.
        let thread = unsafe { libc::pthread_self() };
        self.first_thread.store(thread as usize, Ordering::Relaxed);
        self.alive.store(1, Ordering::Release);
    }

    /// Waits for the lock on making flows; signals are to be blocked.
    pub(crate) fn lock(&self) {
        while !self.try_lock() {
            rustix::thread::sched_yield();
        }
    }

    pub(crate) fn try_lock(&self) -> bool {
        self.lock.swap(1, Ordering::Acquire) == 0
    }

    pub(crate) fn unlock(&self) {
        self.lock.store(0, Ordering::Release);
    }
}

fn pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}
