// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The events: requests come, workers take and finish them. What a dispatcher does is in
//! engine/dispatcher.rs, cores are given and taken in engine/cores.rs. How workers sleep and
//! are woken is in engine/sleep.rs.

mod cores;
mod dispatcher;
mod sleep;

use super::app::{App, Job};
use super::arbiter::DesignParams;
use super::loaded::RuleInUse;
use super::outcome::{Outcome, Tally};
use super::setup::Setup;
use super::workload::Arrivals;
use flexnet::design::{Design, Item, Place};
use rand_distr::{Distribution, StandardUniform};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Batch work's.
    Free,
    /// Its worker will run in a moment.
    Starting,
    /// Its worker has nothing to do.
    Idle,
    Running,
    /// The same, and its worker is about to feel that it is preempted.
    Preempted,
}

#[derive(Clone, Copy, Debug)]
struct Core {
    state: State,
    app: usize,
    worker: usize,
    job: Job,
    slice_ns: u64,
    /// Nothing to do since; free since.
    idle_since: u64,
    /// Batch work has it while its worker idles.
    lent: bool,
    /// Its worker counts as at work.
    counted: bool,
}

/// What happens, in the order of equal times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A core's slice is over.
    Done(u32),
    /// A core's worker looks for work.
    Ready(u32),
    /// A core's worker has looked for work as long as it does, and falls asleep.
    Sleep(u32),
    /// A paced item of an application is due.
    Later(u32),
    /// A request of an application comes.
    Arrive(u32),
    /// The arbiter looks at an application.
    Round(u32),
}

struct Engine<'a> {
    setup: &'a Setup,
    apps: Vec<App>,
    round_armed: Vec<bool>,
    cores: Vec<Core>,
    /// Cores nobody has, lowest first.
    free: BinaryHeap<Reverse<usize>>,
    owed: usize,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    tally: Tally,
    now: u64,
    end: u64,
}

/// Simulates it.
pub fn simulate(setup: &Setup) -> Outcome {
    simulate_with(setup, |seed| setup.design.build(seed))
}

/// Simulates it with a design of one's own: `make` is called once an
/// application, with a seed.
pub fn simulate_with(setup: &Setup, make: impl FnMut(u64) -> Box<dyn Design>) -> Outcome {
    let mut engine = Engine::new(setup, make);
    engine.run();
    engine.finish()
}

impl<'a> Engine<'a> {
    fn new(setup: &'a Setup, mut make: impl FnMut(u64) -> Box<dyn Design>) -> Self {
        let apps = setup.apps.max(1);
        let guaranteed = (setup.cores / apps).max(1) as u32;
        let mut engine = Self {
            setup,
            apps: Vec::with_capacity(apps),
            round_armed: vec![false; apps],
            cores: Vec::with_capacity(setup.cores),
            free: (0..setup.cores).map(Reverse).collect(),
            owed: 0,
            events: BinaryHeap::new(),
            tally: Tally::new(setup),
            now: 0,
            end: (setup.length() * 1e9) as u64,
        };
        engine.cores.resize(
            setup.cores,
            Core {
                state: State::Free,
                app: 0,
                worker: 0,
                job: Job::default(),
                slice_ns: 0,
                idle_since: 0,
                lent: false,
                counted: false,
            },
        );
        for app in 0..apps {
            let seed = setup.seed.wrapping_mul(1_000_003).wrapping_add(app as u64);
            let design = make(seed);
            let params = DesignParams::new(setup.arbiter, design.core_rule());
            let random = Xoshiro256PlusPlus::seed_from_u64(seed);
            engine
                .apps
                .push(App::new(design, params, random, guaranteed));
            engine.apps[app].rule = setup.rule.clone().map(RuleInUse::new);
            engine.first_arrival(app);
        }
        engine
    }

    fn run(&mut self) {
        while let Some(Reverse((at, event))) = self.events.pop() {
            if at >= self.end {
                break;
            }
            self.now = at;
            match event {
                Event::Arrive(app) => self.arrive(app as usize),
                Event::Done(core) => self.done(core as usize),
                Event::Ready(core) => self.ready(core as usize),
                Event::Sleep(core) => self.fall_asleep(core as usize),
                Event::Round(app) => {
                    self.round_armed[app as usize] = false;
                    self.round(app as usize);
                }
                Event::Later(app) => self.later(app as usize),
            }
        }
        self.now = self.end;
    }

    /// What was not served counts with its age.
    fn finish(mut self) -> Outcome {
        let (end, submit) = (self.end, self.setup.costs.submit);
        self.tally.cores(&self.setup.arrivals, end, 0, 0);
        let running = self
            .cores
            .iter()
            .filter(|core| core.job.left_ns > 0)
            .map(|core| &core.job);
        let waiting = self
            .apps
            .iter()
            .flat_map(|app| app.queues.rest().chain(&app.blocked))
            .chain(self.apps.iter().flat_map(|app| app.later_jobs.values()));
        for job in running.chain(waiting) {
            let age = end - job.item.arrival_ns + submit;
            let came = job.item.arrival_ns;
            self.tally.unfinished += u64::from(came >= self.tally.from_ns);
            self.tally
                .request(&self.setup.arrivals, came, age, job.service_ns);
        }
        self.tally.outcome(self.setup, end)
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.events.push(Reverse((at, event)));
    }

    // --- requests ------------------------------------------------------------

    fn first_arrival(&mut self, index: usize) {
        match &self.setup.arrivals {
            Arrivals::Closed { clients, .. } => {
                for _ in (index..*clients).step_by(self.setup.apps.max(1)) {
                    self.think(index, 0);
                }
            }
            _ => self.next_arrival(index),
        }
    }

    /// A client whose last request is served at `from` sends the next one.
    fn think(&mut self, index: usize, from: u64) {
        let Arrivals::Closed { think, .. } = &self.setup.arrivals else {
            return;
        };
        let random = &mut self.apps[index].random;
        let at = from + think.as_ref().map_or(0, |think| think.draw(random).0);
        if at < self.end {
            self.schedule(at, Event::Arrive(index as u32));
        }
    }

    fn next_arrival(&mut self, index: usize) {
        let apps = self.apps.len();
        let app = &mut self.apps[index];
        let at = match &self.setup.arrivals {
            Arrivals::Trace(trace) => {
                // Applications take turns.
                match trace.get(app.trace_at * apps + index) {
                    Some(&(at, _)) => at,
                    None => return,
                }
            }
            Arrivals::Closed { .. } => return,
            arrivals => {
                let rate = self.setup.load_rps / apps as f64;
                let App { phase, random, .. } = app;
                arrivals.next(self.now, rate, apps as f64, phase, random)
            }
        };
        if at < self.end {
            self.schedule(at.max(self.now), Event::Arrive(index as u32));
        }
    }

    fn arrive(&mut self, index: usize) {
        let apps = self.apps.len();
        let app = &mut self.apps[index];
        let (mut service_ns, kind) = self.setup.service.draw(&mut app.random);
        if let Arrivals::Trace(trace) = &self.setup.arrivals {
            let recorded = trace[app.trace_at * apps + index].1;
            app.trace_at += 1;
            if recorded > 0 {
                service_ns = recorded;
            }
        }
        let unit: f64 = StandardUniform.sample(&mut app.random);
        let job = Job {
            item: Item {
                arrival_ns: self.now,
                queued_ns: self.now,
                flow: (unit * f64::from(self.setup.flows)) as u32,
                kind: if self.setup.typed { kind } else { 0 },
            },
            service_ns,
            left_ns: service_ns,
        };
        self.tally.came += u64::from(self.now >= self.tally.from_ns);
        self.next_arrival(index);
        if !self.submit(index, job) {
            self.apps[index].blocked.push_back(job);
            self.arm(index);
        }
    }

    /// Puts it where the design says; false: its sender blocks.
    fn submit(&mut self, index: usize, job: Job) -> bool {
        let app = &mut self.apps[index];
        match app.place(self.now, &job) {
            Place::Queue(queue) => self.enqueue(index, queue, job),
            Place::Later { at_ns, queue } => {
                app.later_count += 1;
                app.later
                    .push(Reverse((at_ns.max(self.now), app.later_count, queue)));
                app.later_jobs.insert(app.later_count, job);
                self.schedule(at_ns.max(self.now), Event::Later(index as u32));
            }
            Place::Block => return false,
            Place::Inline => self.served(index, &job, job.service_ns),
        }
        true
    }

    fn enqueue(&mut self, index: usize, queue: usize, mut job: Job) {
        let now = self.now;
        job.item.queued_ns = now;
        let app = &mut self.apps[index];
        app.queues.push(queue.min(app.queues.count() - 1), job);
        if app.queues.target == 0 {
            // Work and no core: at once, as in the kernel.
            self.round(index);
            return;
        }
        self.arm(index);
        if self.apps[index].eager && self.apps[index].queues.view(now).idle.is_none() {
            self.round(index);
            return;
        }
        let App { design, queues, .. } = &self.apps[index];
        if let Some(worker) = design.wake(&queues.view(now), queue) {
            self.wake(index, worker);
        }
    }

    fn later(&mut self, index: usize) {
        let app = &mut self.apps[index];
        let Some(Reverse((_, number, queue))) = app.later.pop() else {
            return;
        };
        if let Some(job) = app.later_jobs.remove(&number) {
            self.enqueue(index, queue, job);
        }
    }

    fn served(&mut self, index: usize, job: &Job, latency_left: u64) {
        let came = job.item.arrival_ns;
        self.tally.served += u64::from(self.now >= self.tally.from_ns);
        let latency = self.now + latency_left - came + self.setup.costs.submit;
        self.tally
            .request(&self.setup.arrivals, came, latency, job.service_ns);
        self.think(index, came + latency);
    }

    // --- workers -------------------------------------------------------------

    /// A worker begins, or has left the request that it was preempted in.
    fn ready(&mut self, core: usize) {
        let Core {
            app: index,
            worker,
            job,
            ..
        } = self.cores[core];
        if job.left_ns > 0 {
            let App { design, queues, .. } = &mut self.apps[index];
            let queue = design.requeue(&queues.view(self.now), worker, &job.item);
            self.cores[core].job.left_ns = 0;
            self.enqueue(index, queue, job);
            self.wake_sleeper(core);
        }
        self.advance(core);
    }

    /// A worker looks for work.
    fn advance(&mut self, core: usize) {
        let (index, worker) = (self.cores[core].app, self.cores[core].worker);
        if worker >= self.apps[index].queues.target {
            self.wake_sleeper(core);
            self.release(core);
            return;
        }
        let now = self.now;
        let App { design, queues, .. } = &mut self.apps[index];
        let take = design.next(&queues.view(now), worker);
        let job = take.and_then(|take| queues.take(take, worker).map(|job| (job, take)));
        let Some((job, take)) = job else {
            if !self.unblock(index) || self.apps[index].queues.queued == 0 {
                self.rest(core);
            } else {
                self.advance(core);
            }
            return;
        };
        let costs = &self.setup.costs;
        let stolen = if take.stolen { costs.steal } else { 0 };
        let resume = costs.resume + stolen;
        let begin = self.dispatch(index, &job) + resume;
        self.count(core, true);
        self.slice(core, job, begin);
        self.unblock(index);
    }

    fn slice(&mut self, core: usize, job: Job, begin: u64) {
        let quantum = self.apps[self.cores[core].app].design.quantum_ns();
        let slice = job.left_ns.min(quantum.unwrap_or(u64::MAX));
        let core_now = &mut self.cores[core];
        core_now.state = State::Running;
        core_now.job = job;
        core_now.slice_ns = slice;
        self.schedule(begin + slice, Event::Done(core as u32));
    }

    fn done(&mut self, core: usize) {
        let Core {
            app: index,
            worker,
            mut job,
            slice_ns,
            ..
        } = self.cores[core];
        job.left_ns -= slice_ns;
        self.cores[core].job.left_ns = job.left_ns;
        if job.left_ns == 0 {
            self.served(index, &job, 0);
            self.wake_sleeper(core);
            self.advance(core);
            return;
        }
        let now = self.now;
        let App { design, queues, .. } = &self.apps[index];
        let leaves = worker >= queues.target;
        if self.cores[core].state == State::Running && !leaves {
            if !design.waits_for(&queues.view(now), worker) {
                self.slice(core, job, now);
                return;
            }
            let until = self.preempt(index);
            if until > now {
                // It works on until it feels that.
                let core_now = &mut self.cores[core];
                core_now.state = State::Preempted;
                core_now.slice_ns = job.left_ns.min(until - now);
                let end = now + core_now.slice_ns;
                self.schedule(end, Event::Done(core as u32));
                return;
            }
        }
        self.tally.preemptions += 1;
        self.cores[core].state = State::Starting;
        let left = now + self.leaving(index);
        self.schedule(left, Event::Ready(core as u32));
    }

    /// Senders that blocked try again; true when one got in.
    fn unblock(&mut self, index: usize) -> bool {
        let mut any = false;
        while let Some(job) = self.apps[index].blocked.pop_front() {
            if !self.submit(index, job) {
                self.apps[index].blocked.push_front(job);
                break;
            }
            any = true;
        }
        any
    }

    fn count(&mut self, core: usize, works: bool) {
        let Core { app, counted, .. } = self.cores[core];
        if counted != works {
            self.cores[core].counted = works;
            self.apps[app].work(self.now, if works { 1 } else { -1 });
        }
    }
}
