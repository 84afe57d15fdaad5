// SPDX-License-Identifier: GPL-2.0-only
//! Medians over rounds, and their spread.

use super::options::Options;
use super::scenario::{Measured, Scenario};
use crate::numbers::{kernel, machine, median, median_interval};
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Report {
    experiment: &'static str,
    kernel: String,
    cpus: usize,
    machine: String,
    scx_flexnet: String,
    rounds: usize,
    rounds_repeated: u32,
    pub(super) cells: Vec<CellReport>,
}

/// A rival in an experiment.
#[derive(Serialize)]
pub(super) struct CellReport {
    pub(super) scenario: Scenario,
    pub(super) rival: String,
    pub(super) values: Vec<Value>,
}

/// Something measured: the median over rounds, and its 95% interval.
#[derive(Serialize)]
pub(super) struct Value {
    pub(super) name: &'static str,
    pub(super) median: f64,
    pub(super) interval: [f64; 2],
}

impl CellReport {
    /// The median of that name.
    pub(super) fn value(&self, name: &str) -> Option<f64> {
        let found = self.values.iter().find(|value| value.name == name);
        found.map(|value| value.median)
    }
}

type Rounds = [Vec<(usize, Scenario, Measured)>];

impl Report {
    pub(super) fn new(
        options: &Options,
        repeated: u32,
        rivals: &[&str],
        scenarios: &[Scenario],
        rounds: &Rounds,
    ) -> Self {
        let mut cells = Vec::new();
        for &scenario in scenarios {
            for (at, rival) in rivals.iter().enumerate() {
                cells.push(CellReport {
                    scenario,
                    rival: (*rival).to_owned(),
                    values: values(at, scenario, rounds),
                });
            }
        }
        Self {
            experiment: "designs",
            kernel: kernel(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            machine: machine(),
            scx_flexnet: options.scx_flexnet.clone(),
            rounds: rounds.len(),
            rounds_repeated: repeated,
            cells,
        }
    }

    pub(super) fn title(&self) -> String {
        format!(
            "Linux {}, {} CPUs ({}), {} rounds",
            self.kernel, self.cpus, self.machine, self.rounds
        )
    }

    pub(super) fn table(&self) -> String {
        let mut text = self.title() + "\n";
        let mut last = None;
        for cell in &self.cells {
            if last.replace(cell.scenario) != Some(cell.scenario) {
                text.push_str(&format!("\n{:<34}", format!("{:?}", cell.scenario)));
                for value in &cell.values {
                    text.push_str(&format!(" {:>16}", value.name));
                }
                text.push('\n');
            }
            text.push_str(&format!("{:<34}", cell.rival));
            for value in &cell.values {
                let digits = if value.median < 10.0 { 2 } else { 0 };
                text.push_str(&format!(" {:>16.digits$}", value.median));
            }
            text.push('\n');
        }
        text
    }
}

fn values(rival: usize, scenario: Scenario, rounds: &Rounds) -> Vec<Value> {
    let measured: Vec<&Measured> = rounds
        .iter()
        .flatten()
        .filter(|(at, of, _)| *at == rival && *of == scenario)
        .map(|(.., measured)| measured)
        .collect();
    let Some(first) = measured.first() else {
        return Vec::new();
    };
    let value = |at: usize| {
        let all: Vec<f64> = measured.iter().map(|measured| measured.0[at].1).collect();
        Value {
            name: first.0[at].0,
            median: median(all.iter().copied()),
            interval: median_interval(&all).unwrap_or_default(),
        }
    };
    (0..first.0.len()).map(value).collect()
}
