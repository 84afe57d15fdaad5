// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Shenango (NSDI'19), and Caladan's rules (OSDI'20).
//!
//! - **What**: packets and the user threads they wake.
//! - **When**: a run queue a kernel thread. A thread without work looks at its own,
//!   at its sibling hyperthread's, at a random one, at all, and steals half.
//!   To completion; Caladan: 100 µs while work waits (`quantum=100us`).
//! - **Where**: one more core when an item queued at the last sample is still
//!   queued, back at once with nothing to do; or by delay or utilisation range.

use super::core_rule::CoreRule;
use super::interface::{Design, Item, Place, Take, View, steal_from};
use super::parse::Choice;
use super::random::Random;

/// Parks after 4 rounds and 2 µs without work (Shenango's runtime).
const SPIN_NS: u64 = 2_000;

pub(super) struct Shenango {
    rule: CoreRule,
    quantum_ns: Option<u64>,
    random: Random,
}

impl Shenango {
    pub fn new(choice: &Choice, seed: u64) -> Self {
        Self {
            rule: choice.core_rule(),
            quantum_ns: choice.quantum_ns(),
            random: Random::new(seed),
        }
    }
}

impl Design for Shenango {
    fn core_rule(&self) -> CoreRule {
        self.rule
    }

    fn queues(&self, workers: usize) -> usize {
        workers.max(1)
    }

    /// To an active kernel thread, by the flow's hash (here: its number).
    fn place(&mut self, view: &View<'_>, item: &Item) -> Place {
        Place::Queue(item.flow as usize % view.workers.max(1))
    }

    fn next(&mut self, view: &View<'_>, worker: usize) -> Option<Take> {
        if view.queued == 0 {
            return None;
        }
        if view.lengths[worker] > 0 {
            return Some(Take::own(worker));
        }
        let queues = view.lengths.len();
        let full = |&queue: &usize| queue < queues && view.lengths[queue] > 0;
        let random = self.random.below(queues);
        [worker ^ 1, random]
            .into_iter()
            .chain((1..queues).map(|step| (worker + step) % queues))
            .find(full)
            .map(|queue| steal_from(view, queue))
    }

    fn quantum_ns(&self) -> Option<u64> {
        self.quantum_ns
    }

    fn requeue(&mut self, _: &View<'_>, worker: usize, _: &Item) -> usize {
        worker
    }

    fn spin_ns(&self) -> u64 {
        SPIN_NS
    }

    fn waits_for(&self, view: &View<'_>, worker: usize) -> bool {
        view.lengths[worker] > 0
    }
}
