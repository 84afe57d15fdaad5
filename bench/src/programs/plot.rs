// SPDX-License-Identifier: GPL-2.0-only
//! The picture: a row a cell, grouped by program, a column a number, a bar each.

use super::report::{CellReport, Ratio, Report};
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use std::path::Path;

/// A column: its title, which number, and whether by logarithm (latencies).
type Column = (&'static str, fn(&CellReport) -> Option<f64>, bool);
const COLUMNS: [Column; 5] = [
    ("P99 at a fixed rate, µs (log)", |cell| cell.p99_us, true),
    (
        "throughput to plain, same scheduler",
        |cell| cell.throughput_to_plain.map(middle),
        false,
    ),
    (
        "own CPU a request to plain",
        |cell| cell.cpu_to_plain.map(middle),
        false,
    ),
    (
        "the same at half load",
        |cell| cell.cpu_half_to_plain.map(middle),
        false,
    ),
    (
        "neighbours' throughput to EEVDF, plain",
        |cell| cell.neighbours_to_eevdf.map(middle),
        false,
    ),
];
const LATENCY: RGBColor = RGBColor(40, 110, 190);
const SHARE: RGBColor = RGBColor(220, 140, 40);
const GREY: RGBColor = RGBColor(90, 90, 90);
const NAMES: i32 = 320;
const COLUMN: i32 = 260;
const ROW: i32 = 20;

fn middle(ratio: Ratio) -> f64 {
    ratio.median
}

fn label(cell: &CellReport) -> String {
    let beside = match cell.neighbours {
        0 => "alone".to_owned(),
        n => format!("{n} neighbours"),
    };
    format!(
        "{} {}, {beside}, {}",
        cell.program, cell.offload, cell.scheduler
    )
}

pub(super) fn draw(report: &Report, file: &Path) -> Result<()> {
    // Cells of one program beside as many stand together, whatever schedules.
    let mut cells: Vec<&CellReport> = report.cells.iter().collect();
    let mut programs: Vec<&str> = Vec::new();
    for cell in &cells {
        if !programs.contains(&cell.program) {
            programs.push(cell.program);
        }
    }
    cells.sort_by_key(|cell| {
        let program = programs.iter().position(|name| *name == cell.program);
        (program, cell.neighbours)
    });
    let size = (
        (NAMES + COLUMN * COLUMNS.len() as i32 + 20) as u32,
        (110 + ROW * cells.len() as i32 + 8 * programs.len() as i32) as u32,
    );
    let root = SVGBackend::new(file, size).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    let text = |at: (i32, i32), size: i32, content: &str, color: RGBColor| {
        let style = ("sans-serif", size).into_font().color(&color);
        root.draw(&Text::new(content.to_owned(), at, style))
            .map_err(failed)
    };
    text(
        (20, 12),
        20,
        "Unmodified programs, their sends on executors",
        BLACK,
    )?;
    text((20, 40), 12, &report.title(), GREY)?;
    let y = |row: usize| {
        let program = programs.iter().position(|name| *name == cells[row].program);
        94 + ROW * row as i32 + 8 * program.unwrap_or(0) as i32
    };
    for (row, cell) in cells.iter().enumerate() {
        text((20, y(row)), 12, &label(cell), BLACK)?;
    }
    for (at, (title, value, log)) in COLUMNS.iter().enumerate() {
        let x = NAMES + COLUMN * at as i32;
        text((x, 70), 12, title, BLACK)?;
        let values = || {
            cells
                .iter()
                .filter_map(|cell| value(cell))
                .filter(|v| *v > 0.0)
        };
        let most = values().fold(1e-9, f64::max);
        let least = values().fold(most, f64::min) / 2.0;
        for (row, cell) in cells.iter().enumerate() {
            let Some(value) = value(cell) else {
                continue;
            };
            let part = match log {
                true => (value.max(least) / least).ln() / (most / least).ln().max(1e-9),
                false => value / most,
            };
            let end = x + 1 + (f64::from(COLUMN - 70) * part) as i32;
            let color = if *log { LATENCY } else { SHARE };
            root.draw(&Rectangle::new(
                [(x, y(row)), (end, y(row) + 13)],
                color.filled(),
            ))
            .map_err(failed)?;
            let shown = match log {
                true => format!("{value:.0}"),
                false => format!("{value:.2}"),
            };
            text((end + 6, y(row) + 1), 11, &shown, BLACK)?;
        }
    }
    root.present().map_err(failed)
}

fn failed<E: std::fmt::Display>(error: E) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}
