// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What is simulated, and its defaults.

use super::arbiter::Params;
use super::costs::Costs;
use super::loaded::LoadedRule;
use super::workload::{Arrivals, Service};
use flexnet::design::{Choice, Rule};

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The design.
    pub design: Choice,
    /// A core rule in the place of the design's own.
    pub rule: Option<LoadedRule>,
    /// Cores in all.
    pub cores: usize,
    /// Applications; the load is divided among them.
    pub apps: usize,
    /// Service times.
    pub service: Service,
    /// When requests come.
    pub arrivals: Arrivals,
    /// Requests a second, of all applications together.
    pub load_rps: f64,
    /// Simulated time, s. A trace has its own.
    pub seconds: f64,
    /// If not 0, as long as so many requests take that are counted, instead.
    pub requests: u64,
    /// Of that, what is left out of the statistics at the start.
    pub warm_up: f64,
    /// Flows of an application.
    pub flows: u32,
    /// Can the stack distinguish the types of requests? If not, all are of type 0.
    pub typed: bool,
    /// What steps cost.
    pub costs: Costs,
    /// The arbiter's parameters.
    pub arbiter: Params,
    /// Of all that is random.
    pub seed: u64,
}

impl Setup {
    /// Defaults: one application, Poisson arrivals of 10 µs work at half load.
    pub fn new(design: Choice, cores: usize) -> Self {
        let rule = design.core_rule().design;
        let shenango = rule >= Rule::Shenango as u32 && rule <= Rule::ShenangoUtilisation as u32;
        Self {
            cores,
            apps: 1,
            service: Service::Types(vec![(1.0, 10_000)]),
            arrivals: Arrivals::Poisson,
            load_rps: cores as f64 * 50_000.0,
            seconds: 1.0,
            requests: 0,
            warm_up: 0.1,
            flows: 1024,
            typed: false,
            costs: Costs::default(),
            arbiter: Params {
                objective_ns: 10_000,
                low_mark_ns: 5_000,
                // Shenango looks every 5 µs; for the others as long as no
                // interrupt is to be felt (the daemon's default is longer: it
                // pays for a timer, which a busy IOKernel does not).
                interval_ns: if shenango { 5_000 } else { 10_000 },
                // As many rounds as by the daemon's defaults.
                idle_delay_ns: 2_000_000,
                cores_max: u32::try_from(cores).unwrap_or(u32::MAX),
                reserved: 0,
            },
            seed: 1,
            design,
            rule: None,
        }
    }

    /// How reports name the design.
    pub fn name(&self) -> String {
        match &self.rule {
            Some(rule) => rule.name().to_owned(),
            None => self.design.to_string(),
        }
    }

    /// Simulated time, s.
    pub fn length(&self) -> f64 {
        if let Arrivals::Trace(trace) = &self.arrivals {
            // To its last arrival. What came once was there for some time.
            let last_ns = trace.last().map_or(0, |(at_ns, _)| *at_ns);
            return (last_ns + 1).max(1_000) as f64 / 1e9;
        }
        match self.requests {
            0 => self.seconds,
            requests => requests as f64 / self.load_rps / (1.0 - self.warm_up),
        }
    }

    /// Requests a second at which every core is busy with nothing but service.
    pub fn full_rps(&self) -> f64 {
        self.cores as f64 * 1e9 / self.service.mean_ns()
    }
}
