// SPDX-License-Identifier: GPL-2.0-only
//! What `flexnet-bench designs` can be told.

use super::scenario::Scenario;
use flexnet::abi::SOCKET_PATH;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Rounds; each runs everything once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) rounds: u32,
    /// Seconds of a step, and a half of other measurements
    #[arg(long, default_value_t = 1.0)]
    pub(super) step: f64,
    /// Designs, in the order they are switched to, a space between
    #[arg(
        long,
        default_value = "flexnet:quantum=500us netchannel snap:mode=dedicating snap:mode=spreading snap:slo=5ms \
                         shenango shinjuku:quantum=500us,slo1=100ms shinjuku:quantum=0ns"
    )]
    pub(super) designs: String,
    /// Only these rivals: `eevdf`, `eevdf+idle`, and designs as in --designs; a space between
    #[arg(long, default_value = "")]
    pub(super) rivals: String,
    /// In a guest of `ci/vm --virtual-time`: its CPUs advance together from the first
    /// scheduler's attach on, before what is measured
    #[arg(long)]
    pub(super) lockstep: bool,
    /// Only these experiments
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(super) only: Vec<Scenario>,
    /// Take this CPU offline where one core for executors is enough: emulated
    /// CPUs are to be no more than real ones while all are busy
    #[arg(long, value_name = "CPU")]
    pub(super) spare_cpu: Option<u32>,
    /// More arguments for scx_flexnet: by default its times are scaled as the
    /// requests are
    #[arg(
        long,
        value_name = "ARGUMENTS",
        allow_hyphen_values = true,
        default_value = "--interval-us 500 --objective-us 500 --low-mark-us 200 --grace-us 200"
    )]
    pub(super) scx_flexnet: String,
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
