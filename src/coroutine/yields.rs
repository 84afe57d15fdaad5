// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Giving way between two units of work.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Returned by [`yield_now`].
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
