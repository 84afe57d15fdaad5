// SPDX-License-Identifier: GPL-2.0-only
//! `flexnet-bench`: experiments against rivals. They compare in one run,
//! interleaved, over several rounds, and report what came out.

mod colocate;
mod designs;
mod micro;
mod numbers;
mod operations;
mod process;
mod programs;
mod schedulers;
mod steal;
mod virtual_time;

use clap::{CommandFactory, Parser, Subcommand};
use flexnet_command::{Completions, Man, Related};
use std::process::ExitCode;

/// Experiments with flexnet and its rivals
#[derive(Parser)]
#[command(name = "flexnet-bench", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// A latency-critical service beside throughput-hungry ones, under several
    /// schedulers (NetChannel's figure 4a)
    Colocate(colocate::Options),
    /// Every design under load steps, mixed service times, several engines and
    /// co-location
    Designs(designs::Options),
    /// Coroutines, queues and sends against other libraries'
    Micro(micro::Options),
    /// redis, memcached, nginx and iperf3, plain and with the preload library
    Programs(programs::Options),
    /// One process of an experiment
    #[command(hide = true)]
    App(colocate::apps::Options),
    /// An application with executors (or a pool of threads) under a load, a
    /// line of JSON a step: one process of `designs`, and enough to see cores
    /// granted
    Load(designs::load::Options),
    /// The client of the experiment with programs
    #[command(hide = true)]
    Client(programs::client::Options),
    /// The publisher and the subscribers of the experiment with programs
    #[command(hide = true)]
    Fanout(programs::fanout::Options),
    /// Calls and time of each operation of the attached scx_flexnet so far, a line
    /// each, where kernel.bpf_stats_enabled is 1
    #[command(hide = true)]
    Operations,
    /// Print the completions of a shell
    Completions(Completions),
    /// Write the manual pages
    Man(Man),
}

const RELATED: Related<'_> = Related {
    files: &[],
    pages: &[("flexnet", 1), ("scx_flexnet", 8)],
};

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Bench::Colocate(options) => colocate::run(&options),
        Bench::Micro(options) => micro::run(&options),
        Bench::Designs(options) => designs::run(&options),
        Bench::Load(options) => designs::load::run(&options),
        Bench::Programs(options) => programs::run(&options),
        Bench::Client(options) => programs::client::run(&options),
        Bench::Fanout(options) => programs::fanout::run(&options),
        Bench::Operations => operations::run(),
        Bench::App(options) => colocate::apps::run(&options),
        Bench::Completions(options) => flexnet_command::completions(&options, Cli::command()),
        Bench::Man(options) => flexnet_command::man(&options, Cli::command(), &RELATED),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flexnet-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
