// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Which executor's queue a flow goes to: the runtime's side of [`Schedule`].
//!
//! The default design has a lock-free run queue for each executor. Any other design places the flow
//! in the stack. Without executors, the thread that enqueues a flow does what is queued.

use super::current;
use super::link::Pages;
use super::schedule::{Again, Schedule};
use super::shared::{FlowCore, STOPPED, Shared};
use crate::abi::FlowClass;
use crate::coroutine::{CellId, Slab, is_flagged, is_over, with_timers};
use crate::design::queue_for;
use std::cell::Cell;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

thread_local! {
    /// How often this thread asked for the shorter of two queues.
    static TURN: Cell<usize> = const { Cell::new(0) };
}

impl Schedule<FlowCore> for Shared {
    fn pages(&self) -> &Pages {
        &self.pages
    }

    fn slab(&self) -> &Slab {
        &self.slab
    }

    fn flow_class(&self) -> FlowClass {
        self.flow_class
    }

    fn enqueue(&self, home: u16, flow: Arc<FlowCore>) -> Result<(), Arc<FlowCore>> {
        if self.stack.is_on() {
            return self.enqueue_designed(home, flow);
        }
        self.enqueue_default(home, flow)
    }

    fn enqueue_again(&self, flow: Arc<FlowCore>, why: Again) -> Result<(), Arc<FlowCore>> {
        let home = flow.home();
        if !current::is_of(self) {
            return self.enqueue_by_sender(home, flow, why);
        }
        if !self.stack.is_on() {
            return current::push_local(flow);
        }
        let (slot, item) = current::turn();
        let wanted = self.executors_wanted();
        match self.stack.again(slot, wanted, Some(item), why, flow) {
            Ok(wake) => {
                self.wake(wake);
                Ok(())
            }
            Err(flow) => current::push_local(flow),
        }
    }

    fn wait_flow(&self, flow: &Arc<FlowCore>, fd: BorrowedFd<'_>) -> io::Result<()> {
        if !self.reactor.wait_flow(flow, fd)? {
            // A waiting thread does it itself from here on.
            flow.waiters().wake();
            return Ok(());
        }
        // Parked executors do not poll: one must.
        if !self.reactor.is_polled() {
            let index = usize::from(flow.home()) % self.executors_wanted();
            self.reactor.unpark(&self.executors[index].parker);
        }
        Ok(())
    }

    fn forget_descriptor(&self, token: u64, fd: BorrowedFd<'_>) {
        self.reactor.leave(fd, token);
    }

    fn later(&self, flow: &Arc<FlowCore>, delay: Duration) {
        let (deadline, waker) = (Instant::now() + delay, flow.clone().into());
        if current::is_of(self) {
            with_timers(|timers| timers.insert(deadline, waker));
        } else {
            self.adopt_deadlines([(deadline, waker)]);
        }
    }

    fn budget_bytes(&self) -> usize {
        self.stack.unit_bytes()
    }

    #[inline]
    fn is_turn_over(&self) -> bool {
        match self.stack.is_on() {
            true => is_over(),
            false => is_flagged(),
        }
    }

    #[inline]
    unsafe fn resume(&self, flow: &FlowCore, cell: CellId, context: &mut Context<'_>) -> Poll<()> {
        // SAFETY: as promised to this.
        unsafe { current::resume(self, flow, cell, context) }
    }

    unsafe fn end(&self, flow: &FlowCore, cell: CellId) {
        // SAFETY: as promised to this.
        unsafe { current::end(self, flow, cell) }
    }

    fn has_coroutines(&self, flow: &Arc<FlowCore>) {
        // As below; the child's copy of the runtime runs none.
        if !self.end.is_forked() {
            self.flows.insert(flow.token(), flow);
        }
    }

    fn forget_coroutines(&self, token: u64) {
        // In a child of fork(2) another thread of the parent may have the lock for ever.
        if !self.end.is_forked() {
            self.flows.remove(token);
        }
    }

    #[inline]
    fn is_resuming(&self, flow: &FlowCore) -> bool {
        current::is_resuming(flow)
    }

    #[inline]
    fn senders_serve(&self) -> bool {
        self.stack.inlines() || self.is_stopped()
    }

    #[inline]
    fn is_parked(&self, home: u16) -> bool {
        let index = usize::from(home) % self.executors_wanted();
        self.executors[index].parker.is_parked() || self.phase.load(Ordering::Relaxed) == STOPPED
    }

    #[inline]
    fn is_off_cpu(&self, home: u16) -> bool {
        let index = usize::from(home) % self.executors_wanted();
        if self.executors[index].parker.is_parked() {
            return true;
        }
        let sched = &self.pages.current().executors[index].sched;
        self.is_attached() && sched.on_cpu.load(Ordering::Relaxed) < 0
    }

    #[inline]
    fn is_saturated(&self) -> bool {
        self.stack.inlines()
            && self.is_attached()
            && self.pages.current().grant.saturated.load(Ordering::Relaxed) != 0
    }

    fn is_stopped(&self) -> bool {
        self.phase.load(Ordering::Acquire) == STOPPED
    }

    fn linger(&self) -> Duration {
        self.linger
    }
}

impl Shared {
    /// A flow goes where the design wants it.
    fn enqueue_designed(&self, home: u16, flow: Arc<FlowCore>) -> Result<(), Arc<FlowCore>> {
        match self.stack.place(self.executors_wanted(), flow) {
            Ok(wake) => {
                self.wake(wake);
                // Placed under the stack's lock, as `serve_here` looks: one of
                // the two finds it.
                if self.phase.load(Ordering::Relaxed) == STOPPED {
                    self.serve_here();
                }
                Ok(())
            }
            // Switched off just now.
            Err(flow) if !self.stack.is_on() => self.enqueue_default(home, flow),
            Err(flow) => Err(flow),
        }
    }

    /// Follows the design that the scheduler's page names.
    #[inline]
    pub(super) fn follow_design(&self) {
        let Some(unplaced) = self.stack.follow(&self.pages.current().design) else {
            return;
        };
        for flow in unplaced {
            let home = flow.home();
            if let Err(flow) = self.enqueue(home, flow) {
                flow.serve(self, None);
            }
        }
        self.wake_all();
    }

    /// The default design's choice, by what there is to know here.
    #[inline]
    fn queue_for(&self, home: u16) -> usize {
        let wanted = self.executors_wanted();
        let length = |queue: usize| self.executors()[queue].queue.len();
        let idle = |home: usize| {
            let idle = self.idle.load(Ordering::Relaxed) & ((1 << wanted) - 1) & !(1 << home);
            (idle != 0).then(|| idle.trailing_zeros() as usize)
        };
        let turn = || TURN.replace(TURN.get().wrapping_add(1));
        queue_for(home.into(), wanted, length, idle, turn)
    }

    fn enqueue_default(&self, home: u16, flow: Arc<FlowCore>) -> Result<(), Arc<FlowCore>> {
        let index = self.queue_for(home);
        if current::is_at(self, index) {
            return current::push_local(flow);
        }
        let slot = &self.executors[index];
        slot.queue.push(flow);
        // The fence in unpark pairs with the one in `stop`: either its last look
        // finds the flow, or this sees that there are no executors any more.
        self.reactor.unpark(&slot.parker);
        if self.phase.load(Ordering::Relaxed) == STOPPED {
            self.serve_here();
        }
        Ok(())
    }

    /// Without executors: this thread does what is queued. Called from within
    /// itself (a flow that is not done yet is enqueued again) it leaves that to
    /// the caller, or the stack would grow with each yield of a coroutine.
    #[cold]
    pub(super) fn serve_here(&self) {
        thread_local! {
            static SERVES: Cell<*const Shared> = const { Cell::new(std::ptr::null()) };
        }
        let before = SERVES.replace(self);
        if !std::ptr::eq(before, self) {
            let queued = || self.executors.iter().find_map(|s| s.queue.take_abandoned());
            let next = || queued().or_else(|| self.stack.take_any());
            while let Some(flow) = next() {
                let served = flow.serve(self, None);
                if let Some(flow) = served.filter(|flow| Arc::strong_count(flow) == 1) {
                    // Dropped, and not in the reactor: nobody else would.
                    flow.drain_until(Instant::now() + self.linger);
                }
            }
        }
        SERVES.set(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::design::tests::PLACEMENTS;
    use crate::executor::Runtime;
    use crate::executor::drain::{Drain, Progress, Work};
    use crate::queue::FlowRing;

    struct Nothing;

    impl Drain for Nothing {
        fn drain(&mut self, _: &mut Work<'_>, _: usize) -> Progress {
            Progress::Empty
        }
        fn fd(&self) -> Option<BorrowedFd<'_>> {
            None
        }
    }

    /// Executors that were never started, with queues of those lengths.
    #[test]
    fn executors_place_as_the_default_design_says() {
        for case in PLACEMENTS {
            let runtime = Runtime::builder().executors(case.lengths.len());
            let runtime = runtime.build().unwrap();
            let shared = runtime.shared();
            shared.started.store(case.workers, Ordering::Relaxed);
            for (slot, &length) in shared.executors.iter().zip(&case.lengths) {
                for _ in 0..length {
                    let drain = Box::new(Nothing);
                    let flow =
                        FlowCore::new(shared.clone(), 0, case.home, FlowRing::new(256), drain);
                    slot.queue.push(flow);
                }
            }
            for &idle in case.idle {
                shared.set_idle(idle, true);
            }
            TURN.set(case.turn);
            assert_eq!(shared.queue_for(case.home), case.queue, "{case:?}");
            let next = case.turn.wrapping_add(case.used.into());
            assert_eq!(TURN.get(), next, "{case:?}");
            for slot in &shared.executors {
                while slot.queue.take_abandoned().is_some() {}
            }
        }
    }
}
