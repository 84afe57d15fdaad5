// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! A simulator of the whole stack: the designs' own code on any number of cores.
//!
//! Discrete events. Requests come open-loop or from clients in a closed loop. They wait
//! in the queues of their application's [`Design`](flexnet::design::Design), and are run
//! by workers on the cores that the arbiter grants (include/flexnet/designs.h, compiled for the
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
mod loaded;
mod outcome;
mod setup;
#[cfg(test)]
mod sleep_tests;
#[cfg(test)]
mod tests;
mod workload;

pub use arbiter::{CASE_BYTES, Params, recorded_rounds};
pub use capacity::{Objective, capacity};
pub use costs::Costs;
pub use engine::{simulate, simulate_with};
pub use loaded::{LoadedRule, RULE_PARAMETERS};
pub use outcome::{Outcome, Step};
pub use setup::Setup;
pub use workload::{Arrivals, NAMED, Phase, Service};
