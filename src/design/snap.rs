// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Snap (SOSP'19).
//!
//! - **What**: operations to stateful, single-threaded engines; a flow's are
//!   always the same engine's.
//! - **When**: an engine runs its queue in order, 16 operations a turn; engines
//!   share a core by turns and never steal.
//! - **Where**: dedicating, on fixed cores; spreading, a core an awake engine;
//!   compacting, on one core until the SLO is missed, when the heaviest engine of
//!   the fullest core moves to a woken one, and back at low load.

use super::{Choice, CoreRule, Design, Item, Place, Rule, Take, View};

/// Operations an engine takes a turn (Snap, from memory).
const BATCH: u32 = 16;

pub(super) struct Snap {
    rule: CoreRule,
    engines: usize,
    /// The worker of each engine.
    worker_of: Vec<usize>,
    /// The engine each worker is with, and how often in a row.
    turn_of: Vec<(usize, u32)>,
    workers: usize,
}

impl Snap {
    pub fn new(choice: &Choice) -> Self {
        let engines = choice.value("engines") as usize;
        Self {
            rule: choice.core_rule(),
            engines,
            worker_of: vec![0; engines],
            turn_of: Vec::new(),
            workers: 1,
        }
    }

    fn load(&self, view: &View<'_>, worker: usize) -> u32 {
        (0..self.engines)
            .filter(|&engine| self.worker_of[engine] == worker)
            .map(|engine| view.lengths[engine] + 1)
            .sum()
    }

    /// The heaviest engine of the fullest worker moves to `to`, if that worker
    /// has another one.
    fn move_heaviest(&mut self, view: &View<'_>, to: usize) {
        let from = (0..to).max_by_key(|&worker| self.load(view, worker));
        let Some(from) = from else { return };
        let of_from = |engine: &usize| self.worker_of[*engine] == from;
        if (0..self.engines).filter(of_from).count() < 2 {
            return;
        }
        let heaviest = (0..self.engines)
            .filter(of_from)
            .max_by_key(|&engine| view.lengths[engine]);
        if let Some(engine) = heaviest {
            self.worker_of[engine] = to;
        }
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
        let mine = |engine: usize| self.worker_of[engine] == worker && view.lengths[engine] > 0;
        let stays = turns < BATCH && mine(engine);
        let engine = if stays {
            engine
        } else {
            (1..=self.engines)
                .map(|step| (engine + step) % self.engines)
                .find(|&engine| mine(engine))?
        };
        self.turn_of[worker] = (engine, if stays { turns + 1 } else { 1 });
        Some(Take::own(engine))
    }

    fn wake(&self, view: &View<'_>, queue: usize) -> Option<usize> {
        let worker = self.worker_of[queue];
        view.is_idle(worker).then_some(worker)
    }

    fn requeue(&mut self, _: &View<'_>, worker: usize, _: &Item) -> usize {
        self.turn_of[worker].0
    }

    /// Engines with work.
    fn runnable(&self, view: &View<'_>, running: usize) -> usize {
        let awake = view.lengths.iter().filter(|&&length| length > 0).count();
        running.max(awake)
    }

    fn workers_changed(&mut self, view: &View<'_>) {
        let workers = view.workers.max(1);
        if self.rule.design == Rule::SnapCompacting as u32 {
            for worker in self.workers..workers {
                self.move_heaviest(view, worker);
            }
        } else {
            for (engine, worker) in self.worker_of.iter_mut().enumerate() {
                *worker = engine % workers;
            }
        }
        // Engines of cores that were given back go to the least loaded.
        for engine in 0..self.engines {
            if self.worker_of[engine] >= workers {
                let least = (0..workers).min_by_key(|&worker| self.load(view, worker));
                self.worker_of[engine] = least.unwrap_or(0);
            }
        }
        self.workers = workers;
    }

    fn lends(&self) -> bool {
        self.rule.design != Rule::SnapDedicating as u32
    }
}
