// SPDX-License-Identifier: GPL-2.0-only
//! A capacity over several seeds: its mean and how sure that is.

use flexnet_sim::Outcome;
use serde::Serialize;
use std::fmt;

/// Student's t of a two-sided 95% interval, for 1 to 30 degrees of freedom; above: the normal
/// distribution's.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];
const NORMAL: f64 = 1.960;

/// A capacity, requests/s.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Estimate {
    design: String,
    objective: String,
    /// For each seed; 0: the objective holds at no load.
    by_seed: Vec<f64>,
    mean: f64,
    /// The ends of the mean's 95% confidence interval.
    low: f64,
    high: f64,
}

/// What was looked for.
pub(super) struct Found {
    pub estimate: Estimate,
    /// Of the first seed, at its capacity.
    pub outcome: Option<Outcome>,
}

impl Estimate {
    /// Of at least two seeds.
    pub fn new(design: String, objective: String, by_seed: Vec<f64>) -> Self {
        let count = by_seed.len().max(1) as f64;
        let mean = by_seed.iter().sum::<f64>() / count;
        let squares: f64 = by_seed.iter().map(|rps| (rps - mean).powi(2)).sum();
        let freedom = by_seed.len().saturating_sub(1);
        let error = (squares / freedom.max(1) as f64 / count).sqrt();
        let t = freedom.checked_sub(1).and_then(|at| T.get(at));
        let half = error * t.unwrap_or(&NORMAL);
        Self {
            design,
            objective,
            mean,
            low: (mean - half).max(0.0),
            high: mean + half,
            by_seed,
        }
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.high == 0.0 {
            return write!(f, "{}: {} at no load", self.design, self.objective);
        }
        write!(
            f,
            "{}: {} up to {:.0} requests/s (95% confidence interval over {} seeds: {:.0} to {:.0})",
            self.design,
            self.objective,
            self.mean,
            self.by_seed.len(),
            self.low,
            self.high
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Estimate;

    #[test]
    fn the_interval_is_students() {
        let of = |rps: &[f64]| Estimate::new(String::new(), String::new(), rps.to_vec());
        // Mean 3, standard error sqrt(2.5 / 5), four degrees of freedom.
        let five = of(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        let half = 2.776 * 0.5f64.sqrt();
        assert!((five.mean - 3.0).abs() < 1e-9);
        assert!((five.high - 3.0 - half).abs() < 1e-9 && (3.0 - five.low - half).abs() < 1e-9);
        let same = of(&[7.0; 40]);
        assert_eq!((same.low, same.mean, same.high), (7.0, 7.0, 7.0));
        assert_eq!(of(&[0.0, 1.0]).low, 0.0, "a load is not below 0");
    }
}
