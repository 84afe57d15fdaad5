// SPDX-License-Identifier: GPL-2.0-only
//! What `flexnet-bench colocate` can be told.

use flexnet::abi::SOCKET_PATH;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Rounds; each runs every cell once
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) rounds: u32,
    /// Seconds a cell is measured in a round; longer where a cell would have fewer requests
    /// than --requests
    #[arg(long, default_value_t = 3.0)]
    pub(super) seconds: f64,
    /// Requests that a cell has over all rounds, at least
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    pub(super) requests: u32,
    /// Numbers of bulk senders
    #[arg(long, value_delimiter = ',', default_value = "0,8")]
    pub(super) t_apps: Vec<u32>,
    /// Bytes of a request, and of its reply
    #[arg(long, value_name = "BYTES", default_value_t = 4096)]
    pub(super) message: usize,
    /// Bytes of a bulk sender's write
    #[arg(long, value_name = "BYTES", default_value_t = 10_000_000)]
    pub(super) write: usize,
    /// Requests a second; without, 10% of what is reached closed-loop alone
    #[arg(long, value_name = "RATE")]
    pub(super) rate: Option<f64>,
    /// The next request leaves when the reply is there, as in the paper; a
    /// service that stands still is then asked nothing meanwhile
    #[arg(long)]
    pub(super) closed_loop: bool,
    /// Also the cells that separate the causes: EEVDF with the library, EEVDF
    /// with steering, EEVDF with the service and its client as real-time tasks
    /// (`chrt -r 1`), scx_flexnet without library and steering
    #[arg(long)]
    pub(super) matrix: bool,
    /// Another scheduler's command, to compare with (repeatable)
    #[arg(long, value_name = "COMMAND")]
    pub(super) scheduler: Vec<String>,
    /// The device whose receive processing is steered; empty: none
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
    /// scx_flexnet is attached already: it is measured alone, and neither started nor stopped
    #[arg(long, conflicts_with_all = ["matrix", "scheduler", "lockstep"])]
    pub(super) attached: bool,
    /// Path of the scheduler's control socket
    #[arg(long, default_value = SOCKET_PATH)]
    pub(super) socket: PathBuf,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write the latency of every request as CSV
    #[arg(long, value_name = "FILE")]
    pub(super) latencies: Option<PathBuf>,
    /// Write the result as a plot
    #[arg(long, value_name = "FILE")]
    pub(super) svg: Option<PathBuf>,
}
