// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Waiting for a flow, by an await or by a thread that blocks: for room in its
//! ring, and until its records were given to the kernel. After the runtime's end no thread wakes
//! the waiter, so the waiter does the work itself.

use super::flow::FlowCore;
use super::schedule::Schedule;
use super::waiters::block_on;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Until when a flush waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// All is given to the kernel.
    Drained,
    /// That, or the flow failed for good.
    DrainedOrFailed,
}

impl<S: Schedule<Self>> FlowCore<S> {
    /// Calls `attempt` until it comes to something else than `WouldBlock`.
    ///
    /// # Errors
    /// As `attempt`. `OutOfMemory` where the ring cannot grow. EDEADLK in a coroutine of this flow.
    pub(crate) async fn with_room<T>(
        &self,
        mut attempt: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        poll_fn(|context| {
            let polled = self.poll_room(context, &mut attempt);
            if polled.is_pending() && self.shared().is_stopped() {
                // Nobody is left to wake it: it asks again and again.
                context.waker().wake_by_ref();
            }
            polled
        })
        .await
    }

    /// [`FlowCore::with_room`] for a thread that may block.
    pub(crate) fn with_room_blocking<T>(
        self: &Arc<Self>,
        mut attempt: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            let polled = poll_fn(|context| match self.poll_room(context, &mut attempt) {
                // The executors went: nobody wakes this thread.
                Poll::Pending if self.shared().is_stopped() => Poll::Ready(None),
                other => other.map(Some),
            });
            if let Some(result) = block_on(polled, None).flatten() {
                return result;
            }
            self.wait_and_drain(None);
        }
    }

    /// Waits until the design has room for the flow, if it has none: a blocking
    /// sender's backpressure.
    ///
    /// # Errors
    /// The flow's error, if it failed.
    pub(crate) fn placed_blocking(self: &Arc<Self>) -> io::Result<()> {
        if !self.is_held() {
            return Ok(());
        }
        self.with_room_blocking(|| match (self.error(), self.is_held()) {
            (Some(error), _) => Err(error),
            (None, true) => Err(io::ErrorKind::WouldBlock.into()),
            (None, false) => Ok(()),
        })
    }

    fn poll_room<T>(
        &self,
        context: &mut Context<'_>,
        attempt: &mut impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let would_block = |result: &io::Result<T>| matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        let mut result = attempt();
        if !would_block(&result) {
            return Poll::Ready(result);
        }
        self.waiters().register(context.waker());
        // Room may have come before the registration.
        let empty_at = self.empty_at();
        result = attempt();
        if !would_block(&result) {
            return Poll::Ready(result);
        }
        if empty_at.is_some() && empty_at == self.empty_at() {
            // It was empty throughout, so it could not grow: nobody drains it, or wakes this.
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        self.refuse_own_wait()?;
        Poll::Pending
    }

    /// What a coroutine has before itself in its own flow ends after it.
    ///
    /// # Errors
    /// EDEADLK in a coroutine of this flow.
    pub(crate) fn refuse_own_wait(&self) -> io::Result<()> {
        match self.shared().is_resuming(self) {
            true => Err(io::Error::from_raw_os_error(libc::EDEADLK)),
            false => Ok(()),
        }
    }

    /// The ring's position where nothing is in it, and the design has room for the flow.
    fn empty_at(&self) -> Option<usize> {
        let tail = self.ring().tail();
        (!self.is_held() && self.ring().is_drained_to(tail)).then_some(tail)
    }

    /// Waits for what is in the ring now.
    pub(crate) async fn flushed(self: &Arc<Self>, until: Until) {
        let tail = self.ring().tail();
        poll_fn(|context| {
            let polled = self.poll_flushed(context, tail, until);
            if polled.is_pending() && self.shared().is_stopped() {
                // Nobody is left to drain it, or to wake this.
                self.serve_inline();
                context.waker().wake_by_ref();
            }
            polled
        })
        .await;
    }

    /// [`FlowCore::flushed`] for a thread that may block.
    pub(crate) fn flushed_blocking(self: &Arc<Self>, until: Until) {
        let tail = self.ring().tail();
        while !self.flushed_for(tail, until, None) {
            self.wait_and_drain(None);
        }
    }

    /// Blocks until all in the ring up to `tail` is done, for `timeout`, or
    /// until the executors end; did it come to the first?
    pub(crate) fn flushed_for(&self, tail: usize, until: Until, timeout: Option<Duration>) -> bool {
        let flushed = poll_fn(|context| match self.poll_flushed(context, tail, until) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if self.shared().is_stopped() => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        });
        block_on(flushed, timeout).unwrap_or(false)
    }

    fn poll_flushed(&self, context: &mut Context<'_>, tail: usize, until: Until) -> Poll<()> {
        self.waiters().register(context.waker());
        let failed = until == Until::DrainedOrFailed && self.error().is_some();
        if failed || self.is_drained_to(tail) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
