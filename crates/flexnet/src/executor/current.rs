// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The current executor: what this thread is, and what belongs to the executor of this thread and
//! is used by it alone.
//!
//! Promised: what is found here is alive, and no other thread uses it. Left to others: what an
//! executor does (worker.rs), and which queue a flow goes to (placement.rs).

use super::drain::Drain;
use super::schedule::Schedule;
use super::shared::{FlowCore, Shared};
use crate::coroutine::{CellId, Cells, Exhausted};
use crate::design::Item;
use crate::queue::Owner;
use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;
use std::task::{Context, Poll};

/// An executor's own, which only its thread uses.
pub(super) struct CurrentExecutor<'a> {
    pub(super) slot: usize,
    /// What it serves, as the design knows it.
    pub(super) item: Cell<Item>,
    pub(super) queue: Owner<'a, Arc<FlowCore>>,
    pub(super) cells: Cells<'a>,
}

thread_local! {
    /// The runtime this thread resumes a coroutine of, and the coroutine's flow.
    static CURRENT: Cell<*const Shared> = const { Cell::new(ptr::null()) };
    static CURRENT_FLOW: Cell<*const FlowCore> = const { Cell::new(ptr::null()) };
    /// The runtime this thread is an executor of, and what it has as one.
    static EXECUTOR_OF: Cell<*const Shared> = const { Cell::new(ptr::null()) };
    static CURRENT_EXECUTOR: Cell<*const CurrentExecutor<'static>> = const { Cell::new(ptr::null()) };
}

/// This thread is an executor, until this is dropped; also by a panic.
pub(super) struct Entered<'a>(PhantomData<&'a Shared>);

/// Makes this thread the executor that `own` belongs to, of the runtime of `shared`.
///
/// # Safety
/// The result is dropped, and before `own` and `shared` are.
pub(super) unsafe fn enter<'a>(shared: &'a Shared, own: &'a CurrentExecutor<'_>) -> Entered<'a> {
    EXECUTOR_OF.set(shared);
    CURRENT_EXECUTOR.set(ptr::from_ref(own).cast());
    Entered(PhantomData)
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        CURRENT_EXECUTOR.set(ptr::null());
        EXECUTOR_OF.set(ptr::null());
    }
}

/// The runtime this thread resumes a coroutine of.
pub(crate) fn current_shared() -> Option<Arc<Shared>> {
    let shared = CURRENT.get();
    // SAFETY: of an Arc, by `resume`, whose caller keeps it; this
    // counts one more.
    (!shared.is_null()).then(|| unsafe {
        Arc::increment_strong_count(shared);
        Arc::from_raw(shared)
    })
}

/// The flow this thread resumes a coroutine of.
pub(super) fn current_flow() -> Option<Arc<FlowCore>> {
    let flow = CURRENT_FLOW.get();
    // SAFETY: of an Arc, by `resume`, whose caller keeps it; this counts one
    // more.
    (!flow.is_null()).then(|| unsafe {
        Arc::increment_strong_count(flow);
        Arc::from_raw(flow)
    })
}

/// Runs `f` on the flow at that address and its transport's half, where this thread resumes or drops
/// a coroutine of it. `f` resumes nothing.
pub(super) fn with_drain<R>(
    flow: usize,
    f: impl FnOnce(&FlowCore, &mut dyn Drain) -> R,
) -> Option<R> {
    let current = CURRENT_FLOW.get();
    if current.addr() != flow {
        return None;
    }
    // SAFETY: of an Arc, by `resume` or `end`, whose caller keeps it and is inside the gate. Only
    // coroutines run there, so `f` is not called from within itself.
    unsafe {
        current
            .as_ref()
            .map(|flow| flow.with_drain(|drain| f(flow, drain)))
    }
}

/// Is this thread one of that runtime's executors?
#[inline]
pub(super) fn is_of(shared: &Shared) -> bool {
    ptr::eq(EXECUTOR_OF.get(), shared)
}

/// Is it that one?
#[inline]
pub(super) fn is_at(shared: &Shared, slot: usize) -> bool {
    // SAFETY: promised to `enter`, as long as it is there.
    is_of(shared) && unsafe { CURRENT_EXECUTOR.get().as_ref() }.is_some_and(|own| own.slot == slot)
}

/// Into this executor's own queue; gives the flow back where this thread is none.
#[inline]
pub(super) fn push_local(flow: Arc<FlowCore>) -> Result<(), Arc<FlowCore>> {
    // SAFETY: as above.
    match unsafe { CURRENT_EXECUTOR.get().as_ref() } {
        Some(own) => {
            own.queue.push(flow);
            Ok(())
        }
        None => Err(flow),
    }
}

/// This executor's slot, and what it serves. For its own thread.
pub(super) fn turn() -> (usize, Item) {
    // SAFETY: as above.
    match unsafe { CURRENT_EXECUTOR.get().as_ref() } {
        Some(own) => (own.slot, own.item.get()),
        None => (0, Item::default()),
    }
}

/// Stores a coroutine: an executor in a cell of its own, where it has one.
#[inline]
pub(super) fn create<F>(shared: &Shared, future: F) -> Result<CellId, Exhausted<F>>
where
    F: Future<Output = ()> + Send + 'static,
{
    // SAFETY: as above.
    match unsafe { CURRENT_EXECUTOR.get().as_ref() } {
        Some(own) if is_of(shared) => own.cells.create(future),
        _ => shared.slab().create(future),
    }
}

/// Resumes a coroutine of `flow`, which the caller drains.
///
/// # Safety
/// As for [`crate::coroutine::Slab::resume`].
#[inline]
pub(super) unsafe fn resume(
    shared: &Shared,
    flow: &FlowCore,
    cell: CellId,
    context: &mut Context<'_>,
) -> Poll<()> {
    let before = (CURRENT.replace(shared), CURRENT_FLOW.replace(flow));
    // SAFETY: CURRENT_EXECUTOR as above; the rest as promised to this.
    let polled = unsafe {
        match CURRENT_EXECUTOR.get().as_ref() {
            Some(own) if is_of(shared) => own.cells.resume(cell, context),
            _ => shared.slab().resume(cell, context),
        }
    };
    CURRENT.set(before.0);
    CURRENT_FLOW.set(before.1);
    polled
}

/// Drops a coroutine of `flow`, which the caller drains, if it was not dropped. After the end of the
/// runtime: its cell goes to no other.
///
/// # Safety
/// As for [`crate::coroutine::Slab::end`].
pub(super) unsafe fn end(shared: &Shared, flow: &FlowCore, cell: CellId) {
    let before = (CURRENT.replace(shared), CURRENT_FLOW.replace(flow));
    // SAFETY: as promised to this.
    unsafe { shared.slab().end(cell) };
    CURRENT.set(before.0);
    CURRENT_FLOW.set(before.1);
}

/// May this thread wait for a flow? An executor would wait for itself, and so would a thread that
/// drops a coroutine of the flow.
///
/// # Errors
/// EDEADLK.
pub(crate) fn may_wait() -> io::Result<()> {
    match EXECUTOR_OF.get().is_null() && CURRENT_FLOW.get().is_null() {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::EDEADLK)),
    }
}

/// Does this thread resume or drop a coroutine of that flow?
#[inline]
pub(super) fn is_resuming(flow: &FlowCore) -> bool {
    ptr::eq(CURRENT_FLOW.get(), flow)
}
