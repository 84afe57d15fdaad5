// SPDX-License-Identifier: GPL-2.0-only
//! `flexnet design check`: compiles the rule, runs it under sanitizers through generated rounds,
//! and simulates the design beside built-in ones.

use super::compile::{Workshop, rule_of};
use super::folder::Folder;
use anyhow::{Context, Result, bail, ensure};
use flexnet_sim::{Arrivals, Outcome, RULE_PARAMETERS, Service, Setup, simulate};
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Built-in designs that are simulated beside it.
const BESIDE: [&str; 3] = ["flexnet", "shenango", "netchannel"];
/// Cores of the simulated machine, and of each load so many seconds.
const CORES: usize = 8;
const SECONDS: f64 = 0.2;
/// The standard loads: service times, arrivals, and the share of what the cores can serve.
const LOADS: [(&str, &str, f64); 8] = [
    ("fixed-10us", "poisson", 0.2),
    ("fixed-10us", "poisson", 0.5),
    ("fixed-10us", "poisson", 0.8),
    ("exp:10us", "poisson", 0.5),
    ("exp:10us", "poisson", 0.8),
    ("exp:10us", "onoff:5ms/5ms", 0.3),
    ("99.5%:4us,0.5%:1ms", "poisson", 0.5),
    ("99.5%:4us,0.5%:1ms", "onoff:5ms/5ms", 0.3),
];
/// A design serves at least this share of what comes.
const SERVED_MIN: f64 = 0.9;

pub(super) fn run(folder: &Folder, keep: Option<&Path>) -> Result<()> {
    print!("{}", folder.describe());
    let workshop = Workshop::new()?;
    let checker = workshop.checker(folder)?;
    let generated = |parameters: [u64; RULE_PARAMETERS]| {
        let mut command = Command::new(&checker);
        command.args(parameters.map(|value| value.to_string()));
        command
    };
    let status = generated(folder.parameters).status();
    ensure!(
        status.context("the compiled rule")?.success(),
        "the rule fails in generated rounds: see above"
    );
    let bounds = folder.at_bounds();
    for (what, parameters) in &bounds {
        let output = generated(*parameters).output();
        let output = output.context("the compiled rule")?;
        if !output.status.success() {
            std::io::stderr().write_all(&output.stderr)?;
            bail!("with {what} the rule fails in generated rounds: see above");
        }
    }
    if !bounds.is_empty() {
        println!("the same with each parameter at its min and at its max");
    }
    let object = workshop.bpf(folder)?;
    if let Some(keep) = keep {
        std::fs::copy(&object, keep).with_context(|| keep.display().to_string())?;
    }
    println!("compiled for BPF");
    simulated(folder)
}

fn simulated(folder: &Folder) -> Result<()> {
    let rule = rule_of(folder)?;
    println!(
        "\n{:<20} {:<13} {:>4}  p99 in us, cores used, by design",
        "service", "arrivals", "load"
    );
    for (service, arrivals, load) in LOADS {
        let setup = |design: &str| -> Result<Setup> {
            let choice = match design {
                "" => folder.in_stack.clone(),
                design => design.parse()?,
            };
            let mut setup = Setup::new(choice, CORES);
            setup.service = service.parse::<Service>().map_err(anyhow::Error::msg)?;
            setup.arrivals = arrivals.parse::<Arrivals>().map_err(anyhow::Error::msg)?;
            setup.load_rps = setup.full_rps() * load;
            setup.seconds = SECONDS;
            Ok(setup)
        };
        let mut own = setup("")?;
        own.rule = Some(rule.clone());
        let own = simulate(&own);
        print!("{service:<20} {arrivals:<13} {:>3.0}%", load * 100.0);
        show(&own);
        for design in BESIDE {
            show(&simulate(&setup(design)?));
        }
        println!();
        ensure!(
            own.achieved_rps >= SERVED_MIN * own.load_rps,
            "{}: of {:.0} requests/s it serves {:.0} only",
            folder.name,
            own.load_rps,
            own.achieved_rps
        );
    }
    Ok(())
}

fn show(outcome: &Outcome) {
    print!(
        "  {} {:.1} {:.2}",
        outcome.design, outcome.p99_us, outcome.cores_used
    );
}
