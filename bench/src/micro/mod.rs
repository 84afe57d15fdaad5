// SPDX-License-Identifier: GPL-2.0-only
//! What the library's parts cost against other libraries': coroutines, queues,
//! and a send on the application's core.
//!
//! One process. Every round runs every case, forwards and backwards in turn, so
//! that a disturbance meets all of them; reported are the median, the least and
//! the most over the rounds. Rivals are used as their documentation says, and
//! where there is a choice, the way that is faster for them.

mod case;
mod coroutine;
mod machine;
mod queue;
mod send;

use anyhow::{Context, Result};
use case::Case;
use machine::Machine;
use serde::Serialize;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Rounds; each runs every case once
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Only these: coroutine, queue-1, queue-x, send-64, send-1400
    #[arg(long, value_delimiter = ',', value_name = "BENCH")]
    only: Vec<String>,
    /// Write the rows to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Row {
    bench: &'static str,
    #[serde(rename = "impl")]
    implementation: &'static str,
    ns_median: f64,
    ns_min: f64,
    ns_max: f64,
}

#[derive(Serialize)]
struct Report {
    experiment: &'static str,
    machine: Machine,
    rounds: u32,
    rows: Vec<Row>,
}

/// Runs the cases and reports.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut cases = Vec::new();
    coroutine::add_cases(&mut cases)?;
    queue::add_cases(&mut cases);
    send::add_cases(&mut cases);
    let wanted =
        |case: &Case| options.only.is_empty() || options.only.iter().any(|name| name == case.bench);
    cases.retain(wanted);
    anyhow::ensure!(!cases.is_empty(), "no such benchmark: {:?}", options.only);
    let samples = measure(&mut cases, options.rounds)?;
    let report = Report {
        experiment: "micro",
        machine: Machine::this(),
        rounds: options.rounds,
        rows: cases
            .iter()
            .zip(samples)
            .map(|(case, samples)| row(case, samples))
            .collect(),
    };
    print(&report);
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Samples by case. A first round, not counted, warms caches and pools.
fn measure(cases: &mut [Case], rounds: u32) -> Result<Vec<Vec<f64>>> {
    let mut samples = vec![Vec::new(); cases.len()];
    for round in 0..=rounds {
        let mut order: Vec<usize> = (0..cases.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let case = &mut cases[index];
            let ns = (case.measure)()
                .with_context(|| format!("{} of {}", case.bench, case.implementation))?;
            if round > 0 {
                samples[index].push(ns);
            }
        }
    }
    Ok(samples)
}

fn row(case: &Case, mut samples: Vec<f64>) -> Row {
    samples.sort_by(f64::total_cmp);
    let middle = samples.len() / 2;
    let median = if samples.len() % 2 == 1 {
        samples[middle]
    } else {
        (samples[middle - 1] + samples[middle]) / 2.0
    };
    let rounded = |ns: f64| (ns * 100.0).round() / 100.0;
    Row {
        bench: case.bench,
        implementation: case.implementation,
        ns_median: rounded(median),
        ns_min: rounded(samples[0]),
        ns_max: rounded(samples[samples.len() - 1]),
    }
}

fn print(report: &Report) {
    let machine = &report.machine;
    println!(
        "{}, {} CPUs, Linux {}; {} rounds, ns each",
        machine.cpu, machine.cpus, machine.kernel, report.rounds
    );
    println!(
        "{:<10} {:<20} {:>9} {:>9} {:>9} {:>9}",
        "bench", "impl", "median", "min", "max", "/flexnet"
    );
    for row in &report.rows {
        let own = report
            .rows
            .iter()
            .find(|other| other.bench == row.bench && other.implementation == "flexnet");
        let ratio = own.map_or(f64::NAN, |own| row.ns_median / own.ns_median);
        println!(
            "{:<10} {:<20} {:>9.1} {:>9.1} {:>9.1} {:>9.2}",
            row.bench, row.implementation, row.ns_median, row.ns_min, row.ns_max, ratio
        );
    }
}
