// SPDX-License-Identifier: GPL-2.0-only
//! One thing that is measured.

use anyhow::Result;

/// One thing done in one way.
pub(super) struct Case {
    pub(super) bench: &'static str,
    pub(super) implementation: &'static str,
    /// Does it often enough for a clock; ns each.
    pub(super) measure: Box<dyn FnMut() -> Result<f64>>,
}

impl Case {
    pub(super) fn new(
        bench: &'static str,
        implementation: &'static str,
        measure: impl FnMut() -> Result<f64> + 'static,
    ) -> Self {
        Self {
            bench,
            implementation,
            measure: Box::new(measure),
        }
    }
}
