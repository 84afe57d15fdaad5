// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Cores: the arbiter's rounds, which core an application gets, and which one
//! gives one up.

use super::super::app::App;
use super::super::arbiter::{self, Claim};
use super::super::costs::DEEP_AFTER_NS;
use super::{Engine, Event, State};
use std::cmp::Reverse;

impl Engine<'_> {
    /// Nobody's any more, or an application's that waits for one.
    pub(super) fn release(&mut self, core: usize) {
        self.count(core, false);
        let (index, worker) = (self.cores[core].app, self.cores[core].worker);
        self.apps[index].queues.set_idle(worker, false);
        self.apps[index].core_of[worker] = None;
        self.apps[index].design.leave(worker);
        if self.cores[core].lent {
            self.unlend(core);
        }
        self.tally.cores(&self.setup.arrivals, self.now, -1, -1);
        self.cores[core].state = State::Free;
        self.cores[core].idle_since = self.now;
        self.free.push(Reverse(core));
        if self.owed > 0
            && let Some(index) = self.apps.iter().position(|app| app.owed > 0)
        {
            let app = &mut self.apps[index];
            let target = app.queues.target;
            let worker = app.core_of[..target].iter().position(Option::is_none);
            if let Some(worker) = worker {
                app.owed -= 1;
                self.owed -= 1;
                self.assign(index, worker);
            }
        }
    }

    /// The free core that an application gets next.
    fn pick_core(&mut self, index: usize) -> Option<usize> {
        if self.apps[index].design.packs() {
            return self.free.pop().map(|Reverse(core)| core);
        }
        let free = self.free.iter().map(|Reverse(core)| *core);
        let longest = free.min_by_key(|&core| (self.cores[core].idle_since, core))?;
        self.free.retain(|Reverse(core)| *core != longest);
        Some(longest)
    }

    /// A free core for a worker; false: there is none.
    fn assign(&mut self, index: usize, worker: usize) -> bool {
        let Some(core) = self.pick_core(index) else {
            return false;
        };
        self.apps[index].core_of[worker] = Some(core);
        self.cores[core].state = State::Starting;
        self.cores[core].app = index;
        self.cores[core].worker = worker;
        let costs = &self.setup.costs;
        let mut latency = costs.grant;
        if self.now - self.cores[core].idle_since >= DEEP_AFTER_NS {
            latency += costs.deep_idle;
        }
        self.cores[core].idle_since = self.now;
        self.tally.cores(&self.setup.arrivals, self.now, 1, 1);
        self.schedule(self.now + latency, Event::Ready(core as u32));
        true
    }

    /// Workers below `target` shall have cores.
    pub(super) fn set_target(&mut self, index: usize, target: usize) {
        let before = self.apps[index].queues.target;
        if target == before {
            return;
        }
        self.tally.core_changes += 1;
        self.apps[index].queues.target = target;
        for worker in before..target {
            if self.apps[index].core_of[worker].is_none() && !self.assign(index, worker) {
                self.apps[index].owed += 1;
                self.owed += 1;
            }
        }
        for worker in target..before {
            match self.apps[index].core_of[worker] {
                Some(core) if self.cores[core].state == State::Idle => self.release(core),
                // It looks when it has finished its turn.
                Some(_) => {}
                None => {
                    self.apps[index].owed -= 1;
                    self.owed -= 1;
                }
            }
        }
        self.rearrange(index);
    }

    /// Lets the design move work, and wakes the workers that have some now.
    pub(super) fn rearrange(&mut self, index: usize) {
        let now = self.now;
        let App { design, queues, .. } = &mut self.apps[index];
        if !design.rearrange(&queues.view(now)) {
            return;
        }
        for worker in 0..self.apps[index].queues.target {
            let App { design, queues, .. } = &mut self.apps[index];
            if queues.queued > 0
                && queues.is_idle(worker)
                && design.next(&queues.view(now), worker).is_some()
            {
                self.wake(index, worker);
            }
        }
    }

    /// The arbiter looks again after its interval.
    pub(super) fn arm(&mut self, index: usize) {
        if !self.round_armed[index] {
            self.round_armed[index] = true;
            let app = &self.apps[index];
            let next = self.now + arbiter::next_round(&app.params.arbiter, &app.memory).max(1);
            self.schedule(next, Event::Round(index as u32));
        }
    }

    /// A round for an application.
    pub(super) fn round(&mut self, index: usize) {
        let now = self.now;
        let app = &mut self.apps[index];
        let sample = app.sample(now);
        let decision = app.decide(&sample);
        let before = app.queues.target;
        let wanted = decision.cores as usize;
        if wanted < before {
            self.set_target(index, wanted);
        } else if wanted > before {
            let granted = (before..wanted)
                .take_while(|&cores| self.claims(index, cores))
                .count();
            self.set_target(index, before + granted);
        } else {
            self.rearrange(index);
        }
        let app = &self.apps[index];
        if app.queues.target > 0 || app.queues.queued > 0 || !app.blocked.is_empty() {
            self.arm(index);
        }
    }

    /// May an application that will have `cores` have one more? Takes it from
    /// the application furthest above its guarantee.
    fn claims(&mut self, index: usize, cores: usize) -> bool {
        let app = &self.apps[index];
        let most = app.params.arbiter.cores_max;
        let held = app.core_of.iter().flatten().count();
        let spare = self.free.len() > self.owed + cores.saturating_sub(held);
        match arbiter::claim(cores as u32, app.guaranteed, most) {
            Claim::None => false,
            Claim::Idle => spare,
            Claim::Revoke if spare => true,
            Claim::Revoke => {
                let over = |app: &App| {
                    arbiter::cores_above_guarantee(app.queues.target as u32, app.guaranteed)
                };
                let largest = (0..self.apps.len())
                    .filter(|&other| other != index)
                    .max_by_key(|&other| over(&self.apps[other]));
                match largest {
                    Some(other) if over(&self.apps[other]) > 0 => {
                        self.set_target(other, self.apps[other].queues.target - 1);
                        true
                    }
                    _ => false,
                }
            }
        }
    }
}
