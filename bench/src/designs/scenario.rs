// SPDX-License-Identifier: GPL-2.0-only
//! The four experiments: what runs, and what each comes to in one round.

use super::load::Step;
use crate::colocate::cell;
use crate::numbers::percentile;
use crate::schedulers::Scheduler;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// An experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scenario {
    /// Load steps, with batch work beside it (Shenango, figure 4)
    Steps,
    /// Mixed short and long requests (Shinjuku, figure 5)
    Mixed,
    /// Several engines at moderate load (Snap, figure 7)
    Engines,
    /// A latency service beside bulk senders (NetChannel, figure 4a)
    Colocate,
}

/// Requests/s of the steps, twice: a tenth and six tenths of the one core.
const STEPS: &str = "500,3000,500,3000";
/// Six tenths of the one core, three quarters of that in the long ones.
const MIXED: (&str, &str) = ("97%:100us,3%:10ms", "1500");
/// Half of one of two cores.
const ENGINES: (&str, &str) = ("100%:200us", "2500");
/// Of the co-location: bulk senders, bytes of a request and of a write, rate.
const BULK: (u32, usize, usize, f64) = (4, 4096, 1_000_000, 200.0);

/// What one rival is measured with.
pub(super) struct Cell<'a> {
    pub(super) scheduler: &'a Scheduler,
    pub(super) socket: &'a Path,
    pub(super) step: f64,
    pub(super) spins_per_us: f64,
    pub(super) executors: usize,
    pub(super) idle_batch: bool,
}

/// What it came to, by name; a lesser number is better but for shares and MB/s.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured(pub(super) Vec<(&'static str, f64)>);

impl Measured {
    /// For the progress of a run.
    pub(super) fn line(&self) -> String {
        let values = self
            .0
            .iter()
            .map(|(name, value)| format!("{name} {value:.2}"));
        values.collect::<Vec<_>>().join(", ")
    }
}

impl Scenario {
    pub(super) const ALL: [Self; 4] = [Self::Steps, Self::Mixed, Self::Colocate, Self::Engines];

    /// Does it need two cores for executors? The others have one.
    pub(super) fn is_wide(self) -> bool {
        self == Self::Engines
    }

    pub(super) fn measure(self, cell: &Cell<'_>) -> Result<Measured> {
        let values = match self {
            Self::Steps => steps(cell)?,
            Self::Mixed => mixed(cell)?,
            Self::Engines => engines(cell)?,
            Self::Colocate => colocate(cell)?,
        };
        Ok(Measured(values))
    }
}

type Values = Vec<(&'static str, f64)>;

fn steps(cell: &Cell<'_>) -> Result<Values> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let hogs: Vec<Hog> = (0..cpus).map(|_| Hog::start(cell)).collect::<Result<_>>()?;
    let watch: Vec<String> = hogs.iter().map(|hog| hog.0.id().to_string()).collect();
    let steps = load(cell, &["--rates", STEPS, "--watch", &watch.join(",")])?;
    let [low, high] = [0, 1].map(|first| {
        let of = |value: fn(&Step) -> f64| {
            let values = steps.iter().skip(first).step_by(2).map(value);
            values.sum::<f64>() / (steps.len() as f64 / 2.0)
        };
        [
            of(|s| s.p99_us),
            of(|s| s.p999_us),
            of(|s| s.batch_share),
            of(|s| s.cores_granted),
        ]
    });
    Ok(vec![
        ("low_p99_us", low[0]),
        ("low_p999_us", low[1]),
        ("low_batch_share", low[2]),
        ("low_cores", low[3]),
        ("high_p99_us", high[0]),
        ("high_p999_us", high[1]),
        ("high_batch_share", high[2]),
        ("high_cores", high[3]),
        ("unfinished", unfinished(&steps)),
    ])
}

fn mixed(cell: &Cell<'_>) -> Result<Values> {
    // A flow for each that is under way: else one waits for another's end.
    let arguments = ["--service", MIXED.0, "--rates", MIXED.1, "--flows", "1024"];
    let steps = long(cell, &arguments)?;
    Ok(vec![
        ("short_p99_us", steps[0].short_p99_us),
        ("p50_us", steps[0].p50_us),
        ("p999_us", steps[0].p999_us),
        ("unfinished", unfinished(&steps)),
    ])
}

fn engines(cell: &Cell<'_>) -> Result<Values> {
    let arguments = ["--service", ENGINES.0, "--rates", ENGINES.1, "--flows", "8"];
    let steps = long(cell, &arguments)?;
    Ok(vec![
        ("p50_us", steps[0].p50_us),
        ("p99_us", steps[0].p99_us),
        ("executor_cpus", steps[0].executor_cpus),
        ("cores", steps[0].cores_granted),
        ("unfinished", unfinished(&steps)),
    ])
}

fn colocate(cell: &Cell<'_>) -> Result<Values> {
    let (t_apps, message, write, rate) = BULK;
    let load = cell::Load {
        t_apps,
        message,
        write,
        rate,
        seconds: 2.0 * cell.step,
    };
    let measured = cell::measure(cell.scheduler, &load, cell.socket)?;
    Ok(vec![
        ("p50_us", percentile(&measured.latencies_us, 0.5)),
        ("p99_us", percentile(&measured.latencies_us, 0.99)),
        ("bulk_mb_s", measured.t_mb_s),
        ("unfinished", (measured.unsent + measured.unanswered) as f64),
    ])
}

fn unfinished(steps: &[Step]) -> f64 {
    steps.iter().map(|step| step.unfinished as f64).sum()
}

/// One step of twice the length.
fn long(cell: &Cell<'_>, arguments: &[&str]) -> Result<Vec<Step>> {
    let step = (2.0 * cell.step).to_string();
    let steps = load(cell, &[arguments, &["--step", &step]].concat())?;
    if steps.is_empty() {
        bail!("no steps");
    }
    Ok(steps)
}

fn own(arguments: &[&str], socket: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["load"]).args(arguments);
    command.arg("--socket").arg(socket);
    Ok(command)
}

/// Runs the application; its steps.
fn load(cell: &Cell<'_>, arguments: &[&str]) -> Result<Vec<Step>> {
    let mut command = own(arguments, cell.socket)?;
    command.args(["--wire", "--spins-per-us", &cell.spins_per_us.to_string()]);
    if !arguments.contains(&"--step") {
        command.args(["--step", &cell.step.to_string()]);
    }
    if cell.scheduler.library {
        command.args(["--executors", &cell.executors.to_string()]);
    }
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("the application ended with {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("steps that cannot be read")
}

/// Batch work; killed when dropped.
struct Hog(Child);

impl Hog {
    fn start(cell: &Cell<'_>) -> Result<Self> {
        let mut arguments = vec!["--hog"];
        if cell.scheduler.classes {
            arguments.extend(["--class", "batch"]);
        }
        if cell.idle_batch {
            arguments.push("--idle");
        }
        Ok(Self(own(&arguments, cell.socket)?.spawn()?))
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
