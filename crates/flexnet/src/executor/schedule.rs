// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What a flow may ask of that which schedules it.
//!
//! A flow knows when it has work, and when it waits for its socket or for a time. That which
//! schedules it knows the executors, their queues and their timers. [`Schedule`] is all that flows
//! know of it, as tokio's `Schedule` is all that a task knows of its scheduler. The type of the flow
//! is a parameter, so this file knows nothing of flows; a call through the trait is a direct one.
//!
//! Left to others: everything that is asked. The runtime implements it (placement.rs).

use super::link::Pages;
use crate::abi::FlowClass;
use crate::coroutine::{CellId, Slab};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Why a flow that was just served goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// It has more than one turn's bytes: a new unit.
    Unit,
    /// Its coroutine gave way.
    Yielded,
}

/// Schedules flows of type `F`. Any thread may call any of these, unless its text says otherwise.
pub(crate) trait Schedule<F>: Send + Sync + Sized + 'static {
    /// Where accepted and finished records are counted.
    fn pages(&self) -> &Pages;

    /// The cells that the flows' coroutines are in.
    fn slab(&self) -> &Slab;

    /// What the flows are for.
    fn flow_class(&self) -> FlowClass;

    /// Puts a notified flow into a run queue, and wakes its executor if that is parked. `home` is
    /// the executor that the flow is submitted to.
    ///
    /// # Errors
    /// The flow: no executor can take it, so the caller serves it.
    fn enqueue(&self, home: u16, flow: Arc<F>) -> Result<(), Arc<F>>;

    /// Puts a flow that was just served and goes on into a run queue: the same executor's, where
    /// an executor served it, or where the design wants it.
    ///
    /// # Errors
    /// As of [`Schedule::enqueue`].
    fn enqueue_again(&self, flow: Arc<F>, why: Again) -> Result<(), Arc<F>>;

    /// Unblocks the flow when `fd` takes bytes. After the executors' end it wakes the flow's
    /// waiters instead, which wait for the socket themselves.
    ///
    /// # Errors
    /// The descriptor cannot be waited for.
    fn wait_flow(&self, flow: &Arc<F>, fd: BorrowedFd<'_>) -> io::Result<()>;

    /// The flow of that token does not wait for `fd` any more, whose number others may get.
    fn forget_descriptor(&self, token: u64, fd: BorrowedFd<'_>);

    /// Wakes the flow after `delay`.
    fn later(&self, flow: &Arc<F>, delay: Duration);

    /// Bytes of a flow that are sent in one turn.
    fn budget_bytes(&self) -> usize;

    /// Is it the turn of others? Asked between two coroutines of a flow, by the thread that
    /// serves it.
    fn is_turn_over(&self) -> bool;

    /// Resumes a coroutine of `flow` on this thread.
    ///
    /// # Safety
    /// `self` and `flow` are each in an `Arc` that the caller keeps meanwhile. The rest is as for
    /// [`Slab::resume`].
    unsafe fn resume(&self, flow: &F, cell: CellId, context: &mut Context<'_>) -> Poll<()>;

    /// Drops a coroutine of `flow` on this thread, after the executors' end, unless it was dropped.
    /// What it owns is dropped as if it ran: it cannot wait for a flow.
    ///
    /// # Safety
    /// As for [`Schedule::resume`], and the coroutine is resumed no more.
    unsafe fn end(&self, flow: &F, cell: CellId);

    /// The flow has its first coroutine.
    fn has_coroutines(&self, flow: &Arc<F>);

    /// The flow of that token, which had coroutines, is dropped.
    fn forget_coroutines(&self, token: u64);

    /// Does this thread resume or drop a coroutine of that flow?
    fn is_resuming(&self, flow: &F) -> bool;

    /// May senders do their work themselves?
    fn senders_serve(&self) -> bool;

    /// Is the executor of `home` parked, with nothing else on its way?
    fn is_parked(&self, home: u16) -> bool;

    /// Is the executor of `home` off the CPU? Then what is enqueued waits for it; a sender that
    /// cannot wait does its work inline.
    fn is_off_cpu(&self, home: u16) -> bool;

    /// Do executors wait for a core and no more can be granted?
    fn is_saturated(&self) -> bool;

    /// Are there no executors any more?
    fn is_stopped(&self) -> bool;

    /// How long a shutdown waits for peers that take nothing.
    fn linger(&self) -> Duration;
}
