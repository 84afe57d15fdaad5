// SPDX-License-Identifier: GPL-2.0-only
//! `flexnet`: the user's tool. Runs programs in a scheduling class, shows what
//! the scheduler does, and measures.

mod bench;
mod design;
mod run;
mod sim;
mod status;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Executors for host network stacks: run, look, measure.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a command in a scheduling class; its children inherit it
    Run(run::Options),
    /// Show what the scheduler does and for whom
    Status(status::Options),
    /// List the stack designs, show which is on, or switch to another live
    Design(design::Options),
    /// Simulate designs on any number of cores
    Sim(sim::Options),
    /// Measure
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Status(options) => status::run(&options),
        Command::Design(options) => design::run(&options),
        Command::Sim(options) => sim::run(&options),
        Command::Bench(bench) => bench::run(bench),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flexnet: {error:#}");
            ExitCode::FAILURE
        }
    }
}
