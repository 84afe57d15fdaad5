// SPDX-License-Identifier: GPL-2.0-only
//! Unmodified programs, plain and with the preload library: redis (asked and
//! publishing), memcached, nginx and iperf3, alone and beside bulk senders, under EEVDF and scx_flexnet.
//!
//! Every round runs every cell once, in an order that is turned round each
//! time. Services have two phases: an open loop at a fixed rate (10% of what
//! the plain program reaches alone), latency from the time a request was due;
//! and, alone, a closed loop for throughput and the time the program's own
//! threads need for a request. Publishing and iperf3 are throughput only.

mod cell;
pub(crate) mod client;
pub(crate) mod fanout;
mod options;
mod plot;
mod program;
mod protocol;
mod report;

use super::numbers::median;
use super::schedulers::{Scheduler, log_beside};
use super::steal::Steal;
use super::virtual_time::Lockstep;
use anyhow::{Context, Result, bail};
use cell::{Bench, Cell, Key, Measured, RATE_SHARE, Workload};
use program::Scratch;
use std::time::Duration;

pub(crate) use options::Options;

/// A round that lost more of the processor to others is done again.
const STEAL_MAX: f64 = 0.05;
/// Closed-loop runs whose median is what is reached.
const REACHED_RUNS: usize = 3;
/// Rates that can be asked for.
const RATES: std::ops::RangeInclusive<f64> = 1.0..=1e6;
/// Between attaching a scheduler and its first cell.
const SETTLE: Duration = Duration::from_millis(500);

/// What cannot be run as it is asked for.
fn check(options: &Options) -> Result<()> {
    if !options.native && !rustix::process::geteuid().is_root() {
        bail!(
            "attaching schedulers needs root; run it as root, with --native, or bench/programs, which boots a VM"
        );
    }
    if options.write == 0 || options.seconds <= 0.0 {
        bail!("--write needs a byte at least, --seconds more than none");
    }
    if options.rate.is_some_and(|rate| !RATES.contains(&rate)) {
        bail!("--rate is from 1 to 1,000,000 requests a second");
    }
    if options.lockstep && options.rate.is_none() {
        bail!("--lockstep needs --rate: a rate found before lockstep is another machine's");
    }
    Ok(())
}

pub(crate) fn run(options: &Options) -> Result<()> {
    check(options)?;
    let schedulers = schedulers(options);
    if schedulers.is_empty() {
        bail!("--only names no scheduler");
    }
    let scratch = Scratch::new()?;
    let bench = Bench {
        socket: &options.socket,
        log: log_beside(options.json.as_deref()),
        scratch: &scratch,
        seconds: Duration::from_secs_f64(options.seconds),
        write: options.write,
        connections: options.connections,
    };
    let workloads: Vec<Workload> = options
        .programs
        .iter()
        .flat_map(|p| p.workloads())
        .collect();
    let rates = rates(&bench, &schedulers[0], &workloads, options.rate)?;
    let mut cells: Vec<Cell> = keys(options, &schedulers, &workloads)
        .into_iter()
        .map(|key| Cell {
            key,
            rounds: vec![],
        })
        .collect();
    let mut lockstep = Lockstep::new(options.lockstep);
    let (mut good, mut repeated, mut noisy) = (0, 0, false);
    while good < options.rounds {
        let turned = (good + repeated) % 2 == 1;
        let steal = Steal::start();
        let measured = round(&bench, &schedulers, &cells, &rates, turned, &mut lockstep)?;
        let stolen = steal.share();
        let again = stolen > STEAL_MAX && repeated < options.rounds;
        eprintln!(
            "round {} of {}: {:.1}% of the processor stolen{}",
            good + 1,
            options.rounds,
            stolen * 100.0,
            if again { ", again" } else { "" }
        );
        if again {
            repeated += 1;
            continue;
        }
        noisy |= stolen > STEAL_MAX;
        good += 1;
        for (cell, measured) in cells.iter_mut().zip(measured) {
            cell.rounds.push(measured);
        }
    }
    let run = report::Run {
        options,
        rates: &rates,
        repeated,
        noisy,
    };
    let report = report::Report::new(&schedulers, &cells, &run);
    println!("{}", report.table());
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(file) = &options.svg {
        plot::draw(&report, file).with_context(|| format!("cannot draw {}", file.display()))?;
    }
    Ok(())
}

fn schedulers(options: &Options) -> Vec<Scheduler> {
    let mut all = vec![Scheduler::eevdf()];
    if !options.native {
        let mut arguments: Vec<String> = options
            .scx_flexnet
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        if !options.steer.is_empty() {
            arguments.extend(["--steer".into(), options.steer.clone()]);
        }
        // The bulk senders send through the library there, as in the
        // co-location experiment.
        all.push(Scheduler::flexnet(
            "scx_flexnet",
            &options.socket,
            true,
            &arguments,
        ));
    }
    all.retain(|scheduler| options.only.is_empty() || options.only.contains(&scheduler.name));
    all
}

fn keys(options: &Options, schedulers: &[Scheduler], workloads: &[Workload]) -> Vec<Key> {
    let neighbours: &[u32] = if options.native {
        &[0]
    } else {
        &options.neighbours
    };
    let mut keys = Vec::new();
    for scheduler in 0..schedulers.len() {
        for &workload in workloads {
            for &neighbours in neighbours {
                keys.extend(options.offload.iter().map(|&offload| Key {
                    scheduler,
                    workload,
                    offload,
                    neighbours,
                }));
            }
        }
    }
    keys
}

/// Each service's open-loop rate, by its workload.
fn rates(
    bench: &Bench<'_>,
    eevdf: &Scheduler,
    workloads: &[Workload],
    given: Option<f64>,
) -> Result<Vec<(Workload, f64)>> {
    let mut rates = Vec::new();
    for &workload in workloads {
        let Workload::Service(service) = workload else {
            continue;
        };
        if let Some(rate) = given {
            rates.push((workload, rate));
            continue;
        }
        // A closed loop has several speeds, by how its clients come together.
        let reached = (0..REACHED_RUNS)
            .map(|_| bench.reached(eevdf, service))
            .collect::<Result<Vec<f64>>>()
            .with_context(|| format!("{} alone", workload.name()))?;
        let reached = median(reached);
        let rate = (reached * RATE_SHARE).max(1.0).round();
        eprintln!(
            "{} closed-loop alone: {reached:.0} requests/s; open-loop rate: {rate:.0}/s",
            workload.name()
        );
        rates.push((workload, rate));
    }
    Ok(rates)
}

/// Every cell once, in the order of `cells`.
fn round(
    bench: &Bench<'_>,
    schedulers: &[Scheduler],
    cells: &[Cell],
    rates: &[(Workload, f64)],
    turned: bool,
    lockstep: &mut Lockstep,
) -> Result<Vec<Measured>> {
    let mut order: Vec<usize> = (0..cells.len()).collect();
    let mut scheduler_order: Vec<usize> = (0..schedulers.len()).collect();
    if turned {
        order.reverse();
        scheduler_order.reverse();
    }
    let mut measured = vec![Measured::default(); cells.len()];
    for scheduler in scheduler_order {
        let attached = schedulers[scheduler].attach(bench.socket, bench.log.as_deref())?;
        // Not an event: what attaching and detaching leave behind (RCU, text
        // patching) is no part of any cell.
        std::thread::sleep(SETTLE);
        lockstep.begin()?;
        for &at in order
            .iter()
            .filter(|&&at| cells[at].key.scheduler == scheduler)
        {
            let key = cells[at].key;
            let found = rates.iter().find(|(workload, _)| *workload == key.workload);
            let rate = found.map_or(0.0, |(_, rate)| *rate);
            let label = format!(
                "{:<12} {:<12} {:<9} {} beside",
                schedulers[scheduler].name,
                key.workload.name(),
                key.offload.name(),
                key.neighbours
            );
            measured[at] = bench
                .measure(&schedulers[scheduler], key, rate)
                .with_context(|| label.clone())?;
            eprintln!("  {label}: {}", measured[at].line());
        }
        attached.detach()?;
    }
    Ok(measured)
}
