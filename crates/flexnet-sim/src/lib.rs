// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! A simulator of the whole stack: the designs' own code on any number of cores.
//!
//! Discrete events. Requests come open-loop, wait in the queues of their
//! application's [`Design`](flexnet::design::Design), and are run by workers on the
//! cores that the arbiter grants (include/flexnet/designs.h, compiled for the
//! host). Batch work takes every core that nobody has. The stack's own steps
//! cost what [`Costs`] says.
//!
//! Promises: the same [`Setup`] gives the same [`Outcome`], bit for bit; memory
//! does not grow with simulated time unless queues do. Leaves to others: drawing
//! and tables (crates/flexnet-cli/src/sim).
//!
//! ```
//! use flexnet_sim::{Setup, simulate};
//!
//! let mut setup = Setup::new("shinjuku:quantum=30us,workers=4".parse()?, 4);
//! setup.service = "99.5%:4us,0.5%:10ms".parse()?;
//! setup.load_rps = 40_000.0;
//! setup.seconds = 0.5;
//! let outcome = simulate(&setup);
//! assert!(outcome.p99_us < 100.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod app;
mod arbiter;
mod capacity;
mod costs;
mod engine;
mod outcome;
#[cfg(test)]
mod tests;
mod workload;

pub use arbiter::{CASE_BYTES, Params, recorded_rounds};
pub use capacity::{Objective, capacity};
pub use costs::Costs;
pub use engine::{simulate, simulate_with};
pub use outcome::{Outcome, Step};
pub use workload::{Arrivals, NAMED, Service};

use flexnet::design::{Choice, Rule};

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The design.
    pub design: Choice,
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
    /// Simulated time, s.
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
        }
    }

    /// Simulated time, s.
    pub fn length(&self) -> f64 {
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
