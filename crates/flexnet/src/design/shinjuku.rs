// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Shinjuku (NSDI'19), and Concord's JBSQ(2) (SOSP'23).
//!
//! - **What**: a request with a context of its own.
//! - **When**: one dispatcher, a FIFO a request type, first the type whose head
//!   has waited longest for its objective. After the quantum a request goes to
//!   its queue's tail and keeps its arrival time. JBSQ: the dispatcher is a step
//!   ahead, so a worker never waits for it.
//! - **Where**: fixed workers, which serve nothing else.

use super::core_rule::{CoreRule, Rule};
use super::interface::{Design, Dispatch, Item, Place, Take, View};
use super::parse::Choice;

/// Types of requests that have an objective of their own; later ones share the
/// last.
const KINDS: usize = 4;

pub(super) struct Shinjuku {
    rule: CoreRule,
    quantum_ns: Option<u64>,
    slo_ns: [u64; KINDS],
}

impl Shinjuku {
    pub fn new(choice: &Choice) -> Self {
        Self {
            rule: choice.core_rule(),
            quantum_ns: choice.quantum_ns(),
            slo_ns: ["slo", "slo1", "slo2", "slo3"].map(|key| choice.value(key)),
        }
    }
}

/// Has an item that waited `age` for `slo` waited longer for it than another? By
/// products: no division, and exact.
fn more_pressing(age: u64, slo: u64, other_age: u64, other_slo: u64) -> bool {
    u128::from(age) * u128::from(other_slo) > u128::from(other_age) * u128::from(slo)
}

impl Design for Shinjuku {
    fn core_rule(&self) -> CoreRule {
        self.rule
    }

    fn queues(&self, _: usize) -> usize {
        KINDS
    }

    fn place(&mut self, _: &View<'_>, item: &Item) -> Place {
        Place::Queue((item.kind as usize).min(KINDS - 1))
    }

    fn next(&mut self, view: &View<'_>, _: usize) -> Option<Take> {
        let age = |queue: usize| view.now_ns.saturating_sub(view.heads_ns[queue]);
        let mut best: Option<usize> = None;
        for queue in (0..KINDS).filter(|&queue| view.lengths[queue] > 0) {
            if best.is_none_or(|best| {
                more_pressing(age(queue), self.slo_ns[queue], age(best), self.slo_ns[best])
            }) {
                best = Some(queue);
            }
        }
        best.map(Take::own)
    }

    fn wake(&self, view: &View<'_>, _: usize) -> Option<usize> {
        view.idle
    }

    fn quantum_ns(&self) -> Option<u64> {
        self.quantum_ns
    }

    fn requeue(&mut self, _: &View<'_>, _: usize, item: &Item) -> usize {
        (item.kind as usize).min(KINDS - 1)
    }

    fn dispatch(&self) -> Dispatch {
        if self.rule.design == Rule::ShinjukuJbsq as u32 {
            Dispatch::Ahead
        } else {
            Dispatch::Central
        }
    }

    fn lends(&self) -> bool {
        false
    }
}
