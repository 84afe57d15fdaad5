// SPDX-License-Identifier: GPL-2.0-only
//! The log on standard error: for a terminal with times and levels. Where standard error is
//! systemd's journal, records go there with their priorities and fields (CLIENT, DESIGN, REASON),
//! and without a time, as the journal has its own.
//!
//! Promises one record a line. Nobody waits for standard error or the journal: what has no room is
//! lost. The journal's records (journal.rs) are then counted. What is said is everybody's own
//! business.

mod journal;
mod standard_error;

use anyhow::Result;
use journal::{Journal, LEFT_OUT, connected_to_journal};
use log::{Level, LevelFilter};
use standard_error::{StandardError, lines};
use std::fmt::Display;
use std::io::{LineWriter, Write};

/// Logs from now on what is of this level or above.
///
/// # Errors
/// Something logs already.
pub fn start(level: LevelFilter) -> Result<()> {
    if connected_to_journal() {
        log::set_boxed_logger(Box::new(Journal::new(journal::SOCKET)))?;
        log::set_max_level(level);
        return Ok(());
    }
    let format = simplelog::ConfigBuilder::new()
        .set_target_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .add_filter_ignore_str(LEFT_OUT)
        .build();
    // Standard output has the one line others wait for, and statistics.
    simplelog::WriteLogger::init(level, format, LineWriter::new(StandardError))?;
    Ok(())
}

/// Says why the program ends.
pub fn fail(error: &dyn Display) {
    say(Level::Error, error);
}

/// A warning of a process that has no logger, such as those of the front.
pub fn warn(warning: &dyn Display) {
    say(Level::Warn, warning);
}

fn say(level: Level, text: &dyn Display) {
    let text = format!("scx_flexnet: {text}");
    let text = match connected_to_journal() {
        true => lines(level, &text),
        false => format!("{text}\n"),
    };
    // Nobody is left to be told.
    let _ = StandardError.write_all(text.as_bytes());
}
