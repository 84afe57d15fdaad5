// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! A design and its queues, under the stack's lock: when which of them is asked what.
//! Plain calls with the time and the number of wanted workers as arguments.

use super::queues::Queues;
use crate::design::{Design, Dispatch, Item, Place, Take};

/// Executors, a bit each.
pub(crate) type Workers = u32;

/// Flows in a stack that it has room for from the start; more make it grow.
const CAPACITY: usize = 4096;
/// How often a design may move work among workers, ns: the arbiter's interval.
const REARRANGE_NS: u64 = 100_000;
/// Senders that are let in when room is made, at most at a time.
pub(super) const FREED: usize = 4;

/// What became of a flow.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Placed<T> {
    /// It waits in a queue; the executors to wake.
    Queued(Workers),
    /// It waits for room (a clone; the first is kept).
    Held(T),
    /// Its sender does the work.
    Back(T),
}

pub(super) struct Core<T> {
    design: Box<dyn Design>,
    queues: Queues<T>,
    rearranged_ns: u64,
    freed: [Option<T>; FREED],
}

impl<T: Clone> Core<T> {
    pub fn new(design: Box<dyn Design>, workers: usize) -> Self {
        let queues = Queues::new(design.queues(workers), workers, CAPACITY);
        let mut core = Self {
            design,
            queues,
            rearranged_ns: 0,
            freed: [const { None }; FREED],
        };
        core.rearrange(0);
        core
    }

    pub fn queued(&self) -> usize {
        self.queues.queued()
    }

    pub fn is_empty(&self) -> bool {
        self.queues.len() == 0
    }

    pub fn next_due_ns(&self) -> Option<u64> {
        self.queues.next_due_ns()
    }

    pub fn set_idle(&mut self, worker: usize) {
        self.queues.set_idle(worker, true);
    }

    pub fn take_any(&mut self) -> Option<(Item, T)> {
        self.queues.take_any()
    }

    /// Those that found room since the last call.
    pub fn take_freed(&mut self) -> [Option<T>; FREED] {
        std::mem::take(&mut self.freed)
    }

    /// The executor to wake, now that something is in `queue`; it counts as at work
    /// from here on.
    fn wake_for(&mut self, now: u64, queue: usize) -> Workers {
        let worker = self.design.wake(&self.queues.view(now), queue);
        match worker {
            Some(worker) if worker < self.queues.workers() && self.queues.take_idle(worker) => {
                1 << worker
            }
            _ => 0,
        }
    }

    /// The design's chance to move work; the executors to wake for it.
    fn rearrange(&mut self, now: u64) -> Workers {
        self.rearranged_ns = now;
        if !self.design.rearrange(&self.queues.view(now)) {
            return 0;
        }
        self.wake_all(now)
    }

    /// The executors to wake for what is queued.
    fn wake_all(&mut self, now: u64) -> Workers {
        let mut wake = 0;
        for queue in 0..self.queues.view(now).lengths.len() {
            if self.queues.view(now).lengths[queue] > 0 {
                wake |= self.wake_for(now, queue);
            }
        }
        wake
    }

    /// Follows the number of workers the scheduler wants.
    fn follow(&mut self, now: u64, wanted: usize) -> Workers {
        if wanted != self.queues.workers() {
            self.queues.set_workers(wanted);
            return self.rearrange(now) | self.wake_all(now);
        }
        if now.saturating_sub(self.rearranged_ns) >= REARRANGE_NS {
            return self.rearrange(now);
        }
        0
    }

    /// Paced items whose time has come.
    fn admit_due(&mut self, now: u64) -> Workers {
        match self.queues.admit_due(now) {
            true => self.wake_all(now),
            false => 0,
        }
    }

    /// A flow with new work; `served_by`: the worker that just served it.
    pub fn place(
        &mut self,
        now: u64,
        wanted: usize,
        mut item: Item,
        value: T,
        served_by: Option<usize>,
    ) -> Placed<T> {
        let wake = self.follow(now, wanted);
        item.queued_ns = now;
        let place = self.design.place(&self.queues.view(now), &item);
        match (place, served_by) {
            (Place::Inline, None) => Placed::Back(value),
            (Place::Inline, Some(worker)) => self.requeue(now, worker, item, value),
            (Place::Queue(queue), _) => {
                self.queues.push(queue, item, value);
                Placed::Queued(wake | self.wake_for(now, queue))
            }
            (Place::Later { at_ns, queue }, _) => {
                // An executor that sleeps must sleep no longer than that.
                let sooner = self.next_due_ns().is_none_or(|due| at_ns < due);
                self.queues.push_later(at_ns, queue, item, value);
                match sooner {
                    true => Placed::Queued(wake | self.wake_for(now, queue)),
                    false => Placed::Queued(wake),
                }
            }
            (Place::Block, _) => {
                self.queues.hold(item, value.clone());
                Placed::Held(value)
            }
        }
    }

    /// A flow whose coroutine gave way.
    pub fn requeue(&mut self, now: u64, worker: usize, mut item: Item, value: T) -> Placed<T> {
        item.queued_ns = now;
        let queue = self.design.requeue(&self.queues.view(now), worker, &item);
        self.queues.push(queue, item, value);
        Placed::Queued(self.wake_for(now, queue))
    }

    fn asked(&mut self, now: u64, worker: usize) -> Option<Take> {
        self.design.next(&self.queues.view(now), worker)
    }

    /// What a worker takes next, and the executors to wake.
    pub fn next(&mut self, now: u64, worker: usize, wanted: usize) -> (Option<(Item, T)>, Workers) {
        self.queues.set_idle(worker, false);
        let mut wake = self.follow(now, wanted) | self.admit_due(now);
        let mut taken = self.queues.take_ahead(worker);
        if taken.is_none()
            && let Some(take) = self.asked(now, worker)
        {
            taken = self.queues.take(take.queue, take.more, worker);
        }
        if taken.is_some() {
            wake |= self.admit_held(now);
            let one_more =
                self.design.dispatch() == Dispatch::Ahead && self.queues.view(now).idle.is_none();
            if one_more && let Some(take) = self.asked(now, worker) {
                self.queues.give_ahead(worker, take.queue);
            }
        }
        (taken, wake)
    }

    /// Senders that wait try again, the first first.
    fn admit_held(&mut self, now: u64) -> Workers {
        let mut wake = 0;
        for at in 0..FREED {
            let Some(mut item) = self.queues.first_held() else {
                break;
            };
            if self.freed[at].is_some() {
                continue;
            }
            item.queued_ns = now;
            let place = self.design.place(&self.queues.view(now), &item);
            let queue = match place {
                Place::Queue(queue) | Place::Later { queue, .. } => queue,
                // With nothing queued nobody would ask again.
                _ if self.queues.queued() == 0 => 0,
                _ => break,
            };
            let Some((_, value)) = self.queues.take_held() else {
                break;
            };
            self.freed[at] = Some(value.clone());
            match place {
                Place::Later { at_ns, .. } => self.queues.push_later(at_ns, queue, item, value),
                _ => self.queues.push(queue, item, value),
            }
            wake |= self.wake_for(now, queue);
        }
        wake
    }

    /// A worker parks at the scheduler's word.
    pub fn leave(&mut self, now: u64, worker: usize, wanted: usize) -> Workers {
        if let Some((item, value)) = self.queues.take_ahead(worker) {
            let queue = self.design.requeue(&self.queues.view(now), worker, &item);
            self.queues.push(queue, item, value);
        }
        self.design.leave(worker);
        let mut wake = self.follow(now, wanted) | self.rearrange(now);
        wake |= self.wake_all(now);
        self.queues.set_idle(worker, true);
        wake
    }
}
