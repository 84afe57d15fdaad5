// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Doing a flow's records: the transport sends bytes, coroutines are resumed in their turn.
//!
//! Promised: records end in their order. What a coroutine puts out leaves before what comes after
//! it. While its socket takes nothing, a coroutine that waits for something else goes on. Left to
//! others: when a thread does this (flow.rs), and how bytes are sent ([`crate::transport`]).

use super::drain::{Progress, Work};
use super::flow::{FlowCore, FlowGuard};
use super::schedule::Schedule;
use crate::coroutine::CellId;
use crate::queue::{Record, RecordKind};
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};

/// In a coroutine's record, beside its cell: it uses the socket by its output only, so it need not
/// wait until what is held back is sent.
pub(super) const PUTS_OUT: u64 = 1 << 32;

impl<S: Schedule<Self>> FlowCore<S> {
    /// What there is to drain, by executor `by` or by a submitter. For the
    /// thread inside.
    pub(crate) fn work<'a>(&'a self, _guard: &FlowGuard<'_, S>, by: Option<u16>) -> Work<'a> {
        // SAFETY: inside the gate: the only reader.
        Work::new(
            self,
            self.shared().pages(),
            unsafe { self.ring().reader() },
            by,
        )
    }

    /// Drains within the budget. A sender stops at a coroutine, which is left to
    /// an executor: [`Progress::Waiting`].
    pub(crate) fn drain_guarded(
        self: &Arc<Self>,
        guard: &mut FlowGuard<'_, S>,
        by: Option<u16>,
    ) -> Progress {
        let mut budget = self.shared().budget_bytes();
        let mut work = self.work(guard, by);
        let mut has_output = false;
        loop {
            let progress = match has_output && self.next_puts_out(&work) {
                true => Progress::Empty,
                false => guard.drain_mut(|drain| drain.drain(&mut work, budget)),
            };
            guard.progress = progress;
            if progress != Progress::Empty && !self.is_resumable(progress, by) {
                break;
            }
            // The transport stopped: at the ring's end or at a coroutine.
            let Some(record) = work.records().next() else {
                break;
            };
            if record.kind != RecordKind::Coroutine {
                guard.progress = Progress::More;
                break;
            }
            if self.shared().is_stopped() {
                self.cancel(guard, &mut work, &record);
                continue;
            }
            if by.is_none() {
                guard.progress = Progress::More;
                return Progress::Waiting; // with more to do, as it leaves
            }
            if !self.resume(record.data) {
                self.wait_in_coroutine(guard, &mut work, budget);
                break;
            }
            self.is_waiting.store(false, Ordering::Relaxed);
            work.consume(record.charge);
            has_output = record.data & PUTS_OUT != 0;
            // 64 of them are a turn, as with as many sends in one system call.
            budget = budget.saturating_sub((self.shared().budget_bytes() / 64).max(1));
            if budget == 0 || self.shared().is_turn_over() {
                guard.progress = Progress::More;
                break;
            }
        }
        guard.progress
    }

    /// Is the next record a coroutine whose output may go with what is held back?
    fn next_puts_out(&self, work: &Work<'_>) -> bool {
        let puts_out = |record: Record<'_>| {
            record.kind == RecordKind::Coroutine && record.data & PUTS_OUT != 0
        };
        work.records().next().is_some_and(puts_out) && !self.shared().is_stopped()
    }

    /// The socket takes nothing of what the coroutine at the ring's head has put out. Was the
    /// coroutine woken by something else?
    fn is_resumable(&self, progress: Progress, by: Option<u16>) -> bool {
        matches!(progress, Progress::Blocked | Progress::Later(_))
            && by.is_some()
            && self.is_waiting.load(Ordering::Relaxed)
            && self.woken.load(Ordering::Acquire)
            && !self.shared().is_stopped()
    }

    /// The coroutine at the ring's head waits. What it has put out leaves meanwhile.
    fn wait_in_coroutine(&self, guard: &mut FlowGuard<'_, S>, work: &mut Work<'_>, budget: usize) {
        self.is_waiting.store(true, Ordering::Relaxed);
        guard.progress = Progress::Waiting;
        if !guard.drain_mut(|drain| drain.has_rest()) {
            return;
        }
        match guard.drain_mut(|drain| drain.drain(work, budget)) {
            // It may wait for just that.
            Progress::Empty => self.woken.store(true, Ordering::Relaxed),
            progress => guard.progress = progress,
        }
    }

    /// Ends the coroutine at the ring's head, for which there are no executors any more. What
    /// comes after it on a stream must not leave without what it would have sent.
    #[cold]
    fn cancel(&self, guard: &mut FlowGuard<'_, S>, work: &mut Work<'_>, record: &Record<'_>) {
        // SAFETY: the record's, and the thread inside the gate is alone.
        unsafe { self.shared().end(self, CellId::from_bits(record.data)) };
        self.is_waiting.store(false, Ordering::Relaxed);
        work.consume(record.charge);
        self.fail(libc::ECANCELED);
        guard.drain_mut(|drain| drain.abort(work, libc::ECANCELED));
    }

    /// After the runtime's end: drops the coroutines, also those behind bytes that the peer does
    /// not take. Their records count as ended when they come up.
    #[cold]
    pub(super) fn end_coroutines(self: &Arc<Self>) {
        self.serve_inline();
        // A thread that is inside has a handle, and ends what it comes to.
        let Some(guard) = self.enter_inline() else {
            return;
        };
        let coroutines: Vec<u64> = {
            let work = self.work(&guard, None);
            let is_coroutine = |record: &Record<'_>| record.kind == RecordKind::Coroutine;
            let records = work.records().filter(is_coroutine);
            records.map(|record| record.data).collect()
        };
        for cell in coroutines {
            // SAFETY: the record's, and the thread inside the gate is alone. When the record comes
            // up, there is nothing left to drop, and no other coroutine in the cell.
            unsafe { self.shared().end(self, CellId::from_bits(cell)) };
        }
    }

    /// Resumes the coroutine at the ring's head; true when it finished.
    #[inline]
    fn resume(self: &Arc<Self>, cell: u64) -> bool {
        self.woken.store(false, Ordering::Relaxed);
        // SAFETY: a waker made of a reference that is not counted, which is not
        // dropped, and outlived by the one that is borrowed; clones count.
        let waker = ManuallyDrop::new(Waker::from(unsafe { Arc::from_raw(Arc::as_ptr(self)) }));
        let mut context = Context::from_waker(&waker);
        let cell = CellId::from_bits(cell);
        // SAFETY: the cell was made for this record, and the thread inside the
        // gate is alone; the record is consumed when it has finished.
        unsafe { self.shared().resume(self, cell, &mut context) }.is_ready()
    }
}
