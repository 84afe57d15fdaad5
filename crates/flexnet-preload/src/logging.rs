// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Messages: to where `FLEXNET_LOG` says, else nowhere. The program's own
//! output is never written to unless that is `stderr`.

use crate::config::LogTo;
use log::{LevelFilter, Log, Metadata, Record};
use rustix::fs::{Mode, OFlags};
use std::sync::OnceLock;

struct Lines(LogTo);

static LINES: OnceLock<Lines> = OnceLock::new();

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        self.0 != LogTo::Nowhere
    }

    fn log(&self, record: &Record<'_>) {
        let pid = rustix::process::getpid().as_raw_nonzero();
        let line = format!("flexnet_preload[{pid}]: {}\n", record.args());
        // One write a line: processes that share the file do not mix theirs.
        match &self.0 {
            LogTo::Nowhere => {}
            LogTo::Stderr => {
                // SAFETY: a number; when it is closed the write fails.
                let stderr = unsafe { rustix::fd::BorrowedFd::borrow_raw(2) };
                let _ = rustix::io::write(stderr, line.as_bytes());
            }
            LogTo::File(path) => {
                let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
                let mode = Mode::from_raw_mode(0o644);
                if let Ok(file) = rustix::fs::open(path, flags | OFlags::NOFOLLOW, mode) {
                    let _ = rustix::io::write(&file, line.as_bytes());
                }
            }
        }
    }

    fn flush(&self) {}
}

pub(crate) fn set_up(to: &LogTo) {
    if *to != LogTo::Nowhere && log::set_logger(LINES.get_or_init(|| Lines(to.clone()))).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}
