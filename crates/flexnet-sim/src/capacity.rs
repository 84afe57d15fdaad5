// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The highest load that holds an objective.

use super::engine::simulate;
use super::outcome::Outcome;
use super::setup::Setup;
use flexnet::design::units::duration_ns;
use std::fmt;
use std::str::FromStr;

/// `p99<=100us`: a percentile of latency, or of slowdown, and its limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    kind: Kind,
    /// µs, or times.
    limit: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    P50,
    P99,
    P999,
    Slowdown,
}

impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "an objective is p50|p99|p99.9<=TIME or slowdown<=N, such as p99<=100us";
        let (name, limit) = text.split_once("<=").ok_or(form)?;
        let kind = match name.trim() {
            "p50" => Kind::P50,
            "p99" => Kind::P99,
            "p99.9" => Kind::P999,
            "slowdown" => Kind::Slowdown,
            _ => return Err(form.to_owned()),
        };
        let limit = match kind {
            Kind::Slowdown => limit.trim().parse().map_err(|_| form.to_owned())?,
            _ => duration_ns(limit)? as f64 / 1e3,
        };
        Ok(Self { kind, limit })
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::P50 => write!(f, "p50<={}us", self.limit),
            Kind::P99 => write!(f, "p99<={}us", self.limit),
            Kind::P999 => write!(f, "p99.9<={}us", self.limit),
            Kind::Slowdown => write!(f, "slowdown<={}", self.limit),
        }
    }
}

impl Objective {
    /// Does it hold there?
    pub fn holds(&self, outcome: &Outcome) -> bool {
        let value = match self.kind {
            Kind::P50 => outcome.p50_us,
            Kind::P99 => outcome.p99_us,
            Kind::P999 => outcome.p999_us,
            Kind::Slowdown => outcome.slowdown_p999,
        };
        value <= self.limit
    }
}

/// The highest load (requests/s) at which the objective holds, to `precision`
/// (0.01: one per cent), by bisection up to full load; and what came out there.
/// `None`: not even at a hundredth of it.
pub fn capacity(
    setup: &Setup,
    objective: Objective,
    precision: f64,
    mut progress: impl FnMut(&Outcome, bool),
) -> Option<(f64, Outcome)> {
    let full = setup.full_rps();
    let mut best = None;
    let (mut low, mut high) = (0.01 * full, full);
    let mut try_at = |rps: f64| {
        let outcome = simulate(&Setup {
            load_rps: rps,
            ..setup.clone()
        });
        let holds = objective.holds(&outcome);
        progress(&outcome, holds);
        holds.then_some((rps, outcome))
    };
    match try_at(low) {
        None => return None,
        some => best = some.or(best),
    }
    while high - low > precision * high {
        let middle = (low + high) / 2.0;
        match try_at(middle) {
            Some(better) => {
                low = middle;
                best = Some(better);
            }
            None => high = middle,
        }
    }
    best
}
