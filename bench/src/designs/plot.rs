// SPDX-License-Identifier: GPL-2.0-only
//! The picture: a row a rival, a column a number, a bar each.

use super::report::Report;
use super::scenario::Scenario;
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use std::path::Path;

/// A column: of which experiment, which number, its title, and whether by
/// logarithm (latencies).
const COLUMNS: [(Scenario, &str, &str, bool); 7] = [
    (
        Scenario::Steps,
        "high_p999_us",
        "steps: P99.9 at high load, µs",
        true,
    ),
    (
        Scenario::Steps,
        "low_batch_share",
        "steps: batch share, low load",
        false,
    ),
    (
        Scenario::Steps,
        "high_batch_share",
        "steps: batch share, high load",
        false,
    ),
    (
        Scenario::Mixed,
        "short_p99_us",
        "mixed: P99 of the short, µs",
        true,
    ),
    (Scenario::Engines, "p99_us", "engines: P99, µs", true),
    (Scenario::Colocate, "p99_us", "co-location: P99, µs", true),
    (
        Scenario::Colocate,
        "bulk_mb_s",
        "co-location: bulk, MB/s",
        false,
    ),
];
const LATENCY: RGBColor = RGBColor(40, 110, 190);
const SHARE: RGBColor = RGBColor(220, 140, 40);
const NAMES: i32 = 230;
const COLUMN: i32 = 190;
const ROW: i32 = 30;

pub(super) fn draw(report: &Report, file: &Path) -> Result<()> {
    let mut rivals: Vec<&str> = Vec::new();
    for cell in &report.cells {
        if !rivals.contains(&cell.rival.as_str()) {
            rivals.push(&cell.rival);
        }
    }
    let size = (
        (NAMES + COLUMN * COLUMNS.len() as i32 + 20) as u32,
        (110 + ROW * rivals.len() as i32) as u32,
    );
    let root = SVGBackend::new(file, size).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    let text = |at: (i32, i32), size: i32, content: &str, color: RGBColor| {
        let style = ("sans-serif", size).into_font().color(&color);
        root.draw(&Text::new(content.to_owned(), at, style))
            .map_err(failed)
    };
    text((20, 12), 20, "Designs on real executors", BLACK)?;
    text((20, 40), 12, &report.title(), RGBColor(90, 90, 90))?;
    for (at, rival) in rivals.iter().enumerate() {
        text((20, 98 + ROW * at as i32), 13, rival, BLACK)?;
    }
    for (at, (scenario, name, title, log)) in COLUMNS.iter().enumerate() {
        let x = NAMES + COLUMN * at as i32;
        text((x, 70), 12, title, BLACK)?;
        let of = |rival: &str| {
            let cells = report.cells.iter();
            let mut found = cells.filter(|cell| cell.rival == rival && cell.scenario == *scenario);
            found.next().and_then(|cell| cell.value(name))
        };
        let values = || {
            rivals
                .iter()
                .filter_map(|rival| of(rival))
                .filter(|v| *v > 0.0)
        };
        let most = values().fold(1e-9, f64::max);
        let least = values().fold(most, f64::min) / 2.0;
        for (row, rival) in rivals.iter().enumerate() {
            let Some(value) = of(rival) else {
                continue;
            };
            let part = match log {
                true => (value.max(least) / least).ln() / (most / least).ln().max(1e-9),
                false => value / most,
            };
            let y = 96 + ROW * row as i32;
            let end = x + 1 + (f64::from(COLUMN - 80) * part) as i32;
            let color = if *log { LATENCY } else { SHARE };
            root.draw(&Rectangle::new([(x, y), (end, y + 18)], color.filled()))
                .map_err(failed)?;
            text((end + 6, y + 3), 12, &number(value), BLACK)?;
        }
    }
    root.present().map_err(failed)
}

fn failed<E: std::fmt::Display>(error: E) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

fn number(value: f64) -> String {
    match value {
        v if v >= 10_000.0 => format!("{:.0}k", v / 1e3),
        v if v >= 10.0 => format!("{v:.0}"),
        v => format!("{v:.2}"),
    }
}
