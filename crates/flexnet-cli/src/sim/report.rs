// SPDX-License-Identifier: GPL-2.0-only
//! What came out, as a table, JSON and CSV.

use super::confidence::Estimate;
use flexnet_sim::{Arrivals, Outcome, Setup};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
pub(super) struct Report {
    experiment: &'static str,
    pub cores: usize,
    apps: usize,
    pub service_mean_us: f64,
    seconds: f64,
    seed: u64,
    /// ns.
    costs: BTreeMap<&'static str, u64>,
    pub outcomes: Vec<Outcome>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capacities: Vec<Estimate>,
}

impl Report {
    pub fn new(setup: &Setup, seed: u64) -> Self {
        Self {
            experiment: "sim",
            cores: setup.cores,
            apps: setup.apps,
            service_mean_us: setup.service.mean_ns() / 1e3,
            seconds: match setup.arrivals {
                Arrivals::Trace(_) => setup.length(),
                _ => setup.seconds,
            },
            seed,
            costs: setup.costs.table().into_iter().collect(),
            outcomes: Vec::new(),
            capacities: Vec::new(),
        }
    }

    /// One line a result, then its steps.
    pub fn print(&self) {
        println!(
            "{} cores, {} application(s), {:.2} µs work on average, {} s simulated, seed {}",
            self.cores, self.apps, self.service_mean_us, self.seconds, self.seed
        );
        println!(
            "{:<32} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7} {:>6}",
            "design",
            "requests/s",
            "served",
            "P50 µs",
            "P99 µs",
            "P99.9 µs",
            "slowdown",
            "cores",
            "batch"
        );
        for outcome in &self.outcomes {
            println!(
                "{:<32} {:>10.0} {:>8.1}% {:>9.1} {:>9.1} {:>9.1} {:>8.1}x {:>7.2} {:>5.1}%",
                outcome.design,
                outcome.load_rps,
                100.0 * outcome.achieved_rps / outcome.load_rps.max(1e-9),
                outcome.p50_us,
                outcome.p99_us,
                outcome.p999_us,
                outcome.slowdown_p999,
                outcome.cores_used,
                100.0 * outcome.batch_share
            );
            for step in &outcome.steps {
                println!(
                    "{:<32} {:>10.0} {:>9} {:>9.1} {:>9.1} {:>9.1} {:>9} {:>7} {:>5.1}%",
                    "  settled at",
                    step.load_rps,
                    "",
                    step.p50_us,
                    step.p99_us,
                    step.p999_us,
                    "",
                    "",
                    100.0 * step.batch_share
                );
            }
        }
    }

    /// A row a result; steps are in the JSON only.
    pub fn csv(&self) -> String {
        let mut text = String::from(
            "design,load_rps,achieved_rps,requests,unfinished,mean_us,p50_us,p99_us,p999_us,slowdown_p999,cores_used,batch_share\n",
        );
        for o in &self.outcomes {
            text += &format!(
                "\"{}\",{:.1},{:.1},{},{},{:.3},{:.3},{:.3},{:.3},{:.2},{:.4},{:.5}\n",
                o.design,
                o.load_rps,
                o.achieved_rps,
                o.requests,
                o.unfinished,
                o.mean_us,
                o.p50_us,
                o.p99_us,
                o.p999_us,
                o.slowdown_p999,
                o.cores_used,
                o.batch_share
            );
        }
        text
    }
}
