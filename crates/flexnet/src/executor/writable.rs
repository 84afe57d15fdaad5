// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Waiting for a descriptor in a coroutine, which the runtime's reactor wakes.

use super::current::current_shared;
use super::shared::Shared;
use rustix::event;
use std::future::Future;
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

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
    Writable { fd, waits: None }
}

/// Returned by [`writable`].
#[must_use = "futures do nothing unless awaited"]
pub struct Writable<'a> {
    fd: BorrowedFd<'a>,
    /// Where, and as which token.
    waits: Option<(Weak<Shared>, u64)>,
}

impl std::fmt::Debug for Writable<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writable").field("fd", &self.fd).finish()
    }
}

impl Drop for Writable<'_> {
    fn drop(&mut self) {
        if let Some((shared, token)) = self.waits.take()
            && let Some(shared) = shared.upgrade()
        {
            shared.reactor().forget_task(token, self.fd);
        }
    }
}

impl Future for Writable<'_> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(shared) = current_shared() else {
            let message = "writable() was awaited outside of an executor";
            return Poll::Ready(Err(io::Error::other(message)));
        };
        let mut fds = [event::PollFd::from_borrowed_fd(
            self.fd,
            event::PollFlags::OUT,
        )];
        let now = Some(&event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        });
        if event::poll(&mut fds, now)? > 0 {
            return Poll::Ready(Ok(()));
        }
        let reactor = shared.reactor();
        let waits = || (Arc::downgrade(&shared), reactor.new_token());
        let token = self.waits.get_or_insert_with(waits).1;
        match reactor.wait_task(token, context.waker().clone(), self.fd) {
            Ok(true) => Poll::Pending,
            Ok(false) => Poll::Ready(Err(io::Error::other("the executors have ended"))),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}
