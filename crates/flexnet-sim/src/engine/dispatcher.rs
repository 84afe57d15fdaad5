// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! A central dispatcher: one server, at which dispatches and preemptions queue. And what a
//! worker loses by each.

use super::super::app::Job;
use super::Engine;
use flexnet::design::Dispatch;

/// Lines between a worker and its dispatcher: it is free, and what is next.
const HANDOFF: u64 = 2;

impl Engine<'_> {
    /// When a worker that is free has the item; who hands it out is busy until then.
    pub(super) fn dispatch(&mut self, index: usize, job: &Job) -> u64 {
        let costs = &self.setup.costs;
        let app = &mut self.apps[index];
        let cold = match job.left_ns < job.service_ns {
            true => costs.cold,
            false => 0,
        };
        let from = app.dispatcher_ns.max(self.now);
        match app.design.dispatch() {
            Dispatch::Workers => self.now,
            Dispatch::Central => {
                app.dispatcher_ns = from + costs.dispatch;
                app.dispatcher_ns + HANDOFF * costs.line + cold
            }
            // It was handed out before the worker was free.
            Dispatch::Ahead => {
                app.dispatcher_ns = from + costs.dispatch;
                from + cold
            }
        }
    }

    /// Has a worker preempted whose quantum is over; when the worker feels it.
    pub(super) fn preempt(&mut self, index: usize) -> u64 {
        let costs = &self.setup.costs;
        let app = &mut self.apps[index];
        let from = app.dispatcher_ns.max(self.now);
        match app.design.dispatch() {
            Dispatch::Workers => self.now,
            Dispatch::Central => {
                app.dispatcher_ns = from + costs.interrupt;
                app.dispatcher_ns + costs.delivery
            }
            Dispatch::Ahead => {
                app.dispatcher_ns = from + costs.line;
                app.dispatcher_ns
            }
        }
    }

    /// What a preempted worker loses before it can take another item.
    pub(super) fn leaving(&self, index: usize) -> u64 {
        let costs = &self.setup.costs;
        let design = &self.apps[index].design;
        match design.dispatch() {
            _ if design.yields() => costs.r#yield,
            Dispatch::Ahead => costs.line + costs.switch,
            Dispatch::Central | Dispatch::Workers => costs.preempt + costs.switch,
        }
    }
}
