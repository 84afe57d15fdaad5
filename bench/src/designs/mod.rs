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
mod options;
mod plot;
mod report;
mod scenario;

use super::schedulers::{Scheduler, log_beside};
use super::steal::Steal;
use super::virtual_time::Lockstep;
use anyhow::{Context, Result, bail};
use flexnet::design::Choice;
use scenario::{Measured, Scenario};
use std::path::PathBuf;

pub(crate) use options::Options;

/// Between attaching a scheduler and what is measured.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(500);
/// A round that lost more of the processor to others is done again.
const STEAL_MAX: f64 = 0.05;
/// The kernel's own scheduler, plain threads; with batch work in SCHED_IDLE, as
/// sched(7) says for what shall run when nothing else does.
const EEVDF: &str = "eevdf";
const EEVDF_IDLE: &str = "eevdf+idle";

/// What is compared.
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
    let only: Vec<&str> = options.rivals.split_whitespace().collect();
    rivals.retain(|rival| only.is_empty() || only.contains(&rival.name.as_str()));
    if rivals.is_empty() {
        bail!("--rivals names none of {EEVDF}, {EEVDF_IDLE} and --designs");
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
    let mut clock = Clock {
        lockstep: Lockstep::new(options.lockstep),
        spins_per_us: None,
    };
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
        for (ours, wide) in groups
            .into_iter()
            .flat_map(|ours| [(ours, false), (ours, true)])
        {
            let mut scenarios = scenarios.clone();
            scenarios.retain(|scenario| scenario.is_wide() == wide);
            let mut order: Vec<usize> = (0..rivals.len()).collect();
            order.retain(|&at| rivals[at].design.is_some() == ours);
            if turned {
                order.reverse();
            }
            if scenarios.is_empty() || order.is_empty() {
                continue;
            }
            let spare = Offline::new(options.spare_cpu.filter(|_| !wide))?;
            run_group(options, &rivals, &order, &scenarios, &mut clock, &mut round)?;
            drop(spare);
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

/// How fast a CPU is, measured once, in lockstep where that is asked for.
struct Clock {
    lockstep: Lockstep,
    spins_per_us: Option<f64>,
}

impl Clock {
    fn spins_per_us(&mut self) -> Result<f64> {
        self.lockstep.begin()?;
        Ok(*self.spins_per_us.get_or_insert_with(load::spins_per_us))
    }
}

/// A CPU that is offline until this is dropped.
struct Offline(Option<PathBuf>);

impl Offline {
    fn new(cpu: Option<u32>) -> Result<Self> {
        let file = cpu.map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/online"));
        let file = file.map(PathBuf::from);
        if let Some(file) = &file {
            std::fs::write(file, "0").context("cannot take the spare CPU offline")?;
        }
        Ok(Self(file))
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            // Nothing more can be done on the way out.
            let _ = std::fs::write(file, "1");
        }
    }
}

/// The rivals of one scheduler, which is attached for all of them.
fn run_group(
    options: &Options,
    rivals: &[Rival],
    order: &[usize],
    scenarios: &[Scenario],
    clock: &mut Clock,
    round: &mut Vec<(usize, Scenario, Measured)>,
) -> Result<()> {
    let Some(&first) = order.first() else {
        return Ok(());
    };
    let scheduler = match rivals[first].design {
        None => Scheduler::eevdf(),
        Some(_) => {
            let words = options.scx_flexnet.split_whitespace();
            let arguments: Vec<String> = words.map(str::to_owned).collect();
            Scheduler::flexnet("scx_flexnet", &options.socket, true, &arguments)
        }
    };
    let attached = scheduler.attach(
        &options.socket,
        log_beside(options.json.as_deref()).as_deref(),
    )?;
    // Not an event: what attaching leaves behind (RCU, text patching).
    std::thread::sleep(SETTLE);
    let spins_per_us = clock.spins_per_us()?;
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
                executors: if scenario.is_wide() { 2 } else { 1 },
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
