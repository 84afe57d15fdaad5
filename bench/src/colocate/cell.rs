// SPDX-License-Identifier: GPL-2.0-only
//! One cell of one round: starts the processes, lets them run, collects.

use super::apps::{self, Outcome, Role};
use crate::process::Process;
use crate::schedulers::Scheduler;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The bulk senders run this long before the latency client starts, and as much
/// longer: it measures under full load only.
const MARGIN: Duration = Duration::from_millis(300);

pub(crate) struct Load {
    pub(crate) t_apps: u32,
    pub(crate) message: usize,
    pub(crate) write: usize,
    pub(crate) rate: f64,
    pub(crate) seconds: f64,
}

/// What a cell came to in one round.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) latencies_us: Vec<f64>,
    pub(crate) unsent: u64,
    pub(crate) unanswered: u64,
    pub(crate) t_mb_s: f64,
    pub(crate) net_cores: Option<f64>,
}

impl Measured {
    /// For the progress of a run.
    pub(crate) fn line(&self) -> String {
        let p99 = crate::numbers::percentile(&self.latencies_us, 0.99);
        format!(
            "{} requests, P99 {p99:.0} µs, {} not sent, {:.0} MB/s",
            self.latencies_us.len(),
            self.unsent,
            self.t_mb_s
        )
    }
}

/// One scheduler with one number of bulk senders, over all rounds.
pub(super) struct Cell {
    pub(super) scheduler: usize,
    pub(super) t_apps: u32,
    pub(super) rounds: Vec<Measured>,
}

/// Starts one of the experiment's processes.
pub(crate) fn start(
    scheduler: &Scheduler,
    role: Role,
    arguments: &[String],
    socket: &Path,
) -> Result<Process> {
    let latency = matches!(role, Role::LatencyServer | Role::LatencyClient);
    let program = std::env::current_exe()?;
    let mut command = match scheduler.realtime && latency {
        true => {
            let mut command = Command::new("chrt");
            command.args(["-r", "1"]).arg(program);
            command
        }
        false => Command::new(program),
    };
    let name = clap::ValueEnum::to_possible_value(&role).context("no such role")?;
    command.args(["app", name.get_name()]).args(arguments);
    command.arg("--socket").arg(socket);
    if scheduler.classes && latency {
        command.args(["--class", "latency"]);
    }
    if scheduler.library && matches!(role, Role::LatencyServer | Role::Sender) {
        command.arg("--library");
    }
    Process::start(&mut command)
}

/// Bulk senders and their sinks.
pub(crate) struct Bulk {
    sinks: Vec<Process>,
    senders: Vec<Process>,
}

impl Bulk {
    pub(crate) fn start(
        scheduler: &Scheduler,
        count: u32,
        write: usize,
        socket: &Path,
    ) -> Result<Self> {
        let write = ["--bytes".to_owned(), write.to_string()];
        let (mut sinks, mut senders) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let sink = start(scheduler, Role::Sink, &write, socket)?;
            let peer = ["--peer".to_owned(), sink.address.clone()];
            let arguments = [&write[..], &peer].concat();
            senders.push(start(scheduler, Role::Sender, &arguments, socket)?);
            sinks.push(sink);
        }
        Ok(Self { sinks, senders })
    }

    /// They run for what is measured in `length` and longer, at both ends.
    pub(crate) fn go(&mut self, length: Duration) -> Result<()> {
        for app in self.sinks.iter_mut().chain(&mut self.senders) {
            app.go(length + 2 * MARGIN)?;
        }
        if !self.sinks.is_empty() {
            // Not an event that is awaited but load that is let build up.
            std::thread::sleep(MARGIN);
        }
        Ok(())
    }

    /// MB/s that arrived, all together.
    pub(crate) fn mb_s(self) -> Result<f64> {
        let mut bytes_per_second = 0.0;
        for sink in self.sinks {
            let outcome: Outcome = sink.outcome()?;
            bytes_per_second += outcome.bytes as f64 / outcome.seconds.max(1e-9);
        }
        Ok(bytes_per_second / 1e6)
    }
}

fn granted_core_ns(scheduler: &Scheduler, socket: &Path) -> Option<(u64, u64)> {
    if !scheduler.has_status() {
        return None;
    }
    let status = flexnet::client::status(socket).ok()?;
    Some((status.granted_core_ns, status.uptime_ns))
}

pub(crate) fn measure(scheduler: &Scheduler, load: &Load, socket: &Path) -> Result<Measured> {
    let seconds = Duration::from_secs_f64(load.seconds);
    let message = ["--bytes".to_owned(), load.message.to_string()];
    let mut bulk = Bulk::start(scheduler, load.t_apps, load.write, socket)?;
    let mut server = start(scheduler, Role::LatencyServer, &message, socket)?;
    let arguments = [
        &message[..],
        &["--peer".to_owned(), server.address.clone()],
        &["--rate".to_owned(), load.rate.to_string()],
    ]
    .concat();
    let mut client = start(scheduler, Role::LatencyClient, &arguments, socket)?;

    // Asking costs the daemon a process: not while anything is measured.
    let before = granted_core_ns(scheduler, socket);
    server.go(seconds)?;
    bulk.go(seconds + apps::WARM_UP)?;
    client.go(seconds)?;
    let latency: Outcome = client.outcome()?;
    let t_mb_s = bulk.mb_s()?;
    let after = granted_core_ns(scheduler, socket);
    drop(server);
    let net_cores = before.zip(after).map(|(before, after)| {
        (after.0 - before.0) as f64 / (after.1.saturating_sub(before.1)).max(1) as f64
    });
    Ok(Measured {
        latencies_us: latency.latencies_us,
        unsent: latency.unsent,
        unanswered: latency.unanswered,
        t_mb_s,
        net_cores,
    })
}
