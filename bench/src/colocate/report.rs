// SPDX-License-Identifier: GPL-2.0-only
//! From rounds to numbers: percentiles of all rounds' requests together, and ratios of
//! throughput paired by round.

use super::cell::Cell;
use super::options::Options;
use crate::numbers::{kernel, machine, median, median_interval, percentile, told_percentile};
use crate::schedulers::Scheduler;
use serde::Serialize;

/// What a run was.
pub(super) struct Run<'a> {
    pub(super) options: &'a Options,
    pub(super) rate: f64,
    pub(super) seconds: f64,
    pub(super) repeated: u32,
    pub(super) noisy: bool,
}

#[derive(Serialize)]
pub(super) struct Report {
    experiment: &'static str,
    kernel: String,
    cpus: usize,
    machine: String,
    rounds: u32,
    rounds_repeated: u32,
    seconds: f64,
    rate: f64,
    virtual_time: bool,
    closed_loop: bool,
    message_bytes: usize,
    write_bytes: usize,
    pub(super) cells: Vec<CellReport>,
    pub(super) noisy: bool,
}

/// A cell. Latencies are in µs, percentiles of the requests of all rounds together; a
/// percentile with fewer than ten requests above it is not told.
#[derive(Serialize)]
pub(super) struct CellReport {
    pub(super) scheduler: String,
    pub(super) t_apps: u32,
    pub(super) l_p50_us: Option<f64>,
    pub(super) l_p99_us: Option<f64>,
    pub(super) l_p999_us: Option<f64>,
    l_max_us: f64,
    l_requests: usize,
    l_unsent: u64,
    l_unanswered: u64,
    pub(super) t_mb_s: f64,
    net_cores_avg: Option<f64>,
    /// To the cell of EEVDF with as many bulk senders, paired by round: median
    /// and its 95% interval.
    pub(super) t_ratio_to_eevdf: Option<f64>,
    t_ratio_interval: Option<[f64; 2]>,
    /// P99 and P99.9 to EEVDF's without bulk senders.
    pub(super) l_p99_to_alone: Option<f64>,
    pub(super) l_p999_to_alone: Option<f64>,
}

impl Report {
    pub(super) fn new(schedulers: &[Scheduler], cells: &[Cell], run: Run<'_>) -> Self {
        let eevdf = |t_apps: u32| {
            cells
                .iter()
                .find(|cell| schedulers[cell.scheduler].name == "eevdf" && cell.t_apps == t_apps)
        };
        let cells = cells
            .iter()
            .map(|cell| {
                CellReport::new(
                    &schedulers[cell.scheduler].name,
                    cell,
                    eevdf(cell.t_apps),
                    eevdf(0),
                )
            })
            .collect();
        Self {
            experiment: "colocate",
            kernel: kernel(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            machine: machine(),
            rounds: run.options.rounds,
            rounds_repeated: run.repeated,
            seconds: run.seconds,
            rate: run.rate,
            virtual_time: run.options.lockstep,
            closed_loop: run.options.closed_loop,
            message_bytes: run.options.message,
            write_bytes: run.options.write,
            cells,
            noisy: run.noisy,
        }
    }

    pub(super) fn title(&self) -> String {
        format!(
            "Linux {}, {} CPUs ({}), {} rounds of {} s{}",
            self.kernel,
            self.cpus,
            self.machine,
            self.rounds,
            self.seconds,
            if self.noisy {
                ", NOISY: the machine was shared"
            } else {
                ""
            }
        )
    }

    pub(super) fn table(&self) -> String {
        let how = if self.closed_loop {
            "closed loop".to_owned()
        } else {
            format!(
                "{} requests/s, latency from the intended send time",
                self.rate
            )
        };
        let us = |time: Option<f64>| time.map_or("-".into(), |us| format!("{us:.0}"));
        let mut text = format!("{}\n{how}\n", self.title());
        text.push_str(
            "\nscheduler              T   P50 µs   P99 µs P99.9 µs  (to alone) requests unsent     MB/s  to EEVDF [95%]        net cores\n",
        );
        for cell in &self.cells {
            let times = |ratio: Option<f64>| ratio.map_or("-".into(), |it| format!("{it:.1}x"));
            let [p99, p999] = [cell.l_p99_to_alone, cell.l_p999_to_alone].map(times);
            let alone = format!("{p99} {p999}");
            let ratio = match (cell.t_ratio_to_eevdf, cell.t_ratio_interval) {
                (Some(ratio), Some([low, high])) => format!("{ratio:.2} [{low:.2}, {high:.2}]"),
                _ => "-".into(),
            };
            let cores = cell
                .net_cores_avg
                .map_or_else(|| "-".into(), |cores| format!("{cores:.2}"));
            text.push_str(&format!(
                "{:<20} {:>3} {:>8} {:>8} {:>8} {:>11} {:>8} {:>6} {:>8.0}  {:<20} {:>9}\n",
                cell.scheduler,
                cell.t_apps,
                us(cell.l_p50_us),
                us(cell.l_p99_us),
                us(cell.l_p999_us),
                alone,
                cell.l_requests,
                cell.l_unsent,
                cell.t_mb_s,
                ratio,
                cores,
            ));
        }
        if self.cells.iter().any(|cell| cell.l_p999_us.is_none()) {
            text.push_str(
                "-: fewer than ten requests are above it; more --rounds or --seconds tell it\n",
            );
        }
        text
    }
}

impl CellReport {
    fn new(name: &str, cell: &Cell, same_load: Option<&Cell>, alone: Option<&Cell>) -> Self {
        let rounds = &cell.rounds;
        let pooled = |cell: &Cell| -> Vec<f64> {
            let rounds = cell.rounds.iter();
            rounds
                .flat_map(|round| round.latencies_us.iter().copied())
                .collect()
        };
        let (latencies, alone) = (pooled(cell), alone.map(pooled));
        let of = |quantile: f64| told_percentile(&latencies, quantile);
        let to_alone = |quantile: f64| {
            let alone = told_percentile(alone.as_ref()?, quantile)?;
            Some(of(quantile)? / alone.max(1e-9))
        };
        let ratios: Option<Vec<f64>> = same_load.filter(|_| cell.t_apps > 0).map(|eevdf| {
            let pairs = rounds.iter().zip(&eevdf.rounds);
            pairs
                .map(|(round, eevdf)| round.t_mb_s / eevdf.t_mb_s.max(1e-9))
                .collect()
        });
        let cores: Vec<f64> = rounds.iter().filter_map(|round| round.net_cores).collect();
        Self {
            scheduler: name.to_owned(),
            t_apps: cell.t_apps,
            l_p50_us: of(0.5),
            l_p99_us: of(0.99),
            l_p999_us: of(0.999),
            l_max_us: percentile(&latencies, 1.0),
            l_requests: latencies.len(),
            l_unsent: rounds.iter().map(|round| round.unsent).sum(),
            l_unanswered: rounds.iter().map(|round| round.unanswered).sum(),
            t_mb_s: median(rounds.iter().map(|round| round.t_mb_s)),
            net_cores_avg: (!cores.is_empty()).then(|| median(cores)),
            t_ratio_to_eevdf: ratios.as_ref().map(|ratios| median(ratios.iter().copied())),
            t_ratio_interval: ratios.as_ref().and_then(|ratios| median_interval(ratios)),
            l_p99_to_alone: to_alone(0.99),
            l_p999_to_alone: to_alone(0.999),
        }
    }
}

/// Every request's latency, a line each.
pub(super) fn latencies(schedulers: &[Scheduler], cells: &[Cell]) -> String {
    let mut text = String::from("scheduler,t_apps,round,latency_us\n");
    for cell in cells {
        let name = &schedulers[cell.scheduler].name;
        for (round, measured) in cell.rounds.iter().enumerate() {
            for us in &measured.latencies_us {
                text.push_str(&format!("{name},{},{round},{us:.3}\n", cell.t_apps));
            }
        }
    }
    text
}
