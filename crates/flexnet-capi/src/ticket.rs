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
    /// The submission whose coroutine was dropped inside of it, 0: none.
    static REFUSED: Cell<u64> = const { Cell::new(0) };
}

/// Of one submission.
pub(crate) struct Ticket {
    number: u64,
    started: bool,
}

impl Ticket {
    /// Runs `submit` with the ticket of its submission. Beside its result: was the coroutine
    /// dropped inside of it? Then it was refused, whatever the result: the runtime ended in between.
    pub(crate) fn with<R>(submit: impl FnOnce(Ticket) -> R) -> (R, bool) {
        if NEXT.get() << (64 - BLOCK_BITS) == 0 {
            let thread = u64::from(THREADS.fetch_add(1, Ordering::Relaxed));
            NEXT.set(thread << BLOCK_BITS | 1);
        }
        let number = NEXT.replace(NEXT.get() + 1);
        let before = (SUBMITTING.replace(number), REFUSED.replace(0));
        let result = submit(Ticket {
            number,
            started: false,
        });
        SUBMITTING.set(before.0);
        (result, REFUSED.replace(before.1) == number)
    }

    /// It runs, so it was accepted.
    #[inline]
    pub(crate) fn start(&mut self) {
        self.started = true;
    }

    /// For a coroutine that is dropped: was it never accepted?
    pub(crate) fn is_refused(&self) -> bool {
        let is_refused = !self.started && SUBMITTING.get() == self.number;
        if is_refused {
            REFUSED.set(self.number);
        }
        is_refused
    }
}
