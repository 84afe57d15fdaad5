// SPDX-License-Identifier: GPL-2.0-only
//! What the commands `flexnet`, `flexnet-bench` and `scx_flexnet` share: scheduling classes as
//! arguments, shell completions and manual pages, and what the library's parts cost.

mod class;
mod generate;
pub mod measure;

pub use class::ClassName;
pub use generate::{Completions, Man, Related, completions, man, page};
