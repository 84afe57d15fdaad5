// SPDX-License-Identifier: GPL-2.0-only
//! From a snapshot to OpenMetrics' text. Names and units are listed in
//! docs/metrics.md; a test compares.

use crate::bpf_intf::{
    FLEXNET_BUCKET_SHIFT, FLEXNET_BUCKETS, flexnet_histogram,
    flexnet_histogram_kind_FLEXNET_HISTOGRAM_GRANT_LATENCY as GRANT_LATENCY,
    flexnet_histogram_kind_FLEXNET_HISTOGRAM_QUEUE_DELAY as QUEUE_DELAY,
};
use crate::stats::{CLASSES, Snapshot, count, integral};
use anyhow::Result;
use flexnet::abi::CpuState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

type Labels = Vec<(&'static str, String)>;
type Seconds = Counter<f64, AtomicU64>;

/// What a CPU can be shown as.
const STATES: [CpuState; 6] = [
    CpuState::Idle,
    CpuState::Busy,
    CpuState::Latency,
    CpuState::GrantedIdle,
    CpuState::Executor,
    CpuState::Lent,
];

/// A snapshot as OpenMetrics' text.
pub fn render(snapshot: &Snapshot) -> Result<String> {
    let mut registry = Registry::with_prefix("flexnet");
    scheduler(&mut registry, snapshot);
    cores(&mut registry, snapshot);
    counters(&mut registry, snapshot);
    classes(&mut registry, snapshot);
    clients(&mut registry, snapshot);
    let of = &snapshot.counters.histogram;
    let help = "Age of the oldest message of each executor that had one, at the arbiter's samples";
    let delay = Buckets::of(&of[QUEUE_DELAY as usize]);
    registry.register_with_unit("queue_delay", help, Unit::Seconds, delay);
    let help = "From when cores were too few to when an executor ran on the one granted for it";
    let latency = Buckets::of(&of[GRANT_LATENCY as usize]);
    registry.register_with_unit("grant_latency", help, Unit::Seconds, latency);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// The same in Prometheus' own text format, which names counters by their samples
/// and knows neither units nor infos.
pub fn classic(text: &str) -> String {
    let typed = |line: &str| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some((name.to_owned(), kind.to_owned()))
    };
    let kinds: BTreeMap<String, String> = text.lines().filter_map(typed).collect();
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        let (hash, word) = (words.next(), words.next());
        let name = words.next().unwrap_or_default();
        let rest = words.next().unwrap_or_default();
        let (name, kind) = match kinds.get(name).map(String::as_str) {
            Some("counter") => (format!("{name}_total"), "counter"),
            Some("info") => (format!("{name}_info"), "gauge"),
            other => (name.to_owned(), other.unwrap_or(rest)),
        };
        let line = match (hash, word) {
            (Some("#"), Some("UNIT" | "EOF")) => continue,
            (Some("#"), Some("HELP")) => format!("# HELP {name} {rest}"),
            (Some("#"), Some("TYPE")) => format!("# TYPE {name} {kind}"),
            _ => line.to_owned(),
        };
        out.push_str(&line);
        out.push('\n');
    }
    out
}

fn scheduler(registry: &mut Registry, snapshot: &Snapshot) {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    registry.register(
        "build",
        "The daemon's version",
        Info::new(vec![("version", version)]),
    );
    let design = snapshot.design.clone();
    registry.register(
        "design",
        "The design that is on",
        Info::new(vec![("design", design)]),
    );
    let start = Gauge::<f64, AtomicU64>::default();
    start.set(snapshot.start_s);
    let help = "When it began to schedule, since the Unix epoch";
    registry.register_with_unit("start_time", help, Unit::Seconds, start);
}

fn cores(registry: &mut Registry, snapshot: &Snapshot) {
    let arbiter = &snapshot.arbiter;
    for (name, help, value) in [
        (
            "cores_granted",
            "Cores granted to executors",
            arbiter.granted,
        ),
        (
            "cores_max",
            "Most cores that may be granted at once",
            snapshot.cores_max,
        ),
        (
            "cores_saturated",
            "1: clients are told to send by themselves for want of cores",
            u32::from(arbiter.saturated != 0),
        ),
        (
            "clients",
            "Clients connected",
            snapshot.clients.len() as u32,
        ),
    ] {
        let gauge: Gauge = Gauge::default();
        gauge.set(value.into());
        registry.register(name, help, gauge);
    }
    let cpus = Family::<Labels, Gauge>::default();
    for state in STATES {
        let there = snapshot.cpus.iter().filter(|of| **of == state).count();
        let labels = vec![("state", state.name().to_owned())];
        cpus.get_or_create(&labels).set(there as i64);
    }
    registry.register("cpus", "CPUs by what they do at the scrape", cpus);
    let granted = Seconds::default();
    granted.inc_by(seconds(integral(arbiter, snapshot.now_ns)));
    let help = "Granted cores integrated over time";
    registry.register_with_unit("granted_core", help, Unit::Seconds, granted);
}

fn counters(registry: &mut Registry, snapshot: &Snapshot) {
    let (arbiter, counters) = (&snapshot.arbiter, &snapshot.counters);
    for (name, help, value) in [
        ("grants", "Cores granted", arbiter.grants),
        ("reclaims", "Cores given back", arbiter.reclaims),
        ("rounds", "Rounds of the arbiter", arbiter.rounds),
        (
            "timer_fires",
            "Times the rounds' timer fired",
            counters.timer_fires,
        ),
        ("preemptions", "Tasks preempted", counters.preemptions),
        ("takebacks", "Lent cores taken back", counters.takebacks),
        (
            "flags_raised",
            "Executors asked to yield",
            counters.flags_raised,
        ),
        (
            "flag_kicks",
            "Executors preempted since they did not yield",
            counters.flag_kicks,
        ),
        (
            "anti_starvation",
            "Tasks served by the starvation bound",
            counters.anti_starvation,
        ),
        ("idle_kicks", "Idle CPUs woken", counters.kicks),
        (
            "direct_dispatches",
            "Wakeups sent straight to a CPU",
            counters.direct_dispatches,
        ),
    ] {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
}

fn classes(registry: &mut Registry, snapshot: &Snapshot) {
    let run = Family::<Labels, Seconds>::default();
    let mut waits = Vec::new();
    for (class, name) in CLASSES.iter().enumerate() {
        let labels = vec![("class", (*name).to_owned())];
        run.get_or_create(&labels)
            .inc_by(seconds(snapshot.counters.run_ns[class]));
        waits.push((
            [("class", *name)],
            Buckets::of(&snapshot.counters.histogram[class]),
        ));
    }
    registry.register_with_unit("class_run", "CPU time of a class", Unit::Seconds, run);
    registry.register_collector(Box::new(Waits(waits)));
}

fn clients(registry: &mut Registry, snapshot: &Snapshot) {
    let depth = Family::<Labels, Gauge>::default();
    let executors = Family::<Labels, Gauge>::default();
    let wanted = Family::<Labels, Gauge>::default();
    let cores = Family::<Labels, Gauge>::default();
    let delay = Family::<Labels, Gauge<f64, AtomicU64>>::default();
    let run = Family::<Labels, Seconds>::default();
    for (name, client) in &snapshot.clients {
        let labels = vec![("client", name.clone())];
        depth.get_or_create(&labels).set(client.depth as i64);
        executors
            .get_or_create(&labels)
            .set(client.executors.into());
        wanted.get_or_create(&labels).set(client.wanted.into());
        delay.get_or_create(&labels).set(seconds(client.delay_ns));
        run.get_or_create(&labels).inc_by(seconds(client.run_ns));
        let held = snapshot.cores.iter().filter(|owner| *owner == name);
        cores.get_or_create(&labels).set(held.count() as i64);
    }
    registry.register("client_depth", "Messages queued at the last sample", depth);
    registry.register("client_executors", "Executors registered", executors);
    registry.register(
        "client_executors_wanted",
        "Executors that should run",
        wanted,
    );
    registry.register(
        "client_cores",
        "Granted cores its executors are on at the scrape",
        cores,
    );
    let help = "Age of the oldest message at the last sample";
    registry.register_with_unit("client_delay", help, Unit::Seconds, delay);
    registry.register_with_unit(
        "client_run",
        "CPU time of its executors",
        Unit::Seconds,
        run,
    );
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// A histogram as BPF has it: times in powers of two of a nanosecond.
#[derive(Debug)]
struct Buckets {
    sum: f64,
    count: u64,
    /// Each bucket's upper bound, s, and its own count.
    buckets: Vec<(f64, u64)>,
}

impl Buckets {
    fn of(histogram: &flexnet_histogram) -> Self {
        let bound = |bucket: usize| match bucket + 1 < FLEXNET_BUCKETS as usize {
            true => seconds(1 << (FLEXNET_BUCKET_SHIFT as usize + bucket)),
            false => f64::MAX, // what the encoder takes for +Inf
        };
        let counts = histogram.count.iter().enumerate();
        Self {
            sum: seconds(histogram.sum_ns),
            count: count(histogram),
            buckets: counts.map(|(at, &had)| (bound(at), had)).collect(),
        }
    }
}

impl EncodeMetric for Buckets {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.encode_histogram::<NoLabelSet>(self.sum, self.count, &self.buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// The classes' waits. A collector, since a family's members are made by it.
#[derive(Debug)]
struct Waits(Vec<([(&'static str, &'static str); 1], Buckets)>);

impl Collector for Waits {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Time tasks of a class were ready and did not run";
        let unit = Some(&Unit::Seconds);
        let mut family =
            encoder.encode_descriptor("class_wait", help, unit, MetricType::Histogram)?;
        for (labels, buckets) in &self.0 {
            buckets.encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::tests::snapshot;

    #[test]
    fn names_follow_prometheus() {
        let text = render(&snapshot()).unwrap();
        for line in [
            "flexnet_build_info{version=\"0.1.0\"} 1",
            "flexnet_design_info{design=\"flexnet\"} 1",
            "flexnet_cores_granted 2",
            "flexnet_cores_max 3",
            "flexnet_cpus{state=\"executor\"} 1",
            "flexnet_granted_core_seconds_total 1.5",
            "flexnet_grants_total 7",
            "flexnet_class_run_seconds_total{class=\"latency\"} 0.25",
            "flexnet_client_depth{client=\"0:kv\"} 3",
            "flexnet_client_cores{client=\"0:kv\"} 1",
            "flexnet_client_delay_seconds{client=\"0:kv\"} 0.002",
            "# EOF",
        ] {
            assert!(text.lines().any(|had| had == line), "{line}\n{text}");
        }
    }

    #[test]
    fn histograms_add_up_over_their_buckets() {
        let text = render(&snapshot()).unwrap();
        for line in [
            "flexnet_queue_delay_seconds_sum 0.003",
            "flexnet_queue_delay_seconds_count 6",
            "flexnet_queue_delay_seconds_bucket{le=\"0.000001024\"} 1",
            "flexnet_queue_delay_seconds_bucket{le=\"0.000002048\"} 3",
            "flexnet_queue_delay_seconds_bucket{le=\"8.589934592\"} 3",
            "flexnet_queue_delay_seconds_bucket{le=\"+Inf\"} 6",
            "flexnet_class_wait_seconds_count{class=\"batch\"} 4",
            "flexnet_class_wait_seconds_bucket{le=\"+Inf\",class=\"batch\"} 4",
            "flexnet_grant_latency_seconds_count 0",
        ] {
            assert!(text.lines().any(|had| had == line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_classic_format_names_counters_by_their_samples() {
        let text = classic(&render(&snapshot()).unwrap());
        for line in [
            "# TYPE flexnet_grants_total counter",
            "# HELP flexnet_grants_total Cores granted.",
            "flexnet_grants_total 7",
            "# TYPE flexnet_build_info gauge",
            "# TYPE flexnet_queue_delay_seconds histogram",
        ] {
            assert!(text.lines().any(|had| had == line), "{line}\n{text}");
        }
        assert!(!text.contains("# UNIT") && !text.contains("# EOF"));
    }

    /// What is exported is in docs/metrics.md, and nothing else is.
    #[test]
    fn the_table_has_every_name() {
        let text = render(&snapshot()).unwrap();
        let family = |line: &str| {
            let mut words = line.strip_prefix("# TYPE ")?.split(' ');
            let (name, kind) = (words.next()?, words.next()?);
            let end = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            Some((format!("{name}{end}"), kind.to_owned()))
        };
        let mut exported: Vec<_> = text.lines().filter_map(family).collect();
        let table = include_str!("../../docs/metrics.md");
        let row = |line: &str| {
            let mut cells = line.strip_prefix("| `flexnet_")?.split(" | ");
            let name = cells.next()?.split(['`', '{']).next()?;
            Some((format!("flexnet_{name}"), cells.next()?.to_owned()))
        };
        let mut listed: Vec<_> = table.lines().filter_map(row).collect();
        exported.sort();
        listed.sort();
        assert_eq!(exported, listed);
    }
}
