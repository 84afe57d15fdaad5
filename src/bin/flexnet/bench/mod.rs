// SPDX-License-Identifier: GPL-2.0-only
//! `flexnet bench`: experiments against rivals. They compare in one run,
//! interleaved, over several rounds, and report what came out.

mod colocate;
mod micro;

use anyhow::Result;
pub(crate) use micro::stack_costs;

#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// A latency-critical service beside throughput-hungry ones, under several
    /// schedulers (NetChannel's figure 4a)
    Colocate(colocate::Options),
    /// Coroutines, queues and sends against other libraries'
    Micro(micro::Options),
    /// One process of an experiment
    #[command(hide = true)]
    App(colocate::apps::Options),
}

pub(crate) fn run(bench: Bench) -> Result<()> {
    match bench {
        Bench::Colocate(options) => colocate::run(&options),
        Bench::Micro(options) => micro::run(&options),
        Bench::App(options) => colocate::apps::run(&options),
    }
}
