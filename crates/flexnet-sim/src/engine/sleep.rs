// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Workers without work: they spin, they sleep, and they are woken. A worker that spins answers at
//! once. A worker that sleeps pays the wakeup.
//!
//! Left to others: which worker new work wakes (the design), and what a wakeup costs (costs.rs).

use super::super::app::App;
use super::super::costs::DEEP_AFTER_NS;
use super::{Engine, Event, State};

impl Engine<'_> {
    /// Nothing to do.
    pub(super) fn rest(&mut self, core: usize) {
        self.count(core, false);
        let (index, worker) = (self.cores[core].app, self.cores[core].worker);
        self.cores[core].state = State::Idle;
        self.cores[core].idle_since = self.now;
        let app = &mut self.apps[index];
        app.queues.set_idle(worker, true);
        if app.design.lends() {
            self.cores[core].lent = true;
            self.tally.cores(&self.setup.arrivals, self.now, -1, 0);
        }
        let (late, spin) = (app.design.wakes_after_turns(), self.setup.costs.spin);
        if late && spin > 0 {
            self.schedule(self.now + spin, Event::Sleep(core as u32));
        }
    }

    /// A worker that has nothing to do shall look.
    pub(super) fn wake(&mut self, index: usize, worker: usize) {
        let Some(core) = self.apps[index].core_of.get(worker).copied().flatten() else {
            return;
        };
        if self.cores[core].state != State::Idle {
            return;
        }
        self.apps[index].queues.set_idle(worker, false);
        let latency = self.unlend(core);
        self.cores[core].state = State::Starting;
        if latency == 0 {
            self.advance(core);
        } else {
            self.schedule(self.now + latency, Event::Ready(core as u32));
        }
    }

    /// Takes a lent core back; how long that takes.
    pub(super) fn unlend(&mut self, core: usize) -> u64 {
        let costs = &self.setup.costs;
        let idle = self.now - self.cores[core].idle_since;
        if !self.cores[core].lent {
            return 0;
        }
        self.cores[core].lent = false;
        self.tally.cores(&self.setup.arrivals, self.now, 1, 0);
        self.tally
            .spun(&self.setup.arrivals, self.now, idle.min(costs.spin));
        match idle {
            idle if idle < costs.spin => 0,
            idle if idle >= DEEP_AFTER_NS => costs.wake + costs.deep_idle,
            _ => costs.wake,
        }
    }

    /// After a turn, an executor wakes one that sleeps for what waits in its queue.
    pub(super) fn wake_sleeper(&mut self, core: usize) {
        let (index, worker) = (self.cores[core].app, self.cores[core].worker);
        let App {
            design,
            queues,
            core_of,
            ..
        } = &self.apps[index];
        if !design.wakes_after_turns() || !queues.has_work(worker) {
            return;
        }
        let sleeps = |core: usize| {
            let core = &self.cores[core];
            let idle = self.now - core.idle_since;
            core.state == State::Idle && core.lent && idle >= self.setup.costs.spin
        };
        let sleeper = core_of[..queues.target]
            .iter()
            .position(|core| core.is_some_and(sleeps));
        if let Some(sleeper) = sleeper {
            self.wake(index, sleeper);
        }
    }

    /// Its last look before it sleeps: an executor that spins sees its own queue only.
    pub(super) fn fall_asleep(&mut self, core: usize) {
        let looked = self.now - self.cores[core].idle_since;
        if self.cores[core].state != State::Idle || looked != self.setup.costs.spin {
            return; // it has had work since
        }
        let (index, worker) = (self.cores[core].app, self.cores[core].worker);
        if self.apps[index].queues.queued == 0 {
            return;
        }
        self.apps[index].queues.set_idle(worker, false);
        self.unlend(core);
        self.cores[core].state = State::Starting;
        self.advance(core);
    }
}
