// SPDX-License-Identifier: GPL-2.0-only
//! What `flexnet-bench programs` can be told.

use super::cell::Workload;
use super::program::Offload;
use super::protocol::Service;
use flexnet::abi::SOCKET_PATH;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Rounds; each runs every cell once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) rounds: u32,
    /// Seconds a phase of a cell is measured
    #[arg(long, default_value_t = 2.0)]
    pub(super) seconds: f64,
    /// On this machine's own scheduler, alone: what the library does to programs
    /// that have the machine to themselves; needs no root
    #[arg(long)]
    pub(super) native: bool,
    /// Programs
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "redis,memcached,nginx,fanout,iperf3"
    )]
    pub(super) programs: Vec<Program>,
    /// Ways to run them; plain is what the others are compared with
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "plain,adaptive,always"
    )]
    pub(super) offload: Vec<Offload>,
    /// Numbers of bulk senders beside
    #[arg(long, value_delimiter = ',', default_value = "0,8")]
    pub(super) neighbours: Vec<u32>,
    /// The client's connections; without, as many as the program's own benchmark
    /// has: redis 50, memcached 128, nginx 10
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) connections: Option<u32>,
    /// Requests a second of the open loop; without, 10% of what the plain program
    /// reaches alone
    #[arg(long)]
    pub(super) rate: Option<f64>,
    /// Bytes of a bulk sender's write
    #[arg(long, value_name = "BYTES", default_value_t = 10_000_000)]
    pub(super) write: usize,
    /// The device whose receive processing scx_flexnet steers; empty: none
    #[arg(long, default_value = "lo")]
    pub(super) steer: String,
    /// More arguments for scx_flexnet
    #[arg(
        long,
        value_name = "ARGUMENTS",
        default_value = "",
        allow_hyphen_values = true
    )]
    pub(super) scx_flexnet: String,
    /// Only these schedulers, by name
    #[arg(long, value_delimiter = ',')]
    pub(super) only: Vec<String>,
    /// In a guest of `ci/vm --virtual-time`: its CPUs advance together from the first
    /// scheduler's attach on, before its first cell
    #[arg(long)]
    pub(super) lockstep: bool,
    /// Path of the scheduler's control socket
    #[arg(long, default_value = SOCKET_PATH)]
    pub(super) socket: PathBuf,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write the result as a plot
    #[arg(long, value_name = "FILE")]
    pub(super) svg: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Program {
    Redis,
    Memcached,
    Nginx,
    /// redis publishing to 64 subscribers
    Fanout,
    /// Writes of 128 B and of 128 kB
    Iperf3,
}

impl Program {
    pub(super) fn workloads(self) -> Vec<Workload> {
        match self {
            Self::Redis => vec![Workload::Service(Service::Redis)],
            Self::Memcached => vec![Workload::Service(Service::Memcached)],
            Self::Nginx => vec![Workload::Service(Service::Nginx)],
            Self::Fanout => vec![Workload::Fanout],
            Self::Iperf3 => [128, 128 * 1024]
                .map(|write| Workload::Iperf3 { write })
                .to_vec(),
        }
    }
}
