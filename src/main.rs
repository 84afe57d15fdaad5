// SPDX-License-Identifier: GPL-2.0-only
//! scx_flexnet, the daemon: loads the BPF scheduler (bpf/), lets network
//! executors register over a unix socket, and tells what goes on.
//!
//!   cli, config  the command line and the configuration file; renamed: old names
//!   preflight    what must hold before anything is loaded
//!   limits       cgroups with a limit that cannot be enforced
//!   rules        which tasks are of which class, what applications are given
//!   cpus         which CPUs may be granted
//!   scheduler    load, attach, detach
//!   kernel       the loaded BPF half, as the others see it
//!   loaded       a core rule that is put into it while it runs
//!   takeover     one daemon relieves another
//!   daemon       the loop that serves all of the following
//!   front        processes between clients and the daemon; packets
//!   control      requests of clients; message, peer, connection, clients, pages
//!   why          what a process' threads have been through
//!   trace        events into a pipe, while somebody traces
//!   events       requests of BPF
//!   reload       another configuration while it runs; signals
//!   status       the answer to a client that asks what goes on
//!   steer        receive processing follows the granted cores
//!   napi         kernel threads poll devices, as executors
//!   device       settings of devices that are written back; for these two
//!   stats        statistics; metrics: the same for OpenMetrics
//!   logging      for a terminal and for the journal
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
mod device;
mod events;
mod exit;
mod facts;
mod front;
mod kernel;
mod limits;
mod loaded;
mod logging;
mod message;
mod metrics;
mod napi;
mod netdev;
mod notify;
mod packets;
mod pages;
mod peer;
mod plain;
mod preflight;
mod reload;
mod renamed;
mod rules;
mod scheduler;
mod signals;
mod stats;
mod status;
mod steer;
mod takeover;
mod trace;
mod wake;
mod why;

use crate::cli::Options;
use crate::config::Config;
use crate::connection::Listener;
use crate::daemon::{Daemon, Stop};
use crate::napi::Napi;
use crate::pages::PageMap;
use crate::scheduler::Scheduler;
use crate::stats::monotonic_ns;
use crate::steer::Steer;
use crate::takeover::{Outcome, Predecessor, Successor};
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
    if let Some(code) = front::main(&arguments) {
        return code;
    }
    let mut config = match config::load(&arguments) {
        Ok(config) => config,
        Err(lines) => {
            lines.lines().for_each(|line| logging::fail(&line));
            return ExitCode::FAILURE;
        }
    };
    match run(&mut config) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our standard output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let text = format!("{error:#}");
            text.lines().for_each(|line| logging::fail(&line));
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn run(config: &mut Config) -> Result<()> {
    let options = config.options.clone();
    let options = &options;
    if options.check_config {
        check_machine(options)?;
    }
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
        if !preflight::ours_runs() {
            logging::warn(&"--monitor: no scx_flexnet runs: waiting for one");
        }
        return stats::monitor(seconds, || false);
    }
    if let Some(shell) = options.completions {
        return Ok(Options::complete(shell, &mut std::io::stdout())?);
    }
    if options.man {
        return Ok(Options::manual(&mut std::io::stdout())?);
    }
    if let Some(rounds) = options.check_designs {
        return scheduler::check_designs(options, rounds);
    }
    preflight::check(options.replace).map_err(|line| anyhow!(line))?;
    start_logging(options)?;
    raise_descriptor_limit();
    if let Some(warning) = limits::check(options.ignore_cpu_max)? {
        log::warn!("{warning}");
    }

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
    let mut kept = Lasting::default();
    while schedule(config, &stop, &mut kept)? {}
    Ok(())
}

/// What outlives one scheduler.
#[derive(Default)]
struct Lasting {
    metrics: Option<metrics::Source>,
    /// Where this process listened before it gave way to one that is gone.
    doors: Vec<Listener>,
}

/// What a start would find missing on this machine, all of it. Changes nothing.
fn check_machine(options: &Options) -> Result<()> {
    let mut mistakes = Vec::new();
    if let Err(error) = Listener::check_group(options.socket_group.as_deref()) {
        mistakes.push(format!("--socket-group: {error:#}"));
    }
    if !options.socket.is_absolute() {
        let socket = options.socket.display();
        mistakes.push(format!("--socket {socket}: it is no absolute path"));
    }
    if let Err(error) = steer::check(&options.steer) {
        mistakes.push(format!("{error:#}"));
    }
    for device in &options.napi {
        if let Err(error) = napi::check(device) {
            mistakes.push(format!("{error:#}"));
        }
    }
    match mistakes.is_empty() {
        true => Ok(()),
        false => Err(anyhow!(mistakes.join("\n"))),
    }
}

/// Schedules until the end; true when it asks to be started again.
fn schedule(config: &mut Config, stop: &Stop, lasting: &mut Lasting) -> Result<bool> {
    let Lasting {
        metrics,
        doors: left,
    } = lasting;
    let options = config.options.clone();
    let state = options.socket.with_file_name("steer.state");
    let napi_state = options.socket.with_file_name("napi.state");
    let mut object = MaybeUninit::uninit();
    let (mut scheduler, doors, steer, gap_ns, predecessor);
    let mut napi;
    // What can fail by the operator's mistake comes before the attach; a
    // client that connects already waits for it.
    if options.replace && preflight::ours_runs() {
        Listener::check_group(options.socket_group.as_deref())?;
        let mut devices = Steer::new(&options.steer, state, true)?;
        napi = Napi::find(&options.napi, napi_state, true)?;
        scheduler = Scheduler::load(&options, &mut object)?;
        let door = Listener::door(&options.socket)?;
        let (old, taken) = Predecessor::ask(&options.socket)?;
        devices.take_on(monotonic_ns());
        napi.take_on()?;
        scheduler.attach()?;
        gap_ns = old.gap_ns();
        let ms = gap_ns as f64 / 1e6;
        log::info!("took over: {ms:.0} ms under the kernel's own scheduler");
        scheduler.kernel.follow_rules(&config.rules.rules)?;
        taken.belong_to(options.socket_group.as_deref())?;
        (doors, steer) = (vec![taken, door.show(&options.socket)?], devices);
        predecessor = Some(old);
    } else {
        gap_ns = 0;
        serve_metrics(&options, metrics)?;
        doors = listen(&options, std::mem::take(left))?;
        steer = Steer::new(&options.steer, state, false)?;
        napi = Napi::find(&options.napi, napi_state, false)?;
        napi.switch_on()?;
        scheduler = Scheduler::load(&options, &mut object)?;
        scheduler.attach()?;
        scheduler.kernel.follow_rules(&config.rules.rules)?;
        predecessor = None;
    }
    let kept = daemon::Kept {
        config: config.clone(),
        gap_ns,
    };
    let mut daemon = Daemon::new(kept, &scheduler, doors, steer, napi)?;
    if let Some(old) = predecessor {
        // Not before: until here it goes on where this one fails.
        old.relieve();
        if let Err(error) = serve_metrics(&options, metrics) {
            log::warn!("{error:#}");
        }
    }
    daemon.answer_metrics(metrics.as_ref());
    announce();
    notify::notify("READY=1");

    let served = daemon.run(&scheduler.kernel, stop);
    // A restart follows what was reloaded.
    *config = daemon.config().clone();
    if stop.asked() {
        notify::notify("STOPPING=1");
    }
    let (pages, listeners, napi, successor) = daemon.detach(&scheduler.kernel);
    let detached_ns = monotonic_ns();
    let end = scheduler.detach();
    pages.iter().for_each(mark_detached);
    drop(napi);
    // Not before: its clients' pages are the other's from here on.
    if let Some(successor) = successor {
        let goes_on = give_way(successor, detached_ns);
        *left = listeners;
        return Ok(goes_on);
    }
    served?;
    Ok(end?.should_restart() && !stop.asked())
}

/// Listens for everybody and for root: where this process did before, or anew.
fn listen(options: &Options, left: Vec<Listener>) -> Result<Vec<Listener>> {
    let socket = &options.socket;
    let mut left = left.into_iter();
    let Some(everybody) = left.next().and_then(Listener::again) else {
        let everybody = Listener::new(socket, options.socket_group.as_deref())?;
        return Ok(vec![everybody, Listener::door(socket)?.show(socket)?]);
    };
    let mut doors = vec![everybody];
    match Listener::door(socket).and_then(|door| door.show(socket)) {
        Ok(door) => doors.push(door),
        // Root may use the other one, and no scheduler would be worse.
        Err(error) => log::warn!("root has no socket of its own: {error:#}"),
    }
    Ok(doors)
}

fn mark_detached(page: &PageMap) {
    if let Err(errno) = page.mark_detached() {
        log::warn!("cannot mark a page detached: {errno}");
    }
}

/// Says on standard output that it schedules. That nobody reads it, or that the disk is full, is
/// no reason not to.
fn announce() {
    let mut output = std::io::stdout();
    let _ = writeln!(output, "scx_flexnet attached").and_then(|()| output.flush());
}

/// Once in the life of the process.
fn serve_metrics(options: &Options, metrics: &mut Option<metrics::Source>) -> Result<()> {
    if let (None, Some(address)) = (&metrics, &options.metrics) {
        *metrics = Some(metrics::start(address)?);
    }
    Ok(())
}

/// Waits until another daemon schedules; true when it does not and this one is to
/// go on.
fn give_way(successor: Successor, detached_ns: u64) -> bool {
    let pid = successor.pid();
    log::info!("process {pid} takes over");
    match successor.await_relief(detached_ns) {
        Outcome::Relieved => {
            notify::notify_of_successor(pid);
            false
        }
        Outcome::Abandoned => {
            log::warn!("the successor is gone: this daemon goes on");
            true
        }
    }
}

/// As many descriptors as the service manager allows. Root's descriptors that are on
/// their way over sockets count against this, those of containers, too.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(errno) = setrlimit(Resource::Nofile, raised) {
        log::debug!("the limit of descriptors stays: {errno}");
    }
}

fn start_logging(options: &Options) -> Result<()> {
    let level = if options.debug || options.verbose {
        LevelFilter::Debug
    } else {
        LevelFilter::Info
    };
    logging::start(level)?;
    let libbpf = if options.verbose {
        PrintLevel::Debug
    } else {
        PrintLevel::Warn
    };
    scx_utils::init_libbpf_logging(Some(libbpf));
    Ok(())
}
