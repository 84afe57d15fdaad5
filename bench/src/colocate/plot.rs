// SPDX-License-Identifier: GPL-2.0-only
//! The picture: how long requests take, and what the neighbours get.

use super::report::{CellReport, Report};
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

const P50: RGBColor = RGBColor(120, 170, 220);
const P99: RGBColor = RGBColor(40, 110, 190);
const P999: RGBColor = RGBColor(10, 50, 110);
const BULK: RGBColor = RGBColor(220, 140, 40);

fn label(cell: &CellReport) -> String {
    match cell.t_apps {
        0 => format!("{}, alone", cell.scheduler),
        n => format!("{}, {n} neighbours", cell.scheduler),
    }
}

/// A time a reader takes in at once.
fn time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{:.1} s", us / 1e6),
        us if us >= 1e4 => format!("{:.0} ms", us / 1e3),
        us if us >= 1e3 => format!("{:.1} ms", us / 1e3),
        us => format!("{us:.0} µs"),
    }
}

/// Where text, bars and lines are drawn, in pixels.
struct Canvas<'a>(DrawingArea<SVGBackend<'a>, Shift>);

impl Canvas<'_> {
    fn text(&self, at: (i32, i32), size: i32, content: &str, color: RGBColor) -> Result<()> {
        let style = ("sans-serif", size).into_font().color(&color);
        let text = Text::new(content.to_owned(), at, style);
        self.0.draw(&text).map_err(|e| anyhow!(e.to_string()))
    }

    fn bar(&self, from: (i32, i32), to: (i32, i32), color: RGBColor) -> Result<()> {
        let bar = Rectangle::new([from, to], color.filled());
        self.0.draw(&bar).map_err(|e| anyhow!(e.to_string()))
    }

    fn line(&self, from: (i32, i32), to: (i32, i32)) -> Result<()> {
        let line = PathElement::new([from, to], RGBColor(225, 225, 225));
        self.0.draw(&line).map_err(|e| anyhow!(e.to_string()))
    }
}

/// From latencies to pixels, by logarithm.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    fn of(cells: &[CellReport]) -> Self {
        let values = cells
            .iter()
            .flat_map(|c| [c.l_p50_us, c.l_p99_us, c.l_p999_us])
            .flatten();
        let (low, high) = values
            .filter(|v| *v > 0.0)
            .fold((f64::MAX, 1.0f64), |(low, high), v| {
                (low.min(v), high.max(v))
            });
        let low = 10f64.powf(low.max(1.0).log10().floor());
        Self { low, high }
    }

    fn width(&self, us: f64) -> i32 {
        let span = (self.high / self.low).log10().max(0.1);
        (440.0 * ((us / self.low).log10() / span).clamp(0.0, 1.0)) as i32 + 2
    }
}

pub(super) fn draw(report: &Report, file: &Path) -> Result<()> {
    let cells = &report.cells;
    let height = 190 + 64 * cells.len() as u32;
    let root = SVGBackend::new(file, (1000, height)).into_drawing_area();
    root.fill(&WHITE).map_err(|e| anyhow!(e.to_string()))?;
    let canvas = Canvas(root);
    let scale = Scale::of(cells);
    frame(&canvas, &scale, report, height as i32)?;
    let most = cells.iter().map(|cell| cell.t_mb_s).fold(1.0, f64::max);
    for (i, cell) in cells.iter().enumerate() {
        row(&canvas, &scale, cell, 110 + 64 * i as i32, most)?;
    }
    canvas.0.present().map_err(|e| anyhow!(e.to_string()))
}

/// Titles, legend, the scale's decades and the note.
fn frame(canvas: &Canvas<'_>, scale: &Scale, report: &Report, height: i32) -> Result<()> {
    let grey = RGBColor(90, 90, 90);
    let title = "A latency-critical service, alone and beside bulk senders";
    canvas.text((20, 14), 22, title, BLACK)?;
    canvas.text((20, 44), 13, &report.title(), grey)?;
    let axis = "request latency, log scale (shorter is better)";
    canvas.text((240, 78), 15, axis, BLACK)?;
    for (i, (name, color)) in [("P50", P50), ("P99", P99), ("P99.9", P999)]
        .iter()
        .enumerate()
    {
        let x = 540 + 60 * i as i32;
        canvas.bar((x, 80), (x + 10, 90), *color)?;
        canvas.text((x + 14, 78), 12, name, BLACK)?;
    }
    canvas.text((770, 78), 15, "neighbours' throughput", BLACK)?;
    let mut decade = scale.low;
    while decade <= scale.high {
        let x = 240 + scale.width(decade) - 2;
        let bottom = 108 + 64 * report.cells.len() as i32;
        canvas.line((x, 104), (x, bottom))?;
        canvas.text((x - 12, bottom + 4), 12, &time(decade), grey)?;
        decade *= 10.0;
    }
    let note = "Requests leave at a fixed rate whether replies come or not; time counts from when each was due.";
    canvas.text((20, height - 30), 12, note, grey)
}

/// A cell's bars; `most` is the largest throughput of all cells.
fn row(canvas: &Canvas<'_>, scale: &Scale, cell: &CellReport, top: i32, most: f64) -> Result<()> {
    canvas.text((20, top + 18), 14, &label(cell), BLACK)?;
    let bars = [
        (cell.l_p50_us, P50),
        (cell.l_p99_us, P99),
        (cell.l_p999_us, P999),
    ];
    for (j, (us, color)) in bars.into_iter().enumerate() {
        // A percentile with too few requests above it has no bar.
        let Some(us) = us else { continue };
        let y = top + 17 * j as i32;
        let right = 240 + scale.width(us);
        canvas.bar((240, y), (right, y + 14), color)?;
        canvas.text((right + 4, y + 1), 12, &time(us), BLACK)?;
    }
    if cell.t_apps > 0 {
        let right = 770 + (130.0 * cell.t_mb_s / most) as i32;
        canvas.bar((770, top + 14), (right, top + 34), BULK)?;
        let ratio = cell
            .t_ratio_to_eevdf
            .map(|r| format!(" ({:.0}%)", r * 100.0));
        let content = format!("{:.0} MB/s{}", cell.t_mb_s, ratio.unwrap_or_default());
        canvas.text((right + 4, top + 17), 12, &content, BLACK)?;
    }
    Ok(())
}
