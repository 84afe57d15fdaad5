// SPDX-License-Identifier: GPL-2.0-only
//! The daemon's loop: waits for clients, BPF's events, placed pages, questions
//! about statistics and the end, all on one thread, and once a second looks
//! whether the scheduler is still there.

use crate::cli::Options;
use crate::clients::{Client, Clients};
use crate::connection::Listener;
use crate::control::{Control, Facts};
use crate::events::{Event, Events};
use crate::kernel::Kernel;
use crate::metrics::Source;
use crate::notify::notify;
use crate::pages::{PageMap, Placer};
use crate::preflight;
use crate::scheduler::Scheduler;
use crate::stats::{Snapshot, StatsDesk, monotonic_ns, transitions};
use crate::steer::Steer;
use crate::wake::Wake;
use anyhow::Result;
use flexnet::abi::name_text;
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
}

impl Stop {
    /// Not asked yet.
    pub fn new() -> Result<Self> {
        Ok(Self {
            asked: AtomicBool::new(false),
            wake: Wake::new()?,
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
    logged: u64,
}

impl Daemon {
    /// Serves an attached scheduler's clients and its statistics.
    pub fn new(
        options: &Options,
        scheduler: &Scheduler<'_>,
        listener: Listener,
        steer: Steer,
        metrics: Option<&Source>,
    ) -> Result<Self> {
        let kernel = &scheduler.kernel;
        let facts = Facts {
            cpus: scheduler.plan.online,
            cores_max: scheduler.plan.net_cores_max,
            objective_ns: options.objective_us * 1_000,
            since: Instant::now(),
            started: SystemTime::now(),
            design: options.design.clone(),
        };
        let control = Control::new(
            listener,
            Placer::start(kernel.pages()?)?,
            Clients::new(options.clients_max, options.executors_max),
            facts,
        );
        let desk = StatsDesk::launch(snapshot(kernel, &control)?)?;
        if let Some(metrics) = metrics {
            metrics.set(desk.asker());
        }
        Ok(Self {
            events: Events::new(kernel)?,
            desk,
            control,
            steer,
            logged: 0,
        })
    }

    /// Serves until the end is asked for or the scheduler is gone.
    pub fn run(&mut self, kernel: &Kernel<'_>, stop: &Stop) -> Result<()> {
        let mut ticked_ns = monotonic_ns();
        while !stop.asked() && !kernel.exited() {
            let readable = self.wait(stop)?;
            self.handle(kernel, &readable);
            let now_ns = monotonic_ns();
            if now_ns - ticked_ns >= TICK_NS {
                ticked_ns = now_ns;
                self.tick(kernel, now_ns);
            }
            self.steer.step(now_ns);
        }
        Ok(())
    }

    /// Ends the clients; the pages are to be marked once BPF is gone.
    pub fn detach(self, kernel: &Kernel<'_>) -> Vec<PageMap> {
        self.control.detach(kernel)
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
        // The first five are handled whether they are ready or not: that is a
        // read that finds nothing, and this loop runs seldom.
        let mut fds = vec![
            PollFd::new(&stop.wake, PollFlags::IN),
            PollFd::new(&self.events, PollFlags::IN),
            PollFd::new(&self.desk, PollFlags::IN),
            PollFd::new(self.control.placer(), PollFlags::IN),
            PollFd::new(self.control.listener(), PollFlags::IN),
        ];
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
                Event::Grants => self.look_at_grants(kernel, monotonic_ns()),
            }
        }
        self.control.placed(kernel);
        for &number in readable {
            self.control.serve(kernel, number);
        }
        self.control.accept();
        let control = &self.control;
        self.desk.answer(|| snapshot(kernel, control));
    }

    fn look_at_grants(&mut self, kernel: &Kernel<'_>, now_ns: u64) {
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
        self.look_at_grants(kernel, now_ns);
        if log::log_enabled!(log::Level::Debug) {
            let arbiter = kernel.arbiter();
            for line in transitions(&arbiter, self.logged) {
                log::debug!("grants: {line}");
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
        design: facts.design.to_string(),
        start_s: facts.started.duration_since(UNIX_EPOCH)?.as_secs_f64(),
        arbiter: kernel.arbiter(),
        counters: kernel.counters()?,
        clients: clients
            .iter()
            .map(|(id, client)| (name(id, client), kernel.client(id)))
            .collect(),
    })
}
