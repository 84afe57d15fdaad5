// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The default design.
//!
//! - **What**: sends and coroutines, on flows.
//! - **When**: a run queue an executor. New work goes to one with nothing to do,
//!   else to the shorter of two (Mitzenmacher 2001: two choices leave little of
//!   the imbalance of one); who has nothing to do steals half of a sibling's.
//!   Coroutines yield at the end of their quantum while others wait: that is a
//!   store and a load, not an interrupt, so it may be short.
//! - **Where**: include/flexnet/arbiter.h; idle cores are lent.

use super::core_rule::CoreRule;
use super::interface::{Design, Item, Place, Take, View, steal_from};
use super::parse::Choice;
use super::random::Random;

pub(super) struct Flexnet {
    rule: CoreRule,
    quantum_ns: u64,
    random: Random,
}

impl Flexnet {
    pub fn new(choice: &Choice, seed: u64) -> Self {
        Self {
            rule: choice.core_rule(),
            quantum_ns: choice.value("quantum"),
            random: Random::new(seed),
        }
    }
}

impl Design for Flexnet {
    fn core_rule(&self) -> CoreRule {
        self.rule
    }

    fn queues(&self, workers: usize) -> usize {
        workers.max(1)
    }

    fn place(&mut self, view: &View<'_>, _: &Item) -> Place {
        if let Some(idle) = view.idle {
            return Place::Queue(idle);
        }
        let one = self.random.below(view.workers);
        let other = self.random.below(view.workers);
        let shorter = if view.lengths[other] < view.lengths[one] {
            other
        } else {
            one
        };
        Place::Queue(shorter)
    }

    fn next(&mut self, view: &View<'_>, worker: usize) -> Option<Take> {
        if view.queued == 0 {
            return None;
        }
        if view.lengths[worker] > 0 {
            return Some(Take::own(worker));
        }
        // The real worker asks its siblings in their order, too.
        let queues = view.lengths.len();
        (1..queues)
            .map(|step| (worker + step) % queues)
            .find(|&queue| view.lengths[queue] > 0)
            .map(|queue| steal_from(view, queue))
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
