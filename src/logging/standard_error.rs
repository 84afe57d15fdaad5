// SPDX-License-Identifier: GPL-2.0-only
//! Standard error for threads that must not wait, and the form of its lines for the journal.
//!
//! Promises that nobody waits: what has no room is an error. Left to others: what becomes of it.

use log::Level;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, ErrorKind, Write};

/// A pipe that is not full has room for so much.
const PIPE_BYTES: usize = 4_096;

/// Standard error for a thread that must not wait: a pipe that nobody reads is an error.
pub struct StandardError;

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
pub fn lines(level: Level, text: &str) -> String {
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
