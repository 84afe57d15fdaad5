// SPDX-License-Identifier: GPL-2.0-only
//! The statistics: what they are, how they come from two samples of BPF's
//! counters, and the server other processes ask (scx_stats' protocol, as all
//! scx schedulers have it).
//!
//! The server's threads ask the daemon's thread, which alone touches BPF.

use crate::bpf_intf::{flexnet_cpu_stats, flexnet_histogram};
use crate::kernel::{flexnet_arbiter_state, flexnet_client_state};
use crate::wake::Wake;
use anyhow::{Context, Result, anyhow};
use flexnet::abi::CpuState;
use scx_stats::prelude::*;
use scx_stats_derive::Stats;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

/// In the order of `enum flexnet_class`.
pub const CLASSES: [&str; 5] = ["normal", "latency", "batch", "executor", "kthread"];
/// In the order of `enum flexnet_reason`.
const REASONS: [&str; 7] = [
    "none", "arrival", "delay", "calm", "idle", "limit", "pressure",
];
/// How long the daemon's thread may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// One class over the interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Stats)]
#[stat(
    desc = "one scheduling class",
    _om_prefix = "class_",
    _om_label = "class"
)]
pub struct ClassMetrics {
    #[stat(desc = "CPU time in the interval (ms)")]
    pub run_ms: f64,
    #[stat(desc = "average wait for a CPU in the interval (us)")]
    pub wait_us: f64,
    #[stat(desc = "waits for a CPU in the interval")]
    pub waits: u64,
}

/// One client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Stats)]
#[stat(desc = "one client", _om_prefix = "client_", _om_label = "client")]
pub struct ClientMetrics {
    #[stat(desc = "executors registered")]
    pub executors: u64,
    #[stat(desc = "executors that should run")]
    pub wanted: u64,
    #[stat(desc = "messages queued at the last sample")]
    pub depth: u64,
    #[stat(desc = "age of the oldest message at the last sample (us)")]
    pub delay_us: f64,
    #[stat(desc = "CPU time of its executors in the interval (ms)")]
    pub run_ms: f64,
}

/// All statistics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Stats)]
#[stat(top)]
pub struct Metrics {
    #[stat(desc = "length of the interval (s)")]
    pub interval_s: f64,
    #[stat(desc = "cores granted to executors now")]
    pub granted: u64,
    #[stat(desc = "cores granted on average over the interval")]
    pub granted_average: f64,
    #[stat(desc = "cores granted in the interval")]
    pub grants: u64,
    #[stat(desc = "cores given back in the interval")]
    pub reclaims: u64,
    #[stat(desc = "preemptions in the interval")]
    pub preemptions: u64,
    #[stat(desc = "preemptions that took back a lent core")]
    pub takebacks: u64,
    #[stat(desc = "executors asked to yield in the interval")]
    pub flags_raised: u64,
    #[stat(desc = "executors preempted because they did not yield")]
    pub flag_kicks: u64,
    #[stat(desc = "tasks served by the starvation bound in the interval")]
    pub anti_starvation: u64,
    #[stat(desc = "arbiter rounds in the interval")]
    pub rounds: u64,
    #[stat(desc = "timer starts from an idle state in the interval")]
    pub timer_starts: u64,
    #[stat(desc = "timer callbacks in the interval")]
    pub timer_fires: u64,
    #[stat(desc = "idle CPUs woken in the interval")]
    pub kicks: u64,
    #[stat(desc = "wakeups sent straight to a CPU in the interval")]
    pub direct_dispatches: u64,
    #[stat(desc = "clients connected")]
    pub clients: u64,
    #[stat(desc = "by class")]
    pub classes: BTreeMap<String, ClassMetrics>,
    #[stat(desc = "by client, id:name")]
    pub client: BTreeMap<String, ClientMetrics>,
    #[stat(desc = "last changes of the grants: at_ns cause_ns before after rounds reason")]
    pub transitions: Vec<String>,
}

/// One sample of BPF's counters, all since attaching.
#[derive(Clone)]
pub struct Snapshot {
    /// CLOCK_MONOTONIC.
    pub now_ns: u64,
    /// The arbiter's state.
    pub arbiter: flexnet_arbiter_state,
    /// The CPUs' counters, summed.
    pub counters: flexnet_cpu_stats,
    /// The clients as `id:name`.
    pub clients: Vec<(String, flexnet_client_state)>,
    /// What each CPU does.
    pub cpus: Vec<CpuState>,
    /// Whose executors are on granted cores, a client's name for each.
    pub cores: Vec<String>,
    /// Most cores that may be granted at once.
    pub cores_max: u32,
    /// The design that is on.
    pub design: String,
    /// When it began to schedule, seconds of the Unix epoch.
    pub start_s: f64,
}

impl Metrics {
    /// What happened between two samples.
    pub fn between(before: &Snapshot, now: &Snapshot) -> Self {
        let interval_ns = now.now_ns.saturating_sub(before.now_ns).max(1);
        // Each look's own time: a grant that is open at both counts between them.
        let granted_ns = integral(&now.arbiter, now.now_ns)
            .saturating_sub(integral(&before.arbiter, before.now_ns));
        let (a, b) = (&before.arbiter, &now.arbiter);
        let (c, d) = (&before.counters, &now.counters);
        Self {
            interval_s: interval_ns as f64 / 1e9,
            granted: b.granted.into(),
            granted_average: granted_ns as f64 / interval_ns as f64,
            grants: b.grants.saturating_sub(a.grants),
            reclaims: b.reclaims.saturating_sub(a.reclaims),
            rounds: b.rounds.saturating_sub(a.rounds),
            timer_starts: b.timer_starts.saturating_sub(a.timer_starts),
            preemptions: d.preemptions.saturating_sub(c.preemptions),
            takebacks: d.takebacks.saturating_sub(c.takebacks),
            flags_raised: d.flags_raised.saturating_sub(c.flags_raised),
            flag_kicks: d.flag_kicks.saturating_sub(c.flag_kicks),
            anti_starvation: d.anti_starvation.saturating_sub(c.anti_starvation),
            timer_fires: d.timer_fires.saturating_sub(c.timer_fires),
            kicks: d.kicks.saturating_sub(c.kicks),
            direct_dispatches: d.direct_dispatches.saturating_sub(c.direct_dispatches),
            clients: now.clients.len() as u64,
            classes: CLASSES
                .iter()
                .enumerate()
                .map(|(class, name)| (name.to_string(), class_between(class, c, d)))
                .collect(),
            client: now
                .clients
                .iter()
                .map(|(name, state)| (name.clone(), client_between(before, name, state)))
                .collect(),
            transitions: transitions(b, 0),
        }
    }

    /// Writes the line of `--stats` and `--monitor`.
    pub fn format<W: Write>(&self, w: &mut W) -> Result<()> {
        write!(
            w,
            "granted {} (average {:.2}) +{} -{} | preemptions {} takebacks {} flags {}/{} \
             anti-starvation {} | rounds {} timer {}/{} |",
            self.granted,
            self.granted_average,
            self.grants,
            self.reclaims,
            self.preemptions,
            self.takebacks,
            self.flags_raised,
            self.flag_kicks,
            self.anti_starvation,
            self.rounds,
            self.timer_starts,
            self.timer_fires,
        )?;
        for (name, class) in &self.classes {
            write!(w, " {name} {:.0}ms/{:.0}us", class.run_ms, class.wait_us)?;
        }
        writeln!(w, " | clients {}", self.clients)?;
        for (name, client) in &self.client {
            writeln!(
                w,
                "  {name}: executors {} wanted {} depth {} delay {:.0}us run {:.0}ms",
                client.executors, client.wanted, client.depth, client.delay_us, client.run_ms
            )?;
        }
        w.flush()?;
        Ok(())
    }
}

/// How often something was counted in a histogram.
pub fn count(of: &flexnet_histogram) -> u64 {
    of.count.iter().sum()
}

fn class_between(
    class: usize,
    before: &flexnet_cpu_stats,
    now: &flexnet_cpu_stats,
) -> ClassMetrics {
    let (had, has) = (&before.histogram[class], &now.histogram[class]);
    let waits = count(has).saturating_sub(count(had));
    let wait_ns = has.sum_ns.saturating_sub(had.sum_ns);
    ClassMetrics {
        run_ms: now.run_ns[class].saturating_sub(before.run_ns[class]) as f64 / 1e6,
        wait_us: wait_ns as f64 / waits.max(1) as f64 / 1e3,
        waits,
    }
}

fn client_between(before: &Snapshot, name: &str, now: &flexnet_client_state) -> ClientMetrics {
    let ran_before = before
        .clients
        .iter()
        .find(|(other, state)| other == name && state.generation == now.generation)
        .map_or(0, |(_, state)| state.run_ns);
    ClientMetrics {
        executors: now.executors.into(),
        wanted: now.wanted.into(),
        depth: now.depth,
        delay_us: now.delay_ns as f64 / 1e3,
        run_ms: now.run_ns.saturating_sub(ran_before) as f64 / 1e6,
    }
}

/// Granted cores integrated over time, up to `now_ns` (CLOCK_MONOTONIC): the
/// arbiter's own sum ends at its last change.
pub fn integral(arbiter: &flexnet_arbiter_state, now_ns: u64) -> u64 {
    let open_ns = match arbiter.granted_since_ns {
        0 => 0,
        since => now_ns.saturating_sub(since),
    };
    arbiter.granted_core_ns + u64::from(arbiter.granted) * open_ns
}

/// The kept changes of the grants from number `from` on, oldest first.
pub fn transitions(arbiter: &flexnet_arbiter_state, from: u64) -> Vec<String> {
    let kept = arbiter.transition.len() as u64;
    let oldest = arbiter.transitions.saturating_sub(kept).max(from);
    (oldest..arbiter.transitions)
        .map(|number| {
            let entry = &arbiter.transition[(number % kept) as usize];
            let reason = REASONS.get(entry.reason as usize).unwrap_or(&"unknown");
            format!(
                "{} {} {} {} {} {reason}",
                entry.at_ns, entry.cause_ns, entry.before, entry.after, entry.rounds
            )
        })
        .collect()
}

/// CLOCK_MONOTONIC in ns.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Asks the daemon's thread, from any other.
#[derive(Clone)]
pub struct Asker {
    ask: Sender<SyncSender<Snapshot>>,
    ring: Arc<Wake>,
}

impl Asker {
    /// A sample of BPF's counters, now.
    pub fn sample(&self) -> Result<Snapshot> {
        let (reply, answer) = sync_channel(1);
        self.ask.send(reply).context("the scheduler is gone")?;
        self.ring.ring();
        answer
            .recv_timeout(ANSWER_LIMIT)
            .context("the scheduler does not answer")
    }
}

/// The server, and the requests to it.
pub struct StatsDesk {
    /// `None` where it cannot be: nobody needs statistics to schedule.
    _server: Option<StatsServer<(), ()>>,
    asker: Asker,
    asked: Receiver<SyncSender<Snapshot>>,
    wake: Arc<Wake>,
}

impl StatsDesk {
    /// Serves intervals that begin with `start`.
    pub fn launch(start: Snapshot) -> Result<Self> {
        let (ask, asked) = channel::<SyncSender<Snapshot>>();
        let wake = Arc::new(Wake::new()?);
        let ring = wake.clone();
        let asker = Asker { ask, ring };
        let ours = asker.clone();
        let open: Box<dyn StatsOpener<(), ()>> = Box::new(move |_| {
            let asker = ours.clone();
            let mut before = start.clone();
            let read: Box<dyn StatsReader<(), ()>> = Box::new(move |_arguments, _channels| {
                let now = asker.sample()?;
                let metrics = Metrics::between(&before, &now);
                before = now;
                metrics.to_json()
            });
            Ok(read)
        });
        let data = data().add_ops("top", StatsOps { open, close: None });
        let server = StatsServer::new(data).launch();
        let server = server
            .inspect_err(|error| log::warn!("cannot serve statistics: {error:#}"))
            .ok();
        Ok(Self {
            _server: server,
            asker,
            asked,
            wake,
        })
    }

    /// For another server.
    pub fn asker(&self) -> Asker {
        self.asker.clone()
    }

    /// Answers the clients that have asked.
    pub fn answer(&self, sample: impl Fn() -> Result<Snapshot>) {
        self.wake.drain();
        for reply in self.asked.try_iter() {
            match sample() {
                // One that no longer waits has closed its end.
                Ok(snapshot) => drop(reply.send(snapshot)),
                Err(error) => log::warn!("no statistics: {error:#}"),
            }
        }
    }
}

impl AsFd for StatsDesk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

fn data() -> StatsServerData<(), ()> {
    StatsServerData::new()
        .add_meta(Metrics::meta())
        .add_meta(ClassMetrics::meta())
        .add_meta(ClientMetrics::meta())
}

/// `--help-stats`.
pub fn describe() -> Result<()> {
    data().describe_meta(&mut std::io::stdout(), None)
}

/// `--monitor` and `--stats`: prints a running scheduler's statistics.
pub fn monitor(seconds: u32, stop: impl Fn() -> bool) -> Result<()> {
    let every = Duration::from_secs(seconds.into());
    let print = |metrics: Metrics| metrics.format(&mut std::io::stdout());
    scx_utils::monitor_stats(&[], every, stop, print).map_err(|error| {
        match error.downcast_ref::<std::io::Error>() {
            Some(cause) if cause.kind() == ErrorKind::PermissionDenied => {
                anyhow!("only root may read the statistics: try with sudo")
            }
            _ => error,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(now_ns: u64) -> Snapshot {
        Snapshot {
            now_ns,
            arbiter: flexnet_arbiter_state::default(),
            // SAFETY: integers only.
            counters: unsafe { std::mem::zeroed() },
            clients: Vec::new(),
            cpus: Vec::new(),
            cores: Vec::new(),
            cores_max: 1,
            design: String::new(),
            start_s: 0.0,
        }
    }

    #[test]
    fn counters_become_differences() {
        let (mut before, mut now) = (snapshot(1_000), snapshot(2_000_001_000));
        before.arbiter.grants = 3;
        now.arbiter.grants = 10;
        now.arbiter.granted_core_ns = 1_000_000_000;
        now.counters.run_ns[3] = 5_000_000;
        now.counters.histogram[3].sum_ns = 30_000;
        now.counters.histogram[3].count[1..3].fill(5);
        let metrics = Metrics::between(&before, &now);
        assert_eq!((metrics.interval_s, metrics.granted_average), (2.0, 0.5));
        assert_eq!(metrics.grants, 7);
        let executor = &metrics.classes["executor"];
        assert_eq!((executor.run_ms, executor.wait_us), (5.0, 3.0));
        assert_eq!(metrics.classes["batch"].wait_us, 0.0);
        let mut line = Vec::new();
        metrics.format(&mut line).unwrap();
        assert!(String::from_utf8(line).unwrap().contains("average 0.50"));
    }

    #[test]
    fn a_grant_that_stays_open_counts_between_the_looks() {
        let (mut before, mut now) = (snapshot(5_000_000_000), snapshot(7_000_000_000));
        for sample in [&mut before, &mut now] {
            sample.arbiter.granted = 3;
            sample.arbiter.granted_since_ns = 1_000_000_000;
        }
        assert_eq!(Metrics::between(&before, &now).granted_average, 3.0);
    }

    #[test]
    fn a_new_client_of_an_old_name_starts_at_zero() {
        let (mut before, mut now) = (snapshot(0), snapshot(1));
        let state = |generation, run_ns| flexnet_client_state {
            generation,
            run_ns,
            ..Default::default()
        };
        before.clients = vec![
            ("0:a".into(), state(1, 8_000_000)),
            ("1:b".into(), state(1, 0)),
        ];
        now.clients = vec![
            ("0:a".into(), state(3, 2_000_000)),
            ("1:b".into(), state(1, 1_000_000)),
        ];
        let metrics = Metrics::between(&before, &now);
        assert_eq!(metrics.client["0:a"].run_ms, 2.0);
        assert_eq!(metrics.client["1:b"].run_ms, 1.0);
    }

    #[test]
    fn the_last_transitions_are_listed_oldest_first() {
        let mut arbiter = flexnet_arbiter_state::default();
        for number in 0..70u64 {
            arbiter.transition[(number % 64) as usize].at_ns = number;
            arbiter.transitions += 1;
        }
        let reported = transitions(&arbiter, 0);
        assert_eq!(reported.len(), 64);
        assert_eq!(reported[0], "6 0 0 0 0 none");
        assert_eq!(reported[63], "69 0 0 0 0 none");
        assert_eq!(transitions(&arbiter, 69).len(), 1);
        assert_eq!(transitions(&arbiter, 70).len(), 0);
    }
}
