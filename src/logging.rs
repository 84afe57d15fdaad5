// SPDX-License-Identifier: GPL-2.0-only
//! The log on standard error: for a terminal with times and levels. Where standard error is
//! systemd's journal, records go there with their priorities and fields (CLIENT, DESIGN, REASON),
//! and without a time, as the journal has its own.
//!
//! Promises one record a line. Nobody waits for standard error or the journal: what has no room is
//! lost. The journal's records (journal.rs) are then counted. What is said is everybody's own
//! business.

mod journal;

use anyhow::Result;
use journal::{Journal, connected_to_journal};
use log::{Level, LevelFilter};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fmt::Display;
use std::io::{self, ErrorKind, LineWriter, Write};

/// A crate that logs what is of no use to operators.
const LEFT_OUT: &str = "scx_stats";
/// A pipe that is not full has room for so much.
const PIPE_BYTES: usize = 4_096;

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

/// Standard error for a thread that must not wait: a pipe that nobody reads is an error.
struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut error = io::stderr();
        let mut room = [PollFd::new(&error, PollFlags::OUT)];
        match poll(&mut room, Some(&Timespec::default())) {
            Ok(0) => Err(ErrorKind::WouldBlock.into()),
            _ => error.write(&bytes[..bytes.len().min(PIPE_BYTES)]),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A record with its priority before each of its lines.
fn lines(level: Level, text: &str) -> String {
    let priority = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    let line = |line| format!("<{priority}>{line}\n");
    text.trim_end().lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_priority() {
        assert_eq!(lines(Level::Warn, "one\ntwo\n"), "<4>one\n<4>two\n");
        assert_eq!(lines(Level::Error, "x"), "<3>x\n");
        assert_eq!(lines(Level::Info, "x"), "<6>x\n");
    }
}
