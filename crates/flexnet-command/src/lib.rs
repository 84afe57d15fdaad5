// SPDX-License-Identifier: GPL-2.0-only
//! What the commands `flexnet` and `flexnet-bench` share: scheduling classes as arguments,
//! shell completions and manual pages.

mod class;
mod generate;

pub use class::ClassName;
pub use generate::{Completions, Man, completions, man};
