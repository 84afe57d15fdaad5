// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The in-stack half of a design on real executors: where a flow with work
//! waits, which executor takes it, in which order.
//!
//! The default design has lock-free run queues of its own ([`crate::queue`]).
//! Any other [`Design`] runs here: its queues and its one lock, taken once
//! each time a flow is served, not once a message. Both are looked at whatever is on, so that
//! a switch drains nothing: what waits is placed anew, by the new design.
//!
//! Promises: a flow that was accepted is in exactly one place until it is
//! taken; an executor that parks ([`Stack::park`]) is woken for what comes later. Leaves to
//! others: serving flows, sleeping and waking (worker.rs), and what to do with
//! a flow that is given back.

mod core;
mod queues;

pub(super) use self::core::Workers;
use self::core::{Core, FREED, Placed};
use super::flow::FlowCore;
use super::link::now_ns;
use super::schedule::{Again, Schedule};
use crate::abi::PageDesign;
use crate::design::{Choice, Design, Item, SPIN_NS, UNIT_BYTES};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a worker takes.
pub(super) struct Taken<F> {
    pub flow: Arc<F>,
    pub item: Item,
}

/// What a worker that found nothing shall do.
pub(super) enum Rest<F> {
    /// There is something after all.
    Take(Taken<F>),
    /// Sleep, until then at most (CLOCK_MONOTONIC, ns).
    Sleep(Option<u64>),
}

/// The stack of a runtime, whose flows are of type `F`.
pub(crate) struct Stack<F> {
    /// A design other than the default one is on. A hint where the lock is not
    /// held: [`Stack::place`] tells a thread that comes too late.
    on: AtomicBool,
    inlines: AtomicBool,
    unit_bytes: AtomicUsize,
    spin_ns: AtomicU64,
    /// A coroutine's turn, 0: to completion.
    quantum_ns: AtomicU64,
    /// Of the page's design that was read last.
    generation: AtomicU64,
    /// Flows in the queues, for executors that look for work.
    queued: AtomicUsize,
    /// The application's own: switches are not followed.
    fixed: bool,
    workers: usize,
    inner: Mutex<Inner<F>>,
}

struct Inner<F> {
    core: Option<Core<Arc<F>>>,
    name: String,
    /// Of the page's design that is on.
    generation: u64,
}

impl<S: Schedule<FlowCore<S>>> Stack<FlowCore<S>> {
    /// For so many executors, with a design of the application's own, or
    /// (`None`) the default one and then whatever the scheduler's page says.
    pub fn new(workers: usize, own: Option<Box<dyn Design>>) -> Self {
        let stack = Self {
            on: AtomicBool::new(false),
            inlines: AtomicBool::new(true),
            unit_bytes: AtomicUsize::new(UNIT_BYTES),
            spin_ns: AtomicU64::new(SPIN_NS),
            quantum_ns: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            queued: AtomicUsize::new(0),
            fixed: own.is_some(),
            workers,
            inner: Mutex::new(Inner {
                core: None,
                name: String::new(),
                generation: 0,
            }),
        };
        match own {
            Some(design) => drop(stack.switch(design, true, "own", 0)),
            None => drop(stack.choose(&Choice::default(), 0)),
        }
        stack
    }

    fn lock(&self) -> MutexGuard<'_, Inner<FlowCore<S>>> {
        // A design that panicked has left its queues whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    /// May senders do their work themselves?
    #[inline]
    pub fn inlines(&self) -> bool {
        self.inlines.load(Ordering::Relaxed)
    }

    #[inline]
    pub fn unit_bytes(&self) -> usize {
        self.unit_bytes.load(Ordering::Relaxed)
    }

    pub fn spin_ns(&self) -> u64 {
        self.spin_ns.load(Ordering::Relaxed)
    }

    #[inline]
    pub fn quantum_ns(&self) -> u64 {
        self.quantum_ns.load(Ordering::Relaxed)
    }

    /// Does anything wait in a queue? A hint.
    #[inline]
    pub fn has_queued(&self) -> bool {
        self.queued.load(Ordering::Relaxed) != 0
    }

    /// The design that is on, as operators write it; `own`: the application's.
    pub fn name(&self) -> String {
        self.lock().name.clone()
    }

    /// Follows what the page says, when that has moved (`Some`): the caller
    /// enqueues those flows, which no queue holds any more, and wakes every
    /// executor, since the new design knows of none that it sleeps.
    #[inline]
    pub fn follow(&self, page: &PageDesign) -> Option<Vec<Arc<FlowCore<S>>>> {
        let generation = page.generation.load(Ordering::Relaxed);
        if generation == self.generation.load(Ordering::Relaxed) || self.fixed {
            return None;
        }
        self.follow_page(page)
    }

    #[cold]
    fn follow_page(&self, page: &PageDesign) -> Option<Vec<Arc<FlowCore<S>>>> {
        // While it is written: the next turn reads it whole.
        let (generation, text) = page.read()?;
        if self.generation.swap(generation, Ordering::Relaxed) == generation {
            return None; // a sibling does
        }
        match text.parse::<Choice>() {
            Ok(choice) => Some(self.choose(&choice, generation)),
            Err(error) => {
                log::warn!("the stack stays with {}: {error}", self.name());
                None
            }
        }
    }

    fn choose(&self, choice: &Choice, generation: u64) -> Vec<Arc<FlowCore<S>>> {
        let is_default = choice.name() == Choice::default().name();
        let design = choice.build(1);
        self.switch(design, !is_default, &choice.to_string(), generation)
    }

    fn note(&self, design: &dyn Design) {
        self.inlines.store(design.inlines(), Ordering::Relaxed);
        let unit_bytes = design.unit_bytes().max(1);
        self.unit_bytes.store(unit_bytes, Ordering::Relaxed);
        self.spin_ns.store(design.spin_ns(), Ordering::Relaxed);
        let quantum_ns = design.quantum_ns().unwrap_or(0);
        self.quantum_ns.store(quantum_ns, Ordering::Relaxed);
    }

    /// Another design from here on, by its own queues or (not `queues`) by the
    /// lock-free ones. What it cannot place is given back.
    fn switch(
        &self,
        design: Box<dyn Design>,
        queues: bool,
        name: &str,
        generation: u64,
    ) -> Vec<Arc<FlowCore<S>>> {
        let mut inner = self.lock();
        if generation < inner.generation {
            return Vec::new(); // a sibling was faster with a later one
        }
        inner.generation = generation;
        self.note(&*design);
        name.clone_into(&mut inner.name);
        let before = inner.core.take();
        inner.core = queues.then(|| Core::new(design, self.workers));
        self.on.store(inner.core.is_some(), Ordering::Release);
        let (mut unplaced, now) = (Vec::new(), now_ns());
        let Some(mut before) = before else {
            return unplaced;
        };
        while let Some((item, flow)) = before.take_any() {
            // Held senders try again by the new rules.
            flow.set_held(false);
            let placed = match &mut inner.core {
                Some(core) => core.place(now, self.workers, item, flow, None),
                None => Placed::Back(flow),
            };
            unplaced.extend(settle(placed).err());
        }
        self.count(&inner);
        unplaced
    }

    fn count(&self, inner: &Inner<FlowCore<S>>) {
        let queued = inner.core.as_ref().map_or(0, Core::queued);
        self.queued.store(queued, Ordering::Relaxed);
    }

    fn item(flow: &FlowCore<S>, now: u64) -> Item {
        Item {
            arrival_ns: now,
            queued_ns: now,
            flow: flow.token() as u32,
            kind: flow.kind(),
        }
    }

    /// Puts a notified flow where the design wants it; the executors to wake.
    ///
    /// # Errors
    /// The flow: the default design is on, or its sender shall do the work.
    pub fn place(
        &self,
        wanted: usize,
        flow: Arc<FlowCore<S>>,
    ) -> Result<Workers, Arc<FlowCore<S>>> {
        let now = now_ns();
        let mut inner = self.lock();
        let Some(core) = &mut inner.core else {
            return Err(flow);
        };
        let item = Self::item(&flow, now);
        let placed = core.place(now, wanted, item, flow, None);
        self.count(&inner);
        settle(placed)
    }

    /// Puts a flow that `worker` just served, and that goes on, where the design
    /// wants it. A sender that has left a coroutine to executors gives no item.
    ///
    /// # Errors
    /// As of [`Stack::place`].
    pub fn again(
        &self,
        worker: usize,
        wanted: usize,
        item: Option<Item>,
        why: Again,
        flow: Arc<FlowCore<S>>,
    ) -> Result<Workers, Arc<FlowCore<S>>> {
        let now = now_ns();
        let mut inner = self.lock();
        let Some(core) = &mut inner.core else {
            return Err(flow);
        };
        let placed = match why {
            Again::Unit => core.place(now, wanted, Self::item(&flow, now), flow, Some(worker)),
            // Of a flow that the default design had queued there is none.
            Again::Yielded => {
                let item = item.filter(|item| item.flow == flow.token() as u32);
                let item = item.unwrap_or_else(|| Self::item(&flow, now));
                core.requeue(now, worker, item, flow)
            }
        };
        self.count(&inner);
        settle(placed)
    }

    /// What `worker` takes next, and the executors to wake.
    pub fn next(&self, worker: usize, wanted: usize) -> (Option<Taken<FlowCore<S>>>, Workers) {
        let now = now_ns();
        let mut inner = self.lock();
        let Some(core) = &mut inner.core else {
            return (None, 0);
        };
        let (taken, wake) = core.next(now, worker, wanted);
        let freed = core.take_freed();
        self.leave_lock(inner, freed);
        (taken.map(|(item, flow)| Taken { flow, item }), wake)
    }

    /// `worker`, which has announced that it parks, looks once more: what comes
    /// later finds it idle.
    pub fn park(&self, worker: usize, wanted: usize) -> (Rest<FlowCore<S>>, Workers) {
        let now = now_ns();
        let mut inner = self.lock();
        let Some(core) = &mut inner.core else {
            return (Rest::Sleep(None), 0);
        };
        let (taken, wake) = core.next(now, worker, wanted);
        let rest = match taken {
            Some((item, flow)) => Rest::Take(Taken { flow, item }),
            None => {
                core.set_idle(worker);
                Rest::Sleep(core.next_due_ns())
            }
        };
        let freed = core.take_freed();
        self.leave_lock(inner, freed);
        (rest, wake)
    }

    /// Lets go of the lock, and wakes senders that found room: they may
    /// come here at once.
    fn leave_lock(
        &self,
        inner: MutexGuard<'_, Inner<FlowCore<S>>>,
        freed: [Option<Arc<FlowCore<S>>>; FREED],
    ) {
        for flow in freed.iter().flatten() {
            flow.set_held(false);
        }
        self.count(&inner);
        drop(inner);
        for flow in freed.iter().flatten() {
            flow.waiters().wake();
        }
    }

    /// `worker` parks because the scheduler asks it to: its queues are for others.
    pub fn leave(&self, worker: usize, wanted: usize) -> Workers {
        let now = now_ns();
        let mut inner = self.lock();
        match &mut inner.core {
            Some(core) => core.leave(now, worker, wanted),
            None => 0,
        }
    }

    /// Anything there is, at the end: no order but the flows' own.
    pub fn take_any(&self) -> Option<Arc<FlowCore<S>>> {
        let mut inner = self.lock();
        let taken = inner.core.as_mut()?.take_any();
        self.count(&inner);
        let (_, flow) = taken?;
        flow.set_held(false);
        Some(flow)
    }

    /// Is anything left, paced and held flows included?
    pub fn is_empty(&self) -> bool {
        !self.is_on() || self.lock().core.as_ref().is_none_or(Core::is_empty)
    }
}

/// Marks a flow that found no room. With the lock.
fn settle<S: Schedule<FlowCore<S>>>(
    placed: Placed<Arc<FlowCore<S>>>,
) -> Result<Workers, Arc<FlowCore<S>>> {
    match placed {
        Placed::Queued(wake) => Ok(wake),
        Placed::Held(flow) => {
            flow.set_held(true);
            Ok(0)
        }
        Placed::Back(flow) => Err(flow),
    }
}

#[cfg(test)]
mod tests;
