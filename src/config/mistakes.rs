// SPDX-License-Identifier: GPL-2.0-only
//! What is wrong in a configuration file, by line and column.

use std::ops::Range;
use std::path::Path;

/// Collects what is wrong.
#[derive(Debug, Default)]
pub struct Mistakes {
    text: String,
    found: Vec<(usize, usize, String)>,
    /// Lines that are no TOML: what is read of them is a guess.
    broken: Vec<usize>,
}

impl Mistakes {
    /// Line and column of an offset.
    pub fn place(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..offset.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        (line, column)
    }

    /// Of this text.
    pub fn of(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            ..Self::default()
        }
    }

    /// The lines found so far are no TOML: nothing more is told of them.
    pub fn believe_no_more(&mut self) {
        self.broken = self.found.iter().map(|(line, ..)| *line).collect();
    }

    /// Something is wrong there.
    pub fn add(&mut self, span: &Range<usize>, what: impl Into<String>) {
        self.add_at(self.place(span.start), what);
    }

    /// The same, where the place is known.
    pub fn add_at(&mut self, (line, column): (usize, usize), what: impl Into<String>) {
        if !self.broken.contains(&line) {
            self.found.push((line, column, what.into()));
        }
    }

    /// A line a mistake, in the order of the file; nothing if there is none.
    ///
    /// # Errors
    /// The mistakes.
    pub fn verdict(mut self, path: &Path) -> Result<(), String> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort();
        let path = path.display();
        let lines = self.found.iter();
        let lines = lines.map(|(line, column, what)| format!("{path}:{line}:{column}: {what}"));
        Err(lines.collect::<Vec<_>>().join("\n"))
    }
}
