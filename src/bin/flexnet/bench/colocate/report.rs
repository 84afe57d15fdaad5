// SPDX-License-Identifier: GPL-2.0-only
//! From rounds to numbers: medians over rounds, ratios paired by round.

use super::schedulers::Scheduler;
use super::{Cell, Options};
use hdrhistogram::Histogram;
use serde::Serialize;

/// What a run was.
pub(super) struct Run<'a> {
    pub(super) options: &'a Options,
    pub(super) rate: f64,
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
    closed_loop: bool,
    message_bytes: usize,
    write_bytes: usize,
    pub(super) cells: Vec<CellReport>,
    pub(super) noisy: bool,
}

/// A cell; latencies in µs, medians over rounds of each round's percentile.
#[derive(Serialize)]
pub(super) struct CellReport {
    pub(super) scheduler: String,
    pub(super) t_apps: u32,
    pub(super) l_p50_us: f64,
    pub(super) l_p99_us: f64,
    pub(super) l_p999_us: f64,
    /// Over all rounds together.
    l_pooled_p99_us: f64,
    l_pooled_p999_us: f64,
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
    /// P99 and P99.9 to EEVDF's without bulk senders, paired by round: medians.
    pub(super) l_p99_to_alone: Option<f64>,
    pub(super) l_p999_to_alone: Option<f64>,
}

/// Percentile (0 to 1) of values in µs, to 0.1%; 0 of none.
pub(super) fn percentile(values: &[f64], quantile: f64) -> f64 {
    let Ok(mut histogram) = Histogram::<u64>::new(3) else {
        return 0.0;
    };
    for &value in values {
        // Grows by itself; values are under an hour.
        let _ = histogram.record((value * 1e3) as u64);
    }
    histogram.value_at_quantile(quantile) as f64 / 1e3
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let sorted = sorted(values);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The median's 95% interval by order statistics: the k-th smallest and largest
/// with P(Binomial(n, 1/2) < k) under 2.5%. The whole range where n is small.
fn median_interval(values: &[f64]) -> Option<[f64; 2]> {
    let sorted = sorted(values.iter().copied());
    let n = sorted.len();
    if n == 0 {
        return None;
    }
    let (mut term, mut below, mut k) = (0.5f64.powi(n as i32), 0.0, 0);
    while k < n / 2 && below + term <= 0.025 {
        below += term;
        term *= (n - k) as f64 / (k + 1) as f64;
        k += 1;
    }
    let k = k.saturating_sub(1);
    Some([sorted[k], sorted[n - 1 - k]])
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
            kernel: read("/proc/sys/kernel/osrelease"),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            machine: machine(),
            rounds: run.options.rounds,
            rounds_repeated: run.repeated,
            seconds: run.options.seconds,
            rate: run.rate,
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
        let mut text = format!("{}\n{how}\n", self.title());
        text.push_str(
            "\nscheduler              T   P50 µs   P99 µs P99.9 µs  (to alone) requests unsent     MB/s  to EEVDF [95%]        net cores\n",
        );
        for cell in &self.cells {
            let alone = match (cell.l_p99_to_alone, cell.l_p999_to_alone) {
                (Some(p99), Some(p999)) => format!("{p99:.1}x {p999:.1}x"),
                _ => "-".into(),
            };
            let ratio = match (cell.t_ratio_to_eevdf, cell.t_ratio_interval) {
                (Some(ratio), Some([low, high])) => format!("{ratio:.2} [{low:.2}, {high:.2}]"),
                _ => "-".into(),
            };
            let cores = cell
                .net_cores_avg
                .map_or_else(|| "-".into(), |cores| format!("{cores:.2}"));
            text.push_str(&format!(
                "{:<20} {:>3} {:>8.0} {:>8.0} {:>8.0} {:>11} {:>8} {:>6} {:>8.0}  {:<20} {:>9}\n",
                cell.scheduler,
                cell.t_apps,
                cell.l_p50_us,
                cell.l_p99_us,
                cell.l_p999_us,
                alone,
                cell.l_requests,
                cell.l_unsent,
                cell.t_mb_s,
                ratio,
                cores,
            ));
        }
        text
    }
}

impl CellReport {
    fn new(name: &str, cell: &Cell, same_load: Option<&Cell>, alone: Option<&Cell>) -> Self {
        let rounds = &cell.rounds;
        let of = |quantile: f64| {
            median(
                rounds
                    .iter()
                    .map(|round| percentile(&round.latencies_us, quantile)),
            )
        };
        let pooled: Vec<f64> = rounds
            .iter()
            .flat_map(|round| round.latencies_us.iter().copied())
            .collect();
        let to_alone = |quantile: f64| {
            alone.map(|alone| {
                median(rounds.iter().zip(&alone.rounds).map(|(round, alone)| {
                    percentile(&round.latencies_us, quantile)
                        / percentile(&alone.latencies_us, quantile).max(1e-9)
                }))
            })
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
            l_pooled_p99_us: percentile(&pooled, 0.99),
            l_pooled_p999_us: percentile(&pooled, 0.999),
            l_max_us: percentile(&pooled, 1.0),
            l_requests: pooled.len(),
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

fn read(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn machine() -> String {
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    model.unwrap_or("unknown processor").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_their_intervals() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        let values: Vec<f64> = (1..=15).map(f64::from).collect();
        // The textbook's: 4th smallest and largest of 15.
        assert_eq!(median_interval(&values), Some([4.0, 12.0]));
        assert_eq!(median_interval(&[1.0, 5.0]), Some([1.0, 5.0]));
        assert_eq!(median_interval(&[]), None);
    }

    #[test]
    fn percentiles_are_of_the_values() {
        let values: Vec<f64> = (1..=1000).map(f64::from).collect();
        assert!((percentile(&values, 0.99) - 990.0).abs() < 2.0);
        assert!((percentile(&values, 0.5) - 500.0).abs() < 2.0);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }
}
