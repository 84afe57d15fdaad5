// SPDX-License-Identifier: GPL-2.0-only
//! Every design on real executors and tasks, against EEVDF with plain threads:
//! load steps beside batch work (Shenango's experiment), mixed service times
//! (Shinjuku's), several engines (Snap's), co-location (NetChannel's).
//!
//! One boot; each round runs every rival, in an order that is turned round each
//! time, and each of our designs by a live switch of one scheduler. Load is what
//! two emulated processors carry: hundreds of microseconds a request, where the
//! papers have single ones; directions are to be seen, not the papers' numbers.

pub(crate) mod load;
mod plot;
mod report;
mod scenario;

use super::schedulers::Scheduler;
use super::steal::Steal;
use anyhow::{Context, Result, bail};
use flexnet::abi::SOCKET_PATH;
use flexnet::design::Choice;
use scenario::{Measured, Scenario};
use std::path::PathBuf;

/// Between attaching a scheduler and what is measured.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(500);
/// A round that lost more of the processor to others is done again.
const STEAL_MAX: f64 = 0.05;
/// The kernel's own scheduler, plain threads; with batch work in SCHED_IDLE, as
/// sched(7) says for what shall run when nothing else does.
const EEVDF: &str = "eevdf";
const EEVDF_IDLE: &str = "eevdf+idle";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Rounds; each runs everything once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of a step, and a half of other measurements
    #[arg(long, default_value_t = 1.0)]
    step: f64,
    /// Designs, in the order they are switched to, a space between
    #[arg(
        long,
        default_value = "flexnet netchannel snap:mode=dedicating snap:mode=spreading snap:slo=500us \
                         shenango shinjuku:quantum=500us,slo1=100ms shinjuku:quantum=0ns"
    )]
    designs: String,
    /// Only these experiments
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Most cores for executors
    #[arg(long, default_value_t = 2)]
    max_net_cores: u32,
    /// The scheduler's control socket
    #[arg(long, default_value = SOCKET_PATH)]
    socket: PathBuf,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the result as a plot
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Who is compared.
struct Rival {
    name: String,
    /// Ours, with that design.
    design: Option<Choice>,
}

fn rivals(options: &Options) -> Result<Vec<Rival>> {
    let plain = [EEVDF, EEVDF_IDLE].map(|name| Rival {
        name: name.to_owned(),
        design: None,
    });
    let mut rivals = Vec::from(plain);
    for text in options.designs.split_whitespace() {
        let design: Choice = text.parse()?;
        rivals.push(Rival {
            name: text.to_owned(),
            design: Some(design),
        });
    }
    Ok(rivals)
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("attaching schedulers needs root; bench/designs boots a VM for it");
    }
    let rivals = rivals(options)?;
    let mut scenarios: Vec<Scenario> = Scenario::ALL.to_vec();
    scenarios.retain(|scenario| options.only.is_empty() || options.only.contains(scenario));
    let spins_per_us = load::spins_per_us();
    let mut rounds: Vec<Vec<(usize, Scenario, Measured)>> = Vec::new();
    let mut repeated = 0;
    while rounds.len() < options.rounds as usize {
        let steal = Steal::start();
        let turned = rounds.len() % 2 == 1;
        let mut round = Vec::new();
        let mut groups = [false, true];
        if turned {
            groups.reverse();
        }
        for ours in groups {
            let mut order: Vec<usize> = (0..rivals.len()).collect();
            order.retain(|&at| rivals[at].design.is_some() == ours);
            if turned {
                order.reverse();
            }
            run_group(
                options,
                &rivals,
                &order,
                &scenarios,
                spins_per_us,
                &mut round,
            )?;
        }
        let stolen = steal.share();
        let again = stolen > STEAL_MAX && repeated < options.rounds;
        eprintln!(
            "round {} of {}: {:.1}% of the processor stolen{}",
            rounds.len() + 1,
            options.rounds,
            stolen * 100.0,
            if again { ", again" } else { "" }
        );
        match again {
            true => repeated += 1,
            false => rounds.push(round),
        }
    }
    let names: Vec<&str> = rivals.iter().map(|rival| rival.name.as_str()).collect();
    let report = report::Report::new(options, repeated, &names, &scenarios, &rounds);
    println!("{}", report.table());
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(file) = &options.svg {
        plot::draw(&report, file).with_context(|| format!("cannot draw {}", file.display()))?;
    }
    Ok(())
}

/// The rivals of one scheduler, which is attached for all of them.
fn run_group(
    options: &Options,
    rivals: &[Rival],
    order: &[usize],
    scenarios: &[Scenario],
    spins_per_us: f64,
    round: &mut Vec<(usize, Scenario, Measured)>,
) -> Result<()> {
    let Some(&first) = order.first() else {
        return Ok(());
    };
    let scheduler = match rivals[first].design {
        None => Scheduler::eevdf(),
        Some(_) => {
            let most = options.max_net_cores.to_string();
            let arguments = ["--max-net-cores".to_owned(), most];
            Scheduler::flexnet("scx_flexnet", &options.socket, true, &arguments)
        }
    };
    let attached = scheduler.attach(&options.socket)?;
    // Not an event: what attaching leaves behind (RCU, text patching).
    std::thread::sleep(SETTLE);
    for &at in order {
        let rival = &rivals[at];
        if let Some(design) = &rival.design {
            flexnet::client::design(&options.socket, Some(design))?;
        }
        for &scenario in scenarios {
            let cell = scenario::Cell {
                scheduler: &scheduler,
                socket: &options.socket,
                step: options.step,
                spins_per_us,
                executors: options.max_net_cores as usize,
                idle_batch: rival.name == EEVDF_IDLE,
            };
            let measured = scenario
                .measure(&cell)
                .with_context(|| format!("{} in {scenario:?}", rival.name))?;
            eprintln!("  {:<34} {scenario:?}: {}", rival.name, measured.line());
            round.push((at, scenario, measured));
        }
    }
    attached.detach()
}
