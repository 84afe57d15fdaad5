// SPDX-License-Identifier: GPL-2.0-only
//! One cell of one round: a program in one way, alone or beside bulk senders.

use super::client::{self, Outcome};
use super::program::{Offload, Scratch, Server, Way};
use super::protocol::Service;
use crate::colocate::cell::Bulk;
use crate::process::Process;
use crate::schedulers::Scheduler;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The open loop's rate: this share of what the program reaches alone.
pub(super) const RATE_SHARE: f64 = 0.1;
/// Times the open loop's rate ([`RATE_SHARE`] of what is reached).
const HALF_LOAD: f64 = 0.5 / RATE_SHARE;

/// What runs: a service with its client, or iperf3 with a size of write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workload {
    Service(Service),
    /// redis publishing to many.
    Fanout,
    Iperf3 {
        write: u32,
    },
}

impl Workload {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Service(Service::Redis) => "redis",
            Self::Service(Service::Memcached) => "memcached",
            Self::Service(Service::Nginx) => "nginx",
            Self::Fanout => "redis-fanout",
            Self::Iperf3 { write: 128 } => "iperf3-128",
            Self::Iperf3 { .. } => "iperf3-128k",
        }
    }
}

/// A cell's place in the experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) scheduler: usize,
    pub(super) workload: Workload,
    pub(super) offload: Offload,
    pub(super) neighbours: u32,
}

/// What a cell came to in one round.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured {
    /// At the fixed rate.
    pub(super) open: Option<Outcome>,
    /// Requests/s closed-loop, messages/s that reached subscribers, or iperf3's
    /// MB/s.
    pub(super) throughput: Option<f64>,
    /// Time on a CPU of the program's own threads a request (closed-loop) or
    /// message.
    pub(super) cpu_ns: Option<f64>,
    /// The same at a fixed rate, half of what the plain program reaches: there
    /// both have the same to do, while in a closed loop each wakes up as often as
    /// it happens to.
    pub(super) cpu_half_ns: Option<f64>,
    pub(super) neighbours_mb_s: f64,
}

impl Measured {
    /// For the progress of a run.
    pub(super) fn line(&self) -> String {
        let mut parts = Vec::new();
        if let Some(open) = &self.open {
            parts.push(format!(
                "P99 {:.0} µs of {} requests",
                open.p99_us, open.requests
            ));
        }
        if let Some(throughput) = self.throughput {
            parts.push(format!("throughput {throughput:.0}"));
        }
        if let Some(cpu) = self.cpu_ns {
            parts.push(format!("own CPU {:.2} µs a request", cpu / 1e3));
        }
        if let Some(cpu) = self.cpu_half_ns {
            parts.push(format!("at half load {:.2} µs", cpu / 1e3));
        }
        if self.neighbours_mb_s > 0.0 {
            parts.push(format!("neighbours {:.0} MB/s", self.neighbours_mb_s));
        }
        parts.join(", ")
    }
}

/// One cell over all rounds.
pub(super) struct Cell {
    pub(super) key: Key,
    pub(super) rounds: Vec<Measured>,
}

/// What all cells of a run have in common.
pub(super) struct Bench<'a> {
    pub(super) socket: &'a Path,
    pub(super) log: Option<std::path::PathBuf>,
    pub(super) scratch: &'a Scratch,
    pub(super) seconds: Duration,
    /// Bytes of a bulk sender's write.
    pub(super) write: usize,
    /// `None`: as many as the program's own benchmark has.
    pub(super) connections: Option<u32>,
}

impl Bench<'_> {
    /// `rate`: requests/s of the open loop.
    pub(super) fn measure(&self, scheduler: &Scheduler, key: Key, rate: f64) -> Result<Measured> {
        match key.workload {
            Workload::Service(service) => self.service(scheduler, key, service, rate),
            Workload::Fanout => self.fanout(scheduler, key),
            Workload::Iperf3 { write } => self.iperf3(scheduler, key, write),
        }
    }

    /// redis is what is offloaded.
    fn fanout(&self, scheduler: &Scheduler, key: Key) -> Result<Measured> {
        let way = self.way(scheduler, key.offload);
        let mut bulk = Bulk::start(scheduler, key.neighbours, self.write, self.socket)?;
        let server = Server::start(Service::Redis, &way, self.scratch)?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["fanout", "--peer", &server.address.to_string()])
            .arg("--socket")
            .arg(self.socket);
        if scheduler.classes {
            command.args(["--class", "latency"]);
        }
        let mut client = Process::start(&mut command)?;
        let before = server.own_cpu_ns();
        bulk.go(self.seconds + client::WARM_UP)?;
        client.go(self.seconds)?;
        let outcome: Outcome = client.outcome()?;
        let cpu = server.own_cpu_ns().saturating_sub(before);
        Ok(Measured {
            throughput: Some(outcome.requests as f64 / outcome.seconds),
            cpu_ns: Some(cpu as f64 / outcome.with_warm_up().max(1.0)),
            neighbours_mb_s: bulk.mb_s()?,
            ..Measured::default()
        })
    }

    /// Requests/s that the program reaches plain and alone, closed-loop.
    pub(super) fn reached(&self, scheduler: &Scheduler, service: Service) -> Result<f64> {
        let server = Server::start(service, &self.way(scheduler, Offload::Plain), self.scratch)?;
        let outcome = self.client(scheduler, service, &server, 0.0)?;
        Ok(outcome.requests as f64 / outcome.seconds)
    }

    fn way(&self, scheduler: &Scheduler, offload: Offload) -> Way<'_> {
        Way {
            offload,
            latency: scheduler.classes,
            socket: self.socket,
        }
    }

    fn start_client(
        &self,
        scheduler: &Scheduler,
        service: Service,
        server: &Server,
        rate: f64,
    ) -> Result<Process> {
        let name = clap::ValueEnum::to_possible_value(&service).context("no such service")?;
        let connections = self.connections.unwrap_or(service.connections());
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["client", name.get_name()])
            .args(["--peer", &server.address.to_string()])
            .args(["--rate", &rate.to_string()])
            .args(["--connections", &connections.to_string()])
            .arg("--socket")
            .arg(self.socket);
        if scheduler.classes {
            command.args(["--class", "latency"]);
        }
        Process::start(&mut command)
    }

    fn client(
        &self,
        scheduler: &Scheduler,
        service: Service,
        server: &Server,
        rate: f64,
    ) -> Result<Outcome> {
        let mut client = self.start_client(scheduler, service, server, rate)?;
        client.go(self.seconds)?;
        client.outcome()
    }

    fn service(
        &self,
        scheduler: &Scheduler,
        key: Key,
        service: Service,
        rate: f64,
    ) -> Result<Measured> {
        let way = self.way(scheduler, key.offload);
        let mut bulk = Bulk::start(scheduler, key.neighbours, self.write, self.socket)?;
        let server = Server::start(service, &way, self.scratch)?;
        let mut client = self.start_client(scheduler, service, &server, rate)?;
        bulk.go(self.seconds + client::WARM_UP)?;
        client.go(self.seconds)?;
        let mut measured = Measured {
            open: Some(client.outcome()?),
            neighbours_mb_s: bulk.mb_s()?,
            ..Measured::default()
        };
        if key.neighbours == 0 {
            let (closed, cpu_ns) = self.costs(scheduler, service, &server, 0.0)?;
            measured.throughput = Some(closed.requests as f64 / closed.seconds);
            measured.cpu_ns = Some(cpu_ns);
            let half = rate * HALF_LOAD;
            measured.cpu_half_ns = Some(self.costs(scheduler, service, &server, half)?.1);
        }
        Ok(measured)
    }

    /// A client's run, and what it cost the program's own threads, ns a request.
    fn costs(
        &self,
        scheduler: &Scheduler,
        service: Service,
        server: &Server,
        rate: f64,
    ) -> Result<(Outcome, f64)> {
        let before = server.own_cpu_ns();
        let outcome = self.client(scheduler, service, server, rate)?;
        let cpu = server.own_cpu_ns().saturating_sub(before);
        let each = cpu as f64 / outcome.with_warm_up().max(1.0);
        Ok((outcome, each))
    }

    /// The sender is what is offloaded.
    fn iperf3(&self, scheduler: &Scheduler, key: Key, write: u32) -> Result<Measured> {
        let mut bulk = Bulk::start(scheduler, key.neighbours, self.write, self.socket)?;
        let receiver = Server::iperf3(self.scratch, self.socket)?;
        let way = Way {
            offload: key.offload,
            // Nobody waits for a bulk transfer.
            latency: false,
            socket: self.socket,
        };
        let words: Vec<String> = [
            "iperf3",
            "-c",
            "127.0.0.1",
            "-J",
            "-p",
            &receiver.address.port().to_string(),
            "-l",
            &write.to_string(),
            "-t",
            // Whole seconds, as iperf3 wants it.
            &self.seconds.as_secs().max(1).to_string(),
        ]
        .map(str::to_owned)
        .to_vec();
        bulk.go(self.seconds)?;
        let output = way
            .command(&words)?
            .stdout(Stdio::piped())
            .output()
            .context("cannot start iperf3 (ci/setup installs it)")?;
        if !output.status.success() {
            bail!("iperf3 ended: {}", output.status);
        }
        let report: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("iperf3's report cannot be read")?;
        let bits = report["end"]["sum_received"]["bits_per_second"].as_f64();
        Ok(Measured {
            throughput: Some(bits.context("iperf3 reports no throughput")? / 8e6),
            neighbours_mb_s: bulk.mb_s()?,
            ..Measured::default()
        })
    }
}
