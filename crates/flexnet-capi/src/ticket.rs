// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Is a coroutine that is dropped before it ran one that was refused?
//!
//! The library drops what it does not accept, within the call that submitted
//! it; the caller learns of that by the call's error, and nobody else must. What
//! was accepted and is dropped later has ended, and its owner is told. A ticket,
//! one a submission, tells the two apart.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

/// Submissions a thread numbers by itself.
const BLOCK_BITS: u32 = 40;

static THREADS: AtomicU32 = AtomicU32::new(1);

thread_local! {
    static NEXT: Cell<u64> = const { Cell::new(0) };
    /// The submission this thread is inside of, 0: none.
    static SUBMITTING: Cell<u64> = const { Cell::new(0) };
}

/// Of one submission.
pub(crate) struct Ticket {
    number: u64,
    started: bool,
}

impl Ticket {
    /// Runs `submit` with the ticket of its submission.
    pub(crate) fn with<R>(submit: impl FnOnce(Ticket) -> R) -> R {
        if NEXT.get() << (64 - BLOCK_BITS) == 0 {
            let thread = u64::from(THREADS.fetch_add(1, Ordering::Relaxed));
            NEXT.set(thread << BLOCK_BITS | 1);
        }
        let number = NEXT.replace(NEXT.get() + 1);
        let before = SUBMITTING.replace(number);
        let result = submit(Ticket {
            number,
            started: false,
        });
        SUBMITTING.set(before);
        result
    }

    /// It runs, so it was accepted.
    #[inline]
    pub(crate) fn start(&mut self) {
        self.started = true;
    }

    /// For a coroutine that is dropped: was it never accepted?
    pub(crate) fn is_refused(&self) -> bool {
        !self.started && SUBMITTING.get() == self.number
    }
}
