// SPDX-License-Identifier: GPL-2.0-only
//! `flexnet sim`: designs on simulated cores; the simulator is [`flexnet_sim`].

mod calibrate;
mod loads;
mod median;
mod plot;
mod preempt;
mod report;
mod stack;

use anyhow::{Context, Result, anyhow, ensure};
use clap::value_parser;
use flexnet::design::Choice;
use flexnet::design::units::duration_ns;
use flexnet_sim::{Arrivals, Costs, Objective, Outcome, Service, Setup, capacity, simulate};
use loads::Loads;
use report::Report;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `NAME=TIME,…` over the defaults.
fn costs(text: &str) -> Result<Costs, String> {
    let mut costs = match text.strip_prefix("none") {
        Some(_) => Costs::none(),
        None => Costs::default(),
    };
    let rest = text.strip_prefix("none").unwrap_or(text);
    costs.set(rest.trim_start_matches(','))?;
    Ok(costs)
}

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A design, NAME[:key=value,…]; may be given several times (`flexnet design` lists all)
    #[arg(long, value_name = "DESIGN", default_value = "flexnet")]
    design: Vec<Choice>,
    /// Number of simulated cores (1 to 4096)
    #[arg(long, default_value_t = 16, value_parser = value_parser!(u16).range(1..=4096))]
    cores: u16,
    /// Number of applications, which share the load and the cores (1 to 1024)
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u16).range(1..=1024))]
    apps: u16,
    /// Service times: a name, exp:MEAN or P%:TIME[,…]; an unknown name lists all names
    #[arg(long, value_name = "DIST", default_value = "fixed-10us")]
    service: Service,
    /// Load in requests/s: RPS[,RPS…], A..B (ten steps) or A..B/STEPS; with % it is a
    /// share of what the cores can serve
    #[arg(long, value_name = "RPS", default_value = "10%..95%")]
    load: Loads,
    /// Arrival of requests: poisson, onoff:ON/OFF, steps:EVERY:RPS/RPS/…, or
    /// trace:FILE (CSV: seconds[,service µs])
    #[arg(long, value_name = "KIND", default_value = "poisson")]
    arrivals: String,
    /// Simulated time (s, at most 3600)
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Simulate this number of requests at each load, instead of --seconds (1000 or more)
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = value_parser!(u64).range(1000..))]
    requests: Option<u64>,
    /// Seed of the random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The stack knows the type of each request (Shinjuku has one objective per type)
    #[arg(long)]
    typed: bool,
    /// Costs of the steps: NAME=TIME[,…] replaces defaults, `none` sets all to 0
    #[arg(long, value_name = "COSTS", value_parser = costs, default_value = "", hide_default_value = true)]
    costs: Costs,
    /// Time between two rounds of the arbiter [default: 10us; shenango 5us]
    #[arg(long, value_name = "TIME", value_parser = duration_ns)]
    interval: Option<u64>,
    /// Queueing delay objective of the arbiter [default: 10us]
    #[arg(long, value_name = "TIME", value_parser = duration_ns)]
    objective: Option<u64>,
    /// Find the highest load that meets this objective, such as 'p99<=100us'
    #[arg(long, value_name = "OBJECTIVE")]
    capacity: Option<Objective>,
    /// Write the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the results as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Draw the results as curves
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Measure the costs of submit, resume, steal, wake, preemption and a core's grant on
    /// this machine, print them, and use them
    #[arg(long)]
    calibrate: bool,
}

/// Simulates and reports.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(
        options.seconds > 0.0 && options.seconds <= 3600.0,
        "--seconds: must be over 0 and at most 3600"
    );
    let arrivals = arrivals(&options.arrivals)?;
    let costs = match options.calibrate {
        true => calibrate::measured(options.costs)?,
        false => options.costs,
    };
    let setups: Vec<Setup> = options
        .design
        .iter()
        .map(|design| setup(options, design, &arrivals, costs))
        .collect();
    let mut report = Report::new(&setups[0], options.seed);
    match options.capacity {
        Some(objective) => {
            for setup in &setups {
                report.outcomes.extend(find(setup, objective)?);
            }
        }
        None => {
            let jobs: Vec<Setup> = setups
                .iter()
                .flat_map(|setup| at_loads(setup, &options.load))
                .collect();
            report.outcomes = sweep(&jobs);
        }
    }
    report.print();
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &options.csv {
        std::fs::write(path, report.csv()).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &options.svg {
        plot::draw(&report, path)?;
    }
    Ok(())
}

fn setup(options: &Options, design: &Choice, arrivals: &Arrivals, costs: Costs) -> Setup {
    let mut setup = Setup::new(design.clone(), options.cores.into());
    setup.apps = options.apps.into();
    setup.service = options.service.clone();
    setup.arrivals = arrivals.clone();
    setup.seconds = options.seconds;
    setup.requests = options.requests.unwrap_or(0);
    setup.seed = options.seed;
    setup.typed = options.typed;
    setup.costs = costs;
    if let Some(interval) = options.interval {
        setup.arbiter.interval_ns = interval.max(100);
    }
    if let Some(objective) = options.objective {
        setup.arbiter.objective_ns = objective;
        setup.arbiter.low_mark_ns = objective / 2;
    }
    setup
}

/// One setup a load; arrivals that have rates of their own are one.
fn at_loads(setup: &Setup, loads: &Loads) -> Vec<Setup> {
    match setup.arrivals {
        Arrivals::Steps { .. } | Arrivals::Trace(_) => vec![setup.clone()],
        _ => loads
            .rps(setup.full_rps())
            .into_iter()
            .map(|load_rps| Setup {
                load_rps,
                ..setup.clone()
            })
            .collect(),
    }
}

fn arrivals(text: &str) -> Result<Arrivals> {
    let Some(path) = text.strip_prefix("trace:") else {
        return text.parse().map_err(|error: String| anyhow!(error));
    };
    let file = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
    let mut trace = Vec::new();
    for (number, line) in file.lines().enumerate() {
        let line = line.trim();
        if line.is_empty()
            || line.starts_with('#')
            || (number == 0 && line.starts_with(|c: char| c.is_alphabetic()))
        {
            continue;
        }
        let mut fields = line.split(',').map(|field| field.trim().parse::<f64>());
        let (at, service) = match (fields.next(), fields.next()) {
            (Some(Ok(at)), None) => (at, 0.0),
            (Some(Ok(at)), Some(Ok(service))) => (at, service),
            _ => {
                return Err(anyhow!(
                    "{path}:{}: not seconds[,service µs]: {line:?}",
                    number + 1
                ));
            }
        };
        ensure!(
            at >= 0.0 && service >= 0.0,
            "{path}:{}: below 0",
            number + 1
        );
        trace.push(((at * 1e9) as u64, (service * 1e3) as u64));
    }
    ensure!(
        trace.is_sorted_by_key(|entry| entry.0),
        "{path}: times must not go back"
    );
    ensure!(!trace.is_empty(), "{path}: no arrivals");
    Ok(Arrivals::Trace(trace))
}

/// All of them, on all cores of this machine; outcomes in the jobs' order.
fn sweep(jobs: &[Setup]) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(vec![None; jobs.len()]);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(jobs.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(index) else { break };
                    let outcome = simulate(job);
                    let mut done = done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    done[index] = Some(outcome);
                    let count = done.iter().flatten().count();
                    eprintln!("simulated {count} of {}", jobs.len());
                }
            });
        }
    });
    let done = done
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    done.into_iter().flatten().collect()
}

fn find(setup: &Setup, objective: Objective) -> Result<Option<Outcome>> {
    ensure!(
        !matches!(setup.arrivals, Arrivals::Steps { .. } | Arrivals::Trace(_)),
        "--capacity changes the load: not with arrivals of their own rates"
    );
    eprintln!(
        "{}: looking for the highest load with {objective}",
        setup.design
    );
    let found = capacity(setup, objective, 0.01, |outcome, holds| {
        eprintln!(
            "  {:>10.0} requests/s: p99 {:.1} µs, {}",
            outcome.load_rps,
            outcome.p99_us,
            if holds { "holds" } else { "does not" }
        );
    });
    match &found {
        Some((rps, _)) => println!("{}: {objective} up to {rps:.0} requests/s", setup.design),
        None => println!("{}: {objective} at no load", setup.design),
    }
    Ok(found.map(|(_, outcome)| outcome))
}
