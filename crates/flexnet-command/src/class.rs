// SPDX-License-Identifier: GPL-2.0-only
//! The classes that a user may ask for, as a value of `--class`.

use flexnet::abi::Class;

/// A scheduling class by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ClassName {
    /// Goes before normal and batch tasks, within a budget
    Latency,
    /// Runs like every other task
    Normal,
    /// Has a quarter of its weight
    Batch,
}

impl ClassName {
    /// As the scheduler is asked for it.
    pub fn class(self) -> Class {
        match self {
            Self::Latency => Class::Latency,
            Self::Normal => Class::Normal,
            Self::Batch => Class::Batch,
        }
    }
}
