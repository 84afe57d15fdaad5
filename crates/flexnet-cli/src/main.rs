// SPDX-License-Identifier: GPL-2.0-only
//! `flexnet`: the user's tool. Runs programs in a scheduling class, shows what
//! the scheduler does, and simulates designs.

mod client;
mod design;
mod program;
mod reload;
mod run;
mod sim;
mod status;
mod top;
mod trace;
mod why;

use clap::{CommandFactory, Parser, Subcommand};
use flexnet_command::{Completions, Man, Related};
use std::process::ExitCode;

/// Network executors: run programs with them, watch the scheduler, trace, simulate
#[derive(Parser)]
#[command(name = "flexnet", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a command in a scheduling class, or with its sends done by executors
    Run(run::Options),
    /// Show what the scheduler does, and for which applications
    Status(status::Options),
    /// Watch the scheduler: cores, applications, events
    Top(top::Options),
    /// Explain the class of a process, where it may run, and where it has waited
    Why(why::Options),
    /// Trace cores and executors into a file for Perfetto's viewer
    Trace(trace::Options),
    /// List the stack designs, show or switch the one that is on, and load designs in folders
    Design(Box<design::Options>),
    /// Make the scheduler read its configuration file again
    Reload(reload::Options),
    /// Simulate designs on any number of cores
    Sim(Box<sim::Options>),
    /// Print the completions of a shell
    Completions(Completions),
    /// Write the manual pages
    Man(Man),
}

const RELATED: Related<'_> = Related {
    files: &[(
        flexnet::abi::SOCKET_PATH,
        "The scheduler's control socket, unless --socket names another.",
    )],
    pages: &[("scx_flexnet.toml", 5), ("flexnet", 7), ("scx_flexnet", 8)],
};

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Status(options) => status::run(&options),
        Command::Top(options) => top::run(&options),
        Command::Why(options) => why::run(&options),
        Command::Trace(options) => trace::run(&options),
        Command::Design(options) => design::run(&options),
        Command::Reload(options) => reload::run(&options),
        Command::Sim(options) => sim::run(&options),
        Command::Completions(options) => flexnet_command::completions(&options, Cli::command()),
        Command::Man(options) => flexnet_command::man(&options, Cli::command(), &RELATED),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flexnet: {error:#}");
            ExitCode::FAILURE
        }
    }
}
