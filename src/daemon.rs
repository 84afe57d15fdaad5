// SPDX-License-Identifier: GPL-2.0-only
//! The daemon's loop, on one thread. It waits for clients, BPF's events, placed pages, requests for
//! statistics, and the end. Once a second it checks that the scheduler is still attached.

use crate::clients::{Client, Clients};
use crate::config::Config;
use crate::connection::Listener;
use crate::control::{Control, Order};
use crate::cpus::Plan;
use crate::events::{Event, Events};
use crate::facts::Facts;
use crate::kernel::Kernel;
use crate::message;
use crate::metrics::Source;
use crate::napi::Napi;
use crate::notify::notify;
use crate::pages::{PageMap, Placer};
use crate::preflight;
use crate::reload::{self, Reload};
use crate::scheduler::Scheduler;
use crate::signals::{Asked, Signals};
use crate::stats::{Snapshot, StatsDesk, monotonic_ns, transitions};
use crate::status;
use crate::steer::Steer;
use crate::takeover::{self, Successor};
use crate::wake::Wake;
use anyhow::Result;
use flexnet::abi::{self, Message, name_text};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Longest sleep: an idle daemon wakes once a second.
const TICK_NS: u64 = 1_000_000_000;

/// Set and rung by a signal.
#[derive(Debug)]
pub struct Stop {
    asked: AtomicBool,
    wake: Wake,
    signals: Signals,
}

impl Stop {
    /// Not asked yet.
    pub fn new() -> Result<Self> {
        Ok(Self {
            asked: AtomicBool::new(false),
            wake: Wake::new()?,
            signals: Signals::new()?,
        })
    }

    /// Asks for the end.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.wake.ring();
    }

    /// Was it asked for?
    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Everything beside the scheduler itself.
pub struct Daemon {
    control: Control,
    events: Events,
    desk: StatsDesk,
    steer: Steer,
    napi: Napi,
    logged: u64,
    successor: Option<Successor>,
    kept: Kept,
    /// What it was started with: of keys that need a restart, what runs.
    started: Config,
    plan: Plan,
}

/// What is left at a daemon's end: pages, listening sockets, devices, the one that takes over.
pub type Detached = (Vec<PageMap>, Vec<Listener>, Napi, Option<Successor>);

/// What a daemon is told at its start.
#[derive(Clone)]
pub struct Kept {
    /// All of the operator's.
    pub config: Config,
    /// How long nobody but the kernel scheduled, when it took over, ns.
    pub gap_ns: u64,
}

impl Daemon {
    /// Serves an attached scheduler's clients and its statistics.
    pub fn new(
        kept: Kept,
        scheduler: &Scheduler<'_>,
        doors: Vec<Listener>,
        steer: Steer,
        mut napi: Napi,
    ) -> Result<Self> {
        let (kernel, config) = (&scheduler.kernel, &kept.config);
        let options = &config.options;
        let facts = Facts {
            cpus: scheduler.plan.online,
            cores_max: scheduler.plan.net_cores_max,
            objective_ns: options.objective_us * 1_000,
            gap_ns: kept.gap_ns,
            since: Instant::now(),
            started: SystemTime::now(),
            design: options.design.clone(),
            loaded: None,
            rules: config.rules.clone(),
        };
        let mut control = Control::new(
            doors,
            Placer::start(kernel.pages()?)?,
            Clients::new(options.clients_max, options.executors_max),
            facts,
        )?;
        napi.adopt(kernel, &mut control)?;
        kernel.backlog();
        Ok(Self {
            events: Events::new(kernel)?,
            desk: StatsDesk::launch(snapshot(kernel, &control)?)?,
            control,
            steer,
            napi,
            logged: 0,
            successor: None,
            started: kept.config.clone(),
            kept,
            plan: scheduler.plan.clone(),
        })
    }

    /// Answers scrapes from now on.
    pub fn answer_metrics(&self, metrics: Option<&Source>) {
        if let Some(metrics) = metrics {
            metrics.set(self.desk.asker());
        }
    }

    /// Serves until the end is asked for or the scheduler is gone.
    pub fn run(&mut self, kernel: &Kernel<'_>, stop: &Stop) -> Result<()> {
        let mut ticked_ns = monotonic_ns();
        while !stop.asked() && !kernel.exited() && self.successor.is_none() {
            let readable = self.wait(stop)?;
            self.handle(kernel, &readable);
            match stop.signals.take() {
                Some(Asked::Reload) => {
                    // The outcome is in the log.
                    let _ = self.reload(kernel);
                }
                Some(Asked::Replace) => takeover::start_successor(self.kept.config.arguments()),
                Some(Asked::End) => stop.ask(),
                None => {}
            }
            let now_ns = monotonic_ns();
            if now_ns - ticked_ns >= TICK_NS {
                ticked_ns = now_ns;
                self.tick(kernel, now_ns);
            }
            self.steer.step(now_ns);
        }
        Ok(())
    }

    /// What holds by now.
    pub fn config(&self) -> &Config {
        &self.kept.config
    }

    /// Ends the clients; the pages are to be marked once BPF is gone.
    /// The devices are to be given back then, too: in a receive livelock the kernel
    /// waits for its end before it takes a thread off a device.
    /// Where it listens to everybody is left only for a successor that may not come.
    pub fn detach(mut self, kernel: &Kernel<'_>) -> Detached {
        if self.successor.is_some() {
            self.steer.leave();
            self.napi.leave();
        }
        let (pages, mut doors) = self.control.detach(kernel);
        // Root's is closed, so that root finds its way to the successor.
        doors.truncate(usize::from(self.successor.is_some()));
        (pages, doors, self.napi, self.successor)
    }

    /// Sleeps until there is something to do; which connections have packets.
    fn wait(&self, stop: &Stop) -> Result<Vec<u64>> {
        let wait_ns = self.steer.due_ns().map_or(TICK_NS, |due| {
            due.saturating_sub(monotonic_ns()).min(TICK_NS)
        });
        let timeout = Timespec {
            tv_sec: (wait_ns / 1_000_000_000) as _,
            tv_nsec: (wait_ns % 1_000_000_000) as _,
        };
        // The first ones are handled whether they are ready or not: that is a
        // read that finds nothing, and this loop runs seldom.
        let mut fds = vec![
            PollFd::new(&stop.wake, PollFlags::IN),
            PollFd::new(&stop.signals, PollFlags::IN),
            PollFd::new(&self.events, PollFlags::IN),
            PollFd::new(&self.desk, PollFlags::IN),
            PollFd::new(self.control.placer(), PollFlags::IN),
        ];
        let arrivals = self.control.arrivals();
        fds.extend(arrivals.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let first = fds.len();
        let mut numbers = Vec::new();
        for (number, connection) in self.control.readable() {
            numbers.push(number);
            fds.push(PollFd::new(connection, PollFlags::IN));
        }
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(numbers
            .into_iter()
            .zip(&fds[first..])
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|(number, _)| number)
            .collect())
    }

    fn handle(&mut self, kernel: &Kernel<'_>, readable: &[u64]) {
        for event in self.events.take() {
            match event {
                Event::Doorbell(client) => self.control.ring(client),
                Event::Grants => self.check_grants(kernel, monotonic_ns()),
            }
        }
        self.control.placed(kernel);
        self.control.accept();
        self.control.serve(kernel, readable);
        for (number, message, order) in self.control.orders() {
            match order {
                Order::Reload => self.answer_reload(kernel, number, &message),
                Order::Rules => self.answer_rules(kernel, number, &message),
                Order::TakeOver => self.successor = self.control.give_way(number, message),
            }
        }
        let control = &self.control;
        self.desk.answer(|| snapshot(kernel, control));
    }

    /// Reads the configuration anew: what to say, or the mistakes.
    fn reload(&mut self, kernel: &Kernel<'_>) -> Result<String, String> {
        let followed = self.kept.config.again().and_then(|new| {
            let reload = Reload {
                kernel,
                control: &mut self.control,
                plan: &mut self.plan,
            };
            let text = reload.follow(&self.started, &self.kept.config, &new);
            let text = text.map_err(|error| format!("{error:#}"))?;
            self.kept.config = new;
            Ok(text)
        });
        match &followed {
            Ok(text) => text.lines().for_each(|line| log::info!("reload: {line}")),
            Err(text) => text.lines().for_each(|line| log::error!("reload: {line}")),
        }
        followed
    }

    fn answer_reload(&mut self, kernel: &Kernel<'_>, number: u64, message: &Message) {
        let (status, text) = match self.reload(kernel) {
            Ok(text) => (Ok(()), text),
            Err(text) => (Err(Errno::INVAL), text),
        };
        let header = message::reply(message, size_of::<abi::Reload>(), status);
        self.control
            .reply(kernel, number, &abi::Reload::new(header, &text));
    }

    fn answer_rules(&mut self, kernel: &Kernel<'_>, number: u64, message: &Message) {
        let config = &self.kept.config;
        let restart = reload::waiting(&self.started, config);
        match status::rules(kernel, &config.rules.rules, &restart, message) {
            Ok(rules) => self.control.reply(kernel, number, &rules),
            Err(error) => {
                log::warn!("cannot tell of the rules: {error:#}");
                let refused = message::reply(message, size_of::<Message>(), Err(Errno::IO));
                self.control.reply(kernel, number, &refused);
            }
        }
    }

    fn check_grants(&mut self, kernel: &Kernel<'_>, now_ns: u64) {
        if self.steer.active() {
            self.steer
                .granted(now_ns, kernel.take_steering_mask().as_deref());
        }
    }

    /// Once a second: a sign of life for systemd's watchdog, what is in the log,
    /// and what an event lost to a full ring buffer would have said.
    fn tick(&mut self, kernel: &Kernel<'_>, now_ns: u64) {
        // A daemon whose scheduler does not schedule is of no use: no ping.
        if preflight::ours_runs() {
            notify("WATCHDOG=1");
        }
        self.control.tick(kernel);
        self.check_grants(kernel, now_ns);
        if let Err(error) = self.napi.watch(kernel, &mut self.control) {
            log::warn!(reason:% = error; "not all kernel network threads are executors: {error:#}");
        }
        if log::log_enabled!(log::Level::Debug) {
            let arbiter = kernel.arbiter();
            for line in transitions(&arbiter, self.logged) {
                let reason = line.rsplit(' ').next();
                log::debug!(reason; "grants: {line}");
            }
            self.logged = arbiter.transitions;
        }
    }
}

fn snapshot(kernel: &Kernel<'_>, control: &Control) -> Result<Snapshot> {
    let name = |id: u32, client: &Client| format!("{id}:{}", name_text(&client.name));
    let (clients, facts) = (control.clients(), control.facts());
    let cpus: Vec<_> = (0..kernel.cpus()).map(|cpu| kernel.cpu(cpu)).collect();
    let owner = |id: u32| clients.get(id).map(|client| name(id, client));
    Ok(Snapshot {
        now_ns: monotonic_ns(),
        cores: cpus.iter().filter_map(|&(_, id)| owner(id?)).collect(),
        cpus: cpus.iter().map(|&(state, _)| state).collect(),
        cores_max: facts.cores_max,
        design: facts.design_text(),
        start_s: facts.started.duration_since(UNIX_EPOCH)?.as_secs_f64(),
        arbiter: kernel.arbiter(),
        counters: kernel.counters()?,
        clients: clients
            .iter()
            .map(|(id, client)| (name(id, client), kernel.client(id)))
            .collect(),
    })
}
