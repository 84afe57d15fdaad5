// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The default design.
//!
//! - **What**: sends and coroutines, on flows.
//! - **When**: a run queue an executor. New work goes to its flow's home. Where work waits there
//!   already, it goes to an executor with nothing to do, else to the shorter of home and another
//!   queue (Mitzenmacher 2001: two choices leave little of the imbalance of one). An executor with
//!   nothing to do steals half of a sibling's. Coroutines yield at the end of their quantum while
//!   others wait: that is a store and a load, not an interrupt, so it may be short.
//! - **Where**: include/flexnet/arbiter.h; idle cores are lent.
//!
//! Executors have lock-free queues of their own for this design (executor/placement.rs). They and
//! the simulator choose a queue, and a victim, by the same functions: [`queue_for`], [`victims`].

use super::core_rule::CoreRule;
use super::interface::{Design, Item, Place, Take, View, steal_from};
use super::parse::Choice;

/// The queue that new work of `home` goes to, of those of `workers` workers.
///
/// `length` says how long a queue is, `idle` names a worker with nothing to do other than the
/// given one, and `turn` counts up. They are asked where the answer decides, and not before: on
/// executors each of them reads what other threads write.
#[inline]
pub(crate) fn queue_for(
    home: usize,
    workers: usize,
    length: impl Fn(usize) -> usize,
    idle: impl FnOnce(usize) -> Option<usize>,
    turn: impl FnOnce() -> usize,
) -> usize {
    if workers < 2 {
        return 0;
    }
    let home = home % workers;
    if length(home) == 0 {
        return home;
    }
    other_queue_for(home, workers, length, idle, turn)
}

/// Work waits at home already: its executor may be off its core, or at something long.
#[cold]
fn other_queue_for(
    home: usize,
    workers: usize,
    length: impl Fn(usize) -> usize,
    idle: impl FnOnce(usize) -> Option<usize>,
    turn: impl FnOnce() -> usize,
) -> usize {
    if let Some(idle) = idle(home) {
        return idle;
    }
    let other = (home + 1 + turn() % (workers - 1)) % workers;
    if length(other) < length(home) {
        other
    } else {
        home
    }
}

/// The queues that a worker without work looks into, of so many: its siblings' in their order.
#[inline]
pub(crate) fn victims(worker: usize, queues: usize) -> impl Iterator<Item = usize> {
    (1..queues).map(move |step| (worker + step) % queues)
}

pub(super) struct Flexnet {
    rule: CoreRule,
    quantum_ns: u64,
    /// How often the shorter of two queues was asked for.
    turns: usize,
}

impl Flexnet {
    pub fn new(choice: &Choice) -> Self {
        Self {
            rule: choice.core_rule(),
            quantum_ns: choice.value("quantum"),
            turns: 0,
        }
    }

    #[cfg(test)]
    pub fn turns(&self) -> usize {
        self.turns
    }

    #[cfg(test)]
    pub fn set_turns(&mut self, turns: usize) {
        self.turns = turns;
    }
}

impl Design for Flexnet {
    fn core_rule(&self) -> CoreRule {
        self.rule
    }

    fn queues(&self, workers: usize) -> usize {
        workers.max(1)
    }

    fn place(&mut self, view: &View<'_>, item: &Item) -> Place {
        let length = |queue: usize| view.lengths[queue] as usize;
        let idle = |home| {
            view.idle?;
            (0..view.workers).find(|&worker| worker != home && view.is_idle(worker))
        };
        let turn = || {
            let turn = self.turns;
            self.turns = turn.wrapping_add(1);
            turn
        };
        Place::Queue(queue_for(
            item.flow as usize,
            view.workers,
            length,
            idle,
            turn,
        ))
    }

    fn next(&mut self, view: &View<'_>, worker: usize) -> Option<Take> {
        if view.queued == 0 {
            return None;
        }
        if view.lengths[worker] > 0 {
            return Some(Take::own(worker));
        }
        victims(worker, view.lengths.len())
            .find(|&queue| view.lengths[queue] > 0)
            .map(|queue| steal_from(view, queue))
    }

    fn wakes_after_turns(&self) -> bool {
        true
    }

    fn quantum_ns(&self) -> Option<u64> {
        Some(self.quantum_ns)
    }

    fn requeue(&mut self, _: &View<'_>, worker: usize, _: &Item) -> usize {
        worker
    }

    fn yields(&self) -> bool {
        true
    }

    fn inlines(&self) -> bool {
        true
    }

    fn waits_for(&self, view: &View<'_>, worker: usize) -> bool {
        view.lengths[worker] > 0
    }
}
