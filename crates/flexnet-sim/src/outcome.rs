// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What came out.

use super::setup::Setup;
use super::workload::Arrivals;
use hdrhistogram::Histogram;
use serde::Serialize;

/// Requests that come so soon after a step are not counted in it, ns: what
/// "settled" means (issue of the designs: flat outside 100 µs after a step).
const SETTLE_NS: u64 = 100_000;

/// Latency in ns up to 100 s, to three digits.
fn histogram() -> Histogram<u64> {
    // These bounds are valid ones.
    Histogram::new_with_bounds(1, 100_000_000_000, 3)
        .unwrap_or_else(|_| unreachable!("valid bounds"))
}

/// A step of the load.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Its rate, requests/s.
    pub load_rps: f64,
    /// Of requests from 100 µs after it began on, µs.
    pub p50_us: f64,
    /// As above.
    pub p99_us: f64,
    /// As above.
    pub p999_us: f64,
    /// What batch work got of all cores in it.
    pub batch_share: f64,
}

/// What came out of a [`Setup`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The design's text.
    pub design: String,
    /// Requests/s that came.
    pub load_rps: f64,
    /// Requests/s that were served.
    pub achieved_rps: f64,
    /// Counted requests.
    pub requests: u64,
    /// Of these, not served by the end: counted with their age then.
    pub unfinished: u64,
    /// Latency from arrival, µs: its mean.
    pub mean_us: f64,
    /// Percentiles of it.
    pub p50_us: f64,
    /// As above.
    pub p99_us: f64,
    /// As above.
    pub p999_us: f64,
    /// 99.9th percentile of latency by service time.
    pub slowdown_p999: f64,
    /// Granted cores, on average.
    pub cores_used: f64,
    /// What batch work got of all cores.
    pub batch_share: f64,
    /// Changes of the number of granted cores.
    pub core_changes: u64,
    /// Turns ended by preemption.
    pub preemptions: u64,
    /// Where the load has steps.
    pub steps: Vec<Step>,
}

/// Adds up while it runs.
pub(super) struct Tally {
    latency: Histogram<u64>,
    /// In hundredths.
    slowdown: Histogram<u64>,
    settled: Vec<Histogram<u64>>,
    pub from_ns: u64,
    pub served: u64,
    pub unfinished: u64,
    pub came: u64,
    pub core_changes: u64,
    pub preemptions: u64,
    /// Core time that batch work did not get, in all and by step; ns.
    pub taken_ns: u64,
    taken_by_step: Vec<u64>,
    time_by_step: Vec<u64>,
    pub granted_ns: u64,
    /// Cores taken now, and since when `taken_ns` is right.
    taken: u64,
    granted: u64,
    at_ns: u64,
}

impl Tally {
    pub fn new(setup: &Setup) -> Self {
        let steps = setup.arrivals.steps();
        Self {
            latency: histogram(),
            slowdown: histogram(),
            settled: match steps {
                1 => Vec::new(),
                steps => (0..steps).map(|_| histogram()).collect(),
            },
            from_ns: (setup.length() * setup.warm_up * 1e9) as u64,
            served: 0,
            unfinished: 0,
            came: 0,
            core_changes: 0,
            preemptions: 0,
            taken_ns: 0,
            taken_by_step: vec![0; steps],
            time_by_step: vec![0; steps],
            granted_ns: 0,
            taken: 0,
            granted: 0,
            at_ns: 0,
        }
    }

    /// A request is done, or it is the end.
    pub fn request(&mut self, arrivals: &Arrivals, came_ns: u64, latency: u64, service: u64) {
        if came_ns < self.from_ns {
            return;
        }
        self.latency.saturating_record(latency.max(1));
        self.slowdown
            .saturating_record((latency * 100 / service.max(1)).max(1));
        if !self.settled.is_empty() {
            let (step, into) = arrivals.step(came_ns);
            if into >= SETTLE_NS {
                self.settled[step].saturating_record(latency.max(1));
            }
        }
    }

    /// `taken` cores more are not batch work's, and `granted` more are granted.
    pub fn cores(&mut self, arrivals: &Arrivals, now: u64, taken: i64, granted: i64) {
        let from = self.at_ns.max(self.from_ns);
        if now > from {
            let (time, step) = (now - from, arrivals.step(from).0);
            self.taken_ns += self.taken * time;
            self.granted_ns += self.granted * time;
            // A change long after a step's end is rare enough: rounds are often.
            self.taken_by_step[step] += self.taken * time;
            self.time_by_step[step] += time;
        }
        self.at_ns = now;
        self.taken = self.taken.saturating_add_signed(taken);
        self.granted = self.granted.saturating_add_signed(granted);
    }

    /// A worker looked for work for so long before its core was lent.
    pub fn spun(&mut self, arrivals: &Arrivals, now: u64, spin: u64) {
        if now > self.from_ns {
            self.taken_ns += spin;
            self.taken_by_step[arrivals.step(now).0] += spin;
        }
    }

    pub fn outcome(self, setup: &Setup, end_ns: u64) -> Outcome {
        let time = (end_ns - self.from_ns).max(1) as f64;
        let capacity = time * setup.cores as f64;
        let us = |histogram: &Histogram<u64>, quantile| {
            histogram.value_at_quantile(quantile) as f64 / 1e3
        };
        let rates = match &setup.arrivals {
            Arrivals::Steps { rates, .. } => rates.as_slice(),
            _ => &[],
        };
        let steps = self.settled.iter().enumerate().map(|(at, settled)| Step {
            load_rps: rates[at],
            p50_us: us(settled, 0.5),
            p99_us: us(settled, 0.99),
            p999_us: us(settled, 0.999),
            batch_share: 1.0
                - self.taken_by_step[at] as f64
                    / (self.time_by_step[at].max(1) as f64 * setup.cores as f64),
        });
        Outcome {
            design: setup.name(),
            load_rps: self.came as f64 * 1e9 / time,
            achieved_rps: self.served as f64 * 1e9 / time,
            requests: self.latency.len(),
            unfinished: self.unfinished,
            mean_us: self.latency.mean() / 1e3,
            p50_us: us(&self.latency, 0.5),
            p99_us: us(&self.latency, 0.99),
            p999_us: us(&self.latency, 0.999),
            slowdown_p999: self.slowdown.value_at_quantile(0.999) as f64 / 100.0,
            cores_used: self.granted_ns as f64 / time,
            batch_share: 1.0 - self.taken_ns as f64 / capacity,
            core_changes: self.core_changes,
            preemptions: self.preemptions,
            steps: steps.collect(),
        }
    }
}
