// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Waiting for a descriptor in a coroutine, which the runtime's reactor wakes.

use super::current::current_shared;
use super::reactor::Interest;
use super::shared::Shared;
use rustix::event;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

/// A coroutine's wait for a descriptor, which is given up when this is dropped.
pub(crate) struct Wait<D: AsFd> {
    fd: D,
    interest: Interest,
    /// Where, and as which token.
    waits: Option<(Weak<Shared>, u64)>,
}

impl<D: AsFd> Wait<D> {
    pub(crate) fn new(fd: D, interest: Interest) -> Self {
        Self {
            fd,
            interest,
            waits: None,
        }
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Pending, and woken when the descriptor is ready, which it may be already. Else an error.
    pub(crate) fn poll_woken<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let Some(shared) = current_shared() else {
            let message = "a descriptor was awaited outside of an executor";
            return Poll::Ready(Err(io::Error::other(message)));
        };
        let reactor = shared.reactor();
        let waits = || (Arc::downgrade(&shared), reactor.new_token());
        let token = self.waits.get_or_insert_with(waits).1;
        match reactor.wait_task(
            token,
            self.interest,
            context.waker().clone(),
            self.fd.as_fd(),
        ) {
            Ok(true) => Poll::Pending,
            Ok(false) => Poll::Ready(Err(io::Error::other("the executors have ended"))),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if current_shared().is_none() {
            return self.poll_woken(context);
        }
        let flags = match self.interest {
            Interest::Readable => event::PollFlags::IN,
            Interest::Writable => event::PollFlags::OUT,
        };
        let mut fds = [event::PollFd::from_borrowed_fd(self.fd.as_fd(), flags)];
        let now = Some(&event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        });
        if event::poll(&mut fds, now)? > 0 {
            return Poll::Ready(Ok(()));
        }
        self.poll_woken(context)
    }
}

impl<D: AsFd> Drop for Wait<D> {
    fn drop(&mut self) {
        if let Some((shared, token)) = self.waits.take()
            && let Some(shared) = shared.upgrade()
        {
            shared.reactor().forget_task(token, self.fd.as_fd());
        }
    }
}

/// Waits until `fd` takes bytes, or has an error to report. For coroutines on an
/// executor.
///
/// ```
/// use flexnet::executor::{Runtime, writable};
/// use std::os::fd::AsFd;
///
/// let (reader, writer) = std::io::pipe()?;
/// let runtime = Runtime::builder().build()?;
/// let (sender, receiver) = std::sync::mpsc::channel();
/// runtime.flow()?.submit(async move {
///     sender.send(writable(writer.as_fd()).await.is_ok()).ok();
/// })?;
/// assert!(receiver.recv()?);
/// # drop(reader);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The descriptor cannot be waited for (a regular file), or the caller is no
/// executor.
pub fn writable(fd: BorrowedFd<'_>) -> Writable<'_> {
    Writable(Wait::new(fd, Interest::Writable))
}

/// Returned by [`writable`].
#[must_use = "futures do nothing unless awaited"]
pub struct Writable<'a>(Wait<BorrowedFd<'a>>);

impl std::fmt::Debug for Writable<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writable").field("fd", &self.0.fd).finish()
    }
}

impl Future for Writable<'_> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_ready(context)
    }
}

/// Waits until there is something to read from `fd`: bytes, a connection, the end of a stream, or
/// an error. For coroutines on an executor.
///
/// # Errors
/// As of [`writable`].
pub fn readable(fd: BorrowedFd<'_>) -> Readable<'_> {
    Readable(Wait::new(fd, Interest::Readable))
}

/// Returned by [`readable`].
#[must_use = "futures do nothing unless awaited"]
pub struct Readable<'a>(Wait<BorrowedFd<'a>>);

impl std::fmt::Debug for Readable<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readable").field("fd", &self.0.fd).finish()
    }
}

impl Future for Readable<'_> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_ready(context)
    }
}
