// SPDX-License-Identifier: GPL-2.0-only
//! The median of measured times.

/// The sample in the middle of `samples`, sorted; 0 if there are none.
pub(super) fn median(mut samples: Vec<u64>) -> u64 {
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied().unwrap_or(0)
}
