// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! An application's stack: its design, its queues, its workers.

use super::arbiter::{self, Decision, DesignParams, Memory, Sample};
use super::loaded::RuleInUse;
use super::workload::Phase;
use flexnet::design::{Design, Item, Place, Take, View};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// A request on its way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Job {
    pub item: Item,
    pub service_ns: u64,
    pub left_ns: u64,
}

/// The queues, as a design sees them.
#[derive(Debug, Default)]
pub(super) struct Queues {
    queues: Vec<VecDeque<Job>>,
    lengths: Vec<u32>,
    heads_ns: Vec<u64>,
    pub queued: usize,
    /// Workers that shall have cores: numbers below this.
    pub target: usize,
    pub idles: Vec<bool>,
    idle_count: usize,
}

impl Queues {
    pub fn new(queues: usize, workers: usize) -> Self {
        Self {
            queues: vec![VecDeque::new(); queues],
            lengths: vec![0; queues],
            heads_ns: vec![0; queues],
            queued: 0,
            target: 0,
            idles: vec![false; workers],
            idle_count: 0,
        }
    }

    pub fn view(&self, now_ns: u64) -> View<'_> {
        let idles = &self.idles[..self.target.min(self.idles.len())];
        View {
            now_ns,
            lengths: &self.lengths,
            heads_ns: &self.heads_ns,
            queued: self.queued,
            workers: self.target,
            idle: match self.idle_count {
                0 => None,
                _ => idles.iter().position(|&idle| idle),
            },
            idles,
        }
    }

    pub fn set_idle(&mut self, worker: usize, idle: bool) {
        if self.idles[worker] != idle {
            self.idles[worker] = idle;
            if idle {
                self.idle_count += 1;
            } else {
                self.idle_count -= 1;
            }
        }
    }

    pub fn is_idle(&self, worker: usize) -> bool {
        self.idles[worker]
    }

    /// Does something wait in the worker's own queue?
    pub fn has_work(&self, worker: usize) -> bool {
        self.lengths.get(worker).is_some_and(|&length| length > 0)
    }

    pub fn push(&mut self, queue: usize, job: Job) {
        if self.queues[queue].is_empty() {
            self.heads_ns[queue] = job.item.arrival_ns;
        }
        self.queues[queue].push_back(job);
        self.lengths[queue] += 1;
        self.queued += 1;
    }

    fn pop(&mut self, queue: usize) -> Option<Job> {
        let job = self.queues[queue].pop_front()?;
        self.lengths[queue] -= 1;
        self.queued -= 1;
        self.heads_ns[queue] = self.queues[queue]
            .front()
            .map_or(0, |next| next.item.arrival_ns);
        Some(job)
    }

    /// The head, and more of that queue into the worker's own.
    pub fn take(&mut self, take: Take, worker: usize) -> Option<Job> {
        let job = self.pop(take.queue);
        if take.queue != worker && worker < self.queues.len() {
            for _ in 0..take.more {
                if let Some(more) = self.pop(take.queue) {
                    self.push(worker, more);
                }
            }
        }
        job
    }

    /// How long the longest-queued head waits, ns.
    fn delay_ns(&self, now: u64) -> u64 {
        if self.queued == 0 {
            return 0;
        }
        let heads = self.queues.iter().filter_map(VecDeque::front);
        heads.map(|job| now - job.item.queued_ns).max().unwrap_or(0)
    }

    /// Everything that is queued, at the end.
    pub fn rest(&self) -> impl Iterator<Item = &Job> {
        self.queues.iter().flatten()
    }

    pub fn count(&self) -> usize {
        self.queues.len()
    }
}

/// An application.
pub(super) struct App {
    pub design: Box<dyn Design>,
    pub queues: Queues,
    pub params: DesignParams,
    pub memory: Memory,
    /// The core rule in the place of the design's own.
    pub rule: Option<RuleInUse>,
    pub random: Xoshiro256PlusPlus,
    /// The core of each worker that has one, or still has.
    pub core_of: Vec<Option<usize>>,
    /// Cores it is to get as soon as somebody lets go of one.
    pub owed: usize,
    pub guaranteed: u32,
    /// Senders that found no room.
    pub blocked: VecDeque<Job>,
    /// Paced items: when, in which order, where; and the items.
    pub later: BinaryHeap<Reverse<(u64, u64, usize)>>,
    pub later_jobs: std::collections::HashMap<u64, Job>,
    pub later_count: u64,
    /// A central dispatcher is busy until then.
    pub dispatcher_ns: u64,
    /// Workers at work, and their time up to `busy_at`.
    pub running: usize,
    busy_ns: u64,
    busy_at: u64,
    /// Its arbiter looks at once when somebody wakes.
    pub eager: bool,
    /// Where its trace is.
    pub trace_at: usize,
    /// The rate of its arrivals.
    pub phase: Phase,
}

impl App {
    pub fn new(
        design: Box<dyn Design>,
        params: DesignParams,
        random: Xoshiro256PlusPlus,
        guaranteed: u32,
    ) -> Self {
        let workers = params.arbiter.cores_max as usize;
        Self {
            queues: Queues::new(design.queues(workers), workers),
            design,
            params,
            memory: Memory::default(),
            rule: None,
            random,
            core_of: vec![None; workers],
            owed: 0,
            guaranteed,
            blocked: VecDeque::new(),
            later: BinaryHeap::new(),
            later_jobs: std::collections::HashMap::new(),
            later_count: 0,
            dispatcher_ns: 0,
            running: 0,
            busy_ns: 0,
            busy_at: 0,
            eager: arbiter::is_eager(&params),
            trace_at: 0,
            phase: Phase::default(),
        }
    }

    /// A worker begins (1) or ends (-1) work.
    pub fn work(&mut self, now: u64, change: isize) {
        self.busy_ns += self.running as u64 * (now - self.busy_at);
        self.busy_at = now;
        self.running = self.running.saturating_add_signed(change);
    }

    /// One round of its arbiter.
    pub fn decide(&mut self, sample: &Sample) -> Decision {
        match &mut self.rule {
            Some(rule) => rule.round(&self.params, sample, &mut self.memory),
            None => arbiter::round(&self.params, sample, &mut self.memory),
        }
    }

    /// What the arbiter sees; busy time since the last sample.
    pub fn sample(&mut self, now: u64) -> Sample {
        self.work(now, 0);
        let waiting = self.queues.queued + self.blocked.len();
        let view = self.queues.view(now);
        let delay_ns = self.queues.delay_ns(now);
        let busy_ns = std::mem::take(&mut self.busy_ns);
        let runnable = self
            .design
            .runnable(&view, self.running)
            .min(self.core_of.len()) as u32;
        // All flows are latency flows here, and no other task waits.
        Sample {
            now_ns: now,
            delay_ns,
            busy_ns,
            depth: (waiting + self.running) as u64,
            latency_delay_ns: delay_ns,
            latency_busy_ns: busy_ns,
            runnable,
            latency_runnable: runnable,
            granted: self.queues.target as u32,
            ..Sample::default()
        }
    }

    pub fn place(&mut self, now: u64, job: &Job) -> Place {
        let App { design, queues, .. } = self;
        design.place(&queues.view(now), &job.item)
    }
}
