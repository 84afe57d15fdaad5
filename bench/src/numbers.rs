// SPDX-License-Identifier: GPL-2.0-only
//! From measurements to numbers, and what they were measured on.

use hdrhistogram::Histogram;

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

/// Samples that must lie above a percentile before it is told: with fewer, one sample of
/// luck more or less moves it.
const SAMPLES_ABOVE_MIN: f64 = 10.0;

/// Percentile (0 to 1) of values in µs, to 0.1%; nothing where fewer than ten lie above it.
pub(super) fn told_percentile(values: &[f64], quantile: f64) -> Option<f64> {
    // Ten of 10,000 are above the 99.9th, whatever (1 - 0.999) comes to in binary.
    let above = values.len() as f64 * (1.0 - quantile) + 1e-6;
    (above >= SAMPLES_ABOVE_MIN).then(|| percentile(values, quantile))
}

/// The middle one, 0 of none.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
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
pub(super) fn median_interval(values: &[f64]) -> Option<[f64; 2]> {
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

fn read(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// The processor's name.
pub(super) fn machine() -> String {
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    model.unwrap_or("unknown processor").trim().to_owned()
}

/// The kernel's release.
pub(super) fn kernel() -> String {
    read("/proc/sys/kernel/osrelease")
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

    #[test]
    fn a_percentile_needs_ten_samples_above_it() {
        let values = |count: u32| (1..=count).map(f64::from).collect::<Vec<f64>>();
        for (count, quantile, reported) in [
            (19, 0.5, false),
            (20, 0.5, true),
            (999, 0.99, false),
            (1_000, 0.99, true),
            (9_999, 0.999, false),
            (10_000, 0.999, true),
            (0, 0.5, false),
        ] {
            let percentile = told_percentile(&values(count), quantile);
            assert_eq!(percentile.is_some(), reported, "{quantile} of {count}");
        }
    }
}
