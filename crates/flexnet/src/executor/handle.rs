// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! An application's handle on a flow.

use super::current::{self, may_wait};
use super::room::Until;
use super::schedule::Schedule;
use super::shared::FlowCore;
use crate::coroutine::{CellId, Exhausted};
use crate::queue::Full;
use std::future::Future;
use std::io;
use std::mem::ManuallyDrop;
use std::sync::Arc;

/// A handle on a flow: one ordered stream of packet work. Sockets have one
/// ([`crate::transport`]); [`super::Runtime::flow`] makes one that has no socket.
#[derive(Clone)]
pub struct Flow(pub(crate) Arc<FlowCore>);

impl Flow {
    /// Puts a coroutine of one's own on the flow: it runs on an executor, after
    /// all that was submitted to the flow before and before what comes later.
    /// What it awaits ([`crate::coroutine::yield_now`],
    /// [`crate::coroutine::sleep`], [`super::writable`]) lets other flows go on.
    ///
    /// A coroutine that owns a handle on its own flow keeps the flow until it ends, or the
    /// runtime does. [`current_flow`] gives it one when it needs one.
    ///
    /// ```
    /// use flexnet::executor::Runtime;
    ///
    /// let runtime = Runtime::builder().build()?;
    /// let flow = runtime.flow()?;
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// flow.submit(async move {
    ///     flexnet::coroutine::yield_now().await;
    ///     sender.send("done").ok();
    /// })?;
    /// assert_eq!(receiver.recv()?, "done");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SubmitError`], with the coroutine: every cell is taken, the flow's ring is full,
    /// or the runtime has ended. It never runs in here.
    ///
    /// ```
    /// # use flexnet::executor::{Refusal, Runtime};
    /// # let runtime = Runtime::builder().build()?;
    /// # let flow = runtime.flow()?;
    /// # let work = async {};
    /// if let Err(refused) = flow.submit(work) {
    ///     match refused.refusal {
    ///         // Nothing is lost: later, elsewhere, or dropped.
    ///         Refusal::Full => drop(flow.submit_when_room(refused.into_inner())),
    ///         refusal => return Err(refusal.into()),
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit<F>(&self, future: F) -> Result<(), SubmitError<F>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.submit_as(future, 0)
    }

    /// `is`: 0, or `PUTS_OUT` (records.rs).
    #[inline]
    pub(super) fn submit_as<F>(&self, future: F, is: u64) -> Result<(), SubmitError<F>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cell = self.create(future)?;
        self.0.submit_coroutine(cell, is).map_err(|Full| {
            // SAFETY: made above of an F, and nobody has seen it.
            let future = unsafe { self.0.shared().slab().take_back(cell) };
            SubmitError::new(Refusal::Full, future)
        })
    }

    fn create<F>(&self, future: F) -> Result<CellId, SubmitError<F>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.0.shared().is_stopped() {
            return Err(SubmitError::new(Refusal::Stopped, future));
        }
        current::create(self.0.shared(), future)
            .map_err(|Exhausted(future)| SubmitError::new(Refusal::Cells, future))
    }

    /// [`Flow::submit`], which waits for room in the flow's ring. Given up before it
    /// is ready, the coroutine is dropped.
    ///
    /// # Errors
    /// [`Refusal::Cells`], [`Refusal::Stopped`]: as there. [`Refusal::Full`]: the ring
    /// is empty, and there is no memory for more; or the caller is a coroutine of this flow, which
    /// would wait for itself. Each with the coroutine.
    pub async fn submit_when_room<F>(&self, future: F) -> Result<(), SubmitError<F>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let created = Created {
            flow: &self.0,
            cell: self.create(future)?,
        };
        let pushed = self.0.with_room(|| {
            if self.0.shared().is_stopped() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.0
                .submit_coroutine(created.cell, 0)
                .map_err(|Full| io::ErrorKind::WouldBlock.into())
        });
        let pushed = pushed.await;
        // The ring's from here on, or given back.
        let cell = ManuallyDrop::new(created).cell;
        pushed.map_err(|error| {
            let refusal = match error.kind() {
                io::ErrorKind::OutOfMemory | io::ErrorKind::Deadlock => Refusal::Full,
                _ => Refusal::Stopped,
            };
            // SAFETY: made above of an F, and no record names it.
            let future = unsafe { self.0.shared().slab().take_back(cell) };
            SubmitError::new(refusal, future)
        })
    }

    /// What kind of work the flow's is, for designs that distinguish types
    /// (`shinjuku`: 0 to 3, each with an objective of its own; more count as
    /// the last). Default: 0. Holds from the flow's next turn on.
    pub fn set_kind(&self, kind: u32) {
        self.0.set_kind(kind);
    }

    /// The sticky error of the flow, if it failed.
    pub fn error(&self) -> Option<io::Error> {
        self.0.error()
    }

    /// Fails the flow with this errno, which the next operation reports: for
    /// coroutines that send on the flow's socket themselves.
    pub fn fail(&self, errno: i32) {
        self.0.fail(errno);
    }

    /// Blocks until all that was submitted before is done.
    ///
    /// # Errors
    /// EDEADLK in a coroutine, whose executor would wait for itself.
    pub fn flush_blocking(&self) -> io::Result<()> {
        may_wait()?;
        self.0.flushed_blocking(Until::Drained);
        Ok(())
    }
}

/// A coroutine that no ring has yet; dropped with this.
struct Created<'a> {
    flow: &'a FlowCore,
    cell: CellId,
}

impl Drop for Created<'_> {
    fn drop(&mut self) {
        // SAFETY: no record names it, so nobody else has it.
        unsafe { self.flow.shared().slab().discard(self.cell) };
    }
}

/// The flow whose coroutine this thread resumes, if it resumes one.
///
/// ```
/// use flexnet::executor::{Runtime, current_flow};
///
/// let runtime = Runtime::builder().build()?;
/// let flow = runtime.flow()?;
/// flow.submit(async {
///     if let Some(flow) = current_flow() {
///         flow.fail(5); // EIO
///     }
/// })?;
/// flow.flush_blocking()?;
/// assert_eq!(flow.error().and_then(|error| error.raw_os_error()), Some(5));
/// assert!(current_flow().is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn current_flow() -> Option<Flow> {
    current::current_flow().map(Flow)
}

/// A coroutine was not accepted: why, and the coroutine, which was not resumed.
///
/// `?` wants an error that lives long and may go to other threads, which a coroutine seldom may:
/// `flow.submit(work).map_err(|refused| refused.refusal)?`.
pub struct SubmitError<F> {
    /// Why.
    pub refusal: Refusal,
    /// What was to be submitted.
    pub coroutine: F,
}

impl<F> SubmitError<F> {
    fn new(refusal: Refusal, coroutine: F) -> Self {
        Self { refusal, coroutine }
    }

    /// The coroutine.
    pub fn into_inner(self) -> F {
        self.coroutine
    }
}

impl<F> std::fmt::Debug for SubmitError<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SubmitError")
            .field("refusal", &self.refusal)
            .finish_non_exhaustive()
    }
}

impl<F> std::fmt::Display for SubmitError<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.refusal.fmt(f)
    }
}

impl<F> std::error::Error for SubmitError<F> {}

/// Why a coroutine was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Every coroutine cell of the runtime is taken
    /// ([`super::Builder::coroutines`] makes more).
    Cells,
    /// The flow's ring is full.
    Full,
    /// The runtime has ended, so no executor would resume it.
    Stopped,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cells => "every coroutine cell of the runtime is taken",
            Self::Full => "the flow's ring is full",
            Self::Stopped => "the runtime has ended",
        })
    }
}

impl std::error::Error for Refusal {}
