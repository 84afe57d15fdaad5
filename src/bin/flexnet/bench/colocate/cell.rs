// SPDX-License-Identifier: GPL-2.0-only
//! One cell of one round: starts the processes, lets them run, collects.

use super::apps::{self, Outcome, Role};
use crate::bench::schedulers::Scheduler;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// The bulk senders run this long before the latency client starts, and as much
/// longer: it measures under full load only.
const MARGIN: Duration = Duration::from_millis(300);

pub(in crate::bench) struct Load {
    pub(in crate::bench) t_apps: u32,
    pub(in crate::bench) message: usize,
    pub(in crate::bench) write: usize,
    pub(in crate::bench) rate: f64,
    pub(in crate::bench) seconds: f64,
}

/// What a cell came to in one round.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(in crate::bench) latencies_us: Vec<f64>,
    pub(in crate::bench) unsent: u64,
    pub(in crate::bench) unanswered: u64,
    pub(in crate::bench) t_mb_s: f64,
    pub(in crate::bench) net_cores: Option<f64>,
}

impl Measured {
    /// For the progress of a run.
    pub(in crate::bench) fn line(&self) -> String {
        let p99 = crate::bench::numbers::percentile(&self.latencies_us, 0.99);
        format!(
            "{} requests, P99 {p99:.0} µs, {} not sent, {:.0} MB/s",
            self.latencies_us.len(),
            self.unsent,
            self.t_mb_s
        )
    }
}

/// A process of the experiment; killed when dropped.
struct App {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    address: String,
}

impl App {
    fn start(
        scheduler: &Scheduler,
        role: Role,
        arguments: &[String],
        socket: &Path,
    ) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let name = clap::ValueEnum::to_possible_value(&role).context("no such role")?;
        command
            .args(["bench", "app", name.get_name()])
            .args(arguments);
        command.arg("--socket").arg(socket);
        let latency = matches!(role, Role::LatencyServer | Role::LatencyClient);
        if scheduler.classes && latency {
            command.args(["--class", "latency"]);
        }
        if scheduler.library && matches!(role, Role::LatencyServer | Role::Sender) {
            command.arg("--library");
        }
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            bail!("a process without pipes");
        };
        let mut app = Self {
            process,
            input,
            output: BufReader::new(output),
            address: String::new(),
        };
        let line = app.line()?;
        app.address = line
            .strip_prefix("ready ")
            .context("it is not ready")?
            .to_owned();
        Ok(app)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            bail!(
                "a process of the experiment ended: {}",
                self.process.wait()?
            );
        }
        Ok(line.trim().to_owned())
    }

    fn go(&mut self, length: Duration) -> Result<()> {
        writeln!(self.input, "go {}", length.as_secs_f64())?;
        Ok(())
    }

    fn outcome(mut self) -> Result<Outcome> {
        let line = self.line()?;
        let outcome = serde_json::from_str(&line).context("an outcome that cannot be read")?;
        self.process.wait()?;
        Ok(outcome)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn granted_core_ns(scheduler: &Scheduler, socket: &Path) -> Option<(u64, u64)> {
    if !scheduler.has_status() {
        return None;
    }
    let status = crate::status::fetch(socket).ok()?;
    Some((status.granted_core_ns, status.uptime_ns))
}

pub(in crate::bench) fn measure(
    scheduler: &Scheduler,
    load: &Load,
    socket: &Path,
) -> Result<Measured> {
    let seconds = Duration::from_secs_f64(load.seconds);
    let bulk = seconds + 2 * MARGIN + apps::WARM_UP;
    let write = ["--bytes".to_owned(), load.write.to_string()];
    let message = ["--bytes".to_owned(), load.message.to_string()];
    let peer = |app: &App| ["--peer".to_owned(), app.address.clone()];
    let (mut sinks, mut senders) = (Vec::new(), Vec::new());
    for _ in 0..load.t_apps {
        let sink = App::start(scheduler, Role::Sink, &write, socket)?;
        let arguments = [&write[..], &peer(&sink)].concat();
        senders.push(App::start(scheduler, Role::Sender, &arguments, socket)?);
        sinks.push(sink);
    }
    let mut server = App::start(scheduler, Role::LatencyServer, &message, socket)?;
    let rate = ["--rate".to_owned(), load.rate.to_string()];
    let arguments = [&message[..], &peer(&server), &rate].concat();
    let mut client = App::start(scheduler, Role::LatencyClient, &arguments, socket)?;

    server.go(seconds)?;
    for app in sinks.iter_mut().chain(&mut senders) {
        app.go(bulk)?;
    }
    if load.t_apps > 0 {
        // Not an event that is awaited but load that is let build up.
        std::thread::sleep(MARGIN);
    }
    let before = granted_core_ns(scheduler, socket);
    client.go(seconds)?;
    let latency = client.outcome()?;
    let after = granted_core_ns(scheduler, socket);
    let mut bytes_per_second = 0.0;
    for sink in sinks {
        let outcome = sink.outcome()?;
        bytes_per_second += outcome.bytes as f64 / outcome.seconds.max(1e-9);
    }
    drop(senders);
    drop(server);
    let net_cores = before.zip(after).map(|(before, after)| {
        (after.0 - before.0) as f64 / (after.1.saturating_sub(before.1)).max(1) as f64
    });
    Ok(Measured {
        latencies_us: latency.latencies_us,
        unsent: latency.unsent,
        unanswered: latency.unanswered,
        t_mb_s: bytes_per_second / 1e6,
        net_cores,
    })
}
