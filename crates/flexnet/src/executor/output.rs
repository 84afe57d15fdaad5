// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What a coroutine puts out at its place: bytes that leave after all that was sent on the flow
//! before the coroutine, and before all that comes after it.
//!
//! Promised: the order; a bounded number of bytes is held back; a full socket holds up the
//! coroutine and what is behind it, and nothing else; a coroutine that does not come to its end
//! fails its flow, since what follows would leave with a hole before it. Left to others: how bytes
//! are sent ([`crate::transport`]).

use super::current;
use super::drain::Drain;
use super::handle::{Flow, SubmitError};
use super::records::PUTS_OUT;
use super::schedule::Schedule;
use super::shared::FlowCore;
use crate::coroutine::{count_moved, poll_budget};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Where a coroutine stands among the sends of its flow. [`Flow::submit_with`] gives it one.
///
/// On a stream, what is written goes out with what the coroutine writes next, and with the sends
/// behind it: at the latest when the coroutine waits or ends. Up to 16 KiB are held back so; larger
/// writes go to the socket without a copy. On a UDP flow each write is one datagram.
///
/// It is for the coroutine of its flow. Anywhere else each call is an error.
#[derive(Debug)]
pub struct Output {
    /// The address of the flow's core.
    flow: usize,
}

impl Output {
    fn of(flow: &Flow) -> Self {
        Self {
            flow: Arc::as_ptr(&flow.0).addr(),
        }
    }

    fn with_drain<R>(
        &self,
        f: impl FnOnce(&FlowCore, &mut dyn Drain) -> Result<R, i32>,
    ) -> io::Result<R> {
        let result = current::with_drain(self.flow, |flow, drain| {
            let result = f(flow, drain);
            if let Some(errno) = drain.failed() {
                flow.fail(errno);
            }
            result
        });
        match result {
            Some(result) => result.map_err(io::Error::from_raw_os_error),
            None => {
                let message = "an output was used outside of its coroutine";
                Err(io::Error::other(message))
            }
        }
    }

    /// Writes as much of `bytes` as there is room for (a datagram: all or nothing), and says how
    /// much that was. Pending while the socket takes nothing, and once a turn's bytes are written:
    /// other flows go on meanwhile.
    ///
    /// # Errors
    /// The socket's error, or an earlier one of the flow. `Unsupported` on a flow that has no
    /// socket. In another place than the coroutine of the flow.
    pub fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = self.with_drain(|flow, drain| {
            match poll_budget(context, flow.shared().budget_bytes()) {
                Poll::Ready(budget) => drain.put_out(bytes, budget),
                Poll::Pending => Ok(None),
            }
        })?;
        match taken {
            Some(taken) => {
                count_moved(taken.max(1));
                Poll::Ready(Ok(taken))
            }
            // It gives way; or something is held back, and this is polled again when that is gone.
            None => Poll::Pending,
        }
    }

    /// Waits until the socket has taken all that was written.
    ///
    /// # Errors
    /// As [`Output::poll_write`].
    pub fn poll_flush(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.with_drain(|_, drain| drain.send_rest()) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// [`Output::poll_write`], awaited. Dropped before it is ready, it has written nothing.
    ///
    /// # Errors
    /// As there.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|context| self.poll_write(context, bytes)).await
    }

    /// Writes all of `bytes`; on a UDP flow, as one datagram. Dropped before it is ready, a part of
    /// them may be written.
    ///
    /// # Errors
    /// As [`Output::poll_write`]; a part may be written.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.write(bytes).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// [`Output::poll_flush`], awaited.
    ///
    /// # Errors
    /// As there.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_flush(context)).await
    }

    /// Fails the flow: what this coroutine should have written is missing. Nothing that was sent
    /// behind it leaves on a stream, and later calls on the flow return `errno`.
    ///
    /// # Errors
    /// In another place than the coroutine of the flow.
    pub fn fail(&mut self, errno: i32) -> io::Result<()> {
        self.with_drain(|flow, drain| {
            drain.break_off(errno);
            flow.fail(errno);
            Ok(())
        })
    }
}

/// How far a coroutine with an output has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Waiting,
    /// It is resumed just now, or it panicked.
    Resumed,
    Done,
}

/// Fails the flow when dropped, unless its coroutine did not begin or came to its end.
struct Unfinished {
    flow: usize,
    stage: Stage,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let errno = match self.stage {
            Stage::New | Stage::Done => return,
            Stage::Waiting => libc::ECANCELED,
            Stage::Resumed => libc::EOWNERDEAD,
        };
        // Nothing where it is dropped elsewhere: there is no flow any more.
        current::with_drain(self.flow, |flow, drain| {
            // At the runtime's end, what was accepted before it still leaves.
            if !flow.shared().is_stopped() {
                drain.break_off(errno);
                flow.fail(errno);
            }
        });
    }
}

/// A coroutine with an output. No async block, which would be twice as large.
struct WithOutput<F> {
    future: F,
    unfinished: Unfinished,
}

impl<F: Future> Future for WithOutput<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: `future` is pinned as `self` is: it is never moved out. `unfinished` is not pinned.
        let (future, unfinished) = unsafe {
            let this = self.get_unchecked_mut();
            (Pin::new_unchecked(&mut this.future), &mut this.unfinished)
        };
        unfinished.stage = Stage::Resumed;
        let polled = future.poll(context);
        unfinished.stage = match polled {
            Poll::Pending => Stage::Waiting,
            Poll::Ready(_) => Stage::Done,
        };
        polled
    }
}

impl Flow {
    /// [`Flow::submit`] of a coroutine that writes at its place in the flow's order.
    ///
    /// ```
    /// use flexnet::{executor::Runtime, transport::TcpFlow};
    /// use std::io::Read;
    ///
    /// # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = server.local_addr()?;
    /// let runtime = Runtime::builder().build()?;
    /// let flow = TcpFlow::connect(&runtime, address)?;
    /// flow.try_send(b"before ")?;
    /// flow.flow().submit_with(|mut output| async move {
    ///     let frame = b"in its place ".to_vec(); // as encryption or compression makes it
    ///     output.write_all(&frame).await.ok(); // an error is the flow's, too
    /// }).map_err(|refused| refused.refusal)?;
    /// flow.try_send(b"after")?;
    /// drop(flow);
    /// # let mut text = String::new();
    /// # server.accept()?.0.read_to_string(&mut text)?;
    /// # assert_eq!(text, "before in its place after");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// It uses the socket by its output only: it may begin while the output of the coroutine before it
    /// is held back.
    ///
    /// A coroutine that began and does not come to its end fails the flow: with EOWNERDEAD where it
    /// panicked, with ECANCELED where it was dropped.
    ///
    /// # Errors
    /// As [`Flow::submit`]. The coroutine that comes back may be submitted to this flow again.
    pub fn submit_with<W, F>(
        &self,
        work: W,
    ) -> Result<(), SubmitError<impl Future<Output = ()> + Send + use<W, F>>>
    where
        W: FnOnce(Output) -> F + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        self.submit_as(self.with_output(work), PUTS_OUT)
    }

    /// The coroutine of [`Flow::submit_with`], to be submitted to this flow in another way. It begins
    /// when all before it is sent. On another flow its output is an error.
    pub fn with_output<W, F>(&self, work: W) -> impl Future<Output = F::Output> + Send + use<W, F>
    where
        W: FnOnce(Output) -> F,
        F: Future + Send + 'static,
    {
        let output = Output::of(self);
        let unfinished = Unfinished {
            flow: output.flow,
            stage: Stage::New,
        };
        WithOutput {
            future: work(output),
            unfinished,
        }
    }
}
