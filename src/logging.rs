// SPDX-License-Identifier: GPL-2.0-only
//! The log on standard error: for a terminal with times and levels, for systemd's
//! journal with priorities (sd-daemon(3)) and without a time, as the journal has its
//! own.
//!
//! Promises one record a line. What is said is everybody's own business.

use anyhow::Result;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::fmt::Display;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

/// A crate that logs what is of no use to operators.
const LEFT_OUT: &str = "scx_stats";

/// Logs from now on what is of this level or above.
///
/// # Errors
/// Something logs already.
pub fn start(level: LevelFilter) -> Result<()> {
    if to_journal() {
        log::set_boxed_logger(Box::new(Journal))?;
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
    simplelog::WriteLogger::init(level, format, std::io::stderr())?;
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
    match to_journal() {
        true => eprint!("{}", lines(level, &text)),
        false => eprintln!("{text}"),
    }
}

/// Is standard error the journal? It says which file it is (systemd.exec(5)).
fn to_journal() -> bool {
    let Some(journal) = std::env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    let ours = std::fs::metadata("/proc/self/fd/2");
    ours.is_ok_and(|file| journal.to_string_lossy() == format!("{}:{}", file.dev(), file.ino()))
}

struct Journal;

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !metadata.target().starts_with(LEFT_OUT)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let text = lines(record.level(), &record.args().to_string());
            // Nobody is left to be told.
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
    }

    fn flush(&self) {}
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
