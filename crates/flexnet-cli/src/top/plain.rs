// SPDX-License-Identifier: GPL-2.0-only
//! A terminal without colours: with NO_COLOR set there are none, and nothing that
//! resets them either. The terminal's library leaves the colours out by itself,
//! but resets after every screen.

use std::io::{self, Write};

/// Has the user set NO_COLOR (<https://no-color.org>)?
pub(super) fn is_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Writes all but what sets colours and attributes (SGR: `ESC [ … m`).
pub(super) struct Plain<W> {
    inner: W,
    plain: bool,
    /// The beginning of a sequence whose end will tell what it is.
    held: Vec<u8>,
}

impl<W: Write> Plain<W> {
    /// With `plain` unset it writes all.
    pub(super) fn new(inner: W, plain: bool) -> Self {
        Self {
            inner,
            plain,
            held: Vec::new(),
        }
    }

    fn put(&mut self, byte: u8, out: &mut Vec<u8>) {
        match (self.held.as_slice(), byte) {
            // What was held was no sequence, or is cut short by this one.
            (_, 0x1b) => {
                out.append(&mut self.held);
                self.held.push(byte);
            }
            ([], _) => out.push(byte),
            ([_], b'[') | ([_, _, ..], 0x20..=0x3f) => self.held.push(byte),
            ([_, _, ..], b'm') => self.held.clear(),
            _ => {
                out.append(&mut self.held);
                out.push(byte);
            }
        }
    }
}

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.plain {
            return self.inner.write(bytes);
        }
        let mut out = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            self.put(byte, &mut out);
        }
        self.inner.write_all(&out)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::backend::{Backend, CrosstermBackend};
    use ratatui::buffer::Cell;
    use ratatui::style::{Color, Modifier};

    fn written(plain: bool, pieces: &[&str]) -> String {
        let mut bytes = Vec::new();
        let mut writer = Plain::new(&mut bytes, plain);
        for piece in pieces {
            writer.write_all(piece.as_bytes()).unwrap();
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn only_colours_and_attributes_are_left_out() {
        // However it comes in pieces.
        let screen = [
            "\x1b[2",
            "J\x1b[?25l\x1b[1;3Ha\x1b[1mb",
            "\x1b",
            "[38;5;2mµ\x1b[0m",
        ];
        assert_eq!(written(true, &screen), "\x1b[2J\x1b[?25l\x1b[1;3Habµ");
        assert_eq!(written(false, &screen), screen.concat());
        assert_eq!(written(true, &["\x1b7\x1b\x1b[0mm"]), "\x1b7\x1bm");
    }

    #[test]
    fn what_the_terminals_library_writes_has_none_left() {
        let mut cell = Cell::new("E");
        cell.fg = Color::Green;
        cell.modifier = Modifier::BOLD;
        let drawn = |plain| {
            let mut bytes = Vec::new();
            let mut backend = CrosstermBackend::new(Plain::new(&mut bytes, plain));
            backend.draw([(2, 1, &cell)].into_iter()).unwrap();
            drop(backend);
            String::from_utf8(bytes).unwrap()
        };
        assert!(drawn(false).contains("\x1b[0m"));
        assert_eq!(drawn(true), "\x1b[2;3HE");
    }
}
