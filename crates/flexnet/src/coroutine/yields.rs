// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Giving way between two units of work: always, or when the turn is over.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The turn of what this thread resumes.
#[derive(Clone, Copy)]
struct Turn {
    /// Zero: to completion.
    quantum: Duration,
    /// At the first checkpoint: a coroutine without one pays for no clock.
    started: Option<Instant>,
    /// Raised when the thread is to give way; null: never.
    flag: *const AtomicU32,
    /// Bytes that its coroutines have moved.
    moved: usize,
}

const NO_TURN: Turn = Turn {
    quantum: Duration::ZERO,
    started: None,
    flag: ptr::null(),
    moved: 0,
};

thread_local! {
    static TURN: Cell<Turn> = const { Cell::new(NO_TURN) };
}

/// Runs `f`, whose checkpoints give way after `quantum` (zero: not by time) and
/// when `flag` is raised.
pub(crate) fn in_turn<R>(quantum: Duration, flag: &AtomicU32, f: impl FnOnce() -> R) -> R {
    TURN.set(Turn {
        quantum,
        started: None,
        flag,
        moved: 0,
    });
    let result = f();
    TURN.set(NO_TURN);
    result
}

/// Is somebody else wanted on the core of what runs here?
#[inline]
pub(crate) fn is_flagged() -> bool {
    // SAFETY: in_turn has it borrowed until it resets this; in a panic's wake,
    // the thread resumes nothing else before the next in_turn.
    let flag = unsafe { TURN.get().flag.as_ref() };
    flag.is_some_and(|flag| flag.load(Ordering::Relaxed) != 0)
}

/// Is the turn of what runs here over?
pub(crate) fn is_over() -> bool {
    if is_flagged() {
        return true;
    }
    let turn = TURN.get();
    if turn.quantum.is_zero() {
        return false;
    }
    match turn.started {
        Some(started) => started.elapsed() >= turn.quantum,
        None => {
            TURN.set(Turn {
                started: Some(Instant::now()),
                ..turn
            });
            false
        }
    }
}

/// What runs here has moved so many bytes.
pub(crate) fn count_moved(bytes: usize) {
    let turn = TURN.get();
    TURN.set(Turn {
        moved: turn.moved.saturating_add(bytes),
        ..turn
    });
}

/// What is left of a turn's `budget` of bytes. Gives way as [`yield_now`] does where nothing is.
pub(crate) fn poll_budget(context: &mut Context<'_>, budget: usize) -> Poll<usize> {
    match budget.checked_sub(TURN.get().moved) {
        Some(left) if left > 0 => Poll::Ready(left),
        _ => {
            context.waker().wake_by_ref();
            Poll::Pending
        }
    }
}

/// Gives way as [`yield_now`] does, but only when the coroutine's turn is over:
/// after the quantum of the stack's design, counted from the turn's first
/// checkpoint, or when the scheduler wants the core for others. To be called in
/// long work every microsecond or so; costs a clock's reading. Outside of an
/// executor it never gives way.
///
/// ```
/// async fn long_work() {
///     for part in 0..1_000 {
///         // some of it
///         # let _ = part;
///         flexnet::coroutine::checkpoint().await;
///     }
/// }
/// # let _ = long_work();
/// ```
pub fn checkpoint() -> YieldNow {
    YieldNow {
        yielded: !is_over(),
    }
}

/// Returned by [`yield_now`] and [`checkpoint`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct YieldNow {
    yielded: bool,
}

/// Lets the executor serve other flows and look at what the scheduler asks of
/// it; the coroutine is at the tail of the run queue then.
///
/// ```
/// async fn two_units() {
///     // the first unit of work
///     flexnet::coroutine::yield_now().await;
///     // the second
/// }
/// # let _ = two_units();
/// ```
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

impl Future for YieldNow {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gives_way() -> bool {
        let mut context = Context::from_waker(std::task::Waker::noop());
        Pin::new(&mut checkpoint()).poll(&mut context).is_pending()
    }

    #[test]
    fn a_turn_has_so_many_bytes() {
        let mut context = Context::from_waker(std::task::Waker::noop());
        for _ in 0..2 {
            in_turn(Duration::ZERO, &AtomicU32::new(0), || {
                assert_eq!(poll_budget(&mut context, 10), Poll::Ready(10));
                count_moved(7);
                assert_eq!(poll_budget(&mut context, 10), Poll::Ready(3));
                count_moved(7);
                assert_eq!(poll_budget(&mut context, 10), Poll::Pending);
            });
        }
    }

    #[test]
    fn checkpoints_give_way_after_the_quantum_and_at_the_flag() {
        let flag = AtomicU32::new(0);
        assert!(!gives_way(), "outside of a turn");
        in_turn(Duration::from_nanos(1), &flag, || {
            assert!(!gives_way(), "the turn begins at the first one");
            while !gives_way() {}
        });
        in_turn(Duration::ZERO, &flag, || {
            assert!(!gives_way());
            flag.store(1, Ordering::Relaxed);
            assert!(gives_way());
        });
        assert!(!gives_way());
    }
}
