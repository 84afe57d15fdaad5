// SPDX-License-Identifier: GPL-2.0-only
//! scx_flexnet, the daemon: loads the BPF scheduler (bpf/), lets network
//! executors register over a unix socket, and tells what goes on.
//!
//!   cli, config  the command line and the configuration file
//!   preflight    what must hold before anything is loaded
//!   cpus         which CPUs may be granted
//!   switch_cost  what a process switch costs here
//!   scheduler    load, attach, detach
//!   kernel       the loaded BPF half, as the others see it
//!   daemon       the loop that serves all of the following
//!   control      requests of clients; message, peer, connection, clients, pages
//!   events       requests of BPF
//!   steer        receive processing follows the granted cores
//!   stats        statistics; metrics: the same for OpenMetrics
//!   notify, wake systemd's notification; eventfds

mod bpf_intf;
mod bpf_skel;
mod cli;
mod clients;
mod config;
mod connection;
mod control;
mod cpus;
mod daemon;
mod events;
mod kernel;
mod message;
mod metrics;
mod notify;
mod pages;
mod peer;
mod preflight;
mod scheduler;
mod stats;
mod steer;
mod switch_cost;
mod wake;

use crate::cli::Options;
use crate::config::Config;
use crate::connection::Listener;
use crate::daemon::{Daemon, Stop};
use crate::scheduler::Scheduler;
use crate::steer::Steer;
use crate::switch_cost::Turns;
use anyhow::{Context, Result, anyhow};
use libbpf_rs::PrintLevel;
use log::LevelFilter;
use std::io::Write;
use std::mem::MaybeUninit;
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    let arguments = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let arguments: Vec<String> = arguments.collect();
    let config = match config::load(&arguments) {
        Ok(config) => config,
        Err(lines) => {
            for line in lines.lines() {
                eprintln!("scx_flexnet: {line}");
            }
            return ExitCode::FAILURE;
        }
    };
    match run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        // Who read our standard output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scx_flexnet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn run(config: &Config) -> Result<()> {
    let options = &config.options;
    if options.print_config || options.check_config {
        let text = match options.print_config {
            true => config.print(),
            false => config.checked(),
        };
        return Ok(std::io::stdout().write_all(text.as_bytes())?);
    }
    if options.help_stats {
        return stats::describe();
    }
    if let Some(seconds) = options.monitor {
        return stats::monitor(seconds, || false);
    }
    if let Some(shell) = options.completions {
        return Ok(Options::complete(shell, &mut std::io::stdout())?);
    }
    if options.man {
        return Ok(Options::manual(&mut std::io::stdout())?);
    }
    if options.echo {
        return switch_cost::echo();
    }
    if let Some(rounds) = options.check_designs {
        return scheduler::check_designs(options, rounds);
    }
    preflight::check().map_err(|line| anyhow!(line))?;
    start_logging(options)?;
    log::warn!("cpu.max of cgroups is not enforced while this scheduler runs");

    let stop = Arc::new(Stop::new()?);
    let asked = stop.clone();
    ctrlc::set_handler(move || asked.ask()).context("cannot handle signals")?;
    if let Some(seconds) = options.stats {
        let stop = stop.clone();
        std::thread::spawn(move || {
            if let Err(error) = stats::monitor(seconds, || stop.asked()) {
                log::warn!("no statistics: {error:#}");
            }
        });
    }
    // A change of the CPUs online ends the scheduler with a wish to be started
    // anew; clients connect anew and keep their pages.
    let turns = turns(options);
    let metrics = options.metrics.as_ref().map(metrics::start).transpose()?;
    while schedule(options, turns, &stop, metrics.as_ref())? {}
    Ok(())
}

/// The operator's numbers, else such as fit the machine.
fn turns(options: &Options) -> Turns {
    let (slice, respite) = (options.slice_us, options.respite_us);
    let mut turns = Turns::default();
    if slice.is_none() || respite.is_none() {
        turns = switch_cost::measure().map_or_else(
            |error| {
                log::warn!("cannot measure what a process switch costs: {error:#}");
                turns
            },
            |switch_ns| {
                log::info!("a process switch costs {:.1} µs", switch_ns as f64 / 1e3);
                Turns::of(switch_ns)
            },
        );
    }
    turns.slice_ns = slice.map_or(turns.slice_ns, |us| us * 1_000);
    turns.respite_ns = respite.map_or(turns.respite_ns, |us| us * 1_000);
    log::info!(
        "slices of {} µs, a respite of {} µs",
        turns.slice_ns / 1_000,
        turns.respite_ns / 1_000
    );
    turns
}

/// Schedules until the end; true when it asks to be started again.
fn schedule(
    options: &Options,
    turns: Turns,
    stop: &Stop,
    metrics: Option<&metrics::Source>,
) -> Result<bool> {
    // What can fail by the operator's mistake comes before the attach; who
    // connects already waits for it.
    let listener = Listener::new(&options.socket, options.socket_group.as_deref())?;
    let steer = Steer::new(&options.steer, options.socket.with_file_name("steer.state"))?;
    let mut object = MaybeUninit::uninit();
    let mut scheduler = Scheduler::attach(options, turns, &mut object)?;
    let mut daemon = Daemon::new(options, &scheduler, listener, steer, metrics)?;
    println!("scx_flexnet attached");
    std::io::stdout().flush()?;
    notify::notify("READY=1");

    let served = daemon.run(&scheduler.kernel, stop);
    if stop.asked() {
        notify::notify("STOPPING=1");
    }
    let pages = daemon.detach(&scheduler.kernel);
    let end = scheduler.detach();
    for page in pages {
        if let Err(errno) = page.mark_detached() {
            log::warn!("cannot mark a page detached: {errno}");
        }
    }
    served?;
    Ok(end?.should_restart() && !stop.asked())
}

fn start_logging(options: &Options) -> Result<()> {
    let level = if options.debug || options.verbose {
        LevelFilter::Debug
    } else {
        LevelFilter::Info
    };
    let format = simplelog::ConfigBuilder::new()
        .set_target_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .add_filter_ignore_str("scx_stats")
        .build();
    // Standard output has the one line others wait for, and statistics.
    simplelog::WriteLogger::init(level, format, std::io::stderr())?;
    let libbpf = if options.verbose {
        PrintLevel::Debug
    } else {
        PrintLevel::Warn
    };
    scx_utils::init_libbpf_logging(Some(libbpf));
    Ok(())
}
