// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Snap (SOSP'19).
//!
//! - **What**: operations to stateful, single-threaded engines; a flow's are
//!   always the same engine's.
//! - **When**: an engine runs its queue in order, 16 operations a turn; engines
//!   share a core by turns and never steal.
//! - **Where**: dedicating, on fixed cores; spreading, a core an awake engine;
//!   compacting, on one core until the SLO is missed, when the heaviest engine that
//!   waits so long moves to a woken or less loaded core, and back at low load.

use super::core_rule::{CoreRule, Rule};
use super::interface::{Design, Item, Place, Take, View};
use super::parse::Choice;

/// Operations an engine takes a turn (Snap, from memory).
const BATCH: u32 = 16;

pub(super) struct Snap {
    rule: CoreRule,
    engines: usize,
    /// The worker of each engine.
    worker_of: Vec<usize>,
    /// The engine each worker is with, and how often in a row.
    turn_of: Vec<(usize, u32)>,
    /// Engines that a worker is with; spreading only.
    taken: Vec<bool>,
    workers: usize,
    /// What each worker's engines have queued, and how many they are.
    loads: Vec<(u32, usize)>,
}

impl Snap {
    pub fn new(choice: &Choice) -> Self {
        let engines = choice.value("engines") as usize;
        Self {
            rule: choice.core_rule(),
            engines,
            worker_of: vec![0; engines],
            turn_of: Vec::new(),
            taken: vec![false; engines],
            workers: 1,
            loads: Vec::new(),
        }
    }

    fn spreads(&self) -> bool {
        self.rule.design == Rule::SnapSpreading as u32
    }

    /// Adds up the loads. Engines of cores that were given back count for nobody.
    fn add_up(&mut self, view: &View<'_>) {
        self.loads.clear();
        self.loads.resize(self.workers, (0, 0));
        for (worker, length) in self.worker_of.iter().zip(view.lengths) {
            if let Some((queued, engines)) = self.loads.get_mut(*worker) {
                *queued += length;
                *engines += 1;
            }
        }
    }

    /// The worker with least to do.
    fn least(&self) -> usize {
        let workers = 0..self.loads.len();
        workers
            .min_by_key(|&worker| self.loads[worker])
            .unwrap_or(0)
    }

    /// An engine that waits longer than the SLO behind others of its worker moves
    /// to the worker with least to do; true when one did. The loads are added up.
    fn balance(&mut self, view: &View<'_>) -> bool {
        let late = |engine: &usize| {
            let age = view.now_ns.saturating_sub(view.heads_ns[*engine]);
            view.lengths[*engine] > 0 && age > self.rule.high_ns
        };
        let shares = |engine: &usize| self.loads[self.worker_of[*engine]].1 > 1;
        let heaviest = (0..self.engines)
            .filter(|engine| late(engine) && shares(engine))
            .max_by_key(|&engine| view.lengths[engine]);
        let Some(engine) = heaviest else {
            return false;
        };
        let (least, from) = (self.least(), self.worker_of[engine]);
        let gains = self.loads[least].0 + view.lengths[engine] < self.loads[from].0;
        let empty = self.loads[least] == (0, 0);
        if gains || empty {
            self.worker_of[engine] = least;
        }
        gains || empty
    }
}

impl Design for Snap {
    fn core_rule(&self) -> CoreRule {
        self.rule
    }

    fn queues(&self, workers: usize) -> usize {
        self.engines.max(workers)
    }

    fn place(&mut self, _: &View<'_>, item: &Item) -> Place {
        Place::Queue(item.flow as usize % self.engines)
    }

    fn next(&mut self, view: &View<'_>, worker: usize) -> Option<Take> {
        if worker >= self.turn_of.len() {
            self.turn_of.resize(worker + 1, (0, 0));
        }
        let (engine, turns) = self.turn_of[worker];
        let spreads = self.spreads();
        if spreads && turns > 0 {
            self.taken[engine] = false;
        }
        let mine = |engine: usize| {
            let served = match spreads {
                true => !self.taken[engine],
                false => self.worker_of[engine] == worker,
            };
            served && view.lengths[engine] > 0
        };
        let stays = turns < BATCH && mine(engine);
        let found = match stays {
            true => Some(engine),
            false => (1..=self.engines)
                .map(|step| (engine + step) % self.engines)
                .find(|&engine| mine(engine)),
        };
        let Some(engine) = found else {
            self.turn_of[worker].1 = 0;
            return None;
        };
        self.turn_of[worker] = (engine, if stays { turns + 1 } else { 1 });
        self.taken[engine] = spreads;
        Some(Take::own(engine))
    }

    fn packs(&self) -> bool {
        !self.spreads()
    }

    fn leave(&mut self, worker: usize) {
        if let Some((engine, turns)) = self.turn_of.get_mut(worker) {
            self.taken[*engine] &= *turns == 0;
            *turns = 0;
        }
    }

    fn wake(&self, view: &View<'_>, queue: usize) -> Option<usize> {
        if self.spreads() {
            return if self.taken[queue] { None } else { view.idle };
        }
        let worker = self.worker_of[queue];
        view.is_idle(worker).then_some(worker)
    }

    fn requeue(&mut self, _: &View<'_>, worker: usize, _: &Item) -> usize {
        self.turn_of[worker].0
    }

    /// Engines with work: those that wait, and those that run.
    fn runnable(&self, view: &View<'_>, running: usize) -> usize {
        let queued = view.lengths.iter().zip(&self.taken);
        let waiting = queued.filter(|(length, taken)| **length > 0 && !**taken);
        match self.spreads() {
            true => running + waiting.count(),
            false => running.max(waiting.count()),
        }
    }

    fn rearrange(&mut self, view: &View<'_>) -> bool {
        let workers = view.workers.max(1);
        let changed = workers != self.workers;
        self.workers = workers;
        let compacting = self.rule.design == Rule::SnapCompacting as u32;
        if changed && !compacting && !self.spreads() {
            for (engine, worker) in self.worker_of.iter_mut().enumerate() {
                *worker = engine % workers;
            }
        }
        self.add_up(view);
        // Engines of cores that were given back go where there is least to do.
        for engine in 0..self.engines {
            if self.worker_of[engine] >= workers {
                let least = self.least();
                self.worker_of[engine] = least;
                self.loads[least].0 += view.lengths[engine];
                self.loads[least].1 += 1;
            }
        }
        let moved = compacting && view.queued > 0 && self.balance(view);
        changed || moved
    }

    fn lends(&self) -> bool {
        self.rule.design != Rule::SnapDedicating as u32
    }
}
