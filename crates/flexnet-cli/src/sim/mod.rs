// SPDX-License-Identifier: GPL-2.0-only
//! `flexnet sim`: designs on simulated cores; the simulator is [`flexnet_sim`].

mod calibrate;
mod confidence;
mod input;
mod loads;
mod median;
mod plot;
mod preempt;
mod report;
mod stack;

use crate::design::{Folder, rule_of};
use anyhow::{Context, Result, ensure};
use clap::value_parser;
use confidence::{Estimate, Found};
use flexnet::design::Choice;
use flexnet::design::units::duration_ns;
use flexnet_sim::{Arrivals, Costs, Objective, Outcome, Service, Setup, capacity, simulate};
use loads::Loads;
use report::Report;
use std::path::{Path, PathBuf};
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

/// A built-in design, or one in a folder.
#[derive(Clone, Debug)]
enum Simulated {
    BuiltIn(Choice),
    Folder(Box<Folder>),
}

fn simulated(text: &str) -> Result<Simulated, String> {
    match text.contains('/') {
        true => text
            .parse()
            .map(|folder| Simulated::Folder(Box::new(folder))),
        false => text
            .parse()
            .map(Simulated::BuiltIn)
            .map_err(|error: flexnet::design::Unknown| {
                let name = text.split(':').next().unwrap_or(text);
                match Path::new(name).join("design.toml").exists() {
                    true => format!("{error}; for the folder write ./{text}"),
                    false => error.to_string(),
                }
            }),
    }
}

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A design, NAME[:key=value,…] or ./DIR[:key=value,…] for a folder with a slash in its
    /// path; may be given several times (`flexnet design` lists all)
    #[arg(long, value_name = "DESIGN", default_value = "flexnet", value_parser = simulated)]
    design: Vec<Simulated>,
    /// Number of simulated cores (1 to 4096)
    #[arg(long, default_value_t = 16, value_parser = value_parser!(u16).range(1..=4096))]
    cores: u16,
    /// Number of applications, which share the load and the cores (1 to 1024)
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u16).range(1..=1024))]
    apps: u16,
    /// Service times: a name, exp:MEAN, lognormal:MEAN/SIGMA, pareto:MEAN/SHAPE, P%:TIME[,…],
    /// or file:FILE (measured ones: µs, one a line); an unknown name lists all names. MEAN is the
    /// distribution's mean. SIGMA is the standard deviation of a time's natural logarithm: the
    /// median is MEAN / exp(SIGMA² / 2). SHAPE is Pareto's exponent: no time is below
    /// MEAN × (SHAPE - 1) / SHAPE. With SIGMA over 3 or SHAPE near 1 nearly all of the mean is in
    /// times so rare that a run has none
    #[arg(long, value_name = "DIST", default_value = "fixed-10us", value_parser = input::service)]
    service: Service,
    /// Load in requests/s: RPS[,RPS…], A..B (ten steps) or A..B/STEPS; with % it is a
    /// share of what the cores can serve. Arrivals with rates of their own (steps, a trace,
    /// clients) have none. [default: 10%..95%]
    #[arg(long, value_name = "RPS")]
    load: Option<Loads>,
    /// Arrival of requests: poisson, onoff:ON/OFF, mmpp:RATIO/HIGH/LOW, steps:EVERY:RPS/RPS/…,
    /// or trace:FILE (CSV: seconds[,service µs]). An MMPP is Poisson at one of two rates, the high
    /// one RATIO times the low one. It is there for HIGH and LOW on average, at random
    #[arg(long, value_name = "KIND", default_value = "poisson")]
    arrivals: String,
    /// A closed loop: this number of clients (1 to 1000000), each with one request at a time
    #[arg(long, value_name = "N", conflicts_with_all = ["arrivals", "load", "requests", "capacity"],
        value_parser = value_parser!(u32).range(1..=1_000_000))]
    clients: Option<u32>,
    /// Time for which a client thinks after each of its requests, as --service; not at all by
    /// default
    #[arg(long, value_name = "DIST", requires = "clients", value_parser = input::service)]
    think: Option<Service>,
    /// Simulated time (s, at most 3600); a trace has its own. [default: 1]
    #[arg(long)]
    seconds: Option<f64>,
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
    /// Seeds that --capacity is found for, from --seed on (2 to 1000): it is reported as
    /// their mean, with its 95% confidence interval
    #[arg(long, value_name = "N", default_value_t = 5, requires = "capacity", value_parser = value_parser!(u64).range(2..=1000))]
    seeds: u64,
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
    let seconds = options.seconds.unwrap_or(1.0);
    ensure!(
        seconds > 0.0 && seconds <= 3600.0,
        "--seconds: must be over 0 and at most 3600"
    );
    let arrivals = match options.clients {
        Some(clients) => Arrivals::Closed {
            clients: clients as usize,
            think: options.think.clone(),
        },
        None => input::arrivals(&options.arrivals)?,
    };
    ensure!(
        options.load.is_none() || !has_own_rates(&arrivals),
        "--load: these arrivals have rates of their own"
    );
    if let Arrivals::Trace(_) = arrivals {
        ensure!(
            options.seconds.is_none() && options.requests.is_none(),
            "--seconds, --requests: a trace has a length of its own"
        );
    }
    for path in [&options.json, &options.csv, &options.svg]
        .into_iter()
        .flatten()
    {
        try_output(path)?;
    }
    let costs = match options.calibrate {
        true => calibrate::measured(options.costs)?,
        false => options.costs,
    };
    let setups: Vec<Setup> = options
        .design
        .iter()
        .map(|design| setup(options, design, &arrivals, costs))
        .collect::<Result<_>>()?;
    let mut report = Report::new(&setups[0], options.seed);
    match options.capacity {
        Some(objective) => {
            for setup in &setups {
                let found = find(setup, objective, options.seeds)?;
                report.outcomes.extend(found.outcome);
                report.capacities.push(found.estimate);
            }
        }
        None => {
            let jobs: Vec<Setup> = setups
                .iter()
                .flat_map(|setup| at_loads(setup, options.load.as_ref()))
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

/// Do they come at rates of their own, so that there is no load?
fn has_own_rates(arrivals: &Arrivals) -> bool {
    matches!(
        arrivals,
        Arrivals::Steps { .. } | Arrivals::Trace(_) | Arrivals::Closed { .. }
    )
}

fn setup(
    options: &Options,
    design: &Simulated,
    arrivals: &Arrivals,
    costs: Costs,
) -> Result<Setup> {
    let (choice, rule) = match design {
        Simulated::BuiltIn(choice) => (choice, None),
        Simulated::Folder(folder) => (&folder.in_stack, Some(rule_of(folder)?)),
    };
    let mut setup = Setup::new(choice.clone(), options.cores.into());
    setup.rule = rule;
    setup.apps = options.apps.into();
    setup.service = options.service.clone();
    setup.arrivals = arrivals.clone();
    setup.seconds = options.seconds.unwrap_or(1.0);
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
    Ok(setup)
}

/// One setup a load; arrivals that have rates of their own are one.
fn at_loads(setup: &Setup, loads: Option<&Loads>) -> Vec<Setup> {
    if has_own_rates(&setup.arrivals) {
        return vec![setup.clone()];
    }
    loads
        .unwrap_or(&Loads::Range(0.1, 0.95, true, 10))
        .rps(setup.full_rps())
        .into_iter()
        .map(|load_rps| Setup {
            load_rps,
            ..setup.clone()
        })
        .collect()
}

/// All of them; outcomes in the jobs' order.
fn sweep(jobs: &[Setup]) -> Vec<Outcome> {
    each(jobs, simulate)
}

/// `work` on each of them, on all cores of this machine; what came out in the jobs' order.
fn each<R: Clone + Send>(jobs: &[Setup], work: impl Fn(&Setup) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(vec![None; jobs.len()]);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(jobs.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(index) else { break };
                    let outcome = work(job);
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

/// Fails where the file cannot be written, before anything is simulated; it stays as it is.
fn try_output(path: &Path) -> Result<()> {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    file.map(drop).with_context(|| path.display().to_string())
}

/// The capacity for each of so many seeds, and the outcome of the first one there.
fn find(setup: &Setup, objective: Objective, seeds: u64) -> Result<Found> {
    ensure!(
        !has_own_rates(&setup.arrivals),
        "--capacity changes the load: not with arrivals of their own rates"
    );
    eprintln!(
        "{}: looking for the highest load with {objective}",
        setup.name()
    );
    let setups: Vec<Setup> = (0..seeds)
        .map(|number| Setup {
            seed: setup.seed.wrapping_add(number),
            ..setup.clone()
        })
        .collect();
    let mut found = each(&setups, |setup| capacity(setup, objective, 0.01, |_, _| ()));
    let rps = found
        .iter()
        .map(|found| found.as_ref().map_or(0.0, |(rps, _)| *rps));
    let estimate = Estimate::new(setup.name(), objective.to_string(), rps.collect());
    println!("{estimate}");
    let first = found.swap_remove(0);
    Ok(Found {
        estimate,
        outcome: first.map(|(_, outcome)| outcome),
    })
}
