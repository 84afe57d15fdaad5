// SPDX-License-Identifier: GPL-2.0-only
//! From rounds to numbers: medians over rounds, ratios paired by round.

use super::cell::{Cell, Key, Measured, Workload};
use super::options::Options;
use super::program::Offload;
use crate::numbers::{kernel, machine, median, median_interval};
use crate::schedulers::Scheduler;
use serde::Serialize;

/// What a run was.
pub(super) struct Run<'a> {
    pub(super) options: &'a Options,
    pub(super) rates: &'a [(Workload, f64)],
    pub(super) repeated: u32,
    pub(super) noisy: bool,
}

#[derive(Serialize)]
pub(super) struct Report {
    experiment: &'static str,
    kernel: String,
    cpus: usize,
    machine: String,
    native: bool,
    rounds: u32,
    rounds_repeated: u32,
    pub(super) noisy: bool,
    seconds: f64,
    /// The client's, of each service.
    connections: Vec<(String, u32)>,
    write_bytes: usize,
    /// Requests/s of the open loop.
    rates: Vec<(String, f64)>,
    pub(super) cells: Vec<CellReport>,
}

/// A ratio paired by round: its median and the median's 95% interval.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Ratio {
    pub(super) median: f64,
    pub(super) interval: [f64; 2],
}

/// A cell; medians over rounds, times in µs.
#[derive(Serialize)]
pub(super) struct CellReport {
    pub(super) scheduler: String,
    pub(super) program: &'static str,
    pub(super) offload: &'static str,
    pub(super) neighbours: u32,
    p50_us: Option<f64>,
    pub(super) p99_us: Option<f64>,
    p999_us: Option<f64>,
    /// Requests that were due and not answered at the end, over all rounds.
    unanswered: u64,
    /// Requests/s closed-loop; publishing: messages/s delivered; iperf3: MB/s.
    pub(super) throughput: Option<f64>,
    /// Of the program's own threads, executors not among them.
    cpu_us_per_request: Option<f64>,
    neighbours_mb_s: f64,
    /// To the same program beside as many, plain under EEVDF.
    pub(super) p99_to_eevdf: Option<Ratio>,
    pub(super) neighbours_to_eevdf: Option<Ratio>,
    /// To the same program plain under the same scheduler.
    pub(super) throughput_to_plain: Option<Ratio>,
    pub(super) cpu_to_plain: Option<Ratio>,
    /// The same two at half load.
    pub(super) cpu_half_us_per_request: Option<f64>,
    pub(super) cpu_half_to_plain: Option<Ratio>,
}

impl Report {
    pub(super) fn new(schedulers: &[Scheduler], cells: &[Cell], run: &Run<'_>) -> Self {
        Self {
            experiment: "programs",
            kernel: kernel(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            machine: machine(),
            native: run.options.native,
            rounds: run.options.rounds,
            rounds_repeated: run.repeated,
            noisy: run.noisy,
            seconds: run.options.seconds,
            connections: run
                .rates
                .iter()
                .filter_map(|(workload, _)| match workload {
                    Workload::Service(service) => Some((workload.name(), service.connections())),
                    _ => None,
                })
                .map(|(name, own)| (name.to_owned(), run.options.connections.unwrap_or(own)))
                .collect(),
            write_bytes: run.options.write,
            rates: run
                .rates
                .iter()
                .map(|(workload, rate)| (workload.name().to_owned(), *rate))
                .collect(),
            cells: cells
                .iter()
                .map(|cell| CellReport::new(&schedulers[cell.key.scheduler].name, cell, cells))
                .collect(),
        }
    }

    pub(super) fn title(&self) -> String {
        format!(
            "Linux {}, {} CPUs ({}), {} rounds of {} s{}{}",
            self.kernel,
            self.cpus,
            self.machine,
            self.rounds,
            self.seconds,
            if self.native { ", native" } else { "" },
            if self.noisy {
                ", NOISY: the machine was shared"
            } else {
                ""
            }
        )
    }

    pub(super) fn table(&self) -> String {
        let mut text = format!("{}\n", self.title());
        for ((name, rate), (_, connections)) in self.rates.iter().zip(&self.connections) {
            text.push_str(&format!(
                "{name}: {rate:.0} requests/s over {connections} connections, latency from when each was due\n"
            ));
        }
        text.push_str(&format!(
            "\n{:<11} {:<12} {:<8} {:>6} {:>8} {:>8} {:>8}  {:<20} {:>10} {:<20} {:>8} {:<20} {:>8} {:<20} {:>11} to EEVDF plain\n",
            "scheduler",
            "program",
            "offload",
            "beside",
            "P50 µs",
            "P99 µs",
            "P99.9 µs",
            "P99 to EEVDF plain",
            "throughput",
            "to plain [95%]",
            "CPU µs",
            "to plain [95%]",
            "at half",
            "to plain [95%]",
            "beside MB/s",
        ));
        for cell in &self.cells {
            text.push_str(&cell.row());
        }
        text
    }
}

impl CellReport {
    fn new(scheduler: &str, cell: &Cell, cells: &[Cell]) -> Self {
        let rounds = &cell.rounds;
        let against = |wanted: Key| cells.iter().find(|other| other.key == wanted);
        let eevdf = against(Key {
            scheduler: 0,
            offload: Offload::Plain,
            ..cell.key
        });
        let plain = against(Key {
            offload: Offload::Plain,
            ..cell.key
        });
        let of = |value: fn(&Measured) -> Option<f64>| {
            let values: Vec<f64> = rounds.iter().filter_map(value).collect();
            (!values.is_empty()).then(|| median(values))
        };
        let p99 = |round: &Measured| round.open.as_ref().map(|open| open.p99_us);
        let bulk =
            |round: &Measured| (round.neighbours_mb_s > 0.0).then_some(round.neighbours_mb_s);
        Self {
            scheduler: scheduler.to_owned(),
            program: cell.key.workload.name(),
            offload: cell.key.offload.name(),
            neighbours: cell.key.neighbours,
            p50_us: of(|round| round.open.as_ref().map(|open| open.p50_us)),
            p99_us: of(p99),
            p999_us: of(|round| round.open.as_ref().map(|open| open.p999_us)),
            unanswered: rounds
                .iter()
                .filter_map(|round| round.open.as_ref())
                .map(|open| open.unanswered)
                .sum(),
            throughput: of(|round| round.throughput),
            cpu_us_per_request: of(|round| round.cpu_ns).map(|ns| ns / 1e3),
            neighbours_mb_s: of(bulk).unwrap_or(0.0),
            p99_to_eevdf: eevdf.and_then(|eevdf| ratio(cell, eevdf, p99)),
            neighbours_to_eevdf: eevdf.and_then(|eevdf| ratio(cell, eevdf, bulk)),
            throughput_to_plain: plain.and_then(|plain| ratio(cell, plain, |r| r.throughput)),
            cpu_to_plain: plain.and_then(|plain| ratio(cell, plain, |r| r.cpu_ns)),
            cpu_half_us_per_request: of(|round| round.cpu_half_ns).map(|ns| ns / 1e3),
            cpu_half_to_plain: plain.and_then(|plain| ratio(cell, plain, |r| r.cpu_half_ns)),
        }
    }

    fn row(&self) -> String {
        let number = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".into(), |value| format!("{value:.digits$}"))
        };
        let ratio = |value: Option<Ratio>| {
            value.map_or_else(
                || "-".into(),
                |r| {
                    format!(
                        "{:.2} [{:.2}, {:.2}]",
                        r.median, r.interval[0], r.interval[1]
                    )
                },
            )
        };
        format!(
            "{:<11} {:<12} {:<8} {:>6} {:>8} {:>8} {:>8}  {:<20} {:>10} {:<20} {:>8} {:<20} {:>8} {:<20} {:>11} {}\n",
            self.scheduler,
            self.program,
            self.offload,
            self.neighbours,
            number(self.p50_us, 0),
            number(self.p99_us, 0),
            number(self.p999_us, 0),
            ratio(self.p99_to_eevdf),
            number(self.throughput, 0),
            ratio(self.throughput_to_plain),
            number(self.cpu_us_per_request, 2),
            ratio(self.cpu_to_plain),
            number(self.cpu_half_us_per_request, 2),
            ratio(self.cpu_half_to_plain),
            number((self.neighbours > 0).then_some(self.neighbours_mb_s), 0),
            ratio(self.neighbours_to_eevdf),
        )
    }
}

/// `None`: it is not measured in these cells, or it is compared with itself.
fn ratio(cell: &Cell, to: &Cell, value: fn(&Measured) -> Option<f64>) -> Option<Ratio> {
    if cell.key == to.key {
        return None;
    }
    let ratios: Vec<f64> = cell
        .rounds
        .iter()
        .zip(&to.rounds)
        .filter_map(|(round, to)| Some(value(round)? / value(to)?.max(1e-9)))
        .collect();
    Some(Ratio {
        median: median(ratios.iter().copied()),
        interval: median_interval(&ratios)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(offload: Offload, throughputs: &[f64]) -> Cell {
        let measured = |&throughput| Measured {
            throughput: Some(throughput),
            ..Measured::default()
        };
        Cell {
            key: Key {
                scheduler: 0,
                workload: Workload::Iperf3 { write: 128 },
                offload,
                neighbours: 0,
            },
            rounds: throughputs.iter().map(measured).collect(),
        }
    }

    #[test]
    fn ratios_are_paired_by_round() {
        let cells = [
            cell(Offload::Plain, &[100.0, 50.0, 10.0]),
            cell(Offload::Always, &[200.0, 75.0, 10.0]),
        ];
        let report = CellReport::new("eevdf", &cells[1], &cells);
        let ratio = report.throughput_to_plain.unwrap();
        assert_eq!(ratio.median, 1.5);
        assert_eq!(ratio.interval, [1.0, 2.0]);
        assert!(report.p99_to_eevdf.is_none() && report.cpu_to_plain.is_none());
        let plain = CellReport::new("eevdf", &cells[0], &cells);
        assert!(plain.throughput_to_plain.is_none());
        assert_eq!(plain.throughput, Some(50.0));
    }
}
