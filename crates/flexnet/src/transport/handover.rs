// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! A large send handed over without a copy: the record in the ring points to
//! the caller's completion, and through it to the caller's buffer, while the
//! caller waits.

use crate::queue::{Record, futex_wait, futex_wake};
use std::io;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

/// An executor has it, or will.
const HANDED_OVER: u32 = 0;
/// There is an outcome.
const FINISHED: u32 = 1;
/// The caller shall send the rest.
const GIVEN_BACK: u32 = 2;

/// On the stack of the caller, which does not return before it is finished.
pub(crate) struct Completion {
    data: *const u8,
    length: usize,
    state: AtomicU32,
    errno: AtomicI32,
}

// SAFETY: the buffer is only read, and outlives the completion's use (wait).
unsafe impl Send for Completion {}
// SAFETY: as above.
unsafe impl Sync for Completion {}

impl Completion {
    /// For a send of `bytes`, which must stay until [`Completion::result`] is
    /// there.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self {
            data: bytes.as_ptr(),
            length: bytes.len(),
            state: AtomicU32::new(HANDED_OVER),
            errno: AtomicI32::new(0),
        }
    }

    /// What a record of it carries.
    pub(crate) fn to_bits(&self) -> u64 {
        std::ptr::from_ref(self) as u64
    }

    /// The outcome, when there is one.
    pub(crate) fn result(&self) -> Option<io::Result<()>> {
        if self.state.load(Ordering::Acquire) != FINISHED {
            return None;
        }
        Some(match self.errno.load(Ordering::Relaxed) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        })
    }

    /// Sleeps until it is finished or given back, or for `timeout`.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        futex_wait(&self.state, HANDED_OVER, timeout);
    }

    /// Was it given back, since this was asked last?
    pub(crate) fn take_given_back(&self) -> bool {
        self.state
            .compare_exchange(
                GIVEN_BACK,
                HANDED_OVER,
                Ordering::Acquire,
                Ordering::Relaxed,
            )
            .is_ok()
    }
}

/// The buffer behind a handover record.
///
/// # Safety
/// `record` is a [`crate::queue::RecordKind::Handover`] that is still in the
/// ring: its caller waits.
pub(crate) unsafe fn buffer<'a>(record: &Record<'_>) -> &'a [u8] {
    // SAFETY: the caller waits until `finish`, which comes after the last use.
    unsafe {
        let completion = &*(record.data as *const Completion);
        std::slice::from_raw_parts(completion.data, completion.length)
    }
}

/// Tells the caller behind a handover record how it went (0 or an errno).
///
/// # Safety
/// The record is a [`crate::queue::RecordKind::Handover`] that was just taken
/// off the ring: its caller waits for this, which comes once.
pub(crate) unsafe fn finish(record: &Record<'_>, errno: i32) {
    // SAFETY: as promised. After the store the completion may be gone, so only
    // its address is used: a wake of a futex nobody sleeps on is harmless.
    unsafe {
        let completion = record.data as *const Completion;
        let state = &raw const (*completion).state;
        (*completion).errno.store(errno, Ordering::Relaxed);
        (*state).store(FINISHED, Ordering::Release);
        futex_wake(&*state);
    }
}

/// Asks the caller behind a handover record to send the rest of it.
///
/// # Safety
/// The record is a [`crate::queue::RecordKind::Handover`] that is still in the
/// ring: its caller waits.
pub(crate) unsafe fn give_back(record: &Record<'_>) {
    // SAFETY: the thread inside the flow's gate finishes it, and this is called from
    // there: the caller cannot return meanwhile.
    let completion = unsafe { &*(record.data as *const Completion) };
    completion.state.store(GIVEN_BACK, Ordering::Release);
    futex_wake(&completion.state);
}
