// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What a design is asked, and what it answers: [`Design`], and the plain values of its calls.

use super::core_rule::CoreRule;

/// Bytes of a flow that go in one turn, unless the design says otherwise. One
/// `sendmsg` of that size takes about 50 µs over loopback here: the unit after
/// which an executor looks at what the scheduler asks of it.
pub const UNIT_BYTES: usize = 256 * 1024;
/// How long an executor looks for work before it parks, unless the design says
/// otherwise, ns: about what the wake that is saved costs (3.3 to 3.6 µs to the
/// waker, 2.4 µs to the woken).
pub const SPIN_NS: u64 = 10_000;

/// A piece of work: what a design may know of it. On simulated cores a request;
/// on executors a flow with something to do, for a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// When it came, ns; kept when it is preempted.
    pub arrival_ns: u64,
    /// When it was last queued, ns.
    pub queued_ns: u64,
    /// The flow it belongs to; items of a flow need not keep their order here
    /// (a stack that needs that queues flows, not items).
    pub flow: u32,
    /// Its type, for designs that distinguish types; small.
    pub kind: u32,
}

/// What a design sees of an application's stack.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Now, ns.
    pub now_ns: u64,
    /// Items in each queue.
    pub lengths: &'a [u32],
    /// When the head of each queue came, ns; of an empty one nothing.
    pub heads_ns: &'a [u64],
    /// Items in all queues.
    pub queued: usize,
    /// Workers with a core: these are numbers 0 and up.
    pub workers: usize,
    /// One of those that has nothing to do.
    pub idle: Option<usize>,
    /// Which have nothing to do.
    pub idles: &'a [bool],
}

impl View<'_> {
    /// Is that worker there and has nothing to do?
    pub fn is_idle(&self, worker: usize) -> bool {
        worker < self.workers && self.idles.get(worker).copied().unwrap_or(false)
    }
}

/// Where an item goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Into that queue's tail.
    Queue(usize),
    /// Into that queue, but not before a time (ns): pacing.
    Later {
        /// When.
        at_ns: u64,
        /// Where then.
        queue: usize,
    },
    /// Nowhere now: its sender blocks and tries again when work was taken.
    Block,
    /// It runs on its sender's own core.
    Inline,
}

/// What a worker takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Take {
    /// The queue whose head it runs.
    pub queue: usize,
    /// So many more of that queue go into the worker's own.
    pub more: usize,
    /// It is another's: costs a steal.
    pub stolen: bool,
}

impl Take {
    /// From its own queue.
    pub fn own(queue: usize) -> Self {
        Self {
            queue,
            more: 0,
            stolen: false,
        }
    }
}

/// What hands work to workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatch {
    /// They take it themselves.
    Workers,
    /// One dispatcher, and a worker waits for its answer.
    Central,
    /// One dispatcher, a step ahead: a worker has the next item already.
    Ahead,
}

/// A stack design. One value an application; called from what owns its
/// queues, one call at a time. A queue or worker that is none, in an answer, is
/// taken as the last one.
pub trait Design: Send {
    /// How cores are given.
    fn core_rule(&self) -> CoreRule;

    /// How many queues there are, when no more than `workers` ever have a core.
    fn queues(&self, workers: usize) -> usize;

    /// Where a new item goes.
    fn place(&mut self, view: &View<'_>, item: &Item) -> Place;

    /// What `worker` takes next.
    fn next(&mut self, view: &View<'_>, worker: usize) -> Option<Take>;

    /// Which worker with nothing to do should look, now that something is in `queue`.
    fn wake(&self, view: &View<'_>, queue: usize) -> Option<usize> {
        if view.is_idle(queue) {
            Some(queue)
        } else if self.wakes_after_turns() {
            None
        } else {
            view.idle
        }
    }

    /// Does a worker that has ended a turn wake a sleeping one for what waits in its queue? Then
    /// new work behind a busy worker wakes nobody by itself.
    fn wakes_after_turns(&self) -> bool {
        false
    }

    /// Are cores given from the front of an order, so that few stay awake? If not,
    /// the one nobody used for longest is given: each worker keeps to its own.
    fn packs(&self) -> bool {
        true
    }

    /// `worker` takes nothing more: its core was given back.
    fn leave(&mut self, worker: usize) {
        let _ = worker;
    }

    /// An item's turn, ns; then it is requeued if something else waits for this
    /// worker. `None`: to completion.
    fn quantum_ns(&self) -> Option<u64> {
        None
    }

    /// The queue whose tail a preempted item goes to.
    fn requeue(&mut self, view: &View<'_>, worker: usize, item: &Item) -> usize;

    /// Is there something that `worker` would take instead of what it runs?
    fn waits_for(&self, view: &View<'_>, worker: usize) -> bool {
        let _ = worker;
        view.queued > 0
    }

    /// How many workers could work now, `running` being at it.
    fn runnable(&self, view: &View<'_>, running: usize) -> usize {
        running + view.queued
    }

    /// Does a turn end by the coroutine's own yield (a flag looked at), not by
    /// an interrupt?
    fn yields(&self) -> bool {
        false
    }

    /// Called after each round of the arbiter and each change of `view.workers`:
    /// a chance to move work among workers. True when it did.
    fn rearrange(&mut self, view: &View<'_>) -> bool {
        let _ = view;
        false
    }

    /// What hands out work.
    fn dispatch(&self) -> Dispatch {
        Dispatch::Workers
    }

    /// Does a granted core with nothing to do serve other tasks?
    fn lends(&self) -> bool {
        true
    }

    /// Bytes of a flow that are sent in one turn; what is left is placed anew. A
    /// coroutine counts as a 64th of them, and as one byte at least: with 1, each
    /// is a turn of its own.
    fn unit_bytes(&self) -> usize {
        UNIT_BYTES
    }

    /// How long an executor with nothing to do looks for more before it parks, ns.
    fn spin_ns(&self) -> u64 {
        SPIN_NS
    }

    /// May a sender do its work itself where that is cheaper: executors are
    /// parked or off their cores? A design whose order or pace would suffer says no.
    fn inlines(&self) -> bool {
        false
    }
}

/// What a thief takes of `queue`: its head, and half of the rest.
pub(super) fn steal_from(view: &View<'_>, queue: usize) -> Take {
    Take {
        queue,
        more: (view.lengths[queue] as usize).saturating_sub(1) / 2,
        stolen: true,
    }
}
