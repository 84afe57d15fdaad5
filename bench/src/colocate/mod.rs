// SPDX-License-Identifier: GPL-2.0-only
//! The co-location experiment, NetChannel's figure 4(a): one latency-critical
//! service, and T bulk senders that never stop, on one machine.
//!
//! Every round runs every cell (a scheduler and a number of bulk senders), in an
//! order that is turned round each time. The latency client is open-loop: a
//! fixed rate, latency from the intended send time, so that a service that
//! stands still is charged for all that was due meanwhile.

pub(crate) mod apps;
pub(crate) mod cell;
mod options;
mod plot;
mod report;

use super::schedulers::{Scheduler, log_beside};
use super::steal::Steal;
use super::virtual_time::Lockstep;
use anyhow::{Context, Result, bail};
use cell::{Cell, Load, Measured};
use std::path::Path;

pub(crate) use options::Options;

/// A round that lost more of the processor to others is done again.
const STEAL_MAX: f64 = 0.05;
/// The latency client's rate: this share of what it reaches closed-loop alone.
const RATE_SHARE: f64 = 0.1;

/// Between attaching a scheduler and its first cell.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(500);

pub(crate) fn run(options: &Options) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("attaching schedulers needs root; run it as root, or ci/demo, which boots a VM");
    }
    if options.t_apps.is_empty() || options.message == 0 || options.write == 0 {
        bail!("--t-apps needs a number, --message and --write a byte at least");
    }
    if options.lockstep && options.rate.is_none() && !options.closed_loop {
        bail!("--lockstep needs --rate: a rate found before lockstep is another machine's");
    }
    let schedulers = all(options);
    if schedulers.is_empty() {
        bail!("--only names no scheduler");
    }
    let rate = find_rate(options)?;
    let seconds = cell_seconds(options.seconds, options.requests, options.rounds, rate);
    if seconds > options.seconds {
        let requests = options.requests;
        eprintln!("a cell has {seconds} s, for {requests} requests over all rounds");
    }
    let (cells, repeated, noisy) = rounds(options, &schedulers, rate, seconds)?;
    let report = report::Report::new(
        &schedulers,
        &cells,
        report::Run {
            options,
            rate,
            seconds,
            repeated,
            noisy,
        },
    );
    println!("{}", report.table());
    if let Some(file) = &options.latencies {
        write(file, &report::latencies(&schedulers, &cells))?;
    }
    if let Some(file) = &options.json {
        write(file, &serde_json::to_string_pretty(&report)?)?;
    }
    if let Some(file) = &options.svg {
        plot::draw(&report, file).with_context(|| format!("cannot draw {}", file.display()))?;
    }
    Ok(())
}

/// Runs all rounds. The cells, how many rounds were repeated, and whether one that counts lost
/// too much of the processor.
fn rounds(
    options: &Options,
    schedulers: &[Scheduler],
    rate: f64,
    seconds: f64,
) -> Result<(Vec<Cell>, u32, bool)> {
    let mut cells: Vec<Cell> = (0..schedulers.len())
        .flat_map(|scheduler| {
            options.t_apps.iter().map(move |&t_apps| Cell {
                scheduler,
                t_apps,
                rounds: vec![],
            })
        })
        .collect();
    let mut lockstep = Lockstep::new(options.lockstep);
    let (mut good, mut repeated) = (0, 0);
    let mut noisy = false;
    while good < options.rounds {
        let turned = (good + repeated) % 2 == 1;
        let (measured, stolen) =
            round(options, schedulers, (rate, seconds), turned, &mut lockstep)?;
        let lost = stolen > STEAL_MAX;
        eprintln!(
            "round {} of {}: {:.1}% of the processor stolen{}",
            good + 1,
            options.rounds,
            stolen * 100.0,
            if lost && repeated < options.rounds {
                ", again"
            } else {
                ""
            }
        );
        if lost && repeated < options.rounds {
            repeated += 1;
            continue;
        }
        noisy |= lost;
        good += 1;
        for ((scheduler, t_apps), result) in measured {
            let cell = cells
                .iter_mut()
                .find(|cell| cell.scheduler == scheduler && cell.t_apps == t_apps);
            cell.context("a cell that is not asked for")?
                .rounds
                .push(result);
        }
    }
    Ok((cells, repeated, noisy))
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

type RoundResult = Vec<((usize, u32), Measured)>;

/// Every cell once; the share of the processor that was stolen meanwhile.
fn round(
    options: &Options,
    schedulers: &[Scheduler],
    (rate, seconds): (f64, f64),
    turned: bool,
    lockstep: &mut Lockstep,
) -> Result<(RoundResult, f64)> {
    let mut order: Vec<usize> = (0..schedulers.len()).collect();
    let mut t_apps = options.t_apps.clone();
    if turned {
        order.reverse();
        t_apps.reverse();
    }
    let log = log_beside(options.json.as_deref());
    let steal = Steal::start();
    let mut measured = Vec::new();
    for index in order {
        let scheduler = &schedulers[index];
        let attached = scheduler.attach(&options.socket, log.as_deref())?;
        // Not an event: what attaching and detaching leave behind (RCU, text
        // patching) is no part of any cell.
        std::thread::sleep(SETTLE);
        lockstep.begin()?;
        for &t_apps in &t_apps {
            let load = Load {
                t_apps,
                message: options.message,
                write: options.write,
                rate,
                seconds,
            };
            let result = cell::measure(scheduler, &load, &options.socket)
                .with_context(|| format!("{} with T = {t_apps}", scheduler.name))?;
            eprintln!("  {:<22} T = {t_apps}: {}", scheduler.name, result.line());
            measured.push(((index, t_apps), result));
        }
        attached.detach()?;
    }
    Ok((measured, steal.share()))
}

/// The client's rate: given, or from a closed loop alone under EEVDF.
fn find_rate(options: &Options) -> Result<f64> {
    if options.closed_loop {
        return Ok(0.0);
    }
    if let Some(rate) = options.rate {
        return Ok(rate);
    }
    eprintln!("finding the latency application's rate");
    let load = Load {
        t_apps: 0,
        message: options.message,
        write: options.write,
        rate: 0.0,
        seconds: 2.0,
    };
    // The first run finds cold caches and clocks that are still slow: one new machine had
    // 244 requests/s in it, and thousands afterwards.
    cell::measure(&Scheduler::eevdf(), &load, &options.socket)?;
    let alone = cell::measure(&Scheduler::eevdf(), &load, &options.socket)?;
    let reached = alone.latencies_us.len() as f64 / load.seconds;
    let rate = (reached * RATE_SHARE).max(1.0).round();
    eprintln!("closed-loop alone: {reached:.0} requests/s; open-loop rate: {rate:.0}/s");
    Ok(rate)
}

/// Seconds of a cell in each round, so that it has enough requests over all of them. A closed
/// loop has no rate and far more requests.
fn cell_seconds(asked: f64, requests: u32, rounds: u32, rate: f64) -> f64 {
    if rate <= 0.0 {
        return asked;
    }
    // To whole tenths, since it is printed.
    let needed = f64::from(requests) / (rate * f64::from(rounds));
    asked.max((needed * 10.0).ceil() / 10.0)
}

/// The cells' schedulers, as the options ask.
fn all(options: &Options) -> Vec<Scheduler> {
    if options.attached {
        let mut attached = Scheduler::flexnet("scx_flexnet", &options.socket, true, &[]);
        attached.command = None;
        return vec![attached];
    }
    let more = options.scx_flexnet.split_whitespace().map(str::to_owned);
    let alone: Vec<String> = more.collect();
    let mut steered = alone.clone();
    if !options.steer.is_empty() {
        steered.extend(["--steer".into(), options.steer.clone()]);
    }
    let flexnet = |name, full, arguments: &[String]| {
        Scheduler::flexnet(name, &options.socket, full, arguments)
    };
    let mut all = vec![Scheduler::eevdf(), flexnet("scx_flexnet", true, &steered)];
    if options.matrix {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let last = format!("{:x}", 1u64 << (cpus - 1).min(31));
        let library = Scheduler {
            name: "eevdf+library".into(),
            library: true,
            ..Scheduler::eevdf()
        };
        let steering = Scheduler {
            name: "eevdf+steering".into(),
            steering: Some((options.steer.clone(), last)),
            ..Scheduler::eevdf()
        };
        let realtime = Scheduler {
            name: "eevdf+rt".into(),
            realtime: true,
            ..Scheduler::eevdf()
        };
        all.extend([
            library,
            steering,
            realtime,
            flexnet("scx_flexnet-alone", false, &alone),
        ]);
    }
    all.extend(options.scheduler.iter().map(|command| {
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        let name = words.first().and_then(|word| Path::new(word).file_name());
        let name = name.map_or_else(|| "?".into(), |name| name.to_string_lossy().into_owned());
        Scheduler {
            name,
            command: Some(words),
            ..Scheduler::eevdf()
        }
    }));
    all.retain(|scheduler| options.only.is_empty() || options.only.contains(&scheduler.name));
    all
}

#[cfg(test)]
mod tests {
    use super::cell_seconds;

    #[test]
    fn a_cell_has_enough_requests() {
        for (asked, requests, rounds, rate, seconds) in [
            // 15 rounds of 3 s at 24/s would have 1,080 requests.
            (3.0, 2_000, 15, 24.0, 5.6),
            (3.0, 2_000, 15, 400.0, 3.0),
            (1.0, 2_000, 1, 300.0, 6.7),
            (1.0, 0, 1, 300.0, 1.0),
            (3.0, 2_000, 15, 0.0, 3.0),
        ] {
            let got = cell_seconds(asked, requests, rounds, rate);
            assert_eq!(got, seconds, "{requests} requests at {rate}/s");
        }
    }
}
