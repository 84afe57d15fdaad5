// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What executors and flows share: state, and plain questions about it.
//!
//! Left to others: which queue a flow goes to (placement.rs), what executors do (worker.rs), and
//! their start and end (runtime.rs).

use super::deadlines::Deadlines;
use super::drain::Drain;
use super::flow;
use super::flows::Flows;
use super::linger::End;
use super::link::{Link, Pages};
use super::reactor::Reactor;
use super::schedule::{Again, Schedule};
use super::stack::{Stack, Workers};
use crate::abi::FlowClass;
use crate::coroutine::Slab;
use crate::queue::{FlowRing, Parker, RunQueue};
use crate::sync::CacheLine;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A flow of a runtime.
pub(crate) type FlowCore = flow::FlowCore<Shared>;
/// Exclusive use of a flow of a runtime.
pub(crate) type FlowGuard<'a> = flow::FlowGuard<'a, Shared>;

/// Bytes of a ring that grows by need, at first: an idle flow takes little memory.
const RING_BYTES_AT_FIRST: usize = 2048;

/// Executors have not been started.
pub(super) const IDLE: u32 = 0;
/// They serve.
pub(super) const SERVING: u32 = 1;
/// They finish what is queued and end.
pub(super) const STOPPING: u32 = 2;
/// There are none, and will be none: senders drain inline.
pub(super) const STOPPED: u32 = 3;

pub(crate) struct ExecutorSlot {
    pub(crate) queue: RunQueue<Arc<FlowCore>>,
    pub(crate) parker: CacheLine<Parker>,
}

/// What executors and flows share.
pub(crate) struct Shared {
    pub(super) name: String,
    pub(super) flow_class: FlowClass,
    pub(super) executors: Box<[ExecutorSlot]>,
    pub(super) pages: Pages,
    pub(super) slab: Slab,
    pub(super) reactor: Reactor<FlowCore>,
    pub(super) deadlines: Deadlines,
    pub(super) stack: Stack<FlowCore>,
    pub(super) flows: Flows<FlowCore>,
    pub(super) link: Option<Arc<dyn Link>>,
    pub(super) phase: AtomicU32,
    pub(super) next_home: AtomicUsize,
    /// Executors that sleep for want of work, a bit each: a hint.
    pub(super) idle: CacheLine<AtomicU32>,
    /// Executors whose thread could be started.
    pub(super) started: AtomicUsize,
    pub(super) spins: bool,
    pub(super) spin_up_to: Duration,
    pub(super) linger: Duration,
    pub(super) stack_bytes: usize,
    pub(super) ring_bytes: Option<usize>,
    pub(super) threads: Mutex<Vec<JoinHandle<()>>>,
    pub(super) end: End,
}

impl Shared {
    /// A ring for a flow: small at first, of up to `bytes` unless the builder said otherwise.
    pub(crate) fn ring(&self, bytes: usize) -> FlowRing {
        let limit = self.ring_bytes.unwrap_or(bytes);
        FlowRing::growing(RING_BYTES_AT_FIRST, limit)
    }

    /// [`Shared::ring`], and no less than `bytes`.
    pub(crate) fn ring_of_at_least(&self, bytes: usize) -> FlowRing {
        let limit = self.ring_bytes.unwrap_or(bytes).max(bytes);
        FlowRing::growing(RING_BYTES_AT_FIRST, limit)
    }

    /// A new flow on the next executor in turn.
    pub(crate) fn new_flow(
        self: &Arc<Self>,
        ring: FlowRing,
        drain: Box<dyn Drain>,
    ) -> Arc<FlowCore> {
        let home = self.next_home.fetch_add(1, Ordering::Relaxed) % self.executors.len();
        let token = self.reactor.new_token();
        FlowCore::new(self.clone(), token, home as u16, ring, drain)
    }

    pub(crate) fn reactor(&self) -> &Reactor<FlowCore> {
        &self.reactor
    }
    pub(crate) fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }
    pub(crate) fn link(&self) -> Option<&Arc<dyn Link>> {
        self.link.as_ref()
    }
    pub(crate) fn executors(&self) -> &[ExecutorSlot] {
        &self.executors
    }
    pub(super) fn stack(&self) -> &Stack<FlowCore> {
        &self.stack
    }
    /// How long an executor looks before it parks.
    pub(crate) fn spin(&self) -> Duration {
        match self.spins {
            true => Duration::from_nanos(self.stack.spin_ns()),
            false => Duration::ZERO,
        }
    }
    /// And how long where work has come soon after it parked.
    pub(crate) fn spin_up_to(&self) -> Duration {
        match self.spins {
            true => self.spin_up_to,
            false => Duration::ZERO,
        }
    }
    pub(crate) fn is_stopping(&self) -> bool {
        self.phase.load(Ordering::Acquire) >= STOPPING
    }
    #[inline]
    pub(crate) fn is_attached(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.attached())
    }

    /// How many executors the scheduler wants to run; all without one.
    #[inline]
    pub(crate) fn executors_wanted(&self) -> usize {
        let count = self.started.load(Ordering::Relaxed);
        if count == 1 || !self.is_attached() {
            return count;
        }
        let wanted = self
            .pages
            .current()
            .grant
            .executors_wanted
            .load(Ordering::Relaxed);
        (wanted as usize).clamp(1, count)
    }

    /// Wakes executors that the stack names.
    pub(super) fn wake(&self, workers: Workers) {
        let mut left = workers;
        while left != 0 {
            let slot = &self.executors[left.trailing_zeros() as usize];
            self.reactor.unpark(&slot.parker);
            left &= left - 1;
        }
    }

    /// Puts a flow that a sender just served, and that goes on, where the design wants it.
    ///
    /// # Errors
    /// The flow: the design wants senders to do their work.
    pub(super) fn enqueue_by_sender(
        &self,
        home: u16,
        flow: Arc<FlowCore>,
        why: Again,
    ) -> Result<(), Arc<FlowCore>> {
        if why == Again::Unit || !self.stack.is_on() {
            return self.enqueue(home, flow);
        }
        // A coroutine is an executor's, also where senders do their work.
        let wanted = self.executors_wanted();
        let worker = usize::from(home) % wanted;
        match self.stack.again(worker, wanted, None, why, flow) {
            Ok(wake) => {
                self.wake(wake);
                // The runtime ended meanwhile: no executor comes to the queue.
                if self.is_stopped() {
                    self.serve_here();
                }
                Ok(())
            }
            Err(flow) => self.enqueue(home, flow),
        }
    }

    /// Executor `slot` sleeps for want of work, or wakes.
    pub(super) fn set_idle(&self, slot: usize, idle: bool) {
        match idle {
            true => self.idle.fetch_or(1 << slot, Ordering::Relaxed),
            false => self.idle.fetch_and(!(1 << slot), Ordering::Relaxed),
        };
    }

    /// Deadlines that came up on a thread which does not watch any: an executor
    /// does from here on.
    pub(crate) fn adopt_deadlines(&self, deadlines: impl IntoIterator<Item = (Instant, Waker)>) {
        self.deadlines.add(deadlines);
        self.reactor.unpark(&self.executors[0].parker);
    }

    /// Messages accepted and not yet done, over all executors.
    pub(crate) fn depth(&self) -> u64 {
        (0..self.executors.len())
            .map(|slot| self.pages.depth(slot as u16))
            .sum()
    }

    /// Wakes every parked executor.
    pub(crate) fn wake_all(&self) {
        for slot in &self.executors {
            self.reactor.unpark(&slot.parker);
        }
    }
}
