// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! NetChannel (SIGCOMM'22).
//!
//! - **What**: a send is cut into units of at most 62,620 B; the cutting is the
//!   transport's, here a unit is an item.
//! - **When**: channels, one a worker. A sender stays on a channel for some units
//!   and then moves to the next, skips one that is full, and blocks when all are.
//!   A worker runs its channel in order, at most for its quantum at a time.
//! - **Where**: the channel's core. Channels grow and shrink by backlog
//!   (NetChannel itself has no rule).

use super::core_rule::CoreRule;
use super::interface::{Design, Item, Place, Take, View};
use super::parse::Choice;

/// Longest unit of a send, bytes (NetChannel's artifact).
const UNIT_BYTES: usize = 62_620;

pub(super) struct NetChannel {
    rule: CoreRule,
    quantum_ns: u64,
    sticky: u32,
    full: u32,
    /// The channel, and units put there in a row.
    channel: usize,
    units: u32,
}

impl NetChannel {
    pub fn new(choice: &Choice) -> Self {
        Self {
            rule: choice.core_rule(),
            quantum_ns: choice.value("quantum"),
            sticky: choice.value("sticky") as u32,
            full: choice.value("queued") as u32,
            channel: 0,
            units: 0,
        }
    }
}

impl Design for NetChannel {
    fn core_rule(&self) -> CoreRule {
        self.rule
    }

    fn queues(&self, workers: usize) -> usize {
        workers.max(1)
    }

    fn place(&mut self, view: &View<'_>, _: &Item) -> Place {
        let channels = view.workers.max(1);
        if self.channel >= channels || self.units >= self.sticky {
            self.channel = (self.channel + 1) % channels;
            self.units = 0;
        }
        for _ in 0..channels {
            if view.lengths[self.channel] < self.full {
                self.units += 1;
                return Place::Queue(self.channel);
            }
            self.channel = (self.channel + 1) % channels;
            self.units = 0;
        }
        Place::Block
    }

    fn next(&mut self, view: &View<'_>, worker: usize) -> Option<Take> {
        if view.lengths[worker] > 0 {
            return Some(Take::own(worker));
        }
        // Channels whose core was taken: their rest is the others'.
        (view.workers..view.lengths.len())
            .find(|&queue| view.lengths[queue] > 0)
            .map(|queue| Take {
                queue,
                more: 0,
                stolen: true,
            })
    }

    fn wake(&self, view: &View<'_>, queue: usize) -> Option<usize> {
        if queue >= view.workers {
            return view.idle;
        }
        view.is_idle(queue).then_some(queue)
    }

    fn quantum_ns(&self) -> Option<u64> {
        Some(self.quantum_ns)
    }

    fn unit_bytes(&self) -> usize {
        UNIT_BYTES
    }

    /// The same CPU and nothing queued: inline; all busy: the copy is local.
    fn inlines(&self) -> bool {
        true
    }

    fn requeue(&mut self, _: &View<'_>, worker: usize, _: &Item) -> usize {
        worker
    }

    fn waits_for(&self, view: &View<'_>, worker: usize) -> bool {
        view.lengths[worker] > 0
    }
}
