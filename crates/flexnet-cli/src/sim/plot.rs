// SPDX-License-Identifier: GPL-2.0-only
//! Curves against load: percentiles, slowdown, cores used, batch work's share.

use super::report::Report;
use anyhow::{Result, anyhow};
use flexnet_sim::Outcome;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

const COLORS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(220, 140, 40),
    RGBColor(44, 140, 60),
    RGBColor(200, 50, 60),
    RGBColor(130, 90, 180),
    RGBColor(110, 110, 110),
];

/// What is drawn of an outcome.
type Value = fn(&Outcome) -> f64;

/// A panel: its title, what it shows, and whether by logarithm.
const PANELS: [(&str, Value, bool); 6] = [
    ("P50 latency, µs", |o| o.p50_us, true),
    ("P99 latency, µs", |o| o.p99_us, true),
    ("P99.9 latency, µs", |o| o.p999_us, true),
    ("P99.9 slowdown, times", |o| o.slowdown_p999, true),
    ("cores granted", |o| o.cores_used, false),
    ("batch work's share, %", |o| 100.0 * o.batch_share, false),
];

pub(super) fn draw(report: &Report, file: &Path) -> Result<()> {
    let root = SVGBackend::new(file, (1080, 720)).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    let title = format!(
        "{} cores, {:.2} µs work on average: against load, thousand requests/s",
        report.cores, report.service_mean_us
    );
    let below = root.titled(&title, ("sans-serif", 20)).map_err(failed)?;
    let mut designs: Vec<&str> = report.outcomes.iter().map(|o| o.design.as_str()).collect();
    designs.dedup();
    let panels = below.split_evenly((2, 3));
    for (at, ((name, value, log), area)) in PANELS.iter().zip(&panels).enumerate() {
        // One legend: the colours are the same everywhere.
        let legend = at == 0;
        panel(area, report, &designs, name, (*value, *log, legend))?;
    }
    root.present().map_err(failed)
}

fn failed<E: std::fmt::Display>(error: E) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    report: &Report,
    designs: &[&str],
    name: &str,
    (value, log, legend): (Value, bool, bool),
) -> Result<()> {
    let load = |o: &Outcome| o.load_rps / 1e3;
    let most = report.outcomes.iter().map(load).fold(1e-3, f64::max);
    let values = || report.outcomes.iter().map(value).filter(|v| *v > 0.0);
    let high = values().fold(1.0, f64::max) * 1.05;
    let low = match log {
        true => values().fold(high, f64::min) * 0.9,
        false => 0.0,
    };
    // By logarithm the axis counts decades.
    let y = |v: f64| if log { v.max(low).log10() } else { v };
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .caption(name, ("sans-serif", 15))
        .x_label_area_size(26)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..most * 1.02, y(low.max(1e-9))..y(high))
        .map_err(failed)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_labels(5)
        .y_labels(6)
        .y_label_formatter(&|v| match log {
            true => number(10f64.powf(*v)),
            false => number(*v),
        })
        .draw()
        .map_err(failed)?;
    for (at, design) in designs.iter().enumerate() {
        let color = COLORS[at % COLORS.len()];
        let points: Vec<(f64, f64)> = report
            .outcomes
            .iter()
            .filter(|o| o.design == *design)
            .map(|o| (load(o), y(value(o))))
            .collect();
        chart
            .draw_series(LineSeries::new(points.clone(), color.stroke_width(2)))
            .map_err(failed)?
            .label(*design)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], color.stroke_width(2)));
        chart
            .draw_series(
                points
                    .into_iter()
                    .map(|at| Circle::new(at, 3, color.filled())),
            )
            .map_err(failed)?;
    }
    if !legend {
        return Ok(());
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 11))
        .draw()
        .map_err(failed)
}

fn number(value: f64) -> String {
    match value {
        v if v >= 10_000.0 => format!("{:.0}k", v / 1e3),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 1.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}
